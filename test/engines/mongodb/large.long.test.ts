import type { Document } from 'mongodb';
import { describe, it } from 'vitest';

import { MongoRun } from '../../support/mongo-run.ts';

describe('large documents', () => {
  it('F24: documents near 16 MB, and an update from one to another', async () => {
    await using run = await MongoRun.create({
      collections: ['all'],
      seed: async (db) => {
        await db.collection<Document>('all').insertMany([
          { _id: 1 as never, big: 'x'.repeat(15_900_000) },
          { _id: 2 as never, big: 'y'.repeat(15_900_000), small: 1 },
        ]);
      },
    });
    await run.start();
    const all = run.blue.collection<Document>('all');
    await all.updateOne({ _id: 1 as never }, { $set: { big: 'z'.repeat(15_800_000) } });
    await all.replaceOne({ _id: 2 as never }, { big: 'w'.repeat(15_950_000) });
    await all.updateOne({ _id: 2 as never }, { $set: { small: 2 } });
    await all.insertOne({ _id: 3 as never, parts: [Buffer.alloc(8_000_000, 1), Buffer.alloc(7_900_000, 2)] });
    await run.settled(60_000);
    await run.same();
  });
});
