import { randomUUID } from 'node:crypto';
import type { Clock } from '../core/clock.ts';
import type { Side } from '../core/engine.ts';
import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';
import type { GateResult } from '../core/gate.ts';
import type { Logger } from '../core/log.ts';
import type { GateOverride } from '../cutover/context.ts';
import type { CutoverOutcome } from '../cutover/execute.ts';
import { closedGates } from '../cutover/gates.ts';
import { other } from './hold.ts';
import { requirePhase, STEADY } from './phase.ts';
import {
  isPending,
  iso,
  requestOf,
  timesOf,
  withRequest,
  type CutoverRequest,
  type When,
} from './requests.ts';
import type { RunState } from './run-state.ts';
import type { CutoverWindow } from './windows.ts';

export interface RequestDeskOptions {
  readonly windows: readonly CutoverWindow[];
  readonly clock: Clock;
  readonly log: Logger;
  /** All gates as who starts it would find them. */
  readonly gates: (starter: string | null) => Promise<readonly GateResult[]>;
  /** Switches now; rejects with CUTOVER_GATE when a gate shut in the meantime. */
  readonly attempt: (request: CutoverRequest) => Promise<unknown>;
}

/** How a switch is asked for. */
export interface Ask {
  readonly by?: string;
  readonly maxWritePauseMs?: number;
  readonly overrides?: readonly GateOverride[];
}

const LOOK_MS = 1_000;

/** Takes requests for a switch or a rollback, one at a time, and begins the one that waits when its time has come. It stands in the run's record. */
export class RequestDesk {
  readonly #o: RequestDeskOptions;
  #state: RunState | null = null;
  #waiting: Promise<void> | null = null;
  #running: { readonly cancel: AbortController; readonly over: PromiseWithResolvers<void> } | null = null;
  #stop = new AbortController();

  constructor(options: RequestDeskOptions) {
    this.#o = options;
  }

  get request(): CutoverRequest | null {
    return requestOf(this.#state?.record ?? null);
  }

  /** Works on this record from now on. */
  take(state: RunState): void {
    this.#state = state;
    this.#stop = new AbortController();
  }

  /** Goes on with what the record holds; call when the phase is settled after a start. */
  async resume(): Promise<void> {
    const state = this.#required();
    if (this.#stop.signal.aborted) this.#stop = new AbortController();
    const { request } = this;
    if (request?.state === 'running' && state.phase !== 'undetermined') {
      // The engine died between storing that it begins and storing what came of it: the phase says which.
      const outcome = state.phase === STEADY[request.to] ? 'switched' : 'undone';
      await this.#close(request, { state: 'done', outcome, reason: 'found after a restart' });
    }
    if (request?.state === 'waiting') this.#wait();
  }

  /**
   * A switch that begins by itself once its time has come and every gate is open.
   * @throws VerdigrisError CUTOVER_PHASE while another one waits or runs, USAGE
   */
  async schedule(when: When, ask: Ask): Promise<CutoverRequest> {
    const state = this.#required();
    requirePhase(state.phase, ['copying', 'catching_up', 'replicating'], 'a cutover');
    // Refuses what can never be overridden now, not at three in the morning.
    closedGates([], ask.overrides ?? []);
    const times = timesOf(when, this.#o.windows, this.#o.clock.now());
    const request = await this.#store(ask, { ...times, to: 'green', state: 'waiting' });
    await state.note('cutover.requested', { ...request });
    this.#wait();
    return request;
  }

  /**
   * The last moment before anything acts: stores that it runs. What was cancelled in the meantime does not begin.
   * @param to the side that shall serve
   * @param id of the request that waited; absent: it was asked for just now
   * @returns what cancels it until the seal
   * @throws VerdigrisError CUTOVER_PHASE
   */
  async begin(to: Side, ask: Ask, id?: string): Promise<AbortSignal> {
    const state = this.#required();
    if (id === undefined) {
      const request = await this.#store(ask, {
        to,
        state: 'running',
        notBefore: null,
        window: null,
        deadline: null,
      });
      await state.note('cutover.requested', { ...request });
    } else {
      this.#stop.signal.throwIfAborted();
      await state.revise((record) => {
        const request = requestOf(record);
        if (request?.id !== id || request.state !== 'waiting')
          throw new VerdigrisError('CUTOVER_PHASE', `The request ${id} is ${request?.state ?? 'gone'}.`);
        if (request.deadline !== null && this.#o.clock.now() >= Date.parse(request.deadline))
          throw new VerdigrisError('CUTOVER_PHASE', `The time of request ${id} is over.`);
        return withRequest(record, { ...request, state: 'running', reason: '' });
      });
    }
    this.#running = { cancel: new AbortController(), over: Promise.withResolvers() };
    return this.#running.cancel.signal;
  }

  /** Stores what came of it. */
  async end(outcome: CutoverOutcome): Promise<void> {
    const { request } = this;
    try {
      if (request?.state === 'running') {
        await this.#close(request, {
          // An outcome that is not known yet ends with the recovery.
          state: outcome.outcome === 'undetermined' ? 'running' : 'done',
          outcome: outcome.outcome,
          reason: outcome.error === null ? '' : `${outcome.error.code}: ${outcome.error.message}`,
        });
      }
    } finally {
      this.#running?.over.resolve();
      this.#running = null;
    }
  }

  /** After an attempt that broke off between {@link begin} and {@link end}, before anything acted. */
  async leave(): Promise<void> {
    const { request } = this;
    if (this.#running === null || request?.state !== 'running') return;
    if (this.#required().phase !== STEADY[other(request.to)]) return;
    this.#running.over.resolve();
    this.#running = null;
    await this.#close(request, {
      state: 'failed',
      outcome: null,
      reason: 'it broke off before the first step',
    }).catch((error: unknown) =>
      this.#o.log.warn({ code: asVerdigrisError(error).code }, 'the end of a request was not stored'),
    );
  }

  /**
   * Ends a request that waits. One that runs is undone, unless the record is sealed: then it goes on to green.
   * @throws VerdigrisError CUTOVER_PHASE when there is none
   */
  async cancel(options: { readonly by?: string; readonly reason?: string }): Promise<CutoverRequest> {
    const state = this.#required();
    const { by = null, reason = '' } = options;
    const why = [`cancelled${by === null ? '' : ` by ${by}`}`, reason].filter(Boolean).join(': ');
    const { request } = this;
    if (!isPending(request)) {
      throw new VerdigrisError(
        'CUTOVER_PHASE',
        'No cutover waits, and neither a cutover nor a rollback runs.',
        {
          remedy: 'See `verdigris status`.',
        },
      );
    }
    await state.note('cutover.cancel', { id: request.id, by, reason, state: request.state });
    if (request.state === 'waiting') {
      const cancelled = await this.#endWait(request, 'cancelled', why);
      // It began a moment ago: then it is undone like any other that runs.
      if (cancelled !== null) return cancelled;
    }
    const running = this.#running;
    if (running !== null) {
      const what = request.to === 'green' ? 'switch' : 'rollback';
      running.cancel.abort(new VerdigrisError('INTERRUPTED', `The ${what} was ${why}.`));
      await running.over.promise;
    }
    return this.request ?? request;
  }

  /** Stops waiting; the request stays for the next engine. */
  async settled(): Promise<void> {
    this.#stop.abort();
    // Who cancels it is not kept waiting for a side that does not answer.
    this.#running?.over.resolve();
    await this.#waiting;
    this.#waiting = null;
  }

  async #store(
    ask: Ask,
    part: Pick<CutoverRequest, 'to' | 'state' | 'notBefore' | 'window' | 'deadline'>,
  ): Promise<CutoverRequest> {
    const state = this.#required();
    let stored: CutoverRequest | null = null;
    await state.revise((record) => {
      const pending = requestOf(record);
      if (isPending(pending)) {
        const what = pending.to === 'green' ? 'cutover' : 'rollback';
        throw new VerdigrisError('CUTOVER_PHASE', `The ${what} ${pending.id} is ${pending.state} already.`, {
          remedy: 'Wait for it, or end it with `verdigris cutover cancel`.',
          context: { request: pending.id },
        });
      }
      stored = {
        id: `c-${randomUUID().slice(0, 8)}`,
        by: ask.by ?? null,
        planHash: record.planHash,
        requestedAt: iso(this.#o.clock.now()),
        maxWritePauseMs: ask.maxWritePauseMs ?? null,
        overrides: ask.overrides ?? [],
        outcome: null,
        reason: '',
        endedAt: null,
        ...part,
      };
      return withRequest(record, stored);
    });
    return stored as unknown as CutoverRequest;
  }

  async #close(
    request: CutoverRequest,
    end: Pick<CutoverRequest, 'state' | 'outcome' | 'reason'>,
  ): Promise<void> {
    const endedAt = end.state === 'running' ? null : iso(this.#o.clock.now());
    await this.#required().revise((record) => withRequest(record, { ...request, ...end, endedAt }));
    await this.#required().note('cutover.request', { id: request.id, ...end });
  }

  /** Null when it does not wait any more. */
  async #endWait(
    { id }: CutoverRequest,
    state: 'cancelled' | 'expired' | 'failed',
    reason: string,
  ): Promise<CutoverRequest | null> {
    let ended: CutoverRequest | null = null;
    await this.#required().revise((record) => {
      const request = requestOf(record);
      if (request?.id !== id || request.state !== 'waiting') return record;
      ended = { ...request, state, reason, endedAt: iso(this.#o.clock.now()) };
      return withRequest(record, ended);
    });
    if (ended !== null) await this.#required().note('cutover.request', { id, state, reason });
    return ended;
  }

  #wait(): void {
    this.#waiting = (this.#waiting ?? Promise.resolve()).then(async () => {
      const { clock, log } = this.#o;
      while (!this.#stop.signal.aborted) {
        const { request } = this;
        if (request?.state !== 'waiting') return;
        try {
          if (await this.#look(request)) return;
        } catch (error) {
          log.warn(
            { code: asVerdigrisError(error).code, request: request.id },
            'a look at a waiting cutover failed',
          );
        }
        await clock.sleep(LOOK_MS, this.#stop.signal).catch(() => undefined);
      }
    });
  }

  /** True when the wait is over. */
  async #look(request: CutoverRequest): Promise<boolean> {
    const { clock, attempt, gates } = this.#o;
    const state = this.#required();
    const now = clock.now();
    if (state.record?.planHash !== request.planHash) {
      await this.#endWait(request, 'cancelled', 'the plan is another one than when it was asked for');
      return true;
    }
    const due = request.notBefore === null || now >= Date.parse(request.notBefore);
    const shut = due ? closedGates(await gates(request.by), request.overrides) : [];
    if (request.deadline !== null && now >= Date.parse(request.deadline)) {
      const why =
        shut.length === 0 ? 'it could not begin' : `shut: ${shut.map(({ name }) => name).join(', ')}`;
      await this.#endWait(request, 'expired', why);
      return true;
    }
    if (!due || state.phase !== 'replicating' || shut.length > 0) return false;
    try {
      await attempt(request);
    } catch (caught) {
      const error = asVerdigrisError(caught);
      // A gate that shut just now, or an act that is in the way: it goes on waiting.
      if (error.code === 'CUTOVER_GATE' || error.code === 'CUTOVER_PHASE' || this.#stop.signal.aborted)
        return false;
      await this.#endWait(request, 'failed', `${error.code}: ${error.message}`);
    }
    return true;
  }

  #required(): RunState {
    if (this.#state === null) throw new VerdigrisError('ENGINE_NOT_RUNNING', 'The run is not started.');
    return this.#state;
  }
}
