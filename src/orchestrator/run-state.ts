import type { Clock } from '../core/clock.ts';
import { VerdigrisError, asVerdigrisError } from '../core/errors.ts';
import type { Logger } from '../core/log.ts';
import type { Phase, RunRecord, StateStore } from '../core/state.ts';
import { requireTransition } from './phase.ts';

export interface RunStateOptions {
  readonly store: StateStore;
  readonly id: string;
  readonly holder: string;
  readonly ttlMs: number;
  readonly takeover: boolean;
  readonly clock: Clock;
  readonly log: Logger;
  /** Another engine has the lease: this one must not act any more. */
  readonly onLost: (error: VerdigrisError) => void;
  /** The phase that a record has when it is read or made, and then each that it enters, in their order. Must not throw. */
  readonly onPhase?: ((phase: Phase) => void) | undefined;
}

/** The durable side of a run: its lease, its record and its journal. Intent is stored before anything acts on it. */
export class RunState implements AsyncDisposable {
  readonly #o: RunStateOptions;
  readonly term: number;
  readonly #stop = new AbortController();
  readonly #renewing: Promise<void>;
  #record: RunRecord | null;
  /** Saves compare and set the revision: one after the other. */
  #saving: Promise<unknown> = Promise.resolve();

  constructor(options: RunStateOptions, term: number, record: RunRecord | null) {
    this.#o = options;
    this.term = term;
    this.#record = record;
    this.#renewing = this.#renew();
  }

  /** Takes the lease and reads the record. @throws VerdigrisError STATE_LEASE_HELD */
  static async acquire(options: RunStateOptions): Promise<RunState> {
    const { store, id, holder, ttlMs, takeover } = options;
    await store.prepare();
    const term = await store.acquire(id, holder, { ttlMs, takeover });
    const record = await store.load(id);
    if (record !== null) options.onPhase?.(record.phase);
    return new RunState(options, term, record);
  }

  get record(): RunRecord | null {
    return this.#record;
  }

  get phase(): Phase {
    return this.#record?.phase ?? 'preparing';
  }

  async create(planHash: string, detail: Readonly<Record<string, unknown>>): Promise<void> {
    const fresh: RunRecord = {
      id: this.#o.id,
      phase: 'preparing',
      epoch: 0,
      activeSide: 'blue',
      planHash,
      detail,
      revision: 0,
    };
    this.#record = await this.#o.store.save(fresh, this.term);
    this.#o.onPhase?.(fresh.phase);
    await this.note('run.created', { planHash });
  }

  async enter(
    phase: Phase,
    change: Partial<Pick<RunRecord, 'epoch' | 'activeSide' | 'detail'>> = {},
  ): Promise<void> {
    let from = phase;
    await this.#change((record) => {
      from = record.phase;
      if (from !== phase) requireTransition(from, phase);
      return { ...record, ...change, phase };
    });
    if (from !== phase) {
      this.#o.onPhase?.(phase);
      await this.note('phase', { from, to: phase });
      this.#o.log.info({ phase, from }, 'phase');
    }
  }

  /** Stores details without a change of phase. */
  async remember(
    detail: Readonly<Record<string, unknown>>,
    change: Partial<Pick<RunRecord, 'epoch' | 'activeSide'>> = {},
  ): Promise<void> {
    await this.#change((record) => ({ ...record, ...change, detail: { ...record.detail, ...detail } }));
  }

  /** Changes the record as it is then; when the function throws it stays as it was. */
  revise(next: (record: RunRecord) => RunRecord): Promise<void> {
    return this.#change(next);
  }

  /** Takes over another plan. */
  async replan(planHash: string, detail: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#change((record) => ({ ...record, planHash, detail: { ...record.detail, ...detail } }));
    await this.note('run.replanned', { planHash });
  }

  async note(event: string, detail: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#o.store.note(this.#o.id, event, detail);
  }

  /** Asks the store, not memory. */
  holds(): Promise<boolean> {
    return this.#o.store.renew(this.#o.id, this.term);
  }

  /** Removes the run; the lease goes with it. */
  async retire(): Promise<void> {
    await this.#end();
    await this.#o.store.retire(this.#o.id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
    await this.#o.store.release(this.#o.id, this.term).catch((error: unknown) => {
      this.#o.log.debug({ code: asVerdigrisError(error).code }, 'the lease was not given back; it expires');
    });
  }

  async #end(): Promise<void> {
    this.#stop.abort(new VerdigrisError('INTERRUPTED', 'The run was closed.'));
    await this.#renewing;
  }

  async #renew(): Promise<void> {
    const { clock, ttlMs } = this.#o;
    for (;;) {
      const stopped = await clock.sleep(ttlMs / 3, this.#stop.signal).then(
        () => false,
        () => true,
      );
      if (stopped) return;
      try {
        if (await this.holds()) continue;
        this.#o.onLost(new VerdigrisError('SINK_FENCED', 'Another engine has taken over this run.'));
        return;
      } catch (error) {
        // The guard of every sink transaction decides; a renewal that cannot be asked for is no reason to stop.
        this.#o.log.warn({ code: asVerdigrisError(error).code }, 'the lease could not be renewed');
      }
    }
  }

  #change(next: (record: RunRecord) => RunRecord): Promise<void> {
    const saved = this.#saving.then(async () => {
      if (this.#record === null) throw new VerdigrisError('INTERNAL', 'The run has no record yet.');
      this.#record = await this.#o.store.save(next(this.#record), this.term);
    });
    this.#saving = saved.catch(() => undefined);
    return saved;
  }
}
