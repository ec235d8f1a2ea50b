import { MongoClient } from 'mongodb';
import { afterAll, beforeAll, expect } from 'vitest';

import type { CutoverReport } from '../../../src/app/engine.ts';
import {
  elect,
  MONGO_PASSWORD,
  startMongo,
  type Election,
  type MongoReplicaSet,
} from '../../support/mongo.ts';
import { MongoRun } from '../../support/mongo-run.ts';
import { HoldPoints } from '../../support/run.ts';
import { turn } from '../../support/turn.ts';
import { differences, ShopClients } from './clients.ts';

/** An ordinary account: root passes a block of user writes. */
const APPLICATION = 'application';

/** Two replica sets for the switches of one test file, and what is done with them. */
export class SwitchRig {
  readonly #sets: { blue?: MongoReplicaSet; green?: MongoReplicaSet } = {};

  constructor(members: 1 | 3) {
    beforeAll(async () => {
      const start = (): Promise<MongoReplicaSet> => startMongo({ members, cacheGb: 0.25 });
      const [blue, green] = await Promise.all([start(), start()]);
      Object.assign(this.#sets, { blue, green });
      for (const set of [blue, green]) {
        await using client = await new MongoClient(set.uri()).connect();
        await client
          .db('admin')
          .command({ createUser: APPLICATION, pwd: MONGO_PASSWORD, roles: ['readWriteAnyDatabase'] });
      }
    }, 120_000);
    afterAll(async () => {
      await Promise.all(Object.values(this.#sets).map((set) => set[Symbol.asyncDispose]()));
    });
  }

  set(side: 'blue' | 'green'): MongoReplicaSet {
    return this.#sets[side] as MongoReplicaSet;
  }

  application(side: 'blue' | 'green'): string {
    return this.set(side).uri(APPLICATION);
  }

  create(): Promise<MongoRun> {
    return MongoRun.create({
      collections: ['orders', 'tally'],
      blueUri: this.set('blue').uri(),
      greenUri: this.set('green').uri(),
      settings: [
        'verify: { after_copy: full }',
        'gates: { stable_for: 1ms }',
        'cutover: { max_write_pause: 60s, fence_timeout: 20s }',
      ].join('\n'),
    });
  }

  clients(run: MongoRun): ShopClients {
    return new ShopClients(this.application('blue'), run.name, 3);
  }

  act(run: MongoRun, act: 'cutover' | 'rollback'): Promise<CutoverReport> {
    return turn(run.engine, { act, migration: run.name, gatesMs: 60_000 });
  }

  /** Whether an ordinary user may write the orders of a side. */
  async writable(side: 'blue' | 'green', run: MongoRun): Promise<boolean> {
    await using client = new MongoClient(this.application(side));
    const orders = client.db(run.name).collection<{ _id: string; client: number }>('orders');
    const probe = { _id: `probe ${process.hrtime.bigint()}`, client: -1 };
    try {
      await orders.insertOne(probe, { writeConcern: { w: 'majority' } });
      await orders.deleteOne({ _id: probe._id });
      return true;
    } catch (error) {
      expect(error).toMatchObject({ code: 371 });
      return false;
    }
  }

  /** A switch during which another primary is elected before that step; then back, and the run ends. */
  async electedBefore(step: string, side: 'blue' | 'green', how: Election): Promise<void> {
    await using run = await this.create();
    await using clients = this.clients(run);
    await clients.more();
    const points = new HoldPoints();
    await run.start({ failpoints: points });
    await clients.more();
    const point = `cutover.step.${step}.before`;
    const reached = points.hold(point);
    const turning = this.act(run, 'cutover');
    await Promise.race([reached, turning]);
    await elect(this.set(side), how);
    points.release(point);
    const report = await turning;
    // Once blue is sealed there is only forward.
    if (step === 'open') expect(report).toMatchObject({ outcome: 'switched' });
    await this.finished(run, report, clients);
  }

  /** Switched, or undone and then switched; every acknowledged order is on green once. Then back to blue. */
  async finished(run: MongoRun, { outcome }: CutoverReport, clients: ShopClients): Promise<void> {
    expect(['switched', 'undone']).toContain(outcome);
    if (outcome === 'undone') {
      expect(await this.writable('blue', run)).toBe(true);
      await using again = this.clients(run);
      await again.more();
      expect(await this.act(run, 'cutover')).toMatchObject({ outcome: 'switched' });
      await again.fenced();
      for (const id of again.acknowledged) clients.acknowledged.add(id);
    }
    await clients.fenced();
    expect(await run.engine.status()).toMatchObject({ phase: 'reversing', activeSide: 'green' });
    expect(await differences(run.green, clients.acknowledged)).toEqual([]);
    await run.same();
    expect([await this.writable('blue', run), await this.writable('green', run)]).toEqual([false, true]);
    expect(await this.act(run, 'rollback')).toMatchObject({ outcome: 'switched' });
    expect([await this.writable('blue', run), await this.writable('green', run)]).toEqual([true, false]);
    await (await run.engine.migration()).abort({ dropGreenData: false });
  }
}
