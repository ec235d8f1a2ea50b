import { randomUUID } from 'node:crypto';
import type { Clock } from '../core/clock.ts';
import type { Engine, Session } from '../core/engine.ts';
import { VerdigrisError, asVerdigrisError } from '../core/errors.ts';
import type { Failpoints } from '../core/failpoint.ts';
import type { WriteFence } from '../core/fence.ts';
import type { GateResult } from '../core/gate.ts';
import type { Logger } from '../core/log.ts';
import type { ProxyAdapter } from '../core/proxy.ts';
import type { Sink } from '../core/sink.ts';
import type { ChangeSource } from '../core/source.ts';
import type { JournalEvent } from '../core/state.ts';
import { showTable } from '../core/table.ts';
import type { CutoverContext } from '../cutover/context.ts';
import type { CutoverOutcome } from '../cutover/execute.ts';
import { closedGates, evaluateGates } from '../cutover/gates.ts';
import { cutover, recover } from '../cutover/recover.ts';
import { cutoverSteps } from '../cutover/steps.ts';
import { Pipeline, type PipelineState } from '../pipeline/pipeline.ts';
import { Verifier } from '../verify/verifier.ts';
import type { CutoverReport, Migration, PlanReport, VerifyReport } from './api.ts';
import { compile, type Compiled, type MappingSource } from './compiled.ts';
import { CopyPermit } from './copy-permit.ts';
import { pairCounters } from './counter-pairs.ts';
import { dryRun } from './dry-run.ts';
import { GateFactsReader } from './gate-facts.ts';
import { isOver, requirePhase } from './phase.ts';
import { planHash } from './plan-hash.ts';
import { estimate, planReport } from './plan-report.ts';
import { preflight, prepare, requirePassed } from './prepare.ts';
import { RunState } from './run-state.ts';
import type { Settings } from './settings.ts';
import type { Status } from './status.ts';
import { StatusView, type Verification } from './status-view.ts';

export interface MigrationOptions {
  readonly settings: Settings;
  readonly mapping: MappingSource['spec'];
  /** Functions of the mapping's modules, `path#export`. */
  readonly modules: MappingSource['modules'];
  readonly engine: Engine;
  readonly blue: Session;
  readonly green: Session;
  readonly proxies: readonly ProxyAdapter[];
  readonly log: Logger;
  readonly clock: Clock;
  readonly failpoints: Failpoints;
  /** Who this engine is, for the lease: host and process. */
  readonly holder: string;
  /** Take the lease even when another holder's is fresh. */
  readonly takeover?: boolean;
  readonly planSalt: {
    /** The configuration without secrets, as canonical JSON. */
    readonly configuration: string;
    readonly schemaSql: string | null;
    readonly serverVersions: { readonly blue: string; readonly green: string };
  };
}

/** Does no I/O; the first call that needs a server asks it. */
export const createMigration = (options: MigrationOptions): Promise<Migration> => Promise.resolve(new Run(options));

/** Gives up drains and fences that would wait for ever. */
const CATCH_UP_POLL_MS = 200;
const SMOKE_TIMEOUT_MS = 10_000;

/** What exists only while the run is held. */
interface Held {
  readonly state: RunState;
  readonly compiled: Compiled;
  readonly source: ChangeSource;
  readonly sink: Sink;
  readonly pipeline: Pipeline;
  readonly blueFence: WriteFence;
  readonly greenFence: WriteFence;
  readonly facts: GateFactsReader;
  readonly verifier: Verifier;
}

class Run implements Migration {
  readonly #o: MigrationOptions;
  readonly #holder = randomUUID().slice(0, 8);
  readonly #stop = new AbortController();
  readonly #permit: CopyPermit;
  readonly #view: StatusView;
  readonly #ended = Promise.withResolvers<void>();
  #starting: Promise<void> | null = null;
  #held: Held | null = null;
  #compiled: Promise<Compiled> | null = null;
  #pumping: Promise<void> | null = null;
  readonly #pumpStop = new AbortController();
  #pipelineState: PipelineState = { condition: 'running', reason: '', error: null };
  #verification: Verification = { state: 'never', rows: 0, differences: 0, cleanAt: null, detail: null };
  #verifying: Promise<VerifyReport> | null = null;
  #switching = false;
  #retry: PromiseWithResolvers<void> | null = null;

  constructor(options: MigrationOptions) {
    this.#o = options;
    this.#permit = new CopyPermit({
      sessions: { blue: options.blue, green: options.green },
      rules: options.settings.throttle,
      clock: options.clock,
    });
    this.#view = new StatusView(options.clock, options.settings);
    this.#ended.promise.catch(() => undefined);
  }

  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  start(): Promise<void> {
    this.#starting ??= this.#begin().catch((error: unknown) => {
      const reason = this.#stop.signal.aborted ? asVerdigrisError(this.#stop.signal.reason) : asVerdigrisError(error);
      this.#ended.reject(reason);
      throw reason;
    });
    return this.#starting;
  }

  async plan(): Promise<PlanReport> {
    const compiled = await this.#compile();
    const { blue, green, settings, planSalt } = this.#o;
    const fresh = this.#held === null && (await this.#stored()) === null;
    const checks = await preflight({ compiled, blue, green, connections: this.#connections, fresh });
    return planReport({
      compiled,
      settings,
      blue,
      checks,
      hash: this.#hash(),
      versions: planSalt.serverVersions,
      proxies: this.#o.proxies.map((proxy) => proxy.name),
      engine: this.#o.engine.name,
    });
  }

  async status(): Promise<Status> {
    const held = this.#held;
    const record = held === null ? await this.#stored() : held.state.record;
    return this.#view.status({
      record,
      planHash: record?.planHash ?? this.#hash(),
      pipeline: held?.pipeline ?? null,
      compiled: held?.compiled ?? null,
      pipelineState: this.#pipelineState,
      copyPaused: this.#permit.paused,
      throttled: this.#permit.throttled,
      verification: this.#verification,
      gates: held === null ? [] : await this.#gates(false),
      describe: (position) => this.#o.engine.positions.describe(position),
    });
  }

  async pause(scope: 'copy' | 'apply' | 'all', reason: string): Promise<void> {
    const { state, pipeline } = this.#required();
    if (scope !== 'apply') this.#permit.pause();
    if (scope !== 'copy') pipeline.pause();
    this.#view.pauseReason = reason;
    await state.note('pause', { scope, reason });
  }

  async resume(scope: 'copy' | 'apply' | 'all'): Promise<void> {
    const { state, pipeline } = this.#required();
    if (scope !== 'apply') this.#permit.resume();
    if (scope !== 'copy') pipeline.resume();
    this.#retry?.resolve();
    this.#view.pauseReason = '';
    await state.note('resume', { scope });
  }

  async verify(options: { readonly tables?: readonly string[]; readonly mode: 'full' | 'sample' | 'recent' }): Promise<VerifyReport> {
    const { state } = this.#required();
    requirePhase(state.phase, ['catching_up', 'replicating'], 'verification');
    if (this.#verifying !== null) {
      throw new VerdigrisError('CUTOVER_PHASE', 'A verification is running already.', { remedy: 'Wait for it: `verdigris status`.' });
    }
    this.#verifying = this.#verifyNow(options).finally(() => {
      this.#verifying = null;
    });
    return this.#verifying;
  }

  async cutover(options: Parameters<Migration['cutover']>[0]): Promise<CutoverReport> {
    const held = this.#required();
    const { state, blueFence } = held;
    requirePhase(state.phase, ['replicating'], 'a cutover');
    if (this.#switching) throw new VerdigrisError('CUTOVER_PHASE', 'A cutover is running already.');
    const overrides = options.overrides ?? [];
    const gates = await this.#gates(true);
    const context = this.#context(held, {
      epoch: (state.record?.epoch ?? 0) + 1,
      overrides,
      maxWritePauseMs: options.maxWritePauseMs ?? this.#o.settings.cutover.maxWritePauseMs,
    });
    if (options.dryRun) {
      const steps = await dryRun(cutoverSteps(context), () => this.#o.clock.monotonic());
      return { outcome: 'dry-run', writePauseMs: null, epoch: context.epoch, steps, gates, error: null };
    }
    const closed = closedGates(gates, overrides);
    if (closed.length > 0) throw gateError(closed);
    this.#switching = true;
    try {
      await blueFence.prepare();
      for (const { gate, reason } of overrides) await state.note('gate.override', { gate, reason });
      await state.enter('cutting_over', { epoch: context.epoch });
      await state.note('cutover.begin', { epoch: context.epoch, maxWritePauseMs: context.settings.maxWritePauseMs });
      const outcome = await cutover(context, this.#stop.signal);
      await this.#settled(held, outcome);
      return reportOf(outcome, context.epoch, gates);
    } finally {
      this.#switching = false;
    }
  }

  async abort(options: { readonly dropGreenData: boolean }): Promise<void> {
    const held = this.#required();
    requirePhase(held.state.phase, ['preparing', 'copying', 'catching_up', 'replicating'], 'abort');
    if (options.dropGreenData) {
      throw new VerdigrisError('USAGE', 'Deleting the data of green is left to the operator.', {
        remedy: 'Abort without --drop-green-data, then drop the tables of green yourself.',
      });
    }
    await held.state.note('abort', {});
    await this.#endPumping();
    await held.source.retire();
    await held.sink.retire();
    await held.blueFence.retire();
    await held.greenFence.retire();
    await held.state.enter('aborted');
    await this.#finishRun(held, false);
  }

  async finish(options: { readonly keepState: boolean }): Promise<void> {
    const held = this.#required();
    requirePhase(held.state.phase, ['reversing'], 'finish');
    await held.state.note('finish', { keepState: options.keepState });
    await this.#endPumping();
    await held.source.retire();
    await held.blueFence.retire();
    await held.greenFence.retire();
    if (!options.keepState) await held.sink.retire();
    await held.state.enter('finished');
    await this.#finishRun(held, options.keepState);
  }

  events(after: number, limit: number): Promise<readonly JournalEvent[]> {
    return this.#o.green.state.events(this.#o.settings.migration, after, limit);
  }

  async close(): Promise<void> {
    this.#stop.abort(new VerdigrisError('INTERRUPTED', 'The engine was closed; the state is saved.'));
    this.#retry?.resolve();
    await this.#starting?.catch(() => undefined);
    await this.#verifying?.catch(() => undefined);
    await this.#endPumping();
    await this.#held?.sink[Symbol.asyncDispose]();
    await this.#held?.state[Symbol.asyncDispose]();
    this.#held = null;
    this.#ended.resolve();
  }

  // ---- the run

  async #begin(): Promise<void> {
    const { settings, green, clock, log } = this.#o;
    const compiledBefore = await this.#compile();
    requirePassed((await preflightOf(this.#o, compiledBefore, this.#connections)).filter((check) => check.side === 'blue'));
    const state = await RunState.acquire({
      store: green.state,
      id: settings.migration,
      holder: this.#o.holder,
      ttlMs: settings.lease.ttlMs,
      takeover: this.#o.takeover ?? false,
      clock,
      log,
      onLost: (error) => this.#stop.abort(error),
    });
    try {
      await this.#hold(state, compiledBefore);
    } catch (error) {
      if (this.#held === null) await state[Symbol.asyncDispose]();
      throw error;
    }
    await this.#drive();
  }

  /** Takes the run in hand: schema on green, sessions' parts, pipeline. Nothing runs yet. */
  async #hold(state: RunState, before: Compiled): Promise<void> {
    const { settings, engine, blue, green, clock, log, failpoints, proxies } = this.#o;
    const hash = this.#hash();
    if (state.record === null) await state.create(hash);
    const record = state.record;
    if (record !== null && isOver(record.phase)) {
      throw new VerdigrisError('CUTOVER_PHASE', `The run has ended: ${record.phase}.`, {
        remedy: 'Give the migration another name, or remove the state that was kept.',
      });
    }
    if (record !== null && record.planHash !== hash) {
      if (record.phase !== 'preparing') {
        throw new VerdigrisError('PLAN_STALE', 'Mapping, configuration, schema file or server version changed since the run began.', {
          remedy: 'Go back to what the run began with, or abort it and start again.',
          context: { began: record.planHash.slice(0, 8), now: hash.slice(0, 8) },
        });
      }
      await state.remember({ replanned: hash });
    }
    if (settings.schemaSql !== null && state.phase === 'preparing') {
      const ran = await green.catalog.applySchema(settings.schemaSql, before.targetNames);
      if (ran) await state.note('schema.applied', {});
      this.#compiled = null;
    }
    const compiled = await this.#compile();
    if (compiled.missingTargets) {
      throw new VerdigrisError('SCHEMA_TABLE_MISSING', `Green lacks mapped tables: ${compiled.targetNames.map(showTable).join(', ')}.`, {
        remedy: 'Create them, or name a schema file in green.schema_file.',
      });
    }
    await estimate(compiled, blue);
    const stream = { direction: 'forward' as const, term: state.term, maxBatchBytes: settings.apply.batchBytes };
    const source = blue.changes(stream);
    const snapshot = blue.snapshot();
    const sink = green.sink(stream);
    const pipeline = new Pipeline({
      source,
      snapshot,
      sink,
      positions: engine.positions,
      rawCopy: engine.capabilities.rawCopy,
      plans: compiled.plans,
      units: compiled.units,
      settings: {
        ...settings.apply,
        workers: settings.copy.workers,
        chunkRows: settings.copy.chunkRows,
        maxRowsPerSecond: settings.copy.maxRowsPerSecond,
        heartbeatMs: settings.heartbeatMs,
        windowBytes: settings.windowBytes,
        idleCheckpointMs: settings.idleCheckpointMs,
        visibilityTimeoutMs: settings.visibilityTimeoutMs,
      },
      clock,
      failpoints,
      log,
      holder: `${settings.migration}:${this.#holder}`,
      copyPermit: (signal) => this.#permit.wait(signal),
      onState: (next) => {
        this.#pipelineState = next;
      },
    });
    const blueTables = compiled.sources.map((relation) => relation.table);
    const greenTables = compiled.targets.map((target) => target.relation.table);
    const verifier = new Verifier({
      blue: blue.digester,
      green: green.digester,
      tables: compiled.verifyTables,
      settle: async (signal) => {
        await pipeline.drain(await source.mark(`${settings.migration}:${this.#holder}:verify`), signal);
      },
      settings: { chunkRows: settings.copy.chunkRows, ...settings.verify },
      clock,
    });
    this.#verification = storedVerification(record?.detail['verify']) ?? this.#verification;
    this.#held = {
      state,
      compiled,
      source,
      sink,
      pipeline,
      blueFence: blue.fence(blueTables),
      greenFence: green.fence(greenTables),
      verifier,
      facts: new GateFactsReader({
        blue,
        green,
        proxies,
        blueTables,
        greenTables,
        clock,
        log,
        unmatchedCounters: async () =>
          pairCounters(await blue.counters.list(), await green.counters.list(), compiled.origins).unmatched,
      }),
    };
  }

  /** From whatever phase is stored to `replicating` (or past the switch). */
  async #drive(): Promise<void> {
    const held = this.#required();
    const { state, compiled, pipeline, sink } = held;
    const signal = this.#stop.signal;
    const { failpoints } = this.#o;
    if (state.phase === 'preparing') {
      await prepare({
        ...held,
        blue: this.#o.blue,
        green: this.#o.green,
        connections: this.#connections,
        failpoints,
        log: this.#o.log,
        note: (event, detail) => state.note(event, detail),
      });
      await state.enter('copying');
      await failpoints.hit('copying.entered');
    } else {
      await sink.prepare(compiled.targets);
    }
    if (state.phase === 'reversing') return;
    this.#pumping = pipeline.run(AbortSignal.any([signal, this.#pumpStop.signal])).catch((error: unknown) => {
      this.#ended.reject(asVerdigrisError(error));
      this.#stop.abort(error);
    });
    if (state.phase === 'cutting_over' || state.phase === 'undetermined') await this.#recover(held);
    if (state.phase === 'copying') {
      await this.#unlessStopped(pipeline.copied);
      await failpoints.hit('copying.rows-done');
      await this.#retried(() => sink.finishCopy(compiled.targets, (step) => this.#view.finishing(step), signal));
      this.#view.finishing(null);
      await failpoints.hit('copying.indexes-done');
      await state.enter('catching_up');
    }
    if (state.phase === 'catching_up') {
      await pipeline.drain(await this.#retried(() => held.source.head()), signal);
      await failpoints.hit('catching-up.drained');
      await state.enter('replicating');
    }
    if (state.phase === 'replicating' && this.#o.settings.verify.afterCopy === 'full' && this.#verification.cleanAt === null) {
      // In the background: replication is what start() waits for; the gate waits for the result.
      this.verify({ mode: 'full' }).catch((error: unknown) => {
        this.#o.log.error({ code: asVerdigrisError(error).code }, `verification failed: ${asVerdigrisError(error).message}`);
      });
    }
  }

  async #recover(held: Held): Promise<void> {
    const { state } = held;
    await held.blueFence.prepare();
    const context = this.#context(held, {
      epoch: state.record?.epoch ?? 0,
      overrides: [],
      maxWritePauseMs: this.#o.settings.cutover.maxWritePauseMs,
    });
    await state.note('cutover.recover', { epoch: context.epoch });
    const outcome = await recover(context);
    await this.#settled(held, outcome);
  }

  /** Stores what a switch or its recovery came to. */
  async #settled({ state }: Held, outcome: CutoverOutcome): Promise<void> {
    await state.note('cutover.end', {
      outcome: outcome.outcome,
      writePauseMs: outcome.writePauseMs,
      error: outcome.error === null ? null : { code: outcome.error.code, message: outcome.error.message },
    });
    if (outcome.outcome === 'switched') {
      await state.enter('reversing', { activeSide: 'green' });
      await this.#endPumping();
    } else {
      await state.enter(outcome.outcome === 'undone' ? 'replicating' : 'undetermined');
    }
  }

  #context(
    held: Held,
    options: { readonly epoch: number; readonly overrides: CutoverContext['overrides']; readonly maxWritePauseMs: number },
  ): CutoverContext {
    const { settings, green, blue, proxies, log, clock, failpoints } = this.#o;
    const { state, pipeline, blueFence, greenFence, compiled } = held;
    return {
      migration: settings.migration,
      epoch: options.epoch,
      blueFence,
      greenFence,
      proxies,
      pipeline,
      counters: async () => {
        const { pairs } = pairCounters(await blue.counters.list(), await green.counters.list(), compiled.origins);
        return green.counters.advance(pairs, settings.sequences.headroom);
      },
      recheck: () => Promise.resolve({ keys: 0, differences: 0 }),
      gates: () => this.#gates(true),
      overrides: options.overrides,
      settings: { ...settings.cutover, maxWritePauseMs: options.maxWritePauseMs },
      journal: { note: (event, detail) => state.note(event, detail) },
      smoke: async ({ sql }) => {
        await green.scalar(sql, SMOKE_TIMEOUT_MS);
      },
      onSwitched: (epoch) => state.remember({ switchedAt: new Date(clock.now()).toISOString() }, { epoch, activeSide: 'green' }),
      holdsLease: () => state.holds(),
      log,
      clock,
      failpoints,
    };
  }

  async #gates(fresh: boolean): Promise<readonly GateResult[]> {
    const { facts, pipeline } = this.#required();
    const { gates, cutover: switching } = this.#o.settings;
    const read = await facts.read(pipeline, this.#verification, { fresh, limitSeconds: gates.maxCommitLagMs / 1000 });
    return evaluateGates(read, { ...gates, maxWritePauseMs: switching.maxWritePauseMs });
  }

  async #verifyNow(options: { readonly tables?: readonly string[]; readonly mode: 'full' | 'sample' | 'recent' }): Promise<VerifyReport> {
    const { verifier, state } = this.#required();
    const before = this.#verification;
    this.#verification = { ...before, state: 'running', rows: 0, detail: null };
    try {
      const report = await verifier.run(options, this.#stop.signal, ({ rows }) => {
        this.#verification = { ...this.#verification, rows: this.#verification.rows + rows };
      });
      const whole = options.mode === 'full' && (options.tables ?? []).length === 0;
      this.#verification = {
        state: report.ok ? 'pass' : 'fail',
        rows: report.rows,
        differences: report.ok && !whole ? before.differences : report.mismatches.length,
        cleanAt: report.ok && whole ? this.#o.clock.now() : report.ok ? before.cleanAt : null,
        detail: null,
      };
      await state.remember({ verify: this.#verification });
      await state.note('verify', { ok: report.ok, rows: report.rows, differences: report.mismatches.length, mode: options.mode });
      return report;
    } catch (error) {
      this.#verification = { ...before, state: 'error', detail: asVerdigrisError(error).message };
      throw error;
    }
  }

  // ---- small parts

  get #connections(): number {
    return this.#o.settings.copy.workers + 4;
  }

  #compile(): Promise<Compiled> {
    this.#compiled ??= compile({
      spec: this.#o.mapping,
      modules: this.#o.modules,
      blue: this.#o.blue.catalog,
      green: this.#o.green.catalog,
      schemaSql: this.#o.engine.capabilities.transactionalSchema ? this.#o.settings.schemaSql : null,
    }).catch((error: unknown) => {
      this.#compiled = null;
      throw error;
    });
    return this.#compiled;
  }

  #hash(): string {
    const { mapping, planSalt } = this.#o;
    const versions = [planSalt.serverVersions.blue, planSalt.serverVersions.green];
    return planHash({ mapping, configuration: planSalt.configuration, schemaSql: planSalt.schemaSql, serverVersions: versions });
  }

  #stored() {
    return this.#o.green.state.load(this.#o.settings.migration);
  }

  #required(): Held {
    if (this.#held === null) {
      throw new VerdigrisError('ENGINE_NOT_RUNNING', 'The run is not started.', { remedy: 'Start it with `verdigris start`.' });
    }
    return this.#held;
  }

  /** The promise, or the reason why the run stopped. */
  async #unlessStopped<T>(promise: Promise<T>): Promise<T> {
    const { signal } = this.#stop;
    const stopped = Promise.withResolvers<never>();
    const stop = (): void => stopped.reject(asVerdigrisError(signal.reason));
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    stopped.promise.catch(() => undefined);
    try {
      return await Promise.race([promise, stopped.promise]);
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  /** Tries again after transient errors; an error that needs the operator waits for `resume`. */
  async #retried<T>(act: () => Promise<T>): Promise<T> {
    for (;;) {
      this.#stop.signal.throwIfAborted();
      try {
        return await act();
      } catch (raw) {
        this.#stop.signal.throwIfAborted();
        const error = asVerdigrisError(raw);
        if (error.directive === 'fatal') throw error;
        this.#o.log.warn({ code: error.code, ...error.context }, error.message);
        if (error.directive === 'retry') {
          await this.#o.clock.sleep(CATCH_UP_POLL_MS, this.#stop.signal);
          continue;
        }
        this.#view.blocked = error;
        this.#retry = Promise.withResolvers<void>();
        await this.#unlessStopped(this.#retry.promise);
        this.#view.blocked = null;
      }
    }
  }

  async #endPumping(): Promise<void> {
    this.#pumpStop.abort(new VerdigrisError('INTERRUPTED', 'Replication was stopped.'));
    await this.#pumping;
    this.#pumping = null;
  }

  async #finishRun(held: Held, keepState: boolean): Promise<void> {
    this.#held = null;
    await held.sink[Symbol.asyncDispose]();
    if (keepState) await held.state[Symbol.asyncDispose]();
    else await held.state.retire();
    this.#stop.abort(new VerdigrisError('INTERRUPTED', 'The run has ended.'));
    this.#ended.resolve();
  }
}

const preflightOf = (options: MigrationOptions, compiled: Compiled, connections: number) =>
  preflight({ compiled, blue: options.blue, green: options.green, connections, fresh: false });

function gateError(closed: readonly GateResult[]): VerdigrisError {
  const lines = closed.map((gate) => `${gate.name}: ${gate.observed}, limit ${gate.limit} (${gate.reason})`);
  return new VerdigrisError('CUTOVER_GATE', `${closed.length} gates are shut; nothing was changed.\n  ${lines.join('\n  ')}`, {
    context: { gates: closed },
  });
}

function storedVerification(stored: unknown): Verification | null {
  if (typeof stored !== 'object' || stored === null) return null;
  const { state, rows, differences, cleanAt } = stored as Verification;
  return { state: state === 'running' ? 'never' : state, rows, differences, cleanAt, detail: null };
}

const reportOf = (outcome: CutoverOutcome, epoch: number, gates: readonly GateResult[]): CutoverReport => ({
  outcome: outcome.outcome,
  writePauseMs: outcome.writePauseMs,
  epoch,
  steps: outcome.steps,
  gates,
  error:
    outcome.error === null
      ? null
      : { code: outcome.error.code, message: outcome.error.message, remedy: outcome.error.remedy },
});
