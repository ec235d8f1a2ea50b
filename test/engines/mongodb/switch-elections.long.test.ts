import { MongoClient } from 'mongodb';
import { describe, test } from 'vitest';

import { elect, type Election } from '../../support/mongo.ts';
import { waitFor } from '../../support/wait.ts';
import { SwitchRig } from './switch-rig.ts';

const CASES: readonly (readonly [side: 'blue' | 'green', how: Election, step: string])[] = [
  ['blue', 'step-down', 'drain'],
  ['green', 'kill', 'drain'],
  ['blue', 'kill', 'seal'],
  ['green', 'step-down', 'seal'],
  ['blue', 'kill', 'open'],
];

const rig = new SwitchRig(3);

describe('another primary is elected in the middle of a switch', () => {
  test.each(CASES)(
    '%s, by %s, before the step %s: it is switched or undone, and every acknowledged order is on the side that serves',
    async (side, how, step) => {
      await rig.electedBefore(step, side, how);
    },
    180_000,
  );

  test('of blue, while an open transaction keeps the fence down: the block is on the new primary, or the switch is undone', async () => {
    await using run = await rig.create();
    await using clients = rig.clients(run);
    await run.start();
    await clients.more();
    await using holder = new MongoClient(rig.application('blue'));
    const session = holder.startSession();
    session.startTransaction();
    await holder
      .db(run.name)
      .collection<{ _id: string; client: number }>('orders')
      .insertOne({ _id: 'held', client: -1 }, { session });
    const turning = rig.act(run, 'cutover');
    const fence = run.blueClient.db(`${run.name}_state`).collection('fence');
    await waitFor(async () => (await fence.findOne({ state: 'raised' })) !== null, {
      what: 'the fence to be on its way',
      timeoutMs: 60_000,
    });
    // It takes the transaction with it.
    await elect(rig.set('blue'), 'step-down');
    const report = await turning;
    await session.endSession();
    await rig.finished(run, report, clients);
  }, 180_000);
});
