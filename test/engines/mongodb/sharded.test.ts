import { MongoClient, type Db } from 'mongodb';
import { expect, test } from 'vitest';

import type { SessionEnv } from '../../../src/core/engine.ts';
import { engine } from '../../../src/engines/mongodb/index.ts';
import { endOlderTerms } from '../../../src/engines/mongodb/lease.ts';
import { MongoRun } from '../../support/mongo-run.ts';
import { spread, type MongoCluster } from '../../support/mongo-sharded.ts';
import { waitFor } from '../../support/wait.ts';
import { ShardedRig } from './sharded-rig.ts';

const rig = new ShardedRig({ blue: 'cluster', green: 'set' });
const cluster = (): MongoCluster => rig.server('blue') as MongoCluster;

/** What of that side keeps the run from starting. */
async function blocking(run: MongoRun, side: 'blue' | 'green') {
  await run.begin();
  const checks = await run.engine.doctor();
  return checks.filter((check) => check.side === side && check.level === 'block' && check.outcome !== 'ok');
}

// With a killed engine, a switch and the way back, and with clusters on both sides: sharded.long.test.ts.
test.each([
  ['from a cluster to a replica set', 'blue'],
  ['from a replica set to a cluster', 'green'],
] as const)(
  'copied and followed through a router, %s: transactions over shards, and ranges that move meanwhile',
  (_, from) => rig.carried(from),
  60_000,
);

test.each(['blue', 'green'] as const)(
  'a collection of %s that is sharded by another key than _id is refused by name: the log does not tell the order of what moves a document to another shard',
  async (side) => {
    const shard = async (db: Db): Promise<void> => {
      const ns = `${db.databaseName}.items`;
      await db.client.db('admin').command({ shardCollection: ns, key: { place: 1 } });
    };
    await using run = await MongoRun.create({ collections: ['items'], [`${side}Uri`]: cluster().uri() });
    if (side === 'green') await run.green.createCollection('run_mark');
    await shard(run[side]);
    expect(await blocking(run, side)).toMatchObject([
      { id: 'G16', observed: expect.stringContaining('items is sharded by place') as unknown },
    ]);
    await expect(run.started()).rejects.toThrow(/shard/);
  },
  60_000,
);

test('several routers in one address are refused by name: a cursor is only known to the one that opened it', async () => {
  const several = cluster()
    .uri()
    .replace(/@([^:/]+):(\d+)/, '@$1:$2,localhost:$2');
  await using run = await MongoRun.create({ collections: ['items'], blueUri: several });
  expect(await blocking(run, 'blue')).toMatchObject([
    { id: 'G1', observed: '2 routers of a sharded cluster' },
  ]);
}, 60_000);

test.each(['blue', 'green'] as const)(
  'one shard of a cluster as %s is refused by name: its fence would hold only the writes of that shard',
  async (side) => {
    const shard = cluster().shards[0]?.uri() as string;
    await using run = await MongoRun.create({ collections: ['items'], [`${side}Uri`]: shard });
    expect(await blocking(run, side)).toMatchObject([
      {
        id: 'G16',
        observed: 'the shard shard0 of a cluster',
        remedy: expect.stringContaining('routers') as unknown,
      },
    ]);
    await expect(run.started()).rejects.toThrow(/shard/);
  },
  60_000,
);

test('the length of logs that our user may not look at is not known by name, and what moves a whole collection stops the run by name', async () => {
  // Known to the routers, and to no shard.
  await using admin = new MongoClient(cluster().uri());
  const root = { createUser: 'mover', pwd: 'mover', roles: ['root'] };
  await admin.db('admin').command(root);
  const uri = cluster()
    .uri()
    .replace(/\/\/[^@]*@/, '//mover:mover@');
  await using run = await MongoRun.create({ collections: ['items'], blueUri: uri });
  await run.start();
  const checks = await run.engine.doctor();
  expect(checks.find(({ id, side }) => id === 'G4' && side === 'blue')).toMatchObject({
    outcome: 'could-not-check',
    observed: expect.stringMatching(/log of shard shard\d .* cannot be measured/) as unknown,
  });
  await waitFor(
    async () =>
      (await run.engine.status()).gates.some(
        ({ name, ok, observed }) => name === 'source-health' && ok && observed === 'unknown',
      ),
    { what: 'the gate to say that it is not known' },
  );
  await spread(run.blue, 'items');
  await run.parked('SCHEMA_CHANGED');
}, 60_000);

test.each([
  ['has been open for long', 1_500],
  ['was begun in that moment', 0],
] as const)(
  'a transaction that %s and has written keeps the fence down; once that is undone everybody writes again',
  async (_, ageMs) => {
    const name = `f${process.hrtime.bigint()}`;
    await using client = new MongoClient(cluster().uri());
    await client.db(name).createCollection('items');
    await spread(client.db(name), 'items');
    const parsed = engine.parseConfig({ url: cluster().uri() });
    if (!('config' in parsed)) throw new Error('the address is refused');
    const env = { migration: name, side: 'blue', stateSchema: `${name}_state` } as SessionEnv;
    await using session = await engine.connect(parsed.config, env);
    const fence = session.fence([{ schema: name, name: 'items' }]);
    await fence.prepare();
    await using application = new MongoClient(rig.application('blue'));
    const items = application.db(name).collection<{ _id: number }>('items');
    const open = application.startSession();
    open.startTransaction();
    for (const _id of [1, 2, 3, 4]) await items.insertOne({ _id }, { session: open });
    await waitFor(async () => (await ageOf(client)) >= ageMs, { what: 'the transaction to be old enough' });
    await expect(fence.raise(1, 1_000)).rejects.toMatchObject({ code: 'CUTOVER_UNDONE' });
    for (const _id of [11, 12, 13, 14]) await items.insertOne({ _id });
    await open.endSession();
    expect(await fence.raise(2, 20_000)).toBeTruthy();
    await fence.prove();
    expect(await fence.lower(2)).toBe(true);
    await items.insertOne({ _id: 20 });
    await fence.retire();
    for (const database of [name, `${name}_state`]) await client.db(database).dropDatabase();
  },
  120_000,
);

test('what a killed engine has left open through a router is ended by the next one: the server would hold it for a minute', async () => {
  const name = `f${process.hrtime.bigint()}`;
  await using killed = new MongoClient(cluster().uri(), { appName: `verdigris:${name}:forward:t1` });
  await using next = new MongoClient(cluster().uri());
  await next.db(name).createCollection('items');
  await spread(next.db(name), 'items');
  const items = killed.db(name).collection<{ _id: number }>('items');
  const open = killed.startSession();
  open.startTransaction();
  for (const _id of [1, 2, 3, 4]) await items.insertOne({ _id }, { session: open });
  await endOlderTerms(next, name, 2);
  await expect(open.commitTransaction()).rejects.toThrow();
  await open.endSession();
  expect(await next.db(name).collection('items').countDocuments()).toBe(0);
  await next.db(name).dropDatabase();
}, 30_000);

/** Of the oldest transaction that has written, ms. */
async function ageOf(client: MongoClient): Promise<number> {
  const open = await client
    .db('admin')
    .aggregate<{ transaction: { timeOpenMicros: { toString(): string } } }>([
      { $currentOp: { allUsers: true, idleSessions: true } },
      { $match: { 'locks.Global': 'w', 'transaction.timeOpenMicros': { $exists: true } } },
    ])
    .toArray();
  return Math.max(-1, ...open.map(({ transaction }) => Number(transaction.timeOpenMicros) / 1_000));
}
