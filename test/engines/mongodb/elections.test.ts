import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { elect, startMongo, type Election, type MongoReplicaSet } from '../../support/mongo.ts';
import { MongoRun } from '../../support/mongo-run.ts';
import { HoldPoints } from '../../support/run.ts';
import { differences, ShopClients } from './clients.ts';

const SMALL = { members: 3, cacheGb: 0.25 } as const;

let blue: MongoReplicaSet;
let green: MongoReplicaSet;

beforeAll(async () => {
  [blue, green] = await Promise.all([startMongo(SMALL), startMongo(SMALL)]);
}, 120_000);
afterAll(async () => {
  await Promise.all([blue, green].map((set) => set[Symbol.asyncDispose]()));
});

const LOSSES = (['blue', 'green'] as const).flatMap((side) =>
  (['step-down', 'kill'] as const).map((how): [typeof side, Election] => [side, how]),
);
const setOf = (side: 'blue' | 'green'): MongoReplicaSet => (side === 'blue' ? blue : green);

const create = (settings = ''): Promise<MongoRun> =>
  MongoRun.create({
    collections: ['orders', 'tally'],
    blueUri: blue.uri(),
    greenUri: green.uri(),
    settings: `copy: { workers: 2, chunk: { max_rows: 300 } }\n${settings}`,
    seed: async (db) => {
      await db
        .collection<{ _id: string; client: number; lines: number[] }>('orders')
        .insertMany(Array.from({ length: 3_000 }, (_, at) => ({ _id: `s-${at}`, client: -1, lines: [at] })));
    },
  });

describe('another primary is elected', () => {
  test('in the middle of the copy, by step-down and by SIGKILL, of blue and of green: it goes on by itself, nothing is lost and nothing is there twice', async () => {
    await using run = await create();
    await using clients = new ShopClients(blue.uri(), run.name, 4);
    const points = new HoldPoints();
    let reached = points.hold('copy.rows-written');
    await run.begin({ failpoints: points });
    for (const [side, how] of LOSSES) {
      await reached;
      await elect(setOf(side), how);
      points.release('copy.rows-written');
      // In the same turn: a copy that is let go for longer may be over before it is held again.
      reached = points.hold('copy.rows-written');
      await clients.more();
    }
    await reached;
    points.release('copy.rows-written');
    await run.started();
    await clients.stop();
    await run.settled(60_000);
    expect(await run.same()).toBeGreaterThan(3_100);
    expect(await differences(run.green, clients.acknowledged)).toEqual([]);
  }, 180_000);

  test('while it streams, by step-down and by SIGKILL, of blue and of green: it goes on by itself, nothing is lost and nothing is there twice', async () => {
    await using run = await create();
    await using clients = new ShopClients(blue.uri(), run.name, 4);
    await run.start();
    for (const [side, how] of LOSSES) {
      await clients.more();
      await elect(setOf(side), how);
      await clients.more();
      await run.settled(60_000);
    }
    await clients.stop();
    await run.settled();
    expect(await run.same()).toBeGreaterThan(3_300);
    expect(await differences(run.green, clients.acknowledged)).toEqual([]);
    expect(await run.engine.status()).toMatchObject({ condition: 'running', error: null });
  }, 180_000);
});
