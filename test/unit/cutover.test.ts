import { describe, expect, test } from 'vitest';
import { VerdigrisError } from '../../src/core/errors.ts';
import type { Failpoints } from '../../src/core/failpoint.ts';
import type { CutoverContext } from '../../src/cutover/context.ts';
import { dryRun, type CutoverOutcome } from '../../src/cutover/execute.ts';
import { cutover, recover } from '../../src/cutover/recover.ts';
import { STEPS, type StepName } from '../../src/cutover/step.ts';
import { cutoverSteps } from '../../src/cutover/steps.ts';
import { throwingAt, World } from './cutover-world.ts';

const live = (): AbortSignal => new AbortController().signal;

async function run(
  world: World,
  change: Partial<CutoverContext> = {},
  signal = live(),
): Promise<CutoverOutcome> {
  const engine = world.engine();
  const outcome = await world.time.drive(cutover(engine.context(change), signal));
  if (outcome === null) throw new Error(`the switch stands still after ${engine.log.at(-1) ?? 'nothing'}`);
  expect(world.violations).toEqual([]);
  return outcome;
}

function expectServing(world: World, side: 'blue' | 'green'): void {
  expect(world.writable).toEqual([side]);
  expect(world.proxies.map(({ side: to, paused }) => ({ to, paused }))).toEqual(
    world.proxies.map(() => ({ to: side, paused: false })),
  );
  if (side === 'green') expect(world.applied).toBe(world.written);
}

const outcomes = (outcome: CutoverOutcome): Record<string, string> =>
  Object.fromEntries(outcome.steps.map((step) => [step.name, step.outcome]));

describe('the switch', () => {
  test('runs every step in order and ends on green', async () => {
    const world = new World();
    const outcome = await run(world);
    expect(outcome).toMatchObject({ outcome: 'switched', error: null, writePauseMs: expect.any(Number) });
    expect(outcome.steps.map((step) => step.name)).toEqual([...STEPS]);
    expect(new Set(outcome.steps.map((step) => step.outcome))).toEqual(new Set(['ok']));
    expectServing(world, 'green');
    expect(world.blue).toEqual({ state: 'sealed', epoch: 1 });
    expect(world.servedBy).toBe('green');
  });

  test('every step is in the journal before it acts, and the drain leaves its certificate before the seal', async () => {
    const world = new World();
    const engine = world.engine();
    await world.time.drive(cutover(engine.context(), live()));
    const begun = world.journal.filter(
      ({ event, detail }) => event === 'cutover.step' && detail['state'] === 'begin',
    );
    expect(begun.map(({ detail }) => detail['step'])).toEqual([...STEPS]);
    for (const [call, effect] of [
      ['fence', 'blue.raise'],
      ['seal', 'blue.seal'],
      ['open', 'green.open'],
    ] as const) {
      const intent = world.journal.findIndex(({ detail }) => detail['step'] === call);
      const noteCalls = engine.log
        .map((name, index) => ({ name, index }))
        .filter(({ name }) => name.startsWith('note '));
      expect(noteCalls[intent]?.index).toBeLessThan(engine.log.indexOf(effect));
    }
    const certificate = world.journal.findIndex(({ event }) => event === 'cutover.drained');
    const seal = world.journal.findIndex(({ detail }) => detail['step'] === 'seal');
    expect(certificate).toBeGreaterThan(-1);
    expect(certificate).toBeLessThan(seal);
    expect(world.journal[certificate]?.detail).toMatchObject({
      blockers: [],
      barrier: expect.any(String),
      checkpoint: expect.any(String),
    });
  });

  test('the last work while nobody waits comes after everything that is prepared; its failure pauses nobody', async () => {
    const world = new World();
    const engine = world.engine();
    const beforeHold = () => engine.call('last look', () => undefined);
    const outcome = await world.time.drive(cutover(engine.context({ beforeHold }), live()));
    expect(outcome).toMatchObject({ outcome: 'switched' });
    const at = engine.log.indexOf('last look');
    const begun = world.journal.filter(({ detail }) => detail['state'] === 'begin');
    expect(begun.map(({ detail }) => detail['step']).slice(0, 4)).toEqual([
      'gates',
      'prepare',
      'arm',
      'pause',
    ]);
    const notes = engine.log.slice(0, at).filter((name) => name === 'note cutover.step');
    // Three steps with a begin and an end each.
    expect(notes).toHaveLength(6);

    const other = new World();
    const failing = () => Promise.reject(new VerdigrisError('CUTOVER_GATE', '3 rows differ'));
    const undone = await run(other, { beforeHold: failing });
    expect(undone).toMatchObject({ outcome: 'undone', writePauseMs: null });
    expect(undone.error?.message).toContain('3 rows differ');
    expect(outcomes(undone)).toMatchObject({ arm: 'undone', pause: 'skipped' });
    expectServing(other, 'blue');
  });

  test('the lease is read again before every act', async () => {
    const world = new World();
    const engine = world.engine();
    await world.time.drive(cutover(engine.context(), live()));
    expect(engine.log.filter((name) => name === 'lease')).toHaveLength(STEPS.length);
  });

  const undoable = STEPS.slice(1, STEPS.indexOf('seal') + 1);
  test.each(
    undoable.flatMap((step) => [`${step}.before`, `${step}.after`]).filter((point) => point !== 'seal.after'),
  )('a failure at %s is undone: blue serves, no client is left waiting', async (point) => {
    const world = new World();
    let waiting: Promise<string> | undefined;
    const throwing = throwingAt(`cutover.step.${point}`);
    const failpoints: Failpoints = {
      hit: (name) => {
        if (name === `cutover.step.${point}`)
          waiting = world.proxies[0]?.enter().then((admission) => admission.side);
        return throwing.hit(name);
      },
    };
    const outcome = await run(world, { failpoints });
    expect(outcome).toMatchObject({
      outcome: 'undone',
      error: { code: 'CUTOVER_UNDONE', context: { code: 'INTERNAL' } },
    });
    expectServing(world, 'blue');
    expect(await waiting).toBe('blue');
    expect(world.servedBy).toBe('blue');
  });

  test.each([
    'seal.after',
    ...STEPS.slice(STEPS.indexOf('open')).flatMap((step) => [`${step}.before`, `${step}.after`]),
  ])('a failure at %s goes forward: green serves', async (point) => {
    const world = new World();
    const outcome = await run(world, { failpoints: throwingAt(`cutover.step.${point}`, 1) });
    expect(outcome.outcome).toBe('switched');
    expectServing(world, 'green');
  });

  test.each(['open', 'resume'] as const)(
    'when %s keeps failing after the seal, the outcome is undetermined with the facts',
    async (step) => {
      const world = new World();
      const outcome = await run(world, { failpoints: throwingAt(`cutover.step.${step}.before`) });
      expect(outcome).toMatchObject({ outcome: 'undetermined', error: { code: 'CUTOVER_UNDETERMINED' } });
      expect(outcome.error?.message).toContain('Blue is sealed');
      expect(outcome.error?.message).toContain('fence of blue: sealed (epoch 1)');
      expect(outcome.error?.message).toContain('proxy 1: green, paused');
      expect(outcome.error?.remedy).toContain('verdigris recover');
      expect(world.writable).toEqual(step === 'open' ? [] : ['green']);
      expect(await world.time.drive(recover(world.engine().context()))).toMatchObject({
        outcome: 'switched',
      });
      expectServing(world, 'green');
    },
  );
});

describe('the rollback is the same list with the sides exchanged', () => {
  test('runs every step in order and ends on blue, with the way to green open', async () => {
    const world = new World(2, 'green');
    const engine = world.engine();
    const outcome = await world.time.drive(cutover(engine.context(), live()));
    expect(outcome).toMatchObject({ outcome: 'switched', error: null });
    expect(outcome?.steps.map((step) => step.name)).toEqual([...STEPS]);
    expect(outcome?.steps.find(({ name }) => name === 'seal')?.description).toContain('green');
    expect(world.violations).toEqual([]);
    expectServing(world, 'blue');
    expect(world.green).toEqual({ state: 'sealed', epoch: 2 });
    expect(world.wayBack).toBe('open');
    expect(engine.log.indexOf('back.prepare')).toBeLessThan(engine.log.indexOf('proxy1.pause'));
    expect(engine.log.indexOf('back.open')).toBeGreaterThan(engine.log.indexOf('drain'));
    expect(engine.log.indexOf('back.open')).toBeLessThan(engine.log.indexOf('green.seal'));
  });

  test.each(
    STEPS.slice(1, STEPS.indexOf('seal') + 1)
      .flatMap((step) => [`${step}.before`, `${step}.after`])
      .filter((point) => point !== 'seal.after'),
  )('a failure at %s is undone: green serves, the way to green is closed', async (point) => {
    const world = new World(2, 'green');
    const outcome = await run(world, { failpoints: throwingAt(`cutover.step.${point}`) });
    expect(outcome).toMatchObject({ outcome: 'undone', error: { code: 'CUTOVER_UNDONE' } });
    expect(world.writable).toEqual(['green']);
    expect(world.proxies.map(({ side, paused }) => ({ side, paused }))).toEqual(
      world.proxies.map(() => ({ side: 'green', paused: false })),
    );
    expect(world.wayBack).not.toBe('open');
    expect(world.servedBy).toBe('green');
  });

  test.each(['die', 'die-after'] as const)(
    'an engine that is gone (%s) at any call: the next one ends it on one side',
    async (fault) => {
      const counting = new World(2, 'green');
      const counted = counting.engine();
      await counting.time.drive(cutover(counted.context(), live()));
      const ended = new Set<string>();
      for (let at = 0; at < counted.calls; at++) {
        const world = new World(2, 'green');
        const dying = world.engine(new Map([[at, fault]]));
        const outcome = await world.time.drive(cutover(dying.context(), live()));
        if (outcome === null) {
          const recovered = await world.time.drive(recover(world.engine().context()));
          expect(['switched', 'undone'], `${counted.log[at]}`).toContain(recovered?.outcome);
        }
        expect(world.violations, `${counted.log[at]}`).toEqual([]);
        const [side] = world.writable;
        expect(world.writable, `${counted.log[at]}`).toHaveLength(1);
        expect(world.proxies.map((proxy) => [proxy.side, proxy.paused])).toEqual(
          world.proxies.map(() => [side, false]),
        );
        ended.add(side as string);
      }
      expect([...ended].toSorted()).toEqual(['blue', 'green']);
    },
  );
});

describe('gates', () => {
  test('a shut gate changes nothing and is named', async () => {
    const world = new World();
    world.gates = world.gates.map((gate) =>
      gate.name === 'lag'
        ? { ...gate, ok: false, observed: '9 s', limit: '2 s', reason: 'the lag is 9 s' }
        : gate,
    );
    const outcome = await run(world);
    expect(outcome).toMatchObject({
      outcome: 'undone',
      writePauseMs: null,
      error: { code: 'CUTOVER_GATE', message: 'lag: 9 s, limit 2 s (the lag is 9 s)' },
    });
    expect(outcomes(outcome)).toMatchObject({ gates: 'failed', pause: 'skipped', seal: 'skipped' });
    expectServing(world, 'blue');
    const overrides = [{ gate: 'lag', reason: 'agreed with the shop' }] as const;
    expect(await run(world, { overrides })).toMatchObject({ outcome: 'switched' });
    expect(world.journal).toContainEqual({ event: 'cutover.override', detail: { overrides } });
  });

  test('the gate against missing rows cannot be overridden', async () => {
    const world = new World();
    const outcome = await run(world, { overrides: [{ gate: 'copy-complete', reason: 'hurry' }] });
    expect(outcome).toMatchObject({ outcome: 'undone', error: { code: 'USAGE' } });
    expectServing(world, 'blue');
  });

  test('green that is open before the switch stops it: two sides would be writable', async () => {
    const world = new World();
    world.applied = 1_000_000;
    world.green.state = 'open';
    const engine = world.engine();
    const outcome = await world.time.drive(cutover(engine.context(), live()));
    expect(outcome).toMatchObject({ outcome: 'undone', error: { context: { code: 'CUTOVER_FENCE_LEAKS' } } });
    expect(engine.log).not.toContain('blue.seal');
  });
});

describe('bounds', () => {
  test('the write pause is a budget over all steps before the seal', async () => {
    const world = new World();
    const engine = world.engine();
    const context = engine.context();
    const slow = {
      drain: async () => engine.clock.sleep(60_000).then(() => context.pipeline.drain('0' as never, live())),
    };
    const outcome = await world.time.drive(
      cutover(
        { ...context, pipeline: slow, settings: { ...context.settings, maxWritePauseMs: 700 } },
        live(),
      ),
    );
    expect(outcome).toMatchObject({ outcome: 'undone', error: { context: { code: 'TIMED_OUT' } } });
    expect(outcome?.writePauseMs).toBeLessThan(1_000);
    expectServing(world, 'blue');
  });

  test('a transaction that does not end keeps one proxy from pausing: all are resumed', async () => {
    const world = new World(3);
    const busy = await world.proxies[1]?.enter();
    const engine = world.engine();
    const context = engine.context();
    const outcome = await world.time.drive(
      cutover({ ...context, settings: { ...context.settings, maxWritePauseMs: 500 } }, live()),
    );
    expect(outcome).toMatchObject({
      outcome: 'undone',
      error: { code: 'CUTOVER_UNDONE', context: { code: 'PROXY_TIMEOUT' } },
    });
    expect(outcome?.error?.message).toMatch(
      /^proxy 2: transactions are still running\. The write pause of 500 ms/,
    );
    expect(engine.log).not.toContain('blue.raise');
    expectServing(world, 'blue');
    busy?.leave();
  });

  test('cancelled before the seal: undone; the signal changes nothing after it', async () => {
    for (const [step, side] of [
      ['drain', 'blue'],
      ['open', 'green'],
    ] as const) {
      const world = new World();
      const cancel = new AbortController();
      const failpoints = {
        hit: (name: string) => (name === `cutover.step.${step}.before` ? cancel.abort() : undefined),
      };
      const outcome = await run(world, { failpoints }, cancel.signal);
      expect(outcome.outcome).toBe(side === 'blue' ? 'undone' : 'switched');
      if (side === 'blue') expect(outcome.error?.context['code']).toBe('INTERRUPTED');
      expectServing(world, side);
    }
  });

  test('a drain that ends with somebody still able to write is not a drain', async () => {
    const world = new World();
    const engine = world.engine();
    const context = engine.context();
    const fromFence = { ...context.fromFence, blockers: async () => ['prepared transaction x'] };
    const outcome = await world.time.drive(cutover({ ...context, fromFence }, live()));
    expect(outcome).toMatchObject({ outcome: 'undone', error: { context: { code: 'CUTOVER_FENCE_LEAKS' } } });
    expect(outcome?.error?.message).toContain('prepared transaction x');
    expect(outcome?.error?.message).toContain('The write pause of 10000 ms was used up.');
    expectServing(world, 'blue');
  });

  test('keys that differ under the fence, or too many to look at, stop the switch', async () => {
    for (const [found, code] of [
      [{ keys: 5, differences: 1 }, 'VERIFY_DIFFERENT'],
      [{ keys: 101, differences: 0 }, 'CUTOVER_GATE'],
    ] as const) {
      const world = new World();
      expect(await run(world, { recheck: async () => found })).toMatchObject({
        outcome: 'undone',
        error: { context: { code } },
      });
      expectServing(world, 'blue');
    }
  });
});

describe('the way back', () => {
  test('routes are restored first, then the fence is lowered, and only then clients are let go', async () => {
    const world = new World(1);
    const engine = world.engine();
    await world.time.drive(
      cutover(engine.context({ failpoints: throwingAt('cutover.step.seal.before') }), live()),
    );
    const back = engine.log.slice(engine.log.indexOf('note cutover.undo'));
    const order = ['proxy1.route', 'blue.lower', 'proxy1.resume'].map((name) => back.indexOf(name));
    expect(order).toEqual(order.toSorted((left, right) => left - right));
    expect(order).not.toContain(-1);
  });

  test('blue cannot be reached for the way back: nothing is resumed, and a later recovery finishes', async () => {
    const world = new World();
    const engine = world.engine();
    const context = engine.context({ failpoints: throwingAt('cutover.step.seal.before') });
    const gone = () => Promise.reject(new VerdigrisError('SOURCE_CONNECT', 'no route to blue'));
    const raised = { ...context.fromFence };
    const fromFence = { ...raised, lower: gone };
    const outcome = await world.time.drive(cutover({ ...context, fromFence }, live()));
    expect(outcome).toMatchObject({ outcome: 'undetermined', error: { code: 'CUTOVER_UNDETERMINED' } });
    expect(world.proxies.every((proxy) => proxy.paused)).toBe(true);
    expect(world.writable).toEqual([]);
    expect(await world.time.drive(recover(world.engine().context()))).toMatchObject({ outcome: 'undone' });
    expectServing(world, 'blue');
  });

  test('a journal that is gone (green is down) does not keep blue from coming back', async () => {
    const world = new World();
    const engine = world.engine();
    const context = engine.context();
    let down = false;
    const gone = () => Promise.reject(new VerdigrisError('SINK_CONNECT', 'green is down'));
    const outcome = await world.time.drive(
      cutover(
        {
          ...context,
          journal: { note: (event, detail) => (down ? gone() : context.journal.note(event, detail)) },
          holdsLease: () => (down ? gone() : context.holdsLease()),
          pipeline: {
            drain: () => {
              down = true;
              return gone();
            },
          },
        },
        live(),
      ),
    );
    expect(outcome).toMatchObject({ outcome: 'undone', error: { context: { code: 'SINK_CONNECT' } } });
    expectServing(world, 'blue');
  });

  test('one proxy is gone on the way back: the others serve, it is named, and stays held until it can be pointed back', async () => {
    const world = new World();
    const engine = world.engine();
    const lost = world.proxies[1];
    const failpoints = {
      hit: (name: string) => {
        if (name !== 'cutover.step.seal.before' || !lost) return;
        lost.unreachable = true;
        throw new VerdigrisError('INTERNAL', 'here');
      },
    };
    const outcome = await world.time.drive(cutover(engine.context({ failpoints }), live()));
    expect(outcome?.outcome).toBe('undone');
    expect(outcome?.error?.message).toContain('proxy 2');
    expect(world.writable).toEqual(['blue']);
    expect(world.proxies.map(({ side, paused }) => `${side} ${paused}`)).toEqual([
      'blue false',
      'green true',
    ]);
    if (lost) lost.unreachable = false;
    expect(await world.time.drive(recover(world.engine().context()))).toMatchObject({ outcome: 'undone' });
    expectServing(world, 'blue');
  });

  test('another engine took over: the fence is taken back by its epoch, the proxies are left alone', async () => {
    const world = new World();
    const engine = world.engine();
    const failpoints = {
      hit: (name: string) => {
        if (name === 'cutover.step.drain.before') world.leaseHolder++;
      },
    };
    const outcome = await world.time.drive(cutover(engine.context({ failpoints }), live()));
    expect(outcome).toMatchObject({ outcome: 'undetermined', error: { context: { code: 'SINK_FENCED' } } });
    expect(world.blue.state).toBe('open');
    expect(engine.log).not.toContain('proxy1.resume');
    expect(await world.time.drive(recover(world.engine().context()))).toMatchObject({ outcome: 'undone' });
    expectServing(world, 'blue');
  });

  test('somebody lowered the fence (an operator): the seal is refused and everything is undone', async () => {
    const world = new World();
    const failpoints = {
      hit: (name: string) => {
        if (name === 'cutover.step.seal.before') world.blue.state = 'open';
      },
    };
    const outcome = await run(world, { failpoints });
    expect(outcome).toMatchObject({ outcome: 'undone' });
    expectServing(world, 'blue');
  });
});

describe('the seal', () => {
  test('an answer that is lost is found in the record: no step is undone', async () => {
    const world = new World();
    const engine = world.engine();
    const context = engine.context();
    const fromFence = {
      ...context.fromFence,
      seal: async (epoch: number) => {
        await context.fromFence.seal(epoch);
        throw new VerdigrisError('SOURCE_LOST', 'connection lost');
      },
    };
    const outcome = await world.time.drive(cutover({ ...context, fromFence }, live()));
    expect(outcome).toMatchObject({ outcome: 'switched', error: null });
    expect(outcome?.steps.find((step) => step.name === 'seal')?.detail).toContain('read from the record');
    expect(engine.log.filter((name) => name === 'proxy1.route')).toHaveLength(1);
    expectServing(world, 'green');
  });

  test('seal-vs-lower: a seal that arrives after its connection was lost wins over the undo, or loses to it, never both', async () => {
    const sides = new Set<string>();
    for (const lateMs of [0, 20, 200, 2_000]) {
      const world = new World();
      const engine = world.engine();
      const context = engine.context();
      let landed: boolean | null = null;
      const fromFence = {
        ...context.fromFence,
        seal: async (epoch: number) => {
          const seal = () => {
            landed = world.blue.state === 'raised' && world.blue.epoch === epoch;
            if (landed) world.blue.state = 'sealed';
          };
          if (lateMs === 0) seal();
          else world.time.after(lateMs, seal);
          throw new VerdigrisError('SOURCE_LOST', 'connection lost');
        },
        // The way back takes some time to blue, so that the late seal can come first.
        lower: async (epoch: number) => {
          await engine.clock.sleep(100);
          return context.fromFence.lower(epoch);
        },
      };
      const outcome = await world.time.drive(cutover({ ...context, fromFence }, live()));
      while (world.time.advance()) await new Promise((resolve) => setImmediate(resolve));
      const side = landed ? 'green' : 'blue';
      expect(outcome?.outcome).toBe(landed ? 'switched' : 'undone');
      expectServing(world, side);
      expect(world.violations).toEqual([]);
      sides.add(side);
    }
    expect(sides).toEqual(new Set(['blue', 'green']));
  });
});

test('a proxy whose route could not be restored at first is pointed back before it is resumed', async () => {
  const world = new World();
  const route = throwingAt('cutover.step.route.undo');
  const seal = throwingAt('cutover.step.seal.before');
  const outcome = await run(world, {
    failpoints: {
      hit: (name) => {
        void route.hit(name);
        void seal.hit(name);
      },
    },
  });
  expect(route.hits()).toBe(1);
  expect(outcome.outcome).toBe('undone');
  expectServing(world, 'blue');
});

test('a failed smoke query is an alarm: the switch stands', async () => {
  const world = new World();
  const outcome = await run(world, { smoke: () => Promise.reject(new Error('no table')) });
  expect(outcome).toMatchObject({ outcome: 'switched', error: { code: 'VERIFY_FAILED' } });
  expect(outcomes(outcome)['smoke']).toBe('failed');
  expectServing(world, 'green');
});

test('a dry run prints the same list with what it would cost, and changes nothing', async () => {
  const world = new World();
  world.gates = world.gates.map((gate) => (gate.name === 'verified' ? { ...gate, ok: false } : gate));
  const engine = world.engine();
  const steps = cutoverSteps(engine.context());
  const reports = await world.time.drive(dryRun(steps, { clock: engine.clock, signal: live() }));
  expect(reports?.map((report) => report.name)).toEqual([...STEPS]);
  expect(new Set(reports?.map((report) => report.outcome))).toEqual(new Set(['planned']));
  expect(reports?.find((report) => report.name === 'gates')?.detail).toBe('shut: verified');
  const seal: StepName = 'seal';
  const after = reports?.slice(STEPS.indexOf(seal) + 1).map((report) => report.pastPointOfNoReturn);
  expect(after).toEqual([true, true, true]);
  for (const name of engine.log) expect(name).toMatch(/gates|observe|blockers|state|measure/);
  expect(world.journal).toEqual([]);
  expectServing(world, 'blue');
});
