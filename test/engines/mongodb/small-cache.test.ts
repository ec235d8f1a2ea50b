import { describe, expect, it } from 'vitest';

import { startMongo } from '../../support/mongo.ts';
import { MongoRun } from '../../support/mongo-run.ts';

const DOCUMENTS = 60;
const MEGABYTE = 1_000_000;

describe('a sink with the smallest cache there is', () => {
  it('commits a transaction in pieces that does not fit into it, instead of trying it again for ever', async () => {
    await using blue = await startMongo({ cacheGb: 2 });
    await using green = await startMongo({ cacheGb: 0.25 });
    await using run = await MongoRun.create({
      collections: ['orders'],
      blueUri: blue.uri(),
      greenUri: green.uri(),
      seed: async (db) => {
        await db.collection<{ _id: string }>('orders').insertMany([{ _id: 's-0' }, { _id: 's-1' }]);
      },
    });
    await run.start();
    const admin = run.greenClient.db('admin');
    // Less than the transaction, and enough for a piece of it.
    await admin.command({ setParameter: 1, wiredTigerEngineRuntimeConfig: 'cache_size=48M' });
    const orders = run.blue.collection<{ _id: string; text?: string }>('orders');
    await run.blueClient.withSession((session) =>
      session.withTransaction(async () => {
        await orders.updateOne({ _id: 's-0' }, { $set: { text: 'large' } }, { session });
        for (let at = 0; at < DOCUMENTS; at += 1)
          await orders.insertOne({ _id: `l-${at}`, text: String(at % 10).repeat(MEGABYTE) }, { session });
        await orders.deleteOne({ _id: 's-1' }, { session });
      }),
    );
    await run.settled(60_000);
    expect(await run.same()).toBeGreaterThan(DOCUMENTS);
    const status = await run.engine.status();
    expect(status.error).toBeNull();
    // What the server says of itself: it did refuse.
    const { metrics } = await admin.command({ serverStatus: 1 });
    expect(metrics.operation.transactionTooLargeForCacheErrors).toBeGreaterThan(0);
  }, 120_000);
});
