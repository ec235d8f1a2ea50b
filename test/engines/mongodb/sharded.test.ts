import { afterAll, beforeAll, expect, test } from 'vitest';

import { startMongoCluster, type MongoCluster } from '../../support/mongo-sharded.ts';
import { MongoRun } from '../../support/mongo-run.ts';

let cluster: MongoCluster;

beforeAll(async () => {
  cluster = await startMongoCluster();
}, 120_000);
afterAll(() => cluster[Symbol.asyncDispose]());

/** What of that side keeps the run from starting. */
async function blocking(run: MongoRun, side: 'blue' | 'green') {
  await run.begin();
  const checks = await run.engine.doctor();
  return checks.filter((check) => check.side === side && check.level === 'block' && check.outcome !== 'ok');
}

test.each(['blue', 'green'] as const)(
  'a router of a sharded cluster as %s is refused by name',
  async (side) => {
    await using run = await MongoRun.create({ collections: ['items'], [`${side}Uri`]: cluster.uri() });
    expect(await blocking(run, side)).toMatchObject([
      {
        id: 'G1',
        observed: 'a sharded cluster',
        remedy: expect.stringContaining('not supported') as unknown,
      },
    ]);
    await expect(run.started()).rejects.toThrow(/shard/);
  },
  60_000,
);

test.each(['blue', 'green'] as const)(
  'one shard of a cluster as %s is refused by name: its fence would hold only the writes of that shard',
  async (side) => {
    const shard = cluster.shards[0]?.uri() as string;
    await using run = await MongoRun.create({ collections: ['items'], [`${side}Uri`]: shard });
    expect(await blocking(run, side)).toMatchObject([
      {
        id: 'G16',
        observed: 'the shard shard0 of a cluster',
        remedy: expect.stringContaining('shard') as unknown,
      },
    ]);
    await expect(run.started()).rejects.toThrow(/shard/);
  },
  60_000,
);
