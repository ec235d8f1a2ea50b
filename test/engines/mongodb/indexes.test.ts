import type { Document } from 'mongodb';
import { describe, expect, it } from 'vitest';

import { MongoRun } from '../../support/mongo-run.ts';

const INDEXES: Readonly<Record<string, readonly (Document & { readonly name: string })[]>> = {
  items: [
    { key: { a: 1 }, name: 'a_1', unique: true },
    { key: { b: 1 }, name: 'b_1', unique: true, partialFilterExpression: { b: { $type: 'int' } } },
    { key: { 'n.x': -1, a: 1 }, name: 'n', sparse: true },
  ],
  others: [{ key: { at: 1 }, name: 'at', expireAfterSeconds: 60 }],
  none: [],
};

const withIndexes = (seed: readonly Document[]): Promise<MongoRun> =>
  MongoRun.create({
    collections: Object.keys(INDEXES),
    green: Object.entries(INDEXES).flatMap(([name, indexes]) =>
      indexes.length === 0 ? [] : [{ createIndexes: name, indexes }],
    ),
    seed: async (db) => {
      await db.collection('items').insertMany(seed as never);
      await db.collection('others').insertOne({ at: new Date(0) });
    },
  });

const withoutVersion = (index: Document): Document => ({ ...index, v: undefined });

describe('indexes of green', () => {
  it('stand as they were asked for when the copy is finished, but that nothing expires yet', async () => {
    await using run = await withIndexes([
      { a: 1, b: 1 },
      { a: 2, b: 'x', n: { x: 1 } },
      { a: 3, b: 'x' },
    ]);
    await run.start();
    for (const [name, asked] of Object.entries(INDEXES)) {
      const found = await run.green.collection(name).indexes();
      const never = asked.map((one) =>
        'expireAfterSeconds' in one ? { ...one, expireAfterSeconds: 2_147_483_647 } : one,
      );
      expect(found.slice(1).map(withoutVersion)).toEqual(never);
    }
  });

  it('stop the copy by the name of the one that two documents of blue do not fit, not of another', async () => {
    await using run = await withIndexes([
      { a: 1, b: 7 },
      { a: 2, b: 7 },
    ]);
    await run.begin();
    const { error } = await run.parked('SINK_CONFLICT');
    expect(error?.message).toContain('The unique index b_1 of');
  });
});
