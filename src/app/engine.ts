import { EventEmitter } from 'node:events';
import { SYSTEM_CLOCK, type Clock } from '../core/clock.ts';
import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';
import { NO_FAILPOINTS, type Failpoints } from '../core/failpoint.ts';
import type { GateName, GateResult } from '../core/gate.ts';
import { SILENT, type Logger } from '../core/log.ts';
import type { CheckResult } from '../core/preflight.ts';
import type { JournalEvent, Phase } from '../core/state.ts';
import type {
  CutoverReport,
  Migration,
  Mismatch,
  PlanReport,
  VerifyReport,
  WayBackReport,
} from '../orchestrator/api.ts';
import type { Approval } from '../orchestrator/approvals.ts';
import type { Rehearsal } from '../orchestrator/rehearsal-result.ts';
import type { CutoverRequest as ScheduledCutover, When } from '../orchestrator/requests.ts';
import type { RunReport } from '../orchestrator/run-report.ts';
import type { Status } from '../orchestrator/status.ts';
import { assemble, type Assembly } from './connect.ts';
import type { LoadedConfig } from './load.ts';
import { withPlaces } from './mapping-issues.ts';

export type { Approval, Rehearsal, RunReport, ScheduledCutover, When };
export type { CutoverReport, Migration, Mismatch, PlanReport, Status, VerifyReport, WayBackReport };

export interface EngineOptions {
  /** Default: no log. */
  readonly logger?: Logger;
  readonly clock?: Clock;
  /** Closes the engine; everything is resumable. */
  readonly signal?: AbortSignal;
  readonly failpoints?: Failpoints;
  /** Take the run over although another engine's lease is fresh. Only when that engine is really gone. */
  readonly takeover?: boolean;
}

/** The gates of a status, with one answer for all of them. */
export type GateList = readonly GateResult[] & { readonly ready: boolean };
export type WatchedStatus = Omit<Status, 'gates'> & { readonly gates: GateList };

export interface EngineEvents {
  /** The run entered a phase. */
  readonly phase: Phase;
  /** A gate opened or shut. */
  readonly gate: GateResult;
  /** Once a second while it runs. */
  readonly status: Status;
}

export interface VerifyResult extends Omit<VerifyReport, 'mismatches'> {
  readonly mismatches: AsyncIterable<Mismatch>;
}

/** How a program asks for a switch. */
export interface CutoverRequest {
  /** Hash of the plan that was looked at. */
  readonly planHash: string;
  /** The name of the migration, typed by whoever starts it. */
  readonly confirm: string;
  /** Who asks: approvals of the same person do not count. */
  readonly by?: string;
  readonly dryRun?: boolean;
  readonly maxWritePauseMs?: number;
  readonly overrides?: readonly { readonly gate: GateName; readonly reason: string }[];
}

/** A migration as a program drives it. Nothing is connected before the first call that needs it. */
export interface VerdigrisEngine extends AsyncDisposable {
  readonly name: string;
  /** What would happen. Changes nothing. */
  plan(): Promise<PlanReport>;
  /** The checks before a start, those of the proxies included. Changes nothing. */
  doctor(): Promise<readonly CheckResult[]>;
  /** Resolves when replicating. Resumable. @throws VerdigrisError PLAN_STALE when `plan` is not the plan any more */
  start(options?: { readonly plan?: { readonly hash: string } }): Promise<void>;
  status(): Promise<WatchedStatus>;
  /** A status now and then every `everyMs`; ends when the run has ended. */
  watch(options?: { readonly everyMs?: number; readonly signal?: AbortSignal }): AsyncIterable<WatchedStatus>;
  /** Returns what takes the listener off again. */
  on<Name extends keyof EngineEvents>(name: Name, listener: (value: EngineEvents[Name]) => void): () => void;
  verify(options: {
    readonly mode: 'full' | 'sample' | 'recent';
    readonly tables?: readonly string[];
  }): Promise<VerifyResult>;
  /** @throws VerdigrisError CONFIRMATION, PLAN_STALE, CUTOVER_GATE */
  cutover(request: CutoverRequest): Promise<CutoverReport>;
  /** Back to blue with everything that was written on green. @throws VerdigrisError CONFIRMATION, PLAN_STALE, CUTOVER_GATE */
  rollback(request: CutoverRequest): Promise<CutoverReport>;
  /** Finishes or undoes what was interrupted; null when nothing was. */
  recover(): Promise<CutoverReport | null>;
  /**
   * A switch that begins by itself, in this or a later engine, once its time has come and every gate is open; see `request` of the status.
   * @throws VerdigrisError CONFIRMATION, PLAN_STALE, USAGE, CUTOVER_PHASE while another one waits
   */
  schedule(when: When, request: Omit<CutoverRequest, 'dryRun'>): Promise<ScheduledCutover>;
  /** Ends a switch that waits; undoes one that runs, unless it is past the point of no return. */
  cancel(options?: { readonly by?: string; readonly reason?: string }): Promise<ScheduledCutover>;
  /** @throws VerdigrisError PLAN_STALE */
  approve(options: {
    readonly by: string;
    readonly role?: string;
    readonly note?: string;
    readonly planHash: string;
  }): Promise<Approval>;
  revoke(options: { readonly by: string; readonly reason?: string }): Promise<void>;
  /** A switch there and back on rows of our own, without moving a client. */
  rehearse(): Promise<Rehearsal>;
  /** The record of the run so far, for the change ticket. */
  report(): Promise<RunReport>;
  events(after: number, limit: number): Promise<readonly JournalEvent[]>;
  /** The run underneath, for the control socket. */
  migration(): Promise<Migration>;
  /** Resolves when the run has ended for good or the engine was closed. */
  ended(): Promise<void>;
  close(): Promise<void>;
}

export const createEngine = (loaded: LoadedConfig, options: EngineOptions = {}): VerdigrisEngine =>
  new RunningEngine(loaded, options);

const POLL_MS = 1_000;

class RunningEngine implements VerdigrisEngine {
  readonly name: string;
  readonly #loaded: LoadedConfig;
  readonly #options: EngineOptions;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #events = new EventEmitter();
  readonly #stop = new AbortController();
  #assembly: Promise<Assembly> | null = null;
  #polling: Promise<void> | null = null;
  #phase: Phase | null = null;
  #phasesSeen = 0;
  #closing: Promise<void> | null = null;

  constructor(loaded: LoadedConfig, options: EngineOptions) {
    this.name = loaded.config.migration;
    this.#loaded = loaded;
    this.#options = options;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.#log = options.logger ?? SILENT;
    const { signal } = options;
    const close = (): void =>
      void this.close().catch((error: unknown) => this.#log.error({ error }, 'close failed'));
    if (signal?.aborted) close();
    else signal?.addEventListener('abort', close, { once: true, signal: this.#stop.signal });
  }

  async migration(): Promise<Migration> {
    return (await this.#open()).migration;
  }

  plan(): Promise<PlanReport> {
    return this.#with((migration) => migration.plan());
  }

  async doctor(): Promise<readonly CheckResult[]> {
    const { proxies } = await this.#open();
    const { checks } = await this.plan();
    if (checks.some(({ side }) => side === 'proxy')) return checks;
    const probed = await Promise.all(
      proxies.map(async (proxy): Promise<CheckResult[]> => {
        const base = { id: 'proxy', side: 'proxy', title: `proxy ${proxy.name}` } as const;
        try {
          const { version, findings } = await proxy.probe(AbortSignal.timeout(10_000));
          if (findings.length === 0) {
            return [
              { ...base, level: 'info', outcome: 'ok', observed: version, expected: 'ready', remedy: '' },
            ];
          }
          return findings.map(({ level, text, remedy }) => ({
            ...base,
            level,
            outcome: 'finding',
            observed: text,
            expected: 'ready',
            remedy,
          }));
        } catch (error) {
          const { message, remedy } = asVerdigrisError(error);
          return [
            {
              ...base,
              level: 'block',
              outcome: 'could-not-check',
              observed: message,
              expected: 'an answer',
              remedy,
            },
          ];
        }
      }),
    );
    return [...checks, ...probed.flat()];
  }

  async start(options: { readonly plan?: { readonly hash: string } } = {}): Promise<void> {
    const migration = await this.migration();
    if (options.plan) await this.#checkPlan(options.plan.hash);
    this.#polling ??= this.#poll(migration);
    await this.#with(() => migration.start());
  }

  async status(): Promise<WatchedStatus> {
    return watched(await this.#with((migration) => migration.status()));
  }

  async *watch(
    options: { readonly everyMs?: number; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<WatchedStatus> {
    const { everyMs = POLL_MS, signal } = options;
    const stop = signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal;
    const migration = await this.migration();
    let over = false;
    const end = (): void => {
      over = true;
    };
    migration.ended.then(end, end);
    while (!stop.aborted) {
      const last = over;
      yield await this.status();
      if (last) return;
      const woken = new AbortController();
      const done = (): void => woken.abort();
      migration.ended.then(done, done);
      await this.#clock.sleep(everyMs, AbortSignal.any([stop, woken.signal])).catch(() => undefined);
    }
  }

  on<Name extends keyof EngineEvents>(name: Name, listener: (value: EngineEvents[Name]) => void): () => void {
    this.#events.on(name, listener);
    return () => void this.#events.off(name, listener);
  }

  async verify(options: {
    readonly mode: 'full' | 'sample' | 'recent';
    readonly tables?: readonly string[];
  }): Promise<VerifyResult> {
    const { mismatches, ...rest } = await this.#with((migration) => migration.verify(options));
    return { ...rest, mismatches: iterate(mismatches) };
  }

  cutover(request: CutoverRequest): Promise<CutoverReport> {
    return this.#turn('cutover', request);
  }

  rollback(request: CutoverRequest): Promise<CutoverReport> {
    return this.#turn('rollback', request);
  }

  recover(): Promise<CutoverReport | null> {
    return this.#with((migration) => migration.recover());
  }

  async #turn(kind: 'cutover' | 'rollback', request: CutoverRequest): Promise<CutoverReport> {
    const { planHash, confirm, dryRun = false, ...rest } = request;
    if (!dryRun) await this.#confirmed(planHash, confirm, kind);
    return this.#with((migration) => migration[kind]({ dryRun, ...rest }));
  }

  async schedule(when: When, request: Omit<CutoverRequest, 'dryRun'>): Promise<ScheduledCutover> {
    const { planHash, confirm, ...rest } = request;
    await this.#confirmed(planHash, confirm);
    return this.#with((migration) => migration.schedule({ ...when, ...rest }));
  }

  cancel(options: { readonly by?: string; readonly reason?: string } = {}): Promise<ScheduledCutover> {
    return this.#with((migration) => migration.cancel(options));
  }

  approve(options: Parameters<VerdigrisEngine['approve']>[0]): Promise<Approval> {
    return this.#with((migration) => migration.approve({ role: '', note: '', ...options }));
  }

  revoke(options: Parameters<VerdigrisEngine['revoke']>[0]): Promise<void> {
    return this.#with((migration) => migration.revoke({ reason: '', ...options }));
  }

  rehearse(): Promise<Rehearsal> {
    return this.#with((migration) => migration.rehearse());
  }

  report(): Promise<RunReport> {
    return this.#with((migration) => migration.report());
  }

  events(after: number, limit: number): Promise<readonly JournalEvent[]> {
    return this.#with((migration) => migration.events(after, limit));
  }

  async ended(): Promise<void> {
    await (
      await this.migration()
    ).ended;
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      this.#stop.abort();
      await this.#polling;
      const assembly = await this.#assembly?.catch(() => null);
      await assembly?.[Symbol.asyncDispose]();
    })();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #confirmed(planHash: string, confirm: string, act = 'cutover'): Promise<void> {
    if (confirm !== this.name)
      throw new VerdigrisError('CONFIRMATION', `the ${act} of ${this.name} was not confirmed with its name`);
    await this.#checkPlan(planHash);
  }

  async #checkPlan(hash: string): Promise<void> {
    const current = await this.plan();
    if (current.hash === hash) return;
    throw new VerdigrisError('PLAN_STALE', `the plan is ${short(current.hash)}, not ${short(hash)}`, {
      context: { current: current.hash, named: hash },
    });
  }

  #open(): Promise<Assembly> {
    if (this.#stop.signal.aborted) {
      return Promise.reject(new VerdigrisError('INTERRUPTED', `the engine of ${this.name} was closed`));
    }
    this.#assembly ??= assemble(this.#loaded, {
      log: this.#log,
      clock: this.#clock,
      failpoints: this.#options.failpoints ?? NO_FAILPOINTS,
      takeover: this.#options.takeover ?? false,
      onPhase: (phase) => this.#entered(phase),
    }).catch((error: unknown) => {
      // Not kept: a server that did not answer may answer the next call.
      this.#assembly = null;
      throw withPlaces(error, this.#loaded);
    });
    return this.#assembly;
  }

  async #with<T>(act: (migration: Migration) => Promise<T>): Promise<T> {
    const { migration } = await this.#open();
    try {
      return await act(migration);
    } catch (error) {
      throw withPlaces(error, this.#loaded);
    }
  }

  /** A short phase may pass between two looks at the status: the run itself tells of those it enters here. */
  #entered(phase: Phase): void {
    this.#phasesSeen += 1;
    if (phase === this.#phase) return;
    this.#phase = phase;
    try {
      this.#events.emit('phase', phase);
    } catch (error) {
      this.#log.warn({ error }, 'a listener failed');
    }
  }

  async #poll(migration: Migration): Promise<void> {
    const open = new Map<GateName, boolean>();
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        const seen = this.#phasesSeen;
        const status = await migration.status();
        this.#events.emit('status', status);
        // Of a run that another engine has; a status that is older than what was told meanwhile says nothing.
        if (seen === this.#phasesSeen) this.#entered(status.phase);
        for (const gate of status.gates) {
          if (open.get(gate.name) !== gate.ok) this.#events.emit('gate', gate);
          open.set(gate.name, gate.ok);
        }
      } catch (error) {
        this.#log.warn({ error }, 'a status or one of its listeners failed');
      }
      await this.#clock.sleep(POLL_MS, signal).catch(() => undefined);
    }
  }
}

function watched(status: Status): WatchedStatus {
  const gates = [...status.gates];
  // Not enumerable: as JSON it stays the plain list that it is everywhere else.
  Object.defineProperty(gates, 'ready', { value: gates.length > 0 && gates.every(({ ok }) => ok) });
  return { ...status, gates: gates as unknown as GateList };
}

async function* iterate<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}

const short = (hash: string): string => hash.slice(0, 8);
