import { expect, test } from 'vitest';

import { HoldPoints } from '../../support/run.ts';
import { waitFor } from '../../support/wait.ts';
import { SwitchRig } from './switch-rig.ts';

const rig = new SwitchRig(1);

test('cancelled in the middle, before the seal: undone, who served serves, and the next one goes through; a rollback too', async () => {
  await using run = await rig.create();
  const points = new HoldPoints();
  await run.start({ failpoints: points });
  const cancelled = async (to: 'cutover' | 'rollback', attempt: number): Promise<void> => {
    const reached = points.hold('cutover.step.drain.before');
    const turning = rig.act(run, to);
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
  expect([await rig.writable('blue', run), await rig.writable('green', run)]).toEqual([true, false]);
  expect(await rig.act(run, 'cutover')).toMatchObject({ outcome: 'switched' });
  await cancelled('rollback', 2);
  expect(await run.engine.status()).toMatchObject({ phase: 'reversing', activeSide: 'green' });
  expect([await rig.writable('blue', run), await rig.writable('green', run)]).toEqual([false, true]);
  expect(await rig.act(run, 'rollback')).toMatchObject({ outcome: 'switched' });
  expect([await rig.writable('blue', run), await rig.writable('green', run)]).toEqual([true, false]);
  await (await run.engine.migration()).abort({ dropGreenData: false });
}, 180_000);
