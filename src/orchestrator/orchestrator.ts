import { randomUUID } from 'node:crypto';
import { VerdigrisError, asVerdigrisError } from '../core/errors.ts';
import type { GateResult } from '../core/gate.ts';
import type { JournalEvent, RunRecord } from '../core/state.ts';
import { closedGates, evaluateGates } from '../cutover/gates.ts';
import type { CutoverContext } from '../cutover/context.ts';
import { dryRun, type CutoverOutcome } from '../cutover/execute.ts';
import { cutover, recover } from '../cutover/recover.ts';
import { cutoverSteps } from '../cutover/steps.ts';
import type { PipelineState } from '../pipeline/pipeline.ts';
import type { Approval } from './approvals.ts';
import type {
  CutoverReport,
  Migration,
  PlanReport,
  RepairReport,
  VerifyReport,
  VerifyRequest,
} from './api.ts';
import { compile, type Compiled } from './compiled.ts';
import { CopyPermit } from './copy-permit.ts';
import { admit, applySchema, hold, type Held } from './hold.ts';
import type { MigrationOptions } from './migration-options.ts';
import { requirePhase } from './phase.ts';
import { mappingHash, planHash } from './plan-hash.ts';
import { planReport } from './plan-report.ts';
import { preflight, prepare, requirePassed } from './prepare.ts';
import type { Rehearsal } from './rehearsal-result.ts';
import { Rehearsals } from './rehearsals.ts';
import { readReport, type RunReport } from './run-report.ts';
import { given, type CutoverRequest } from './requests.ts';
import { RequestDesk } from './request-desk.ts';
import { RunState } from './run-state.ts';
import type { Status } from './status.ts';
import { StatusView } from './status-view.ts';
import { SwitchControl } from './switch-control.ts';
import { gateError, reportOf, switchContext } from './switching.ts';
import { unlessStopped } from './unless-stopped.ts';
import { Verifications } from './verifications.ts';

/** Does no I/O; the first call that needs a server asks it. */
export const createMigration = (options: MigrationOptions): Promise<Migration> =>
  Promise.resolve(new Run(options));

const CATCH_UP_POLL_MS = 200;

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
  readonly #verifications: Verifications;
  readonly #control: SwitchControl;
  readonly #desk: RequestDesk;
  readonly #rehearsals: Rehearsals;
  #switching = false;
  /** It is being aborted or finished: what stops because of that is no failure. */
  #ending = false;
  /** How the run ended, when its state is gone. */
  #last: RunRecord | null = null;
  #retry: PromiseWithResolvers<void> | null = null;

  constructor(options: MigrationOptions) {
    this.#o = options;
    this.#permit = new CopyPermit({
      sessions: { blue: options.blue, green: options.green },
      rules: options.settings.throttle,
      clock: options.clock,
    });
    this.#view = new StatusView(options.clock, options.settings);
    const { clock, log, settings } = options;
    this.#verifications = new Verifications({ clock, log, settings: settings.verify });
    this.#control = new SwitchControl({ settings, clock, log });
    this.#rehearsals = new Rehearsals(options, this.#holder, this.#control);
    this.#desk = new RequestDesk({
      windows: settings.cutover.windows,
      clock,
      log,
      gates: (starter) => this.#gates(false, starter),
      attempt: (request) => this.#switch({ ...given(request), dryRun: false }, request.id),
    });
    this.#ended.promise.catch(() => undefined);
  }

  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  start(): Promise<void> {
    this.#starting ??= this.#begin().catch((error: unknown) => {
      // Aborted or finished while it was still on its way: that is an end, not a failure.
      if (this.#ending) return;
      const reason = this.#stop.signal.aborted
        ? asVerdigrisError(this.#stop.signal.reason)
        : asVerdigrisError(error);
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
    const record = held?.state.record ?? this.#last ?? (await this.#stored());
    return this.#view.status({
      record,
      planHash: record?.planHash ?? this.#hash(),
      pipeline: held?.pipeline ?? null,
      compiled: held?.compiled ?? null,
      pipelineState: this.#pipelineState,
      copyPaused: this.#permit.paused,
      throttled: this.#permit.throttled,
      verification: this.#verifications.now,
      gates: held === null ? [] : await this.#gates(false, null),
      switching: this.#control.status(record),
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

  async verify(options: VerifyRequest): Promise<VerifyReport> {
    const held = this.#required();
    requirePhase(held.state.phase, ['catching_up', 'replicating'], 'verification');
    return this.#verifications.run(held, options, this.#working);
  }

  async verification(): Promise<(VerifyReport & { readonly endedAt: string }) | null> {
    return this.#held === null ? null : this.#verifications.last(this.#held);
  }

  async repair(options: { readonly tables?: readonly string[] }): Promise<RepairReport> {
    const held = this.#required();
    requirePhase(held.state.phase, ['catching_up', 'replicating'], 'a repair');
    return this.#verifications.repair(held, options.tables, this.#working);
  }

  cutover(options: Parameters<Migration['cutover']>[0]): Promise<CutoverReport> {
    return this.#switch(options);
  }

  schedule({ at, window, waitMs, ...ask }: Parameters<Migration['schedule']>[0]): Promise<CutoverRequest> {
    return this.#desk.schedule({ at, window, waitMs }, ask);
  }

  cancel(options: Parameters<Migration['cancel']>[0]): Promise<CutoverRequest> {
    return this.#desk.cancel(options);
  }

  approve(options: Parameters<Migration['approve']>[0]): Promise<Approval> {
    return this.#control.approve(options);
  }

  revoke(options: Parameters<Migration['revoke']>[0]): Promise<void> {
    return this.#control.revoke(options);
  }

  async rehearse(): Promise<Rehearsal> {
    const held = this.#required();
    requirePhase(held.state.phase, ['replicating'], 'a rehearsal');
    if (this.#switching) throw new VerdigrisError('CUTOVER_PHASE', 'A cutover or a rehearsal is running.');
    this.#switching = true;
    try {
      return await this.#rehearsals.hold(held, this.#working);
    } finally {
      this.#switching = false;
    }
  }

  async report(): Promise<RunReport> {
    const { green, settings } = this.#o;
    const record = this.#held?.state.record ?? this.#last ?? (await this.#stored());
    if (record === null)
      throw new VerdigrisError('CUTOVER_PHASE', `There is no run of ${settings.migration}.`);
    return readReport(record, green);
  }

  /** @param request that waited; absent: it was asked for just now */
  async #switch(options: Parameters<Migration['cutover']>[0], request?: string): Promise<CutoverReport> {
    const held = this.#required();
    const { state, blueFence } = held;
    requirePhase(state.phase, ['replicating'], 'a cutover');
    if (this.#switching) throw new VerdigrisError('CUTOVER_PHASE', 'A cutover is running already.');
    const overrides = options.overrides ?? [];
    const starter = options.by ?? null;
    const gates = await this.#gates(true, starter);
    const context = this.#context(held, {
      epoch: (state.record?.epoch ?? 0) + 1,
      overrides,
      starter,
      maxWritePauseMs: options.maxWritePauseMs ?? this.#o.settings.cutover.maxWritePauseMs,
    });
    if (options.dryRun) {
      const steps = await dryRun(cutoverSteps(context), { clock: this.#o.clock, signal: this.#stop.signal });
      return {
        outcome: 'dry-run',
        writePauseMs: null,
        epoch: context.epoch,
        ...this.#control.rehearsed(steps),
        gates,
        error: null,
      };
    }
    const closed = closedGates(gates, overrides);
    if (closed.length > 0) throw gateError(closed);
    this.#switching = true;
    try {
      await this.#verifications.narrow(held, this.#working);
      await blueFence.prepare();
      const cancelled = await this.#desk.begin(options, request);
      for (const { gate, reason } of overrides) await state.note('gate.override', { gate, reason });
      await state.enter('cutting_over', { epoch: context.epoch });
      await state.note('cutover.begin', {
        epoch: context.epoch,
        maxWritePauseMs: context.settings.maxWritePauseMs,
        request: this.#desk.request?.id ?? null,
        by: starter,
        gates,
      });
      const outcome = await cutover(context, AbortSignal.any([this.#stop.signal, cancelled]));
      await this.#settled(held, outcome);
      return reportOf(outcome, context.epoch, gates);
    } finally {
      await this.#desk.leave();
      this.#switching = false;
    }
  }

  async abort(options: { readonly dropGreenData: boolean }): Promise<void> {
    const held = await this.#takeInHand();
    requirePhase(held.state.phase, ['preparing', 'copying', 'catching_up', 'replicating'], 'abort');
    if (options.dropGreenData) {
      throw new VerdigrisError('USAGE', 'Deleting the data of green is left to the operator.', {
        remedy: 'Abort without --drop-green-data, then drop the tables of green yourself.',
      });
    }
    await this.#end(async () => {
      await held.state.note('abort', {});
      await this.#endPumping();
      await held.source.retire();
      await held.sink.retire();
      await held.blueFence.retire();
      await held.greenFence.retire();
      await held.state.enter('aborted');
      await this.#finishRun(held, false);
    });
  }

  async finish(options: { readonly keepState: boolean }): Promise<void> {
    const held = await this.#takeInHand();
    requirePhase(held.state.phase, ['reversing'], 'finish');
    await this.#end(async () => {
      await held.state.note('finish', { keepState: options.keepState });
      await this.#endPumping();
      await held.source.retire();
      await held.blueFence.retire();
      await held.greenFence.retire();
      if (!options.keepState) await held.sink.retire();
      await held.state.enter('finished');
      await this.#finishRun(held, options.keepState);
    });
  }

  events(after: number, limit: number): Promise<readonly JournalEvent[]> {
    return this.#o.green.state.events(this.#o.settings.migration, after, limit);
  }

  async close(): Promise<void> {
    this.#stop.abort(new VerdigrisError('INTERRUPTED', 'The engine was closed; the state is saved.'));
    this.#retry?.resolve();
    await this.#starting?.catch(() => undefined);
    await this.#desk.settled();
    await this.#verifications.settled();
    await this.#endPumping();
    await this.#held?.sink[Symbol.asyncDispose]();
    await this.#held?.state[Symbol.asyncDispose]();
    this.#held = null;
    this.#ended.resolve();
  }

  // ---- the run

  async #begin(): Promise<void> {
    const { blue, green } = this.#o;
    const compiled = await this.#compile();
    const checks = await preflight({ compiled, blue, green, connections: this.#connections, fresh: false });
    requirePassed(checks.filter((check) => check.side === 'blue'));
    await this.#take(compiled);
    await this.#drive();
  }

  /** The run as it is, also when it cannot be started any more: to end it. */
  async #takeInHand(): Promise<Held> {
    if (this.#held === null) {
      if ((await this.#stored()) === null) {
        throw new VerdigrisError(
          'CUTOVER_PHASE',
          `There is no run of ${this.#o.settings.migration} on green.`,
        );
      }
      const held = await this.#take(await this.#compile());
      await held.sink.prepare(held.compiled.targets);
    }
    return this.#required();
  }

  async #take(compiled: Compiled): Promise<Held> {
    const { settings, green, clock, log } = this.#o;
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
      await this.#hold(state, compiled);
    } catch (error) {
      if (this.#held === null) await state[Symbol.asyncDispose]();
      throw error;
    }
    return this.#required();
  }

  async #hold(state: RunState, before: Compiled): Promise<void> {
    await admit(state, { plan: this.#hash(), mapping: mappingHash(this.#o.mapping) });
    if (before.missingTargets) {
      await applySchema(this.#o, state, before);
      this.#compiled = null;
    }
    const own = {
      holder: this.#holder,
      permit: (signal: AbortSignal) => this.#permit.wait(signal),
      onState: (next: PipelineState) => {
        this.#pipelineState = next;
      },
      pipelineState: () => this.#pipelineState,
    };
    this.#held = await hold(this.#o, state, { compiled: await this.#compile(), own });
    this.#verifications.restore(state.record?.detail['verify']);
    this.#control.take(state);
    this.#desk.take(state);
  }

  #context(
    held: Held,
    options: Pick<CutoverContext, 'epoch' | 'overrides'> & {
      readonly maxWritePauseMs: number;
      readonly starter: string | null;
    },
  ): CutoverContext {
    return switchContext(this.#o, held, {
      ...options,
      gates: () => this.#gates(true, options.starter),
      requireEvidence: () => this.#verifications.requireEvidence(held),
    });
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
    if (state.phase === 'reversing') {
      await this.#desk.resume();
      return;
    }
    this.#pumping = pipeline.run(AbortSignal.any([signal, this.#pumpStop.signal])).catch((error: unknown) => {
      this.#ended.reject(asVerdigrisError(error));
      this.#stop.abort(error);
    });
    if (state.phase === 'cutting_over' || state.phase === 'undetermined') await this.#recover(held);
    // A run that replicated before replicates again only once its place in the log was found to be good.
    if (state.phase === 'replicating') await unlessStopped(pipeline.opened, this.#stop.signal);
    if (state.phase === 'copying') {
      await unlessStopped(pipeline.copied, this.#stop.signal);
      await failpoints.hit('copying.rows-done');
      await this.#retried(() =>
        sink.finishCopy(compiled.targets, (step) => this.#view.finishing(step), signal),
      );
      this.#view.finishing(null);
      await failpoints.hit('copying.indexes-done');
      await state.enter('catching_up');
    }
    if (state.phase === 'catching_up') {
      await pipeline.drain(await this.#retried(() => held.source.head()), signal);
      await failpoints.hit('catching-up.drained');
      await state.enter('replicating');
    }
    // In the background: replication is what start() waits for; the gate waits for the result.
    if (state.phase === 'replicating') this.#verifications.background(held, this.#working);
    await this.#rehearsals.clear(this.#held, this.#working);
    await this.#desk.resume();
  }

  async #recover(held: Held): Promise<void> {
    const { state } = held;
    await held.blueFence.prepare();
    const context = this.#context(held, {
      epoch: state.record?.epoch ?? 0,
      overrides: [],
      starter: null,
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
    await this.#desk.end(outcome);
  }

  async #gates(fresh: boolean, starter: string | null): Promise<readonly GateResult[]> {
    const held = this.#required();
    const { facts, pipeline } = held;
    // What cannot be asked is no evidence; the gates of that side say so themselves.
    await this.#verifications.checkEvidence(held, { fresh }).catch(() => undefined);
    const { gates, cutover: switching } = this.#o.settings;
    const read = await facts.read(pipeline, this.#verifications.now, {
      fresh,
      limitSeconds: gates.maxCommitLagMs / 1000,
    });
    return evaluateGates(
      { ...read, ...this.#control.verdicts(starter) },
      { ...gates, maxWritePauseMs: switching.maxWritePauseMs },
    );
  }

  // ---- small parts

  /** Aborted when replication is stopped, or everything. */
  get #working(): AbortSignal {
    return AbortSignal.any([this.#stop.signal, this.#pumpStop.signal]);
  }

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
    const { blue, green } = planSalt.serverVersions;
    return planHash({ mapping, ...planSalt, serverVersions: [blue, green] });
  }

  #stored() {
    return this.#o.green.state.load(this.#o.settings.migration);
  }

  #required(): Held {
    if (this.#held === null) {
      throw new VerdigrisError('ENGINE_NOT_RUNNING', 'The run is not started.', {
        remedy: 'Start it with `verdigris start`.',
      });
    }
    return this.#held;
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
        await unlessStopped(this.#retry.promise, this.#stop.signal);
        this.#view.blocked = null;
      }
    }
  }

  async #endPumping(): Promise<void> {
    this.#pumpStop.abort(new VerdigrisError('INTERRUPTED', 'Replication was stopped.'));
    await this.#verifications.settled();
    await this.#pumping;
    this.#pumping = null;
  }

  async #end(act: () => Promise<void>): Promise<void> {
    this.#ending = true;
    try {
      await this.#desk.settled();
      await this.#rehearsals.clear(this.#held, this.#working);
      await act();
    } catch (error) {
      this.#ending = false;
      await this.#desk.resume();
      throw error;
    }
  }

  async #finishRun(held: Held, keepState: boolean): Promise<void> {
    this.#last = held.state.record;
    this.#held = null;
    await held.sink[Symbol.asyncDispose]();
    if (keepState) await held.state[Symbol.asyncDispose]();
    else await held.state.retire();
    this.#stop.abort(new VerdigrisError('INTERRUPTED', 'The run has ended.'));
    this.#ended.resolve();
  }
}
