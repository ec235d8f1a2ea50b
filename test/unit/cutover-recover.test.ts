import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { CutoverOutcome } from '../../src/cutover/execute.ts';
import { cutover, recover } from '../../src/cutover/recover.ts';
import { FAULTS, World, type Fault } from './cutover-world.ts';

const live = (): AbortSignal => new AbortController().signal;

/** After all faults: recovery ends on one side, with every proxy there and nobody held, and a reported outcome stands. */
async function expectSettled(world: World, reported: string | null): Promise<void> {
  const outcome = await world.time.drive(recover(world.engine().context()));
  expect(outcome?.outcome).toMatch(/^(switched|undone)$/);
  const side = outcome?.outcome === 'switched' ? 'green' : 'blue';
  if (reported === 'switched') expect(side).toBe('green');
  if (reported === 'undone') expect(side).toBe('blue');
  expect(world.writable).toEqual([side]);
  expect(world.proxies.map((proxy) => `${proxy.side} ${proxy.paused}`)).toEqual(
    world.proxies.map(() => `${side} false`),
  );
  if (side === 'green') {
    expect(world.applied).toBe(world.written);
    expect(world.servedBy).toBe('green');
  }
  expect(world.violations).toEqual([]);
}

/** What the switch itself reported holds at once, without any recovery, also when late effects of lost calls arrive. */
async function expectAsReported(world: World, outcome: CutoverOutcome | null): Promise<void> {
  while (world.time.advance()) await new Promise((resolve) => setImmediate(resolve));
  if (outcome === null || outcome.outcome === 'undetermined') return;
  const side = outcome.outcome === 'switched' ? 'green' : 'blue';
  expect(world.writable).toEqual([side]);
  if (outcome.error?.message.includes('Not everything was taken back')) return;
  expect(world.proxies.map((proxy) => `${proxy.side} ${proxy.paused}`)).toEqual(
    world.proxies.map(() => `${side} false`),
  );
}

const fault = fc.constantFrom<Fault>(...FAULTS);
/** A switch makes some 75 calls, more with its way back. */
const place = fc.nat(110);
const faults = fc.array(fc.tuple(place, fault), { minLength: 1, maxLength: 4 }).map((list) => new Map(list));

async function clean(): Promise<number> {
  const world = new World();
  const engine = world.engine();
  await world.time.drive(cutover(engine.context(), live()));
  return engine.calls;
}

describe('killed or failing anywhere, the switch ends on exactly one side and the two were never writable together', () => {
  test.each(FAULTS)('every single call, fault %s', async (kind) => {
    const calls = await clean();
    for (let at = 0; at < calls; at++) {
      const world = new World();
      const engine = world.engine(new Map([[at, kind]]));
      const first = await world.time.drive(cutover(engine.context(), live()));
      await expectAsReported(world, first);
      engine.dead = true;
      await expectSettled(world, first?.outcome ?? null);
    }
  });

  test('any faults in the switch and in the recoveries after it', async () => {
    await fc.assert(
      fc.asyncProperty(faults, fc.array(faults, { maxLength: 2 }), async (inSwitch, inRecoveries) => {
        const world = new World();
        const engine = world.engine(inSwitch);
        const first = await world.time.drive(cutover(engine.context(), live()));
        await expectAsReported(world, first);
        engine.dead = true;
        for (const more of inRecoveries) {
          const next = world.engine(more);
          await world.time.drive(recover(next.context()));
          next.dead = true;
        }
        await expectSettled(world, first?.outcome ?? null);
      }),
      { numRuns: 600 },
    );
  });

  test('a frozen engine that wakes after another has recovered, at every call', async () => {
    const calls = await clean();
    for (let at = 0; at < calls; at++) {
      const world = new World();
      const frozen = world.engine();
      frozen.freezeAt = at;
      const running = cutover(frozen.context(), live());
      // Frozen with its clock: nothing of it happens until it wakes.
      for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
      await world.time.drive(recover(world.engine().context()));
      expect(world.writable).toHaveLength(1);
      const before = world.writable[0];
      frozen.thaw();
      await world.time.drive(running);
      expect(world.violations).toEqual([]);
      // What it did after waking cannot have taken the decision back.
      if (before === 'green') expect(world.blue.state).toBe('sealed');
      await expectSettled(world, before === 'green' ? 'switched' : null);
    }
  });

  test('recovery of a sealed record goes straight on: no proxy is pointed back to blue on the way', async () => {
    const world = new World();
    const engine = world.engine();
    await world.time.drive(cutover(engine.context(), live()));
    const open = engine.log.indexOf('green.open');
    const again = new World();
    await again.time.drive(cutover(again.engine(new Map([[open, 'die']])).context(), live()));
    expect(again.writable).toEqual([]);
    const second = again.engine();
    await again.time.drive(recover(second.context()));
    expect(second.log.filter((name) => /route|pause|lower|raise|seal/.test(name))).toEqual([
      'note cutover.sealed',
    ]);
    await expectSettled(again, 'switched');
  });

  test('recovery is idempotent', async () => {
    for (const kind of ['die', 'die-after'] as const) {
      for (let at = 0; at < (await clean()); at += 7) {
        const world = new World();
        await world.time.drive(cutover(world.engine(new Map([[at, kind]])).context(), live()));
        await expectSettled(world, null);
        const side = world.writable[0];
        await expectSettled(world, side === 'green' ? 'switched' : 'undone');
      }
    }
  });
});
