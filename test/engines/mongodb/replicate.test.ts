import { describe, expect, it } from 'vitest';

import { MongoRun } from '../../support/mongo-run.ts';

describe('a run from one replica set to another', () => {
  it('copies what is there and follows what is written meanwhile', async () => {
    await using run = await MongoRun.create({
      collections: ['items'],
      settings: 'copy: { chunk: { max_rows: 300 } }',
      seed: async (db) => {
        await db.collection<{ _id: number; v: number; n: object }>('items').insertMany(
          Array.from({ length: 2_000 }, (_, index) => ({
            _id: index,
            v: index,
            n: { a: [1, 2, 3], b: 'x' },
          })),
        );
      },
    });
    const items = run.blue.collection<{ _id: number; v: number }>('items');
    let writing = true;
    const writer = (async () => {
      for (let round = 0; writing; round++) {
        const _id = Math.floor(Math.random() * 2_500);
        if (round % 5 === 0) await items.deleteOne({ _id });
        else if (round % 5 === 1) await items.replaceOne({ _id }, { v: round }, { upsert: true });
        else
          await items.updateOne(
            { _id },
            { $set: { v: round, [`n.c${round % 7}`]: round }, $push: { 'n.a': round } },
          );
      }
    })();
    try {
      await run.start();
    } finally {
      writing = false;
      await writer;
    }
    await run.settled();
    expect(await run.same()).toBeGreaterThan(1_000);
  });
});
