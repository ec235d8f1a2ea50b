import { describe, expect, test } from 'vitest';

import { MongoRun } from '../../support/mongo-run.ts';
import { waitFor } from '../../support/wait.ts';

const SECRET = 'a value of a row';

interface Item {
  readonly _id: number;
  readonly v?: number;
  readonly name?: string;
}

const create = (seed: readonly Item[]): Promise<MongoRun> =>
  MongoRun.create({
    collections: ['items'],
    green: [{ collMod: 'items', validator: { v: { $type: 'number' } } }],
    seed: async (db) => {
      await db.collection<Item>('items').insertMany([...seed]);
    },
  });

/** Green takes everything now. */
const relax = (run: MongoRun): Promise<unknown> => run.green.command({ collMod: 'items', validator: {} });

const expectRefused = async (run: MongoRun): Promise<void> => {
  const status = await run.parked('SINK_CONFLICT');
  expect(status).toMatchObject({ condition: 'blocked' });
  expect(status.error?.message).toContain(`${run.name}.items`);
  expect(JSON.stringify(status)).not.toContain(SECRET);
};

describe('a document that the validation of green refuses', () => {
  test('in the stream: it stops exactly before it, names the collection and no value, and goes on when green takes it', async () => {
    await using run = await create([{ _id: 1, v: 1 }]);
    await run.start();
    const items = run.blue.collection<Item>('items');
    await items.insertOne({ _id: 2, v: 2 });
    await items.insertOne({ _id: 3, name: SECRET });
    await items.insertOne({ _id: 4, v: 4 });
    await expectRefused(run);
    const ids = (await run.green.collection<Item>('items').find().toArray()).map(({ _id }) => _id);
    expect(new Set(ids)).toEqual(new Set([1, 2]));
    await relax(run);
    await (await run.engine.migration()).resume('all');
    await run.settled();
    expect(await run.same()).toBe(5);
  }, 60_000);

  test('in the stream, one of several that one statement wrote: they have one cluster time, so it stops before all of them, and none is missing afterwards', async () => {
    await using run = await create([{ _id: 1, v: 1 }]);
    await run.start();
    const items = run.blue.collection<Item>('items');
    await items.insertMany([
      { _id: 2, v: 2 },
      { _id: 3, name: SECRET },
      { _id: 4, v: 4 },
    ]);
    await expectRefused(run);
    expect(await run.green.collection<Item>('items').countDocuments()).toBe(1);
    await relax(run);
    await (await run.engine.migration()).resume('all');
    await run.settled();
    expect(await run.same()).toBe(5);
  }, 60_000);

  test('in the stream, by an update that takes the field away', async () => {
    await using run = await create([{ _id: 1, v: 1 }]);
    await run.start();
    await run.blue
      .collection<Item>('items')
      .updateOne({ _id: 1 }, { $unset: { v: 1 }, $set: { name: SECRET } });
    await expectRefused(run);
    expect(await run.green.collection<Item>('items').findOne({ _id: 1 })).toEqual({ _id: 1, v: 1 });
    await relax(run);
    await (await run.engine.migration()).resume('all');
    await run.settled();
    expect(await run.same()).toBe(2);
  }, 60_000);

  test('in the copy: the range is not done, the collection is named and no value, and it goes on when green takes it', async () => {
    await using run = await create([
      { _id: 1, v: 1 },
      { _id: 2, name: SECRET },
    ]);
    await run.begin();
    await expectRefused(run);
    const ranges = run.greenState.collection<{ unit: string; upto: string | null }>('ranges');
    expect(await ranges.findOne({ unit: /items/, upto: { $ne: null } })).toBe(null);
    await relax(run);
    await (await run.engine.migration()).resume('all');
    await waitFor(async () => (await run.engine.status()).phase === 'replicating', {
      what: 'the end of the copy',
    });
    await run.settled();
    expect(await run.same()).toBe(3);
  }, 60_000);
});
