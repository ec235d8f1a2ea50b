import type { Clock } from '../../src/core/clock.ts';
import { VerdigrisError } from '../../src/core/errors.ts';
import type { Failpoints } from '../../src/core/failpoint.ts';
import type { FenceState, WriteFence } from '../../src/core/fence.ts';
import { NO_FAILPOINTS } from '../../src/core/failpoint.ts';
import { GATES, type GateResult } from '../../src/core/gate.ts';
import { SILENT } from '../../src/core/log.ts';
import type { Position } from '../../src/core/position.ts';
import type { ProxyAdapter } from '../../src/core/proxy.ts';
import type { CutoverContext } from '../../src/cutover/context.ts';
import { MemoryProxy, MemoryProxyState } from '../../src/proxies/memory/adapter.ts';

/**
 * What goes wrong with one call to the outside. `refuse`: no effect, an error. `lose`: the effect, then an error. `delay`: an
 * error, and the effect comes later by itself. `hang`: nothing ever. `mute`: the effect, no answer ever. `die`: the engine is
 * gone before it, `die-after`: after the effect and before the answer.
 */
export const FAULTS = ['refuse', 'lose', 'delay', 'hang', 'mute', 'die', 'die-after'] as const;
export type Fault = (typeof FAULTS)[number];

const DELAY_MS = 150;
const never = <T>(): Promise<T> => new Promise<T>(() => undefined);

/** Time that passes only when nothing else can happen. */
export class VirtualTime {
  now = 0;
  readonly #sleepers = new Set<{ at: number; wake: () => void }>();

  after(ms: number, wake: () => void): () => void {
    const sleeper = { at: this.now + ms, wake };
    this.#sleepers.add(sleeper);
    return () => this.#sleepers.delete(sleeper);
  }

  /** Wakes the earliest sleeper. False: nobody sleeps, so nothing will ever happen again. */
  advance(): boolean {
    const next = [...this.#sleepers].toSorted((left, right) => left.at - right.at)[0];
    if (!next) return false;
    this.#sleepers.delete(next);
    this.now = Math.max(this.now, next.at);
    next.wake();
    return true;
  }

  /** Lets time pass until the promise settles; null when it never will, because its engine is dead. */
  async drive<T>(promise: Promise<T>): Promise<T | null> {
    let settled = false;
    const done = (): void => {
      settled = true;
    };
    promise.then(done, done);
    for (let still = 0; still < 3;) {
      await new Promise((resolve) => setImmediate(resolve));
      if (settled) return promise;
      still = this.advance() ? 0 : still + 1;
    }
    return null;
  }
}

/** Two sides, their fence records, proxies, the log of blue and what green has of it. Checks at every change. */
export class World {
  readonly time = new VirtualTime();
  readonly blue: { state: FenceState['state']; epoch: number } = { state: 'open', epoch: 0 };
  readonly green: { state: FenceState['state']; epoch: number } = { state: 'raised', epoch: 0 };
  readonly proxies: readonly MemoryProxyState[];
  readonly journal: { event: string; detail: Readonly<Record<string, unknown>> }[] = [];
  gates: readonly GateResult[] = GATES.map((name) => ({
    name,
    ok: true,
    observed: '',
    limit: '',
    reason: '',
  }));
  /** Transactions committed on blue, and how many of them green has. */
  written = 0;
  applied = 0;
  greenHeadOfLog: number | null = null;
  leaseHolder = 0;
  servedBy: 'blue' | 'green';
  /** The way back was opened by an engine that still lives. */
  wayBack: 'closed' | 'prepared' | 'open' = 'closed';
  readonly violations: string[] = [];
  readonly from: 'blue' | 'green';
  readonly to: 'blue' | 'green';

  /** @param from green: after a switch, and what runs is a rollback */
  constructor(proxies = 2, from: 'blue' | 'green' = 'blue') {
    this.from = from;
    this.to = from === 'blue' ? 'green' : 'blue';
    this.servedBy = from;
    this.proxies = Array.from({ length: proxies }, () => new MemoryProxyState());
    if (from === 'blue') return;
    Object.assign(this.blue, { state: 'sealed', epoch: 1 });
    Object.assign(this.green, { state: 'open', epoch: 1 });
    for (const proxy of this.proxies) proxy.side = 'green';
  }

  /** Called after everything that happens: clients write wherever they are let. */
  tick(): void {
    if (this.blue.state === 'open' && this.green.state === 'open')
      this.violations.push('both sides are writable');
    if (this[this.from].state === 'open') this.written++;
    if (this[this.to].state === 'open' && this.applied < this.written)
      this.violations.push(`${this.to} is open without a write of ${this.from}`);
  }

  /** Which sides clients may write now. */
  get writable(): string[] {
    return [
      ...(this.blue.state === 'open' ? ['blue'] : []),
      ...(this.green.state === 'open' ? ['green'] : []),
    ];
  }

  engine(faults: ReadonlyMap<number, Fault> = new Map()): Engine {
    return new Engine(this, ++this.leaseHolder, faults);
  }
}

/** One engine process: everything it does to the world goes through {@link call}, where it can fail or die. */
export class Engine {
  readonly #world: World;
  readonly #id: number;
  readonly #faults: ReadonlyMap<number, Fault>;
  dead = false;
  calls = 0;
  /** Names of the calls so far. */
  readonly log: string[] = [];
  /** While set, the engine stands still at the call of that number until it is released. */
  freezeAt: number | null = null;
  #release: (() => void) | null = null;

  constructor(world: World, id: number, faults: ReadonlyMap<number, Fault>) {
    this.#world = world;
    this.#id = id;
    this.#faults = faults;
  }

  thaw(): void {
    this.freezeAt = null;
    this.#release?.();
  }

  readonly clock: Clock = {
    now: () => this.#world.time.now,
    monotonic: () => this.#world.time.now,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted) {
          reject(signal.reason as Error);
          return;
        }
        const off = this.#world.time.after(ms, () => {
          if (!this.dead) resolve();
        });
        signal?.addEventListener('abort', () => {
          off();
          reject(signal.reason as Error);
        });
      }),
  };

  async call<T>(name: string, effect: () => T): Promise<T> {
    if (this.dead) return never();
    const index = this.calls++;
    this.log.push(name);
    if (this.freezeAt === index) await new Promise<void>((resolve) => (this.#release = resolve));
    await Promise.resolve();
    const act = (): T => {
      const result = effect();
      // Of a call that was given up nobody looks at the result.
      if (result instanceof Promise) result.catch(() => undefined);
      this.#world.tick();
      return result;
    };
    const lost = new VerdigrisError('SOURCE_LOST', `${name}: connection lost`);
    switch (this.#faults.get(index)) {
      case undefined:
        return act();
      case 'refuse':
        throw lost;
      case 'lose':
        act();
        throw lost;
      case 'delay':
        this.#world.time.after(DELAY_MS, () => {
          try {
            act();
          } catch {
            // Refused by the record, as it would be on the server.
          }
        });
        throw lost;
      case 'hang':
        return never();
      case 'mute':
        act();
        return never();
      case 'die':
        this.dead = true;
        return never();
      case 'die-after':
        act();
        this.dead = true;
        return never();
    }
  }

  fence(side: 'blue' | 'green'): WriteFence {
    const record = this.#world[side];
    const swap = (from: FenceState['state'], to: FenceState['state'], epoch: number): boolean => {
      if (record.state !== from || record.epoch !== epoch) return false;
      record.state = to;
      return true;
    };
    const to = (name: string) => `${side}.${name}`;
    return {
      prepare: () => this.call(to('prepare'), () => undefined),
      raise: (epoch) =>
        this.call(to('raise'), () => {
          if (record.state === 'sealed') throw new VerdigrisError('STATE_CONFLICT', 'sealed already');
          record.state = 'raised';
          record.epoch = epoch;
          return String(this.#world.written) as Position;
        }),
      prove: () =>
        this.call(to('prove'), () => {
          if (record.state === 'open')
            throw new VerdigrisError('CUTOVER_FENCE_LEAKS', 'a write went through');
        }),
      blockers: () => this.call(to('blockers'), () => []),
      kill: () => this.call(to('kill'), () => 0),
      seal: (epoch) => this.call(to('seal'), () => swap('raised', 'sealed', epoch)),
      lower: (epoch) => this.call(to('lower'), () => swap('raised', 'open', epoch)),
      open: (epoch) =>
        this.call(to('open'), () => {
          record.state = 'open';
          record.epoch = epoch;
        }),
      state: () => this.call(to('state'), () => ({ ...record })),
      retire: () => this.call(to('retire'), () => undefined),
    };
  }

  #proxy(index: number): ProxyAdapter {
    const real = new MemoryProxy(
      `proxy ${index + 1}`,
      this.#world.proxies[index] as MemoryProxyState,
      NO_FAILPOINTS,
    );
    const at = (name: string) => `proxy${index + 1}.${name}`;
    // The effect of every method but a waiting pause is there at once; no transaction runs in these tests unless one was let in.
    return {
      name: real.name,
      promise: real.promise,
      probe: (signal) => this.call(at('probe'), () => real.probe(signal)).then((report) => report),
      observe: (signal) => this.call(at('observe'), () => real.observe(signal)).then((route) => route),
      pause: (signal) => this.call(at('pause'), () => real.pause(signal)).then(() => undefined),
      route: (side, epoch, signal) =>
        this.call(at('route'), () => real.route(side, epoch, signal)).then(() => undefined),
      resume: (signal) => this.call(at('resume'), () => real.resume(signal)).then(() => undefined),
      waiting: (signal) => this.call(at('waiting'), () => real.waiting(signal)).then((count) => count),
      [Symbol.asyncDispose]: async () => undefined,
    };
  }

  context(change: Partial<CutoverContext> = {}): CutoverContext {
    const world = this.#world;
    return {
      migration: 'test',
      epoch: Math.max(world.blue.epoch, world.green.epoch) + 1,
      from: world.from,
      to: world.to,
      wayBack: {
        prepare: () =>
          this.call('back.prepare', () => {
            world.wayBack = 'prepared';
            return 'prepared';
          }),
        open: () =>
          this.call('back.open', () => {
            world.wayBack = 'open';
            return 'open';
          }),
        close: () => {
          world.wayBack = 'prepared';
          return Promise.resolve();
        },
        measure: () => this.call('back.measure', () => 'nothing to wait for'),
      },
      fromFence: this.fence(world.from),
      toFence: this.fence(world.to),
      proxies: world.proxies.map((_state, index) => this.#proxy(index)),
      pipeline: {
        drain: (barrier) =>
          this.call('drain', () => {
            world.applied = Math.max(world.applied, Number(barrier));
            return String(world.applied) as Position;
          }),
      },
      counters: () => this.call('counters', () => []),
      recheck: () => this.call('recheck', () => ({ keys: 3, differences: 0 })),
      gates: () => this.call('gates', () => world.gates),
      overrides: [],
      settings: {
        maxWritePauseMs: 10_000,
        fenceTimeoutMs: 2_000,
        killBlockersAfterMs: null,
        maxRecheckKeys: 100,
        smoke: [{ via: 'proxy', sql: 'SELECT 1' }],
      },
      journal: {
        note: (event, detail) =>
          this.call(`note ${event}`, () => {
            world.journal.push({ event, detail });
          }),
      },
      smoke: () => this.call('smoke', () => undefined),
      onSwitched: () =>
        this.call('onSwitched', () => {
          world.servedBy = world.to;
        }),
      holdsLease: () => this.call('lease', () => world.leaseHolder === this.#id),
      log: SILENT,
      clock: this.clock,
      failpoints: NO_FAILPOINTS,
      ...change,
    };
  }
}

/** A failpoint that throws the first `times` times it is reached. */
export function throwingAt(
  name: string,
  times = Number.POSITIVE_INFINITY,
): Failpoints & { readonly hits: () => number } {
  let left = times;
  let hits = 0;
  return {
    hits: () => hits,
    hit: (reached) => {
      if (reached !== name) return;
      hits++;
      if (left-- > 0) throw new VerdigrisError('INTERNAL', `failpoint ${name}`);
    },
  };
}
