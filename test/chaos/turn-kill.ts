import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { STEPS, type StepName } from '../../src/cutover/step.ts';
import type { EngineProcess } from '../support/engine-process.ts';
import { waitFor } from '../support/wait.ts';
import { Rig } from './deadman-rig.ts';

type Act = 'cutover' | 'rollback';
type Point = `${StepName}.${'before' | 'after'}`;

const TURNS = {
  cutover: { from: 'blue', to: 'green', following: 'replicating', other: 'rollback' },
  rollback: { from: 'green', to: 'blue', following: 'reversing', other: 'cutover' },
} as const;

/** From here on the record is sealed. */
const DECIDED: ReadonlySet<string> = new Set([
  'seal.after',
  ...STEPS.slice(STEPS.indexOf('seal') + 1).flatMap((step) => [`${step}.before`, `${step}.after`]),
]);

/**
 * In an order in which each begins on the side where the one before has ended: what is undone leaves the side as it was, so all of
 * those come first, then one that goes through.
 */
function ordered(points: readonly Point[]): { act: Act; point: Point }[] {
  const undone = points.filter((point) => !DECIDED.has(point));
  const through = points.filter((point) => DECIDED.has(point));
  const one = (act: Act) => (point: Point) => ({ act, point });
  return [
    ...undone.map(one('cutover')),
    ...through.slice(0, 1).map(one('cutover')),
    ...undone.map(one('rollback')),
    ...through.flatMap((point, index) => [
      { act: 'rollback' as const, point },
      ...through.slice(index + 1, index + 2).map(one('cutover')),
    ]),
  ];
}

/**
 * SIGKILL of the engine at each of these points of a switch and of a rollback, behind a PgBouncer under load. The next engine is the one
 * that is killed next: it must find everything consistent and go on or back by itself.
 */
export function killedAt(points: readonly Point[]): void {
  describe('the engine is killed in a switch and in a rollback', () => {
    let rig: Rig;
    const lines: string[] = [];
    beforeAll(async () => {
      rig = await Rig.create({
        ledger: true,
        settings: 'verify: { after_copy: "off" }\napply: { heartbeat: 200ms }',
      });
    }, 60_000);
    afterAll(async () => {
      console.info(lines.join('\n'));
      await rig[Symbol.asyncDispose]();
    });

    test.each(ordered(points))(
      '$act killed at $point',
      async ({ act, point }) => {
        const { from, to, following } = TURNS[act];
        const engine = await ready(rig, following, `cutover.step.${point}:exit`);
        const asked = rig.turn(act, ['lag-stable', 'verified']);
        const why = await engine.ended;
        expect(
          why,
          `${JSON.stringify(await Promise.race([asked, Promise.resolve(null)]))}\n${engine.output().slice(-2000)}`,
        ).toBe('SIGKILL');
        const killed = performance.now();
        await asked;
        const through = DECIDED.has(point);
        // Before the seal the dead-man lets the clients go on; after it they wait for the next engine.
        const next = through ? rig.place.start({ args: ['--takeover'] }) : null;
        const ms = await rig.writers.firstAfter(killed);
        const serves = through ? to : from;
        lines.push(`${act} ${point}: ${serves}, first write after ${Math.round(ms)} ms`);
        await next?.until('the other side to follow', ({ activeSide, phase }) => {
          const steady = serves === 'blue' ? 'replicating' : 'reversing';
          return activeSide === serves && phase === steady;
        });
        await next?.kill('SIGTERM');
        expect(await rig.proxy()).toEqual({ dbname: rig[serves].name, paused: false });
        // Killed before anything was made there is no record.
        expect(await rig.record(rig[serves]).catch(() => 'open')).toBe('open');
        expect(await rig.record(rig[serves === 'blue' ? 'green' : 'blue'])).not.toBe('open');
        await rig.writers.more();
        expect(rig.writers.failures).toEqual([]);
        const acknowledged = [...rig.writers.acknowledged.keys()];
        const held = await rig.ledger(rig[serves]);
        expect(acknowledged.filter((id) => held.get(id) !== 1)).toEqual([]);
      },
      90_000,
    );

    test('at the end both sides hold every transaction once', async () => {
      const engine = rig.place.start({ args: ['--takeover'] });
      const { activeSide } = await engine.until(
        'one side to follow the other',
        ({ phase, lag }) => (phase === 'replicating' || phase === 'reversing') && lag.roundTripMs !== null,
      );
      await rig.writers[Symbol.asyncDispose]();
      const acknowledged = new Set(rig.writers.acknowledged.keys());
      const follower = rig[activeSide === 'blue' ? 'green' : 'blue'];
      await waitFor(async () => (await rig.ledger(follower)).size >= acknowledged.size, {
        what: 'the other side to follow to the end',
      });
      for (const side of [rig.blue, rig.green]) {
        const held = await rig.ledger(side);
        expect([...acknowledged].filter((id) => held.get(id) !== 1)).toEqual([]);
        expect(held.size).toBe(acknowledged.size);
      }
      await engine.kill('SIGTERM');
    }, 60_000);
  });
}

const PASSED = new Set(['lag-stable', 'verified']);

async function ready(
  rig: Rig,
  following: 'replicating' | 'reversing',
  failpoint: string,
): Promise<EngineProcess> {
  const engine = rig.place.start({ args: ['--takeover'], failpoint });
  try {
    await engine.until(
      `the gates of ${following}`,
      ({ phase, gates }) =>
        phase === following && gates.length > 0 && gates.every(({ name, ok }) => ok || PASSED.has(name)),
    );
  } catch (cause) {
    const shut = engine.status?.gates.filter(({ ok }) => !ok).map(({ name, reason }) => `${name}: ${reason}`);
    throw new Error(`phase ${engine.status?.phase}, shut: ${shut?.join('; ')}`, { cause });
  }
  return engine;
}
