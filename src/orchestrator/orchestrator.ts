import { randomUUID } from 'node:crypto';
import type { Side } from '../core/engine.ts';
import { VerdigrisError, asVerdigrisError } from '../core/errors.ts';
import type { GateResult } from '../core/gate.ts';
import type { JournalEvent, RunRecord } from '../core/state.ts';
import { evaluateGates } from '../cutover/gates.ts';
import type { Approval } from './approvals.ts';
import type {
  CutoverReport,
  Migration,
  PlanReport,
  RepairReport,
  TurnRequest,
  VerifyReport,
  VerifyRequest,
} from './api.ts';
import { compile, type Compiled } from './compiled.ts';
import { CopyPermit } from './copy-permit.ts';
import { admit, applySchema, hold, type Held } from './hold.ts';
import type { MigrationOptions } from './migration-options.ts';
import { Patience } from './patience.ts';
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
import { unlessStopped } from './unless-stopped.ts';
import { Turns } from './turns.ts';
import { Verifications } from './verifications.ts';
import type { Way } from './way.ts';

/** Does no I/O; the first call that needs a server asks it. */
export const createMigration = (options: MigrationOptions): Promise<Migration> =>
  Promise.resolve(new Run(options));

/** Nobody waits for people or the clock to go back. */
const NOT_ASKED = { rehearsed: null, approvals: null, window: null } as const;
const IDLE = { condition: 'running', reason: '', error: null } as const;

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
  /** The way that carries. */
  #carries: Way | null = null;
  /** Of the time in which green follows blue. */
  #following = new AbortController();
  readonly #verifications: Verifications;
  readonly #control: SwitchControl;
  readonly #desk: RequestDesk;
  readonly #rehearsals: Rehearsals;
  readonly #turns: Turns;
  /** Makes what the run needs on both servers. */
  #preparing: Promise<void> | null = null;
  /** It is being aborted or finished: what stops because of that is no failure. */
  #ending = false;
  /** How the run ended, when its state is gone. */
  #last: RunRecord | null = null;
  readonly #patience: Patience;

  constructor(options: MigrationOptions) {
    this.#o = options;
    this.#permit = new CopyPermit({
      sessions: { blue: options.blue, green: options.green },
      rules: options.settings.throttle,
      clock: options.clock,
    });
    this.#view = new StatusView(options.clock, options.settings);
    this.#patience = new Patience({
      signal: this.#stop.signal,
      clock: options.clock,
      log: options.log,
      onBlocked: (error) => {
        this.#view.blocked = error;
      },
    });
    const { clock, log, settings } = options;
    this.#verifications = new Verifications({ clock, log, settings: settings.verify });
    this.#control = new SwitchControl({ settings, clock, log });
    this.#rehearsals = new Rehearsals(options, this.#holder, this.#control);
    this.#desk = new RequestDesk({
      windows: settings.cutover.windows,
      clock,
      log,
      gates: (starter) => this.#gates(this.#required(), false, starter),
      attempt: (request) => this.#turn('blue', { ...given(request), dryRun: false }, request.id),
    });
    this.#turns = new Turns({
      run: options,
      holder: `${settings.migration}:${this.#holder}`,
      verifications: this.#verifications,
      control: this.#control,
      desk: this.#desk,
      gates: (held, starter) => this.#gates(held, true, starter),
      life: this.#stop.signal,
      started: () => this.#starting !== null,
      working: () => this.#working,
      carry: (_held, way) => this.#carry(way),
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
      pipeline: this.#carries?.pipeline ?? held?.forward.pipeline ?? null,
      copied: held?.forward.pipeline ?? null,
      compiled: held?.compiled ?? null,
      pipelineState: this.#carries?.state() ?? IDLE,
      back: held === null ? null : await this.#back(held),
      copyPaused: this.#permit.paused,
      throttled: this.#permit.throttled,
      verification: this.#verifications.now,
      gates: held === null ? [] : await this.#gates(held, false, null),
      switching: this.#control.status(record),
      describe: (position) => this.#o.engine.positions.describe(position),
    });
  }

  async pause(scope: 'copy' | 'apply' | 'all', reason: string): Promise<void> {
    const { state, forward } = this.#required();
    if (scope !== 'apply') this.#permit.pause();
    if (scope !== 'copy') (this.#carries ?? forward).pipeline.pause();
    this.#view.pauseReason = reason;
    await state.note('pause', { scope, reason });
  }

  async resume(scope: 'copy' | 'apply' | 'all'): Promise<void> {
    const { state, forward } = this.#required();
    if (scope !== 'apply') this.#permit.resume();
    if (scope !== 'copy') (this.#carries ?? forward).pipeline.resume();
    this.#patience.retry();
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

  cutover(request: TurnRequest): Promise<CutoverReport> {
    return this.#turn('blue', request);
  }

  rollback(request: TurnRequest): Promise<CutoverReport> {
    return this.#turn('green', request);
  }

  async recover(): Promise<CutoverReport | null> {
    const held = await this.#takeInHand({ sink: false });
    if (held.state.phase !== 'cutting_over' && held.state.phase !== 'undetermined') return null;
    return this.#turns.recover(held);
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
    return this.#turns.exclusively(() => this.#rehearsals.hold(held, this.#working));
  }

  async report(): Promise<RunReport> {
    const { green, settings } = this.#o;
    const record = this.#held?.state.record ?? this.#last ?? (await this.#stored());
    if (record === null)
      throw new VerdigrisError('CUTOVER_PHASE', `There is no run of ${settings.migration}.`);
    return readReport(record, green);
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
      await this.#halt();
      await held.foreign?.retire();
      await held.forward.source.retire();
      await held.forward.sink.retire();
      await held.fences.blue.retire();
      await held.fences.green.retire();
      await held.reverse.retire();
      await held.foreign?.restore();
      await held.state.enter('aborted');
      await this.#finishRun(held, false);
    });
  }

  async finish(options: { readonly keepState: boolean }): Promise<RunReport> {
    const held = await this.#takeInHand();
    requirePhase(held.state.phase, ['reversing'], 'finish');
    return this.#end(async () => {
      await held.state.note('finish', { keepState: options.keepState });
      await this.#halt();
      await held.foreign?.retire();
      await held.forward.source.retire();
      await held.fences.blue.retire();
      await held.fences.green.retire();
      await held.reverse.retire();
      await held.foreign?.restore();
      if (!options.keepState) await held.forward.sink.retire();
      await held.state.enter('finished');
      const report = await this.report();
      await this.#finishRun(held, options.keepState);
      return report;
    });
  }

  events(after: number, limit: number): Promise<readonly JournalEvent[]> {
    return this.#o.green.state.events(this.#o.settings.migration, after, limit);
  }

  async close(): Promise<void> {
    this.#stop.abort(new VerdigrisError('INTERRUPTED', 'The engine was closed; the state is saved.'));
    this.#patience.retry();
    await this.#starting?.catch(() => undefined);
    await this.#desk.settled();
    await this.#turns.settled();
    await this.#halt();
    await this.#held?.forward.sink[Symbol.asyncDispose]();
    await this.#held?.reverse[Symbol.asyncDispose]();
    await this.#held?.state[Symbol.asyncDispose]();
    this.#held = null;
    this.#ended.resolve();
  }

  // ---- the run

  async #begin(): Promise<void> {
    const { blue, green } = this.#o;
    const compiled = await this.#compile();
    const { phase } = (await this.#stored()) ?? { phase: 'preparing' };
    // Clients of an interrupted switch may be waiting: what is wrong otherwise has time.
    if (phase !== 'cutting_over' && phase !== 'undetermined') {
      const checks = await preflight({ compiled, blue, green, connections: this.#connections, fresh: false });
      requirePassed(checks.filter((check) => check.side === 'blue'));
    }
    await this.#take(compiled);
    await this.#drive();
  }

  /** The run as it is, also when it cannot be started any more: to end it. */
  async #takeInHand({ sink } = { sink: true }): Promise<Held> {
    if (this.#held === null) {
      if ((await this.#stored()) === null) {
        throw new VerdigrisError(
          'CUTOVER_PHASE',
          `There is no run of ${this.#o.settings.migration} on green.`,
        );
      }
      const held = await this.#take(await this.#compile());
      if (sink) await held.forward.sink.prepare(held.compiled.targets);
    }
    return this.#required();
  }

  async #take(compiled: Compiled): Promise<Held> {
    const { settings, green, clock, log, onPhase } = this.#o;
    const state = await RunState.acquire({
      store: green.state,
      id: settings.migration,
      holder: this.#o.holder,
      ttlMs: settings.lease.ttlMs,
      takeover: this.#o.takeover ?? false,
      clock,
      log,
      onLost: (error) => this.#stop.abort(error),
      onPhase,
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
      onLost: (error: VerdigrisError) => this.#stop.abort(error),
    };
    this.#held = await hold(this.#o, state, { compiled: await this.#compile(), own });
    this.#verifications.restore(state.record?.detail['verify']);
    this.#control.take(state);
    this.#desk.take(state);
  }

  /** From whatever phase is stored to one in which a side serves and the other follows. */
  async #drive(): Promise<void> {
    const held = this.#required();
    const { state, compiled, forward } = held;
    const { pipeline, source, sink } = forward;
    const signal = this.#stop.signal;
    const { failpoints } = this.#o;
    if (state.phase === 'cutting_over' || state.phase === 'undetermined') {
      // Before anything else is asked of the servers: clients may be waiting.
      await this.#turns.recover(held);
      await this.#rehearsals.clear(this.#held, this.#working);
      await this.#desk.resume();
      return;
    }
    if (state.phase === 'preparing') {
      this.#preparing = prepare({
        compiled,
        source,
        sink,
        pipeline,
        greenFence: held.fences.green,
        blue: this.#o.blue,
        green: this.#o.green,
        connections: this.#connections,
        failpoints,
        log: this.#o.log,
        note: (event, detail) => state.note(event, detail),
      });
      await this.#preparing;
      await state.enter('copying');
      await failpoints.hit('copying.entered');
    } else {
      await sink.prepare(compiled.targets);
    }
    if (state.phase === 'reversing') {
      await this.#turns.resume(held);
      await this.#desk.resume();
      return;
    }
    await this.#carry(forward);
    // A run that replicated before replicates again only once its place in the log was found to be good.
    if (state.phase === 'replicating') await unlessStopped(pipeline.opened, this.#stop.signal);
    if (state.phase === 'copying') {
      await unlessStopped(pipeline.copied, this.#stop.signal);
      await failpoints.hit('copying.rows-done');
      await this.#patience.retried(() =>
        sink.finishCopy(compiled.targets, (step) => this.#view.finishing(step), signal),
      );
      this.#view.finishing(null);
      await failpoints.hit('copying.indexes-done');
      await state.enter('catching_up');
    }
    // Rows are copied: from here on whatever green's log holds beside our changes is somebody else's.
    held.foreign?.start(this.#working);
    if (state.phase === 'catching_up') {
      await pipeline.drain(await this.#patience.retried(() => source.head()), signal);
      await failpoints.hit('catching-up.drained');
      await state.enter('replicating');
    }
    // In the background: replication is what start() waits for; the gate waits for the result.
    if (state.phase === 'replicating') await this.#turns.resume(held);
    await this.#rehearsals.clear(this.#held, this.#working);
    await this.#desk.resume();
  }

  /** @param request that waited; absent: it was asked for just now */
  async #turn(from: Side, options: TurnRequest, request?: string): Promise<CutoverReport> {
    return this.#turns.turn(this.#required(), from, options, request);
  }

  /** Starts it, unless it runs, and stops the other. */
  async #carry(way: Way | null): Promise<void> {
    const held = this.#required();
    const { forward, reverse } = held;
    this.#carries = way;
    if (way === forward) {
      if (this.#following.signal.aborted) this.#following = new AbortController();
    } else {
      this.#following.abort(new VerdigrisError('INTERRUPTED', 'Green does not follow blue any more.'));
      await this.#verifications.settled();
    }
    for (const one of [forward, reverse.way]) if (one !== null && one !== way) await one.stop();
    // What was on its way here when the run was ended finds nothing to read any more.
    if (way !== null && this.#ending) throw new VerdigrisError('INTERRUPTED', 'The run is being ended.');
    way?.start(this.#stop.signal).catch((error: unknown) => {
      this.#ended.reject(asVerdigrisError(error));
      this.#stop.abort(error);
    });
  }

  /** Would a rollback fit now, and is there one? */
  async #back({ state, reverse }: Held): Promise<Status['rollback']> {
    const { way } = reverse;
    const carries = state.phase === 'reversing' && way !== null;
    const fit = carries ? way.pipeline.fit : null;
    return {
      wanted: reverse.wanted,
      problems: reverse.impossible,
      fits: fit?.fits ?? null,
      misfits: fit?.misfits ?? null,
      first: fit?.first ?? null,
    };
  }

  async #gates(held: Held, fresh: boolean, starter: string | null): Promise<readonly GateResult[]> {
    const side = held.state.record?.activeSide ?? 'blue';
    const facts = held.facts[side];
    const pipeline = side === 'blue' ? held.forward.pipeline : (held.reverse.way?.pipeline ?? null);
    // What cannot be asked is no evidence; the gates of that side say so themselves.
    await this.#verifications.checkEvidence(held, { fresh }).catch(() => undefined);
    const { gates, cutover: switching } = this.#o.settings;
    const read = await facts.read(pipeline, this.#verifications.now, {
      fresh,
      limitSeconds: gates.maxCommitLagMs / 1000,
    });
    return evaluateGates(
      { ...read, ...(side === 'blue' ? this.#control.verdicts(starter) : NOT_ASKED) },
      { ...gates, maxWritePauseMs: switching.maxWritePauseMs },
    );
  }

  // ---- small parts

  /** Aborted when replication to green is stopped, or everything. */
  get #working(): AbortSignal {
    return AbortSignal.any([this.#stop.signal, this.#following.signal]);
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
      schemaSql: this.#o.settings.schemaSql,
      back: this.#o.settings.cutover.reverse ? this.#o.engine.capabilities : null,
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

  /** Stops everything that replicates or compares. */
  async #halt(): Promise<void> {
    this.#following.abort(new VerdigrisError('INTERRUPTED', 'Replication was stopped.'));
    await this.#verifications.settled();
    await this.#held?.foreign?.stop();
    await this.#held?.forward.stop();
    await this.#held?.reverse.watch?.stop();
    await this.#held?.reverse.way?.stop();
    this.#carries = null;
  }

  async #end<T>(act: () => Promise<T>): Promise<T> {
    this.#ending = true;
    try {
      // What it is making now would be made behind what is taken away.
      await this.#preparing?.catch(() => undefined);
      await this.#desk.settled();
      await this.#rehearsals.clear(this.#held, this.#working);
      return await act();
    } catch (error) {
      this.#ending = false;
      await this.#desk.resume();
      throw error;
    }
  }

  async #finishRun(held: Held, keepState: boolean): Promise<void> {
    this.#last = held.state.record;
    this.#held = null;
    await held.forward.sink[Symbol.asyncDispose]();
    await held.reverse[Symbol.asyncDispose]();
    if (keepState) await held.state[Symbol.asyncDispose]();
    else await held.state.retire();
    this.#stop.abort(new VerdigrisError('INTERRUPTED', 'The run has ended.'));
    this.#ended.resolve();
  }
}
