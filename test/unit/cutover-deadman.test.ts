import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VerdigrisError } from '../../src/core/errors.ts';
import { NO_FAILPOINTS } from '../../src/core/failpoint.ts';
import type { Deadman } from '../../src/cutover/deadman.ts';
import { armedLifeFor, silenceFor } from '../../src/cutover/deadman.ts';
import { StandIn, type StandInOutcome } from '../../src/cutover/deadman-act.ts';
import { decode, encode, FROM_DEADMAN, type FromDeadman } from '../../src/cutover/deadman-protocol.ts';
import { Certainty, Vigil } from '../../src/cutover/deadman-vigil.ts';
import { cutover } from '../../src/cutover/recover.ts';
import { Engine, FAULTS, World, type Fault } from './cutover-world.ts';

const live = (): AbortSignal => new AbortController().signal;

/** The engine's end of one that is there: armed, disarmed, or lost. */
class Beside implements Deadman {
  state: 'idle' | 'armed' | 'disarmed' | 'abandoned' = 'idle';
  readonly #lost = new AbortController();

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  lose(): void {
    this.#lost.abort(new VerdigrisError('CUTOVER_UNDONE', 'The dead-man has taken over.'));
  }

  arm(): Promise<string> {
    this.state = 'armed';
    return Promise.resolve('armed');
  }

  confirm(): Promise<void> {
    return this.lost.aborted ? Promise.reject(this.lost.reason as Error) : Promise.resolve();
  }

  disarm(): Promise<void> {
    if (this.state !== 'abandoned') this.state = 'disarmed';
    return Promise.resolve();
  }

  abandon(): void {
    this.state = 'abandoned';
  }
}

/** One that acts in this world. It has no lease and needs none. */
function standIn(world: World, faults: ReadonlyMap<number, Fault> = new Map()): StandIn {
  const { fromFence, proxies, clock } = new Engine(world, world.leaseHolder, faults).context();
  return new StandIn({
    from: 'blue',
    fence: fromFence,
    proxies,
    epoch: 1,
    clock,
    failpoints: NO_FAILPOINTS,
    signal: live(),
    note: () => undefined,
  });
}

function expectBlue(world: World): void {
  expect(world.writable).toEqual(['blue']);
  expect(world.proxies.map(({ side, paused }) => `${side} ${paused}`)).toEqual(
    world.proxies.map(() => 'blue false'),
  );
  expect(world.violations).toEqual([]);
}

async function callsOfASwitch(): Promise<number> {
  const world = new World();
  const engine = world.engine();
  await world.time.drive(cutover(engine.context({ deadman: new Beside() }), live()));
  return engine.calls;
}

const turns = async (count: number): Promise<void> => {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
};

describe('what the dead-man does', () => {
  test.each(['die', 'die-after'] as const)(
    'the engine is gone (%s) at any call: blue serves again, or the record was sealed and nothing is touched',
    async (fault) => {
      const seen = new Set<StandInOutcome | 'disarmed'>();
      for (let call = 0; call < (await callsOfASwitch()); call++) {
        const world = new World();
        const deadman = new Beside();
        await world.time.drive(cutover(world.engine(new Map([[call, fault]])).context({ deadman }), live()));
        if (deadman.state === 'idle') {
          expectBlue(world);
          continue;
        }
        if (deadman.state === 'disarmed') {
          expect(world.blue.state).toBe('sealed');
          seen.add('disarmed');
          continue;
        }
        const before = JSON.stringify([
          world.blue,
          world.green,
          world.proxies.map(({ side, paused }) => [side, paused]),
        ]);
        const outcome = (await world.time.drive(standIn(world).takeBack())) ?? 'expired';
        seen.add(outcome);
        if (outcome === 'restored') expectBlue(world);
        else {
          expect(outcome).toBe('sealed');
          expect(
            JSON.stringify([
              world.blue,
              world.green,
              world.proxies.map(({ side, paused }) => [side, paused]),
            ]),
          ).toBe(before);
        }
      }
      expect(seen).toContain('restored');
      expect(seen).toContain('disarmed');
      if (fault === 'die-after') expect(seen).toContain('sealed');
    },
  );

  test('the engine only stood still, at any call: thawed, it ends undone, and what it sends late is taken back', async () => {
    const total = await callsOfASwitch();
    const seen = new Set<string>();
    for (let call = 0; call < total; call++) {
      const world = new World();
      const deadman = new Beside();
      const engine = world.engine();
      engine.freezeAt = call;
      const running = cutover(engine.context({ deadman }), live());
      await turns(200);
      if (deadman.state !== 'armed') {
        engine.thaw();
        await world.time.drive(running);
        continue;
      }
      const stand = standIn(world);
      const outcome = await world.time.drive(stand.takeBack());
      // The message is in the pipe when the engine looks for it.
      deadman.lose();
      const over = new AbortController();
      const guarding = outcome === 'restored' ? stand.guard(over.signal, () => true) : Promise.resolve();
      engine.thaw();
      const ended = await world.time.drive(running);
      seen.add(`${outcome} ${ended?.outcome}`);
      if (outcome === 'restored') {
        expect(ended, `frozen at ${engine.log[call]}`).toMatchObject({ outcome: 'undone' });
        // Two looks of the guard.
        await world.time.drive(engine.clock.sleep(250));
        expectBlue(world);
      } else {
        expect(ended).toMatchObject({ outcome: 'switched' });
      }
      over.abort();
      await world.time.drive(guarding);
      expect(world.violations).toEqual([]);
    }
    expect(seen).toContain('restored undone');
  });

  test('calls that fail, hang, or answer late do not keep it from its end', async () => {
    const fault = fc.constantFrom<Fault>(...FAULTS.filter((name) => !name.startsWith('die')));
    const faults = fc.array(fc.tuple(fc.nat(25), fault), { maxLength: 4 }).map((list) => new Map(list));
    const total = await callsOfASwitch();
    await fc.assert(
      fc.asyncProperty(fc.nat(total - 1), faults, async (call, wrong) => {
        const world = new World();
        const deadman = new Beside();
        await world.time.drive(cutover(world.engine(new Map([[call, 'die']])).context({ deadman }), live()));
        if (deadman.state !== 'armed') return;
        const outcome = await world.time.drive(standIn(world, wrong).takeBack());
        if (world.blue.state === 'sealed') expect(outcome).toBe('sealed');
        else {
          expect(outcome).toBe('restored');
          // What was given up may still arrive.
          while (world.time.advance()) await turns(1);
          expectBlue(world);
        }
      }),
      { numRuns: 150 },
    );
  });

  test('a later attempt in the record is left alone', async () => {
    const world = new World();
    for (const state of ['open', 'raised'] as const) {
      world.blue.state = state;
      world.blue.epoch = 2;
      for (const proxy of world.proxies) proxy.paused = true;
      expect(await world.time.drive(standIn(world).takeBack())).toBe('superseded');
      expect(world.proxies.map(({ paused }) => paused)).toEqual([true, true]);
      expect(world.blue).toEqual({ state, epoch: 2 });
    }
  });
});

describe('the switch with a dead-man', () => {
  test('one that cannot be armed: nothing is paused, and the error says what to do', async () => {
    const world = new World();
    const deadman = new Beside();
    deadman.arm = () => Promise.reject(new VerdigrisError('PROXY_UNREACHABLE', 'no answer'));
    const engine = world.engine();
    const outcome = await world.time.drive(cutover(engine.context({ deadman }), live()));
    expect(outcome).toMatchObject({
      outcome: 'undone',
      writePauseMs: null,
      error: { code: 'CUTOVER_UNDONE', remedy: expect.stringMatching(/again/) },
    });
    expect(outcome?.error?.message).toContain('no answer');
    expect(engine.log.filter((name) => name.endsWith('.pause'))).toEqual([]);
  });

  test.each(['pause.before', 'pause.after', 'fence.after', 'route.after', 'seal.before'])(
    'lost at %s: undone',
    async (point) => {
      const world = new World();
      const deadman = new Beside();
      const failpoints = {
        hit: (name: string): void => {
          if (name === `cutover.step.${point}`) deadman.lose();
        },
      };
      const outcome = await world.time.drive(
        cutover(world.engine().context({ deadman, failpoints }), live()),
      );
      expect(outcome).toMatchObject({ outcome: 'undone', error: { code: 'CUTOVER_UNDONE' } });
      expect(outcome?.error?.message).toContain('taken over');
      expectBlue(world);
      expect(deadman.state).toBe('disarmed');
    },
  );

  test('lost after the seal: nothing happens', async () => {
    const world = new World();
    const deadman = new Beside();
    const failpoints = {
      hit: (name: string): void => {
        if (name === 'cutover.step.seal.after') deadman.lose();
      },
    };
    expect(
      await world.time.drive(cutover(world.engine().context({ deadman, failpoints }), live())),
    ).toMatchObject({
      outcome: 'switched',
    });
  });

  test('an engine that does not know how things stand leaves it to the dead-man', async () => {
    const world = new World();
    const deadman = new Beside();
    const context = world.engine().context({ deadman });
    const fromFence = { ...context.fromFence };
    let gone = false;
    const failpoints = {
      hit: (name: string): void => {
        if (name === 'cutover.step.drain.before') {
          gone = true;
          throw new VerdigrisError('INTERNAL', 'failpoint');
        }
      },
    };
    const lost = () => Promise.reject(new VerdigrisError('SOURCE_LOST', 'blue is down'));
    fromFence.state = () => (gone ? lost() : context.fromFence.state());
    const outcome = await world.time.drive(cutover({ ...context, fromFence, failpoints }, live()));
    expect(outcome).toMatchObject({ outcome: 'undetermined' });
    expect(deadman.state).toBe('abandoned');
    expect(await world.time.drive(standIn(world).takeBack())).toBe('restored');
    expectBlue(world);
  });
});

describe('silence', () => {
  test('is what was not heard for so long', () => {
    const vigil = new Vigil(1_000, 0);
    for (let now = 0; now < 1_000; now += 50) expect(vigil.silent(now)).toBe(false);
    expect(vigil.silent(1_000)).toBe(true);
    vigil.heard(1_000);
    expect(vigil.silent(1_050)).toBe(false);
  });

  test('who stood still gives the other one time to be heard', () => {
    const vigil = new Vigil(1_000, 0);
    expect(vigil.silent(50)).toBe(false);
    expect(vigil.silent(60_000)).toBe(false);
    for (let now = 60_050; now < 60_250; now += 50) expect(vigil.silent(now)).toBe(false);
    expect(vigil.silent(60_250)).toBe(true);
  });

  test('an engine that is certain acts before anybody takes over, whatever the delays of the pipe', () => {
    const delay = fc.nat(3_000);
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(400), delay, delay), { minLength: 1, maxLength: 30 }), (beats) => {
        const certainty = new Certainty(1_000);
        let sentAt = 0;
        let heardAt = 0;
        for (const [pause, there, back] of beats) {
          sentAt += pause;
          const beat = certainty.send(sentAt);
          heardAt = Math.max(heardAt, sentAt + there);
          certainty.answered(beat);
          const vigil = new Vigil(1_000, heardAt);
          for (let now = heardAt; now < heardAt + back; now += 25) {
            if (vigil.silent(now)) expect(certainty.holds(now)).toBe(false);
          }
        }
      }),
    );
  });

  test('an answer to no beat proves nothing', () => {
    const certainty = new Certainty(1_000);
    certainty.answered(7);
    expect(certainty.holds(0)).toBe(false);
    const beat = certainty.send(0);
    certainty.answered(beat);
    expect([certainty.holds(499), certainty.holds(500)]).toEqual([true, false]);
  });

  test('is bounded on both ends, and a dead-man outlives the budget', () => {
    expect([500, 6_000, 20_000].map(silenceFor)).toEqual([1_000, 1_500, 2_500]);
    expect(armedLifeFor(10_000)).toBeGreaterThan(10_000 + 30_000);
  });
});

test('the pipe: one message per line, anything else is nothing', () => {
  const message: FromDeadman = { kind: 'watching', beat: 3, trouble: null };
  expect(decode<FromDeadman>(encode(message).trim(), FROM_DEADMAN)).toEqual(message);
  for (const line of ['', '{', 'null', '7', '{"kind":"job"}', '{"beat":1}'])
    expect(decode<FromDeadman>(line, FROM_DEADMAN)).toBeNull();
});
