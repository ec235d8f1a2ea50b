import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Rig } from './deadman-rig.ts';

/** Every boundary between the arming and the seal, and places inside the steps; what a quick run leaves out. */
describe('the engine is lost anywhere in a switch', () => {
  let rig: Rig;
  const took: Record<string, number> = {};
  beforeAll(async () => {
    rig = await Rig.create();
  }, 60_000);
  afterAll(async () => {
    console.info(`ms from the loss to the first write: ${JSON.stringify(took)}`);
    await rig[Symbol.asyncDispose]();
  });

  const onBlue = async (): Promise<void> => {
    expect(await rig.record(rig.blue)).toBe('open');
    expect(await rig.record(rig.green)).toBe('raised');
    expect(await rig.proxy()).toEqual({ dbname: rig.blue.name, paused: false });
    await rig.writers.more();
    expect(rig.writers.failures).toEqual([]);
  };

  const steps = ['pause', 'fence', 'prove', 'drain', 'recheck', 'counters', 'route', 'seal'];
  const inside = [
    'deadman.armed',
    'proxy.pgbouncer.pause',
    'fence.raise.locked',
    'fence.raise.committed',
    'proxy.pgbouncer.route',
    'proxy.pgbouncer.reload',
    'fence.seal.before_commit',
  ];
  test.each([
    'cutover.step.arm.before',
    'cutover.step.arm.after',
    ...steps.flatMap((step) => [
      `cutover.step.${step}.before`,
      ...(step === 'seal' ? [] : [`cutover.step.${step}.after`]),
    ]),
    ...inside,
  ])(
    'killed at %s',
    async (point) => {
      const engine = await rig.engine(`${point}:exit`);
      const asked = rig.cutover();
      expect(await engine.ended, engine.output().slice(-2000)).toBe('SIGKILL');
      const ms = await rig.writers.firstAfter(performance.now());
      took[point] = Math.round(ms);
      expect(ms).toBeLessThan(2_000);
      await onBlue();
      expect(await rig.blue.query('SELECT 1')).toHaveLength(1);
      if (!['cutover.step.arm.before'].includes(point))
        expect((await rig.deadmanDone()).state).toBe('restored');
      await asked;
    },
    120_000,
  );

  test.each(steps.map((step) => `cutover.step.${step}.before`))(
    'frozen at %s, then thawed',
    async (point) => {
      const engine = await rig.engine(`${point}:stop`);
      const asked = rig.cutover();
      await rig.deadmanActs();
      const ms = await rig.writers.firstAfter(performance.now());
      took[`frozen ${point}`] = Math.round(ms);
      expect(ms).toBeLessThan(2_000);
      await onBlue();
      process.kill(engine.pid, 'SIGCONT');
      expect(await asked).toMatchObject({ data: { outcome: 'undone' } });
      await onBlue();
      expect((await rig.deadmanDone()).state).toBe('restored');
      await engine.kill('SIGKILL');
    },
    120_000,
  );

  test('the dead-man dies right after it was armed: nothing is paused', async () => {
    const engine = await rig.engine('deadman.watching:exit');
    expect(await rig.cutover()).toMatchObject({
      data: { outcome: 'undone', error: { code: 'CUTOVER_UNDONE' } },
    });
    await onBlue();
    await engine.kill('SIGKILL');
  }, 120_000);
});
