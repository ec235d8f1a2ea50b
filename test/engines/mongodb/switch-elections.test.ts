import { MongoClient } from 'mongodb';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

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
import { waitFor } from '../../support/wait.ts';
import { differences, ShopClients } from './clients.ts';

/** An ordinary account: root passes a block of user writes. */
const APPLICATION = 'application';
const GATES_MS = 60_000;

let blue: MongoReplicaSet;
let green: MongoReplicaSet;

beforeAll(async () => {
  [blue, green] = await Promise.all([startMongo({ members: 3 }), startMongo({ members: 3 })]);
  for (const set of [blue, green]) {
    await using client = await new MongoClient(set.uri()).connect();
    await client
      .db('admin')
      .command({ createUser: APPLICATION, pwd: MONGO_PASSWORD, roles: ['readWriteAnyDatabase'] });
  }
}, 120_000);
afterAll(async () => {
  await Promise.all([blue, green].map((set) => set[Symbol.asyncDispose]()));
});

const create = (): Promise<MongoRun> =>
  MongoRun.create({
    collections: ['orders', 'tally'],
    blueUri: blue.uri(),
    greenUri: green.uri(),
    settings: [
      'verify: { after_copy: full }',
      'gates: { stable_for: 1ms }',
      'cutover: { max_write_pause: 60s, fence_timeout: 20s }',
    ].join('\n'),
  });

/** Whether an ordinary user may write the orders of a side. */
async function writable(set: MongoReplicaSet, run: MongoRun): Promise<boolean> {
  await using client = new MongoClient(set.uri(APPLICATION));
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

const act = (run: MongoRun, to: 'cutover' | 'rollback'): Promise<CutoverReport> =>
  turn(run.engine, { act: to, migration: run.name, gatesMs: GATES_MS });

async function expectSwitched(run: MongoRun, acknowledged: ReadonlySet<string>): Promise<void> {
  expect(await run.engine.status()).toMatchObject({ phase: 'reversing', activeSide: 'green' });
  expect(await writable(blue, run)).toBe(false);
  expect(await differences(run.green, acknowledged)).toEqual([]);
  await run.same();
  expect(await writable(green, run)).toBe(true);
}

const CASES: readonly (readonly [side: 'blue' | 'green', how: Election, step: string])[] = [
  ['blue', 'kill', 'prove'],
  ['blue', 'step-down', 'drain'],
  ['green', 'kill', 'drain'],
  ['blue', 'kill', 'seal'],
  ['green', 'step-down', 'seal'],
  ['blue', 'kill', 'open'],
  ['green', 'kill', 'open'],
];

describe('another primary is elected in the middle of a switch', () => {
  test.each(CASES)(
    '%s, by %s, before the step %s: it is switched or undone, and every acknowledged order is on the side that serves',
    async (side, how, step) => {
      await using run = await create();
      await using clients = new ShopClients(blue.uri(APPLICATION), run.name, 3);
      await clients.more();
      const points = new HoldPoints();
      await run.start({ failpoints: points });
      await clients.more();
      const point = `cutover.step.${step}.before`;
      const reached = points.hold(point);
      const turning = act(run, 'cutover');
      await Promise.race([reached, turning]);
      await elect(side === 'blue' ? blue : green, how);
      points.release(point);
      const report = await turning;
      if (report.outcome === 'undone') {
        // Before the seal blue serves again; then the next one goes through.
        expect(step).not.toBe('open');
        expect(await writable(blue, run)).toBe(true);
        await using again = new ShopClients(blue.uri(APPLICATION), run.name, 3);
        await again.more();
        expect(await act(run, 'cutover')).toMatchObject({ outcome: 'switched' });
        await again.fenced();
        await expectSwitched(run, new Set([...clients.acknowledged, ...again.acknowledged]));
      } else {
        expect(report).toMatchObject({ outcome: 'switched' });
        await clients.fenced();
        await expectSwitched(run, clients.acknowledged);
      }
      expect(await act(run, 'rollback')).toMatchObject({ outcome: 'switched' });
      expect(await writable(green, run)).toBe(false);
      expect(await writable(blue, run)).toBe(true);
      await (await run.engine.migration()).abort({ dropGreenData: false });
    },
    180_000,
  );

  test('of blue, while an open transaction keeps the fence down: the block is on the new primary, or the switch is undone', async () => {
    await using run = await create();
    await using clients = new ShopClients(blue.uri(APPLICATION), run.name, 2);
    await run.start();
    await clients.more();
    await using holder = new MongoClient(blue.uri(APPLICATION));
    const session = holder.startSession();
    session.startTransaction();
    await holder
      .db(run.name)
      .collection<{ _id: string; client: number }>('orders')
      .insertOne({ _id: 'held', client: -1 }, { session });
    const turning = act(run, 'cutover');
    await waitFor(
      async () =>
        (await run.blueClient.db(`${run.name}_state`).collection('fence').findOne({ state: 'raised' })) !==
        null,
      { what: 'the fence to be on its way', timeoutMs: GATES_MS },
    );
    // It takes the transaction with it.
    await elect(blue, 'step-down');
    const report = await turning;
    await session.endSession();
    if (report.outcome === 'undone') {
      expect(await writable(blue, run)).toBe(true);
      await using again = new ShopClients(blue.uri(APPLICATION), run.name, 2);
      await again.more();
      expect(await act(run, 'cutover')).toMatchObject({ outcome: 'switched' });
      await again.fenced();
      await expectSwitched(run, new Set([...clients.acknowledged, ...again.acknowledged]));
    } else {
      expect(report).toMatchObject({ outcome: 'switched' });
      await clients.fenced();
      await expectSwitched(run, clients.acknowledged);
    }
    expect(await act(run, 'rollback')).toMatchObject({ outcome: 'switched' });
    await (await run.engine.migration()).abort({ dropGreenData: false });
  }, 180_000);
});

test('cancelled in the middle, before the seal: undone, who served serves, and the next one goes through; a rollback too', async () => {
  await using run = await create();
  const points = new HoldPoints();
  await run.start({ failpoints: points });
  const cancelled = async (to: 'cutover' | 'rollback', attempt: number): Promise<void> => {
    const reached = points.hold('cutover.step.drain.before');
    const turning = act(run, to);
    await reached;
    const cancelling = run.engine.cancel({ by: 'ada', reason: 'wrong day' });
    const asked = async (): Promise<boolean> =>
      (await run.engine.events(0, 1_000)).filter(({ event }) => event === 'cutover.cancel').length ===
      attempt;
    await waitFor(asked, { what: 'the cancel to be in the journal' });
    points.release('cutover.step.drain.before');
    expect(await turning).toMatchObject({ outcome: 'undone' });
    expect(await cancelling).toMatchObject({ state: 'done', outcome: 'undone' });
  };
  await cancelled('cutover', 1);
  expect(await run.engine.status()).toMatchObject({ phase: 'replicating', activeSide: 'blue' });
  expect([await writable(blue, run), await writable(green, run)]).toEqual([true, false]);
  expect(await act(run, 'cutover')).toMatchObject({ outcome: 'switched' });
  await cancelled('rollback', 2);
  expect(await run.engine.status()).toMatchObject({ phase: 'reversing', activeSide: 'green' });
  expect([await writable(blue, run), await writable(green, run)]).toEqual([false, true]);
  expect(await act(run, 'rollback')).toMatchObject({ outcome: 'switched' });
  expect([await writable(blue, run), await writable(green, run)]).toEqual([true, false]);
  await (await run.engine.migration()).abort({ dropGreenData: false });
}, 180_000);
