import type { MongoClient } from 'mongodb';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { Workplace, type EngineProcess } from '../../support/engine-process.ts';
import { startMongo, type MongoReplicaSet } from '../../support/mongo.ts';
import { MongoRun } from '../../support/mongo-run.ts';
import { waitFor } from '../../support/wait.ts';
import { differences, ShopClients } from './clients.ts';

/** Places between the first range and steady replication at which the engine dies as by SIGKILL. */
const FAILPOINTS = [
  'copy.snapshot-taken:exit@2',
  'copy.rows-written:exit@3',
  'copy.after-close:exit@5',
  'sink.after-commit:exit@15',
  'apply.after-commit-before-ack:exit@20',
];

let blue: MongoReplicaSet;
let green: MongoReplicaSet;

// Its own, with room for a large transaction: what a killed engine leaves open keeps the fence of a whole set down.
beforeAll(async () => {
  const start = (): Promise<MongoReplicaSet> => startMongo({ cacheGb: 2 });
  [blue, green] = await Promise.all([start(), start()]);
}, 60_000);
afterAll(async () => {
  await Promise.all([blue, green].map((set) => set[Symbol.asyncDispose]()));
});

const create = (seed: number): Promise<MongoRun> =>
  MongoRun.create({
    collections: ['orders', 'tally'],
    blueUri: blue.uri(),
    greenUri: green.uri(),
    settings: 'copy: { workers: 2, chunk: { max_rows: 300 } }',
    seed: async (db) => {
      if (seed === 0) return;
      await db
        .collection<{ _id: string; client: number; lines: number[] }>('orders')
        .insertMany(Array.from({ length: seed }, (_, at) => ({ _id: `s-${at}`, client: -1, lines: [at] })));
    },
  });

const replicates = (engine: EngineProcess) =>
  engine.until('it replicates', (status) => status.phase === 'replicating');

interface Range {
  readonly _id: string;
  readonly upto: string | null;
  readonly rows: number;
}

describe('the engine is killed', () => {
  test.each(FAILPOINTS)(
    'at %s: started again it goes on where it was, ranges that are done stay, nothing is lost or there twice',
    async (failpoint) => {
      await using run = await create(2_400);
      await using clients = new ShopClients(blue.uri(), run.name, 2);
      const place = new Workplace(run.dir);
      const first = place.start({ failpoint });
      expect(await first.ended, first.output().slice(-2_000)).toBe('SIGKILL');
      const ranges = run.greenState.collection<Range>('ranges');
      const done = await ranges.find({ upto: { $ne: null } }).toArray();
      const second = place.start({ args: ['--takeover'] });
      await replicates(second);
      for (const { _id, upto, rows } of done)
        expect(await ranges.findOne({ _id })).toMatchObject({ upto, rows });
      await clients.more();
      await clients.stop();
      await run.settled();
      expect(await run.same()).toBeGreaterThan(2_400);
      expect(await differences(run.green, clients.acknowledged)).toEqual([]);
      expect(await second.kill('SIGTERM')).toBe(143);
    },
    90_000,
  );
});

/** One transaction of so many documents of a megabyte: entries of the log hold 16 of them. */
async function writeLarge(run: MongoRun, documents: number): Promise<void> {
  const client = run.blueClient;
  const orders = run.blue.collection<{ _id: string; client: number; text: string }>('orders');
  await client.withSession((session) =>
    session.withTransaction(async () => {
      await orders.updateOne({ _id: 's-0' }, { $set: { text: 'large' } }, { session });
      for (let at = 0; at < documents; at += 1)
        await orders.insertOne({ _id: `l-${at}`, client: -1, text: 'x'.repeat(1_000_000) }, { session });
      await orders.deleteOne({ _id: 's-1' }, { session });
    }),
  );
}

describe('a transaction in several entries of the log', () => {
  test.each([
    ['24 MB, one transaction of green too', 24, false],
    ['100 MB, in pieces behind a checkpoint that says so', 100, true],
  ] as const)(
    '%s: the engine is killed in the middle of applying it, and it is there once',
    async (_, documents, pieces) => {
      await using run = await create(10);
      const place = new Workplace(run.dir);
      const first = place.start();
      await replicates(first);
      const checkpoints = run.greenState.collection<{ _id: string; position: string; dirty: boolean }>(
        'checkpoint',
      );
      const checkpoint = { _id: `${run.name}/forward` };
      const orders = run.green.collection<{ _id: string }>('orders');
      const entries = run.blueClient.db('local').collection('oplog.rs');
      await writeLarge(run, documents);
      const own = { 'o.applyOps.ns': `${run.name}.orders` };
      expect(await entries.countDocuments(own)).toBeGreaterThan(1);
      // Not seen by anybody yet, or in pieces.
      const middle = async (): Promise<boolean> =>
        pieces
          ? (await checkpoints.findOne(checkpoint))?.dirty === true
          : await isOpen(run.greenClient, `verdigris:${run.name}:forward:t1`);
      await waitFor(middle, { what: 'the transaction to be under way on green', everyMs: 1 });
      expect(await first.kill('SIGKILL')).toBe('SIGKILL');
      expect((await checkpoints.findOne(checkpoint))?.dirty).toBe(pieces);
      expect(await orders.countDocuments({ _id: /^l-/ })).toBeLessThan(documents);
      const second = place.start({ args: ['--takeover'] });
      await replicates(second);
      await run.settled(60_000);
      expect(await run.same()).toBe(10 - 1 + documents + 1);
      expect((await checkpoints.findOne(checkpoint))?.dirty).toBe(false);
      expect(await second.kill('SIGTERM')).toBe(143);
    },
    120_000,
  );
});

/** A client of that name has a transaction open that has written documents. */
async function isOpen(client: MongoClient, appName: string): Promise<boolean> {
  const found = await client
    .db('admin')
    .aggregate([
      { $currentOp: { allUsers: true, idleSessions: true } },
      { $match: { appName, 'transaction.timeOpenMicros': { $gt: 30_000 } } },
    ])
    .toArray();
  return found.length > 0;
}
