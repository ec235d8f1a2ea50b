import { describe, expect, test } from 'vitest';
import type { Clock } from '../../src/core/clock.ts';
import { GATES, type GateResult } from '../../src/core/gate.ts';
import { SILENT } from '../../src/core/log.ts';
import type { JournalEvent, RunRecord, StateStore } from '../../src/core/state.ts';
import type { CutoverOutcome } from '../../src/cutover/execute.ts';
import type { CutoverRequest } from '../../src/orchestrator/requests.ts';
import { RunState } from '../../src/orchestrator/run-state.ts';
import { RequestDesk, type RequestDeskOptions } from '../../src/orchestrator/request-desk.ts';
import type { Settings } from '../../src/orchestrator/settings.ts';
import { SwitchControl } from '../../src/orchestrator/switch-control.ts';
import { VerdigrisError } from '../../src/core/errors.ts';
import { waitFor } from '../support/wait.ts';

/** Time that the test moves. Sleepers wake when their time has come. */
class TestClock implements Clock {
  #now = Date.parse('2026-11-28T00:00:00Z');
  readonly #sleepers = new Set<{ readonly at: number; readonly wake: () => void }>();
  readonly now = (): number => this.#now;
  readonly monotonic = (): number => this.#now;
  readonly sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      const sleeper = { at: this.#now + ms, wake: resolve };
      this.#sleepers.add(sleeper);
      const stop = (): void => {
        this.#sleepers.delete(sleeper);
        reject(signal?.reason as Error);
      };
      if (signal?.aborted) stop();
      else signal?.addEventListener('abort', stop, { once: true });
    });

  advance(ms: number): void {
    this.#now += ms;
    for (const sleeper of this.#sleepers) {
      if (sleeper.at > this.#now) continue;
      this.#sleepers.delete(sleeper);
      sleeper.wake();
    }
  }
}

/** What green remembers, over several engines. */
class Memory {
  record: RunRecord | null = null;
  readonly events: JournalEvent[] = [];
  readonly store: StateStore = {
    prepare: () => Promise.resolve(),
    acquire: () => Promise.resolve(1),
    renew: () => Promise.resolve(true),
    release: () => Promise.resolve(),
    load: () => Promise.resolve(this.record),
    save: (record) => {
      if (this.record !== null && this.record.revision !== record.revision)
        return Promise.reject(new VerdigrisError('STATE_CONFLICT', 'revision'));
      // As it comes back from a database.
      this.record = JSON.parse(JSON.stringify({ ...record, revision: record.revision + 1 })) as RunRecord;
      return Promise.resolve(this.record);
    },
    note: (_id, event, detail) => {
      this.events.push({ sequence: this.events.length + 1, at: '', event, detail });
      return Promise.resolve();
    },
    events: () => Promise.resolve(this.events),
    retire: () => Promise.resolve(),
  };
}

const open: readonly GateResult[] = GATES.map((name) => ({
  name,
  ok: true,
  observed: '',
  limit: '',
  reason: '',
}));
const shut = (name: string): readonly GateResult[] =>
  open.map((gate) => (gate.name === name ? { ...gate, ok: false } : gate));
const switched: CutoverOutcome = { outcome: 'switched', writePauseMs: 1, steps: [], error: null };

interface World {
  readonly memory: Memory;
  readonly clock: TestClock;
  gates: readonly GateResult[];
  readonly attempts: CutoverRequest[];
}

const world = (): World => ({ memory: new Memory(), clock: new TestClock(), gates: open, attempts: [] });

/** An engine on what green remembers. */
async function engine(w: World, change: Partial<RequestDeskOptions> = {}) {
  const state = await RunState.acquire({
    store: w.memory.store,
    id: 'crm',
    holder: 'test',
    ttlMs: 1e9,
    takeover: false,
    clock: w.clock,
    log: SILENT,
    onLost: () => undefined,
  });
  if (state.record === null) {
    await state.create('plan', {});
    for (const phase of ['copying', 'catching_up', 'replicating'] as const) await state.enter(phase);
  }
  const windows = [{ name: 'night', cron: '0 2 * * *', durationMs: 3_600_000, timezone: 'UTC' }];
  const settings = {
    gates: { approvals: { count: 1, roles: ['dba'] }, rehearsedWithinMs: 60_000 },
    cutover: { windows },
  } as unknown as Pick<Settings, 'gates' | 'cutover'>;
  const control = new SwitchControl({ settings, clock: w.clock, log: SILENT });
  const desk: RequestDesk = new RequestDesk({
    windows,
    clock: w.clock,
    log: SILENT,
    gates: () => Promise.resolve(w.gates),
    attempt: async (request) => {
      w.attempts.push(request);
      await desk.begin('green', {}, request.id);
      await state.enter('cutting_over');
      await state.enter('reversing');
      await desk.end(switched);
    },
    ...change,
  });
  control.take(state);
  desk.take(state);
  await desk.resume();
  return {
    control,
    desk,
    state,
    async [Symbol.asyncDispose]() {
      await desk.settled();
      await state[Symbol.asyncDispose]();
    },
  };
}

/** Lets a look happen, again and again, until it is so. */
const soon = (w: World, what: string, true_: () => boolean): Promise<unknown> =>
  waitFor(
    () => {
      if (true_()) return true;
      w.clock.advance(1_000);
      return false;
    },
    { what, everyMs: 1 },
  );

const HOUR = { waitMs: 3_600_000 };

describe('a cutover that waits', () => {
  test('begins by itself once the gates are open, not before, and says what came of it', async () => {
    const w = world();
    w.gates = shut('lag');
    await using one = await engine(w);
    const request = await one.desk.schedule(HOUR, { by: 'ops' });
    expect(request).toMatchObject({ state: 'waiting', by: 'ops', planHash: 'plan' });
    for (let look = 0; look < 5; look++) {
      w.clock.advance(1_000);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(w.attempts).toEqual([]);
    w.gates = open;
    await soon(w, 'the switch', () => one.desk.request?.state === 'done');
    expect(one.desk.request).toMatchObject({ id: request.id, outcome: 'switched' });
    expect(w.attempts).toHaveLength(1);
  });

  test('not before its moment', async () => {
    const w = world();
    await using one = await engine(w);
    await one.desk.schedule({ at: '2026-11-28T02:10:00Z' }, {});
    w.clock.advance(2 * 3_600_000);
    await new Promise((resolve) => setImmediate(resolve));
    expect(w.attempts).toEqual([]);
    await soon(w, 'the switch', () => w.attempts.length > 0);
    expect(w.clock.now()).toBeGreaterThanOrEqual(Date.parse('2026-11-28T02:10:00Z'));
  });

  test('expires at its deadline with what was shut, and never begins afterwards', async () => {
    const w = world();
    w.gates = shut('verified');
    await using one = await engine(w);
    await one.desk.schedule({ waitMs: 5_000 }, {});
    await soon(w, 'the end', () => one.desk.request?.state === 'expired');
    expect(one.desk.request?.reason).toBe('shut: verified');
    w.gates = open;
    w.clock.advance(5_000);
    await new Promise((resolve) => setImmediate(resolve));
    expect(w.attempts).toEqual([]);
  });

  test('an engine that is started again goes on waiting; a cancelled one never starts', async () => {
    const w = world();
    w.gates = shut('lag');
    {
      await using one = await engine(w);
      await one.desk.schedule(HOUR, {});
    }
    await using two = await engine(w);
    expect(two.desk.request?.state).toBe('waiting');
    const cancelled = await two.desk.cancel({ by: 'ops', reason: 'incident' });
    expect(cancelled).toMatchObject({ state: 'cancelled', reason: 'cancelled by ops: incident' });
    w.gates = open;
    await using three = await engine(w);
    w.clock.advance(10_000);
    await new Promise((resolve) => setImmediate(resolve));
    expect(three.desk.request?.state).toBe('cancelled');
    expect(w.attempts).toEqual([]);
  });

  test('cancelled while the attempt is on its way to begin: the stored state decides, and it does not begin', async () => {
    const w = world();
    const reached = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    const begun: unknown[] = [];
    let desk: RequestDesk | null = null;
    await using one = await engine(w, {
      attempt: async (request) => {
        reached.resolve();
        await go.promise;
        begun.push(await desk?.begin('green', {}, request.id).catch((error: unknown) => error));
        throw new VerdigrisError('CUTOVER_PHASE', 'gone');
      },
    });
    desk = one.desk;
    await one.desk.schedule(HOUR, {});
    await reached.promise;
    expect(await one.desk.cancel({})).toMatchObject({ state: 'cancelled' });
    go.resolve();
    await waitFor(() => begun.length > 0, { what: 'the attempt' });
    expect(begun[0]).toMatchObject({ code: 'CUTOVER_PHASE' });
    expect(one.desk.request?.state).toBe('cancelled');
  });

  test('cancelled while it runs: the switch is told, and the answer is what came of it', async () => {
    const w = world();
    await using one = await engine(w);
    const signal = await one.desk.begin('green', { by: 'ops' });
    const cancelling = one.desk.cancel({ reason: 'too slow' });
    await waitFor(() => signal.aborted, { what: 'the signal' });
    expect(signal.reason).toMatchObject({ code: 'INTERRUPTED' });
    await one.desk.end({ ...switched, outcome: 'undone' });
    expect(await cancelling).toMatchObject({ state: 'done', outcome: 'undone' });
  });

  test('one at a time, also beside one that is asked for at once', async () => {
    const w = world();
    w.gates = shut('lag');
    await using one = await engine(w);
    const { id } = await one.desk.schedule(HOUR, {});
    await expect(one.desk.schedule(HOUR, {})).rejects.toMatchObject({ code: 'CUTOVER_PHASE' });
    await expect(one.desk.begin('green', {})).rejects.toMatchObject({
      code: 'CUTOVER_PHASE',
      message: expect.stringContaining(id) as unknown,
    });
    await one.desk.cancel({});
    await one.desk.begin('green', {});
    await one.desk.end(switched);
    await expect(one.desk.cancel({})).rejects.toMatchObject({ code: 'CUTOVER_PHASE' });
  });

  test('another plan ends the wait', async () => {
    const w = world();
    w.gates = shut('lag');
    await using one = await engine(w);
    await one.desk.schedule(HOUR, {});
    await one.state.replan('other', {});
    w.gates = open;
    await soon(w, 'the end', () => one.desk.request?.state === 'cancelled');
    expect(w.attempts).toEqual([]);
  });

  test('an override without a reason, and of a gate that has none, is refused when it is asked for', async () => {
    const w = world();
    await using one = await engine(w);
    for (const override of [
      { gate: 'lag', reason: ' ' },
      { gate: 'copy-complete', reason: 'never mind' },
    ] as const) {
      await expect(one.desk.schedule(HOUR, { overrides: [override] })).rejects.toMatchObject({
        code: 'USAGE',
      });
    }
    expect(one.desk.request).toBe(null);
  });

  test('an attempt that cannot begin for another reason than a gate ends it, and says why', async () => {
    const w = world();
    await using one = await engine(w, {
      attempt: () => Promise.reject(new VerdigrisError('SOURCE_PRIVILEGE', 'no right')),
    });
    await one.desk.schedule(HOUR, {});
    await soon(w, 'the end', () => one.desk.request?.state === 'failed');
    expect(one.desk.request?.reason).toBe('SOURCE_PRIVILEGE: no right');
  });

  test('an attempt that breaks off before the first step does not stay running', async () => {
    const w = world();
    await using one = await engine(w);
    await one.desk.begin('green', {});
    await one.desk.leave();
    expect(one.desk.request).toMatchObject({ state: 'failed' });
    await one.desk.begin('green', {});
    await one.desk.end(switched);
    await one.desk.leave();
    expect(one.desk.request).toMatchObject({ state: 'done', outcome: 'switched' });
  });

  test.each([
    ['green', 'replicating', 'undone'],
    ['green', 'reversing', 'switched'],
    ['blue', 'replicating', 'switched'],
    ['blue', 'reversing', 'undone'],
  ] as const)('an engine that died on the way to %s, found in %s: %s', async (to, phase, outcome) => {
    const w = world();
    {
      await using one = await engine(w);
      await one.desk.begin(to, {});
      if (phase === 'reversing') {
        await one.state.enter('cutting_over');
        await one.state.enter('reversing');
      }
    }
    await using two = await engine(w);
    expect(two.desk.request).toMatchObject({ state: 'done', outcome });
  });
});

describe('who may', () => {
  test('approvals are bound to the plan in force and to the roles that are asked for', async () => {
    const w = world();
    await using one = await engine(w);
    const ask = { by: 'ada', role: 'dba', note: 'fine', planHash: 'plan' };
    await expect(one.control.approve({ ...ask, planHash: 'old' })).rejects.toMatchObject({
      code: 'PLAN_STALE',
    });
    await expect(one.control.approve({ ...ask, role: 'intern' })).rejects.toMatchObject({ code: 'USAGE' });
    expect(one.control.verdicts(null).approvals).toMatchObject({ ok: false });
    await one.control.approve(ask);
    expect(one.control.verdicts(null).approvals).toMatchObject({ ok: true });
    expect(one.control.verdicts('ada').approvals).toMatchObject({ ok: false });
    expect(one.control.status(one.state.record).approvals).toMatchObject({
      required: 1,
      counted: 1,
      given: [{ by: 'ada', counts: true }],
    });
    await one.state.replan('other', {});
    expect(one.control.verdicts(null).approvals).toMatchObject({ ok: false });
    await expect(one.control.revoke({ by: 'bob', reason: '' })).rejects.toMatchObject({ code: 'USAGE' });
    await one.control.revoke({ by: 'ada', reason: 'changed my mind' });
    expect(one.control.status(one.state.record).approvals.given).toEqual([]);
    expect(w.memory.events.map(({ event }) => event)).toContain('approval.revoked');
  });

  test('a request for a window is held to that window', async () => {
    const w = world();
    await using one = await engine(w);
    expect(one.control.verdicts(null).window).toMatchObject({ ok: false, limit: 'in a window' });
    await one.desk.schedule({ window: 'night' }, { by: 'ops' });
    expect(one.control.verdicts(null).window).toMatchObject({ ok: false, limit: 'in window night' });
    expect(one.control.status(one.state.record).window).toMatchObject({ name: 'night', open: false });
  });

  test('a rehearsal that was begun and not ended is known after a restart', async () => {
    const w = world();
    {
      await using one = await engine(w);
      await expect(one.control.rehearse(() => Promise.reject(new Error('killed')))).rejects.toThrow('killed');
    }
    await using two = await engine(w);
    expect(two.control.rehearsing).toBe(true);
    await two.control.cleared(() => Promise.resolve());
    expect(two.control.rehearsing).toBe(false);
    await two.control.rehearse(() =>
      Promise.resolve({
        at: new Date(w.clock.now()).toISOString(),
        ok: true,
        planHash: 'plan',
        acts: [],
        writePauseMs: 5,
        backPauseMs: 5,
        rows: 1,
        cleared: true,
        error: null,
      }),
    );
    expect(two.control.verdicts(null).rehearsed).toMatchObject({ ok: true });
    w.clock.advance(61_000);
    expect(two.control.verdicts(null).rehearsed).toMatchObject({ ok: false, reason: 'it is too old' });
    await two.state.replan('other', {});
    expect(two.control.verdicts(null).rehearsed).toMatchObject({
      ok: false,
      reason: 'it was of another plan',
    });
  });
});
