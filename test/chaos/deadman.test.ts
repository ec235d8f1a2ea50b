import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createEngine } from '../../src/app/engine.ts';
import { loadConfig } from '../../src/app/load.ts';
import { waitFor } from '../support/wait.ts';
import { alive, Rig } from './deadman-rig.ts';

/** Number of its session, which is that of its leader. */
const sessionOf = async (pid: number): Promise<number> =>
  Number((await readFile(`/proc/${pid}/stat`, 'utf8')).replace(/^.*\) /, '').split(' ')[3]);

/** What others on the machine may see of a process: arguments and the environment it was started with. */
const shownOf = async (pid: number): Promise<string> =>
  (await readFile(`/proc/${pid}/cmdline`, 'utf8')) + (await readFile(`/proc/${pid}/environ`, 'utf8'));

/**
 * An engine that dies or freezes while it holds the clients: without it, and without anybody who starts it again, the clients go
 * on within two seconds, on blue before the seal. One migration for all of it: each test starts the engine again, which must
 * find everything consistent.
 */
describe('the engine is lost during a switch', () => {
  let rig: Rig;
  const took: Record<string, number> = {};
  beforeAll(async () => {
    rig = await Rig.create();
  }, 60_000);
  afterAll(async () => {
    vi.unstubAllEnvs();
    console.info(`ms from the loss to the first write: ${JSON.stringify(took)}`);
    await rig[Symbol.asyncDispose]();
  });

  /** Blue serves, the proxy works on it, and nobody has noticed more than a pause. */
  const onBlue = async (): Promise<void> => {
    expect(await rig.record(rig.blue)).toBe('open');
    expect(await rig.record(rig.green)).toBe('raised');
    expect(await rig.proxy()).toEqual({ dbname: rig.blue.name, paused: false });
    await rig.writers.more();
    expect(rig.writers.failures).toEqual([]);
  };

  const writesAgain = async (what: string, since: number): Promise<void> => {
    const ms = await rig.writers.firstAfter(since);
    took[what] = Math.round(ms);
    expect(ms).toBeLessThan(2_000);
  };

  test.each(['pause.after', 'route.after'])(
    'killed at %s: clients write on blue within two seconds',
    async (point) => {
      const engine = await rig.engine(`cutover.step.${point}:exit`);
      const asked = rig.cutover();
      expect(await engine.ended, engine.output().slice(-2000)).toBe('SIGKILL');
      await writesAgain(point, performance.now());
      await onBlue();
      expect(await rig.deadmanDone()).toMatchObject({
        state: 'restored',
        why: expect.stringContaining('pipe'),
      });
      await waitFor(async () => (await rig.events('deadman.acted')).length > 0, { what: 'the journal' });
      expect((await asked)?.ok).toBe(false);
    },
    60_000,
  );

  test('the whole process group killed: the dead-man is in a session of its own', async () => {
    const engine = await rig.engineInGroup('cutover.step.counters.before:hang');
    const asked = rig.cutover();
    await waitFor(async () => (await rig.record(rig.blue)) === 'raised', { what: 'the fence' });
    const ended = new Promise((resolve) => engine.once('exit', resolve));
    process.kill(-(engine.pid as number), 'SIGKILL');
    const killed = performance.now();
    await ended;
    await writesAgain('group', killed);
    await onBlue();
    expect((await rig.deadmanDone()).state).toBe('restored');
    await asked;
  }, 60_000);

  test.each(['route.before'])(
    'frozen at %s for longer than its silence: taken back; thawed, it does nothing more and ends undone',
    async (point) => {
      const engine = await rig.engine(`cutover.step.${point}:stop`);
      const asked = rig.cutover();
      const acting = await rig.deadmanActs();
      await writesAgain(`frozen ${point}`, performance.now());
      await onBlue();
      expect(acting.why).toContain('silent');
      const before = await rig.ids(rig.green);
      process.kill(engine.pid, 'SIGCONT');
      expect(await asked).toMatchObject({ data: { outcome: 'undone', error: { code: 'CUTOVER_UNDONE' } } });
      await onBlue();
      expect((await rig.deadmanDone()).state).toBe('restored');
      expect((await rig.events('cutover.end')).at(-1)).toMatchObject({ outcome: 'undone' });
      // It is a live engine again: it replicates what blue has taken meanwhile.
      await waitFor(async () => (await rig.ids(rig.green)).size > before.size, {
        what: 'the stream to go on',
      });
      expect(await engine.kill('SIGKILL')).toBe('SIGKILL');
    },
    60_000,
  );

  test('the dead-man killed before anybody is paused, and under the fence: the switch is undone', async () => {
    vi.stubEnv('XDG_STATE_HOME', rig.place.dir);
    const points = ['arm.after', 'counters.after'];
    await using engine = createEngine(await loadConfig(rig.place.file), {
      takeover: true,
      failpoints: {
        hit: async (name) => {
          if (name !== `cutover.step.${points[0]}`) return;
          points.shift();
          const { pid } = await rig.report();
          expect(await sessionOf(pid)).toBe(pid);
          expect(await shownOf(pid)).not.toContain(new URL(rig.blue.url).password + '@');
          process.kill(pid, 'SIGKILL');
          await waitFor(() => !alive(pid), { what: 'the dead-man to be gone' });
        },
      },
    });
    await engine.start();
    const { hash } = await engine.plan();
    for (const held of [false, true]) {
      for await (const status of engine.watch({ everyMs: 100 })) if (status.gates.ready) break;
      const { outcome, error, writePauseMs } = await engine.cutover({ planHash: hash, confirm: engine.name });
      expect({ outcome, error }).toMatchObject({
        outcome: 'undone',
        error: { code: 'CUTOVER_UNDONE', message: expect.stringContaining('dead-man ended') },
      });
      expect(writePauseMs !== null, 'clients were held').toBe(held);
      await onBlue();
    }
    expect(points).toEqual([]);
    // Armed to measure it, and let go: nothing of it stays.
    const { steps } = await engine.cutover({ planHash: hash, confirm: engine.name, dryRun: true });
    expect(steps.find(({ name }) => name === 'arm')?.detail).toMatch(/armed in \d+ ms/);
    await expect(rig.report()).rejects.toMatchObject({ code: 'ENOENT' });
  }, 60_000);

  test('killed after the seal: the dead-man touches nothing, and the next start goes forward to green', async () => {
    const engine = await rig.engine('cutover.step.seal.after:exit');
    const asked = rig.cutover();
    expect(await engine.ended).toBe('SIGKILL');
    expect((await rig.deadmanDone()).state).toBe('sealed');
    expect(await rig.record(rig.blue)).toBe('sealed');
    expect(await rig.proxy()).toEqual({ dbname: rig.green.name, paused: true });
    await asked;
    const next = rig.place.start({ args: ['--takeover'] });
    await rig.writers.more();
    await next.until('the way back to be open', ({ phase }) => phase === 'reversing');
    expect(await rig.proxy()).toEqual({ dbname: rig.green.name, paused: false });
    await rig.writers[Symbol.asyncDispose]();
    expect(rig.writers.failures).toEqual([]);
    const green = await rig.ids(rig.green);
    // The primary keys refuse a second one; every transaction that was acknowledged is there, and nothing else.
    expect([...green].toSorted((a, b) => a - b)).toEqual(
      [...rig.writers.acknowledged.keys()].toSorted((a, b) => a - b),
    );
    await next.kill('SIGTERM');
  }, 60_000);
});
