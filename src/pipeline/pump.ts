import type { ChangeBatch, RowRun } from '../core/change.ts';
import type { Clock } from '../core/clock.ts';
import { VerdigrisError, asVerdigrisError } from '../core/errors.ts';
import type { Failpoints } from '../core/failpoint.ts';
import type { Logger } from '../core/log.ts';
import type { PipelineCounters } from '../core/metrics.ts';
import type { Position, Positions } from '../core/position.ts';
import type { ChunkWriter, Sink } from '../core/sink.ts';
import type { SnapshotSource, Visibility } from '../core/snapshot.ts';
import type { ChangeStream } from '../core/source.ts';
import { showTable, rowOf } from '../core/table.ts';
import { Applier } from './applier.ts';
import { Fold } from './fold.ts';
import { Group } from './group.ts';
import type { HoleSet } from './holes.ts';
import type { Lag } from './lag.ts';
import type { Planner } from './planner.ts';
import type { UnitRanges } from './ranges.ts';
import type { Repair } from './repair.ts';
import { Router } from './router.ts';
import { StateFold } from './state-fold.ts';
import { VisibilityGate } from './visibility-gate.ts';
import type { Window } from './window.ts';

export interface PumpSettings {
  readonly groupBytes: number;
  readonly groupRows: number;
  readonly windowBytes: number;
  readonly idleCheckpointMs: number;
  readonly visibilityTimeoutMs: number;
  readonly rejectsStopAfter: number;
}

export interface PumpOptions {
  readonly stream: ChangeStream;
  readonly sink: Sink;
  readonly snapshot: SnapshotSource;
  readonly positions: Positions;
  readonly planner: Planner;
  readonly holes: HoleSet;
  readonly units: readonly UnitRanges[];
  readonly checkpoint: Position;
  readonly settings: PumpSettings;
  readonly lag: Lag;
  readonly counters: PipelineCounters;
  readonly clock: Clock;
  readonly failpoints: Failpoints;
  readonly log: Logger;
  /** A committed transaction stays invisible on the source, or no longer. */
  readonly onWaiting: (reason: string | null) => void;
  /** Changes for green were decided; called before they are committed. */
  readonly onDecided?: (runs: readonly RowRun[]) => void;
}

/** What a finished chunk hands over. */
export interface ChunkEnd {
  readonly writer: ChunkWriter;
  readonly visibility: Visibility;
  /** Records the chunk's own holes, when the pump is between two groups. */
  readonly holes: () => void;
  readonly bytes: number;
  /** Rows of green that the chunk brings, where a re-read may change what stands there. */
  readonly written?: readonly RowRun[];
}

type Request = { readonly resolve: () => void; readonly reject: (error: Error) => void } & (
  | { readonly kind: 'open'; readonly window: Window; readonly ranges: UnitRanges }
  | { readonly kind: 'close'; readonly window: Window; readonly ranges: UnitRanges; readonly end: ChunkEnd }
  | { readonly kind: 'drain'; readonly to: Position }
  | { readonly kind: 'repair'; readonly repair: Repair }
  | { readonly kind: 'idle' }
);

/**
 * The hot loop: batches in, groups out. Everything that must happen between two groups (windows open and close, a drain is
 * answered, an idle position is checkpointed) is a request that the loop serves at its next boundary.
 */
export class Pump {
  readonly #o: PumpOptions;
  readonly #router: Router;
  readonly #applier: Applier;
  readonly #gate: VisibilityGate;
  #group = new Group();
  /** Everything up to here has been decided. */
  #position: Position;
  #insideTransaction = false;
  #requests: Request[] = [];
  #wake = Promise.withResolvers<'wake'>();
  #lastIdleCheckpoint: number;
  #paused: PromiseWithResolvers<undefined> | null = null;
  #ended = false;
  /** The failure that ended it, when that was of the rows of a range and not of the stream. */
  rangeFailure: unknown = null;

  constructor(options: PumpOptions) {
    this.#o = options;
    this.#position = options.checkpoint;
    this.#lastIdleCheckpoint = options.clock.monotonic();
    this.#router = new Router(options.units);
    this.#router.refresh(options.checkpoint);
    this.#gate = new VisibilityGate(options);
    this.#applier = new Applier({ ...options, onIdle: () => this.#signal() });
  }

  /** Everything up to here is committed on the sink. */
  get applied(): Position {
    return this.#applier.committed;
  }

  get queuedBytes(): number {
    return this.#group.bytes + this.#o.stream.queued;
  }

  /** Runs until the stream ends (SOURCE_LOST), something fails, or the signal fires. Always rejects. */
  async run(signal: AbortSignal): Promise<never> {
    const abort = (): void => this.#signal();
    signal.addEventListener('abort', abort, { once: true });
    const iterator = this.#o.stream[Symbol.asyncIterator]();
    try {
      const ask = (): Promise<IteratorResult<ChangeBatch>> => {
        const asked = iterator.next();
        // When we leave for another reason nobody waits for this one any more.
        asked.catch(() => undefined);
        return asked;
      };
      let next = ask();
      for (;;) {
        signal.throwIfAborted();
        this.#applier.throwIfFailed();
        await this.#boundary(signal);
        if (this.#paused !== null) {
          await Promise.race([this.#paused.promise, this.#wake.promise]);
          this.#rearm();
          continue;
        }
        const event = await Promise.race([next, this.#wake.promise]);
        if (event === 'wake') {
          this.#rearm();
          await this.#flushIfDue(signal);
          continue;
        }
        if (event.done === true) throw new VerdigrisError('SOURCE_LOST', 'The stream of changes ended.');
        await this.#take(event.value, signal);
        next = ask();
      }
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      signal.removeEventListener('abort', abort);
      await this.#end();
      // Not awaited: the generator may be waiting for bytes that never come; disposing the stream ends it.
      void iterator.return?.().catch(() => undefined);
    }
  }

  /** Opens a window between two groups; the snapshot must be taken after this resolves. */
  openWindow(window: Window, ranges: UnitRanges): Promise<void> {
    return this.#request({ kind: 'open', window, ranges });
  }

  /** Applies what the window held and commits the chunk, between two groups after its mark. */
  closeWindow(window: Window, ranges: UnitRanges, end: ChunkEnd): Promise<void> {
    return this.#request({ kind: 'close', window, ranges, end });
  }

  /** Gives up a window: its range is todo again. */
  cancelWindow(window: Window, ranges: UnitRanges, reason: Error): void {
    if (!window.cancelled && ranges.windows().includes(window)) {
      ranges.close(window, null);
      window.cancel(reason);
      this.#router.refresh(this.#o.checkpoint);
    }
    const mine = this.#requests.filter((request) => 'window' in request && request.window === window);
    this.#requests = this.#requests.filter((request) => !mine.includes(request));
    for (const request of mine) request.reject(reason);
  }

  /** Resolves when the sink's durable checkpoint covers `to`. */
  drain(to: Position): Promise<void> {
    return this.#request({ kind: 'drain', to });
  }

  /** Takes rows off green between two groups and makes holes of their keys, which are then read again. */
  repair(repair: Repair): Promise<void> {
    return this.#request({ kind: 'repair', repair });
  }

  /** Writes the position of an idle source to the checkpoint, when it is time. */
  tick(): void {
    const due = this.#o.clock.monotonic() - this.#lastIdleCheckpoint >= this.#o.settings.idleCheckpointMs;
    if (!this.#ended && (due || this.#applier.undurable))
      void this.#request({ kind: 'idle' }).catch(() => undefined);
  }

  pause(): void {
    this.#paused ??= Promise.withResolvers<undefined>();
    this.#signal();
  }

  resume(): void {
    this.#paused?.resolve(undefined);
    this.#paused = null;
    this.#signal();
  }

  async #take(batch: ChangeBatch, signal: AbortSignal): Promise<void> {
    const { counters, lag, stream } = this.#o;
    counters.readBytes += batch.bytes;
    counters.transactions += batch.transactions.length;
    if (batch.schemaChanges.length > 0) await this.#schemaChanged(batch, signal);

    const startsLarge = batch.end === null && !this.#insideTransaction;
    const truncated = batch.runs.filter((run) => run.op === 'truncate');
    if (startsLarge) {
      await this.#commit(signal);
      await this.#cancelWindows(
        this.#o.units,
        new VerdigrisError(
          'SOURCE_BUSY',
          'A transaction larger than the batch limit arrived while a range was being copied.',
        ),
      );
    } else if (truncated.length > 0) {
      const units = this.#o.units.filter((unit) =>
        truncated.some((run) => this.#router.unitOf(run.relation) === unit),
      );
      await this.#cancelWindows(
        units,
        new VerdigrisError('SOURCE_BUSY', 'A table was truncated while it was being copied.'),
      );
    }

    lag.received(batch.oldestCommitMs);
    await this.#router.prepare(batch);
    const runs = this.#router.route(batch);
    const group = this.#group;
    group.batches += 1;
    group.bytes += batch.bytes;
    group.transactions += batch.transactions.length;
    for (const run of runs) {
      counters.changes += Math.max(run.after.length, run.before.length, 1);
      const planned = this.#o.planner.plan(run);
      this.#o.onDecided?.(planned);
      group.add(planned);
    }
    counters.rejectedRows = this.#o.planner.rejects;
    this.#stopOnRejects();
    for (const transaction of batch.transactions) {
      this.#gate.note(transaction.id);
      group.newestCommitMs = transaction.commitMs;
    }
    for (const mark of batch.marks) {
      group.marks.push(mark.label);
      for (const unit of this.#o.units)
        for (const window of unit.windows()) window.marked ||= window.label === mark.label;
    }
    this.#keepWindowBudget();

    if (batch.end === null || this.#insideTransaction) {
      await this.#applyPart(batch.end, signal);
      return;
    }
    this.#position = batch.end;
    group.end = batch.end;
    if (group.empty && this.#applier.idle) {
      // Nothing for green: it counts as applied; the checkpoint follows at the next boundary that needs it.
      lag.applied(group.batches, group.marks);
      group.batches = 0;
      group.marks.length = 0;
    }
    if (stream.queued === 0 || this.#full) await this.#flushIfDue(signal);
  }

  get #full(): boolean {
    return this.#group.full(this.#o.settings);
  }

  /** Starts the group when the one before it is done; waits for that one when the group is full. */
  async #flushIfDue(signal: AbortSignal): Promise<void> {
    if (this.#insideTransaction) return;
    if (!this.#applier.idle) {
      if (!this.#full) return;
      await this.#applier.settle();
    }
    if (this.#group.empty) {
      if (this.#group.batches > 0) {
        this.#o.lag.applied(this.#group.batches, this.#group.marks);
        this.#group.batches = 0;
        this.#group.marks.length = 0;
      }
      return;
    }
    await this.#gate.pass(this.#copying, signal);
    this.#applier.start(this.#newGroup(), this.#o.holes.take());
  }

  /** Commits everything decided so far; afterwards we are between two groups. */
  async #commit(
    signal: AbortSignal,
    options: { readonly even: 'empty' | 'full' } = { even: 'full' },
  ): Promise<void> {
    await this.#applier.settle();
    await this.#gate.pass(this.#copying, signal);
    const behind = this.#applier.committed !== this.#position;
    const holes = this.#o.holes.take();
    const holesChanged = holes.opened.length > 0 || holes.closed.length > 0;
    if (this.#group.empty && !holesChanged && !(options.even === 'empty' && behind)) return;
    this.#group.end = this.#position;
    this.#applier.start(this.#newGroup(), holes);
    await this.#applier.settle();
    this.#lastIdleCheckpoint = this.#o.clock.monotonic();
  }

  /** A part of a transaction that does not fit into memory: the sink transaction stays open until the part that ends it. */
  async #applyPart(end: Position | null, signal: AbortSignal): Promise<void> {
    this.#insideTransaction = end === null;
    if (end !== null) {
      this.#position = end;
      await this.#gate.pass(this.#copying, signal);
    }
    this.#group.end = end;
    this.#applier.start(this.#newGroup(), this.#o.holes.take());
    await this.#applier.settle();
  }

  #newGroup(): Group {
    const group = this.#group;
    this.#group = new Group();
    return group;
  }

  /** A snapshot may still be taken whose rows reach green: of a range, or of the key of a hole. */
  get #copying(): boolean {
    return (
      this.#o.holes.size > 0 || this.#o.units.some((unit) => !unit.complete || unit.windows().length > 0)
    );
  }

  /** Serves the requests that can be served now. */
  async #boundary(signal: AbortSignal): Promise<void> {
    if (this.#insideTransaction || this.#requests.length === 0) return;
    const ready = this.#requests.filter(
      (request) =>
        request.kind === 'open' ||
        request.kind === 'idle' ||
        request.kind === 'repair' ||
        (request.kind === 'close' && request.window.marked) ||
        (request.kind === 'drain' && this.#o.positions.covers(this.#position, request.to)),
    );
    if (ready.length === 0) return;
    this.#requests = this.#requests.filter((request) => !ready.includes(request));
    const advance = ready.some((request) => request.kind !== 'open');
    try {
      await this.#commit(signal, { even: advance ? 'empty' : 'full' });
      for (const request of ready) if (request.kind === 'close') await this.#close(request);
      for (const request of ready) if (request.kind === 'repair') await this.#repair(request.repair, signal);
      if (ready.some((request) => request.kind === 'drain' || request.kind === 'idle'))
        await this.#applier.harden();
      for (const request of ready) {
        if (request.kind === 'open') request.ranges.open(request.window);
        if (request.kind !== 'close') request.resolve();
      }
      this.#router.refresh(this.#o.checkpoint);
    } catch (error) {
      for (const request of ready) request.reject(error as Error);
      throw error;
    }
  }

  async #close(request: Extract<Request, { kind: 'close' }>): Promise<void> {
    const { window, ranges, end, resolve, reject } = request;
    if (window.cancelled) {
      reject(window.signal.reason as Error);
      return;
    }
    end.holes();
    this.#o.onDecided?.(end.written ?? []);
    const fold = end.visibility.lowerBound === true ? new StateFold() : new Fold();
    for (const run of window.missing(end.visibility)) {
      const planned = this.#o.planner.plan(run);
      this.#o.onDecided?.(planned);
      for (const one of planned) fold.add(one);
    }
    await this.#o.failpoints.hit('copy.before-close');
    try {
      await end.writer.close(fold.take(), this.#o.holes.take(), this.#position, end.bytes);
    } catch (error) {
      // The outcome may be unknown: the ranges are read again from the sink when the stream is opened again.
      this.rangeFailure = error;
      reject(error as Error);
      throw error;
    }
    await this.#o.failpoints.hit('copy.after-close');
    ranges.close(window, this.#position);
    resolve();
  }

  async #repair({ removals, missing }: Repair, signal: AbortSignal): Promise<void> {
    // What was decided without a look at visibility must be in every snapshot that a hole is read in.
    await this.#gate.pass(true, signal);
    this.#o.onDecided?.(removals);
    for (const { relation, keys } of missing) {
      for (const key of keys) {
        this.#o.holes.open(relation, rowOf(relation, key), {
          kind: 'incomplete',
          column: '',
          reason: 'read again by a repair',
        });
      }
    }
    const group = this.#newGroup();
    group.add(removals);
    group.end = this.#position;
    this.#applier.start(group, this.#o.holes.take());
    await this.#applier.settle();
  }

  async #schemaChanged(batch: ChangeBatch, signal: AbortSignal): Promise<void> {
    const change = batch.schemaChanges[0];
    if (change === undefined) return;
    // The parts of an open transaction may not be committed without its end: it is given up, and comes again as a whole.
    if (!this.#insideTransaction) await this.#commit(signal, { even: 'empty' });
    const error = new VerdigrisError('SCHEMA_CHANGED', `${showTable(change.table)}: ${change.detail}`, {
      context: { table: showTable(change.table), position: this.#o.positions.describe(this.#position) },
    });
    await this.#cancelWindows(this.#o.units, error);
    throw error;
  }

  /** Waits until the sink transactions of the windows are really gone: a truncate needs the table for itself. */
  async #cancelWindows(units: readonly UnitRanges[], reason: Error): Promise<void> {
    const windows = units.flatMap((ranges) => ranges.windows().map((window) => ({ ranges, window })));
    for (const { ranges, window } of windows) this.cancelWindow(window, ranges, reason);
    await Promise.all(windows.map(({ window }) => window.gone));
  }

  #keepWindowBudget(): void {
    const windows = this.#o.units.flatMap((ranges) => ranges.windows().map((window) => ({ ranges, window })));
    let held = windows.reduce((sum, { window }) => sum + window.bytes, 0);
    for (const { ranges, window } of windows.sort((a, b) => b.window.bytes - a.window.bytes)) {
      if (held <= this.#o.settings.windowBytes) return;
      held -= window.bytes;
      this.cancelWindow(
        window,
        ranges,
        new VerdigrisError(
          'SOURCE_BUSY',
          'Changes to a range being copied filled the memory set aside for them.',
        ),
      );
    }
  }

  #stopOnRejects(): void {
    const { rejectsStopAfter } = this.#o.settings;
    if (this.#o.holes.rejected <= rejectsStopAfter) return;
    throw new VerdigrisError(
      'MAPPING_VALUE',
      `More than ${rejectsStopAfter} rows were rejected by the mapping.`,
      {
        remedy: 'Look at the rejects, correct rows or mapping, or raise apply.rejects.stop_after.',
        context: { position: this.#o.positions.describe(this.#position) },
      },
    );
  }

  #request(request: { kind: Request['kind'] } & Record<string, unknown>): Promise<void> {
    if (this.#ended) return Promise.reject(new VerdigrisError('SOURCE_LOST', 'The stream is not open.'));
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    this.#requests.push({ ...request, resolve: () => resolve(undefined), reject } as unknown as Request);
    this.#signal();
    return promise;
  }

  #signal(): void {
    this.#wake.resolve('wake');
  }

  #rearm(): void {
    this.#wake = Promise.withResolvers<'wake'>();
  }

  async #end(): Promise<void> {
    this.#ended = true;
    const lost = new VerdigrisError('SOURCE_LOST', 'The stream was closed.');
    for (const unit of this.#o.units)
      for (const window of unit.windows()) this.cancelWindow(window, unit, lost);
    for (const request of this.#requests.splice(0)) request.reject(lost);
    await this.#applier.stop().catch((error: unknown) => {
      this.#o.log.debug({ code: asVerdigrisError(error).code }, 'the last group was given up');
    });
  }
}
