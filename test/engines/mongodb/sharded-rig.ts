import { type Db, MaxKey, MinKey, MongoClient } from 'mongodb';
import { afterAll, beforeAll, expect } from 'vitest';

import { Workplace } from '../../support/engine-process.ts';
import { MONGO_PASSWORD, startMongo, type MongoReplicaSet } from '../../support/mongo.ts';
import { MongoRun } from '../../support/mongo-run.ts';
import {
  FIRST_QUARTER,
  LAST_QUARTER,
  moveRange,
  spread,
  startMongoCluster,
  stored,
  type MongoCluster,
} from '../../support/mongo-sharded.ts';
import { HoldPoints } from '../../support/run.ts';
import { turn } from '../../support/turn.ts';
import { differences, ShopClients } from './clients.ts';

/** An ordinary account: root passes a block of user writes. */
const APPLICATION = 'application';
const SEEDED = 2_000;

const SETTINGS = [
  'copy: { workers: 2, chunk: { max_rows: 300 } }',
  'verify: { after_copy: full }',
  'gates: { stable_for: 1ms }',
  'cutover: { max_write_pause: 60s, fence_timeout: 20s }',
].join('\n');

type Kind = 'cluster' | 'set';
type Side = 'blue' | 'green';
const other = (side: Side): Side => (side === 'blue' ? 'green' : 'blue');
type Server = MongoCluster | MongoReplicaSet;

interface Order {
  readonly _id: string;
  readonly client: number;
  readonly lines: readonly number[];
}

/** Blue and green of one test file, of which one at least is a sharded cluster, and what is done with them. */
export class ShardedRig {
  readonly #kinds: { readonly blue: Kind; readonly green: Kind };
  readonly #servers: { blue?: Server; green?: Server } = {};

  constructor(kinds: { readonly blue: Kind; readonly green: Kind }) {
    this.#kinds = kinds;
    beforeAll(async () => {
      const start = (kind: Kind): Promise<Server> =>
        kind === 'cluster' ? startMongoCluster() : startMongo({ cacheGb: 0.25 });
      const [blue, green] = await Promise.all([start(kinds.blue), start(kinds.green)]);
      Object.assign(this.#servers, { blue, green });
      for (const server of [blue, green]) {
        await using client = await new MongoClient(server.uri()).connect();
        await client
          .db('admin')
          .command({ createUser: APPLICATION, pwd: MONGO_PASSWORD, roles: ['readWriteAnyDatabase'] });
      }
    }, 120_000);
    afterAll(async () => {
      await Promise.all(Object.values(this.#servers).map((server) => server[Symbol.asyncDispose]()));
    });
  }

  server(side: Side): Server {
    return this.#servers[side] as Server;
  }

  application(side: Side): string {
    return this.server(side).uri(APPLICATION);
  }

  /** Orders by the hash, tallies in two ranges: most transactions of the clients are of both shards. */
  #create(from: Side = 'blue'): Promise<MongoRun> {
    const to = other(from);
    return MongoRun.create({
      collections: ['orders', 'tally'],
      settings: SETTINGS,
      blueUri: this.server(from).uri(),
      greenUri: this.server(to).uri(),
      seed: async (db) => {
        if (this.#kinds[from] === 'cluster') {
          await spread(db, 'orders');
          await spread(db, 'tally', 1);
        }
        const orders = Array.from({ length: SEEDED }, (_, at) => ({
          _id: `s-${at}`,
          client: -1,
          lines: [at],
        }));
        await db.collection<Order>('orders').insertMany(orders);
      },
      ...(this.#kinds[to] === 'set'
        ? {}
        : {
            green: [
              { shardCollection: 'orders', key: { _id: 'hashed' } },
              { shardCollection: 'tally', key: { _id: 1 } },
            ],
          }),
    });
  }

  /** Under load: a range moves in the copy, and another one in the stream. @param from which server is blue here */
  async carried(from: Side): Promise<void> {
    await using run = await this.#create(from);
    await using clients = new ShopClients(this.application(from), run.name, 3);
    const points = new HoldPoints();
    const reached = points.hold('copy.rows-written');
    await run.begin({ failpoints: points });
    await reached;
    for (const db of this.#clusters(run, from)) await moveRange(db, 'orders', FIRST_QUARTER);
    await clients.more();
    points.release('copy.rows-written');
    await run.started();
    for (const db of this.#clusters(run, from)) await moveRange(db, 'orders', LAST_QUARTER);
    await clients.more();
    await clients.stop();
    await run.settled();
    for (const db of this.#clusters(run, from)) await this.#standsTwice(db);
    expect(await run.same()).toBeGreaterThan(SEEDED);
    expect(await differences(run.green, clients.acknowledged)).toEqual([]);
    // The fence of green is one for all that is done there.
    await (await run.engine.migration()).abort({ dropGreenData: false });
  }

  /** Under load: the engine is killed in the copy, ranges move in the copy and in the stream, then there and back. */
  async wholeWay(): Promise<void> {
    await using run = await this.#create();
    await using clients = new ShopClients(this.application('blue'), run.name, 3);
    const killed = new Workplace(run.dir).start({ failpoint: 'copy.rows-written:exit@3' });
    expect(await killed.ended, killed.output().slice(-2_000)).toBe('SIGKILL');
    const points = new HoldPoints();
    const reached = points.hold('copy.rows-written');
    await run.begin({ failpoints: points, takeover: true });
    await reached;
    for (const db of this.#clusters(run)) await moveRange(db, 'orders', FIRST_QUARTER);
    await clients.more();
    points.release('copy.rows-written');
    await run.started();
    for (const db of this.#clusters(run)) await moveRange(db, 'orders', LAST_QUARTER);
    await clients.more();
    if (this.#kinds.blue === 'cluster') await moveRange(run.blue, 'tally', { min: new MinKey(), max: 1 });
    if (this.#kinds.green === 'cluster') await moveRange(run.green, 'tally', { min: 1, max: new MaxKey() });
    await clients.more();
    await run.settled();
    for (const db of this.#clusters(run)) await this.#standsTwice(db);
    await this.#thereAndBack(run, clients);
  }

  /** There and back: what an application was told is committed is on the side that serves, once. */
  async #thereAndBack(run: MongoRun, clients: ShopClients): Promise<void> {
    expect(await this.#switch(run, 'cutover')).toMatchObject({ outcome: 'switched' });
    await clients.fenced();
    expect(await differences(run.green, clients.acknowledged)).toEqual([]);
    await run.same();
    await using back = new ShopClients(this.application('green'), run.name, 3);
    await back.more();
    expect(await this.#switch(run, 'rollback')).toMatchObject({ outcome: 'switched' });
    await back.fenced();
    const all = new Set([...clients.acknowledged, ...back.acknowledged]);
    expect(await differences(run.blue, all)).toEqual([]);
    await run.same();
    await (await run.engine.migration()).abort({ dropGreenData: false });
  }

  #switch(run: MongoRun, act: 'cutover' | 'rollback') {
    return turn(run.engine, { act, migration: run.name, gatesMs: 60_000 });
  }

  #clusters(run: MongoRun, from: Side = 'blue'): readonly Db[] {
    const sides = [
      [this.#kinds[from], run.blue],
      [this.#kinds[other(from)], run.green],
    ] as const;
    return sides.filter(([kind]) => kind === 'cluster').map(([, db]) => db);
  }

  /** What has moved still stands where it was: whoever reads past the routers' filters would find more. */
  async #standsTwice(db: Db): Promise<void> {
    const server = Object.values(this.#servers).find(
      (one) => db.client.options.hosts[0]?.port === portOf(one),
    );
    const counts = await stored(server as MongoCluster, db, 'orders');
    expect(counts.reduce((sum, count) => sum + count, 0)).toBeGreaterThan(
      await db.collection('orders').countDocuments(),
    );
  }
}

const portOf = (server: Server): number => Number(/:(\d+)\//.exec(server.uri())?.[1]);
