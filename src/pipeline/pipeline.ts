import type { Clock } from '../core/clock.ts';
import { VerdigrisError, asVerdigrisError } from '../core/errors.ts';
import type { Failpoints } from '../core/failpoint.ts';
import type { Logger } from '../core/log.ts';
import { newCounters, type PipelineCounters } from '../core/metrics.ts';
import type { TablePlan } from '../core/plan.ts';
import type { Position, Positions } from '../core/position.ts';
import type { Sink } from '../core/sink.ts';
import type { SnapshotSource, Visibility } from '../core/snapshot.ts';
import type { ChangeSource, ChangeStream, SourceHealth } from '../core/source.ts';
import { keyText, type Column, type Relation, rowOf } from '../core/table.ts';
import { Copier } from './copier.ts';
import type { CopyUnit } from './copy-unit.ts';
import { ChangedKeys, type Identify } from './changed-keys.ts';
import { fitOf, type Fit } from './fit.ts';
import { HoleSet } from './holes.ts';
import { Lag } from './lag.ts';
import { OneByOne } from './one-by-one.ts';
import { Planner } from './planner.ts';
import { Pump, type PumpSettings } from './pump.ts';
import { UnitRanges } from './ranges.ts';
import type { Repair } from './repair.ts';

const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 15_000;
/** A session that lived this long starts the back-off anew. */
const HEALTHY_AFTER_MS = 30_000;
const HEALTH_EVERY_MS = 5_000;

/** A change did not fit. The group that holds it is not on the sink, and neither are the transactions before it in that group. */
const DID_NOT_FIT: ReadonlySet<string> = new Set(['MAPPING_VALUE', 'SINK_CONFLICT', 'SINK_FAILED']);

export interface PipelineSettings extends PumpSettings {
  readonly workers: number;
  readonly chunkRows: number;
  readonly maxRowsPerSecond: number | null;
  readonly heartbeatMs: number;
}

export interface PipelineOptions {
  readonly source: ChangeSource;
  readonly snapshot: SnapshotSource;
  readonly sink: Sink;
  readonly positions: Positions;
  readonly rawCopy: boolean;
  /** Default: whatever the mapping copies as it is. */
  readonly rawFits?: ((from: Column, to: Column) => boolean) | undefined;
  readonly plans: readonly TablePlan[];
  readonly units: readonly CopyUnit[];
  readonly settings: PipelineSettings;
  readonly clock: Clock;
  readonly failpoints: Failpoints;
  readonly log: Logger;
  /** Unique name of this process, part of its marks. */
  readonly holder: string;
  readonly copyPermit: (signal: AbortSignal) => Promise<void>;
  readonly onState: (state: PipelineState) => void;
  /**
   * What the source held at the first checkpoint is on the sink already (the way back after a switch): nothing is copied, every
   * change from there on is applied. Default: false.
   */
  readonly copied?: boolean;
  /** Tables of green whose changes are noted for verification; absent: none. */
  readonly tracked?: readonly { readonly relation: Relation; readonly identify: Identify }[];
}

/** What the pipeline is doing, for `condition` and `reason`. */
export interface PipelineState {
  readonly condition: 'running' | 'paused' | 'blocked' | 'error';
  readonly reason: string;
  readonly error: VerdigrisError | null;
}

export interface UnitProgress {
  readonly unit: string;
  readonly ranges: number;
  readonly done: number;
  rows: number;
  bytes: number;
}

/** How long a repair waits for transactions that were open before the stream was. */
const EARLIER_MS = 10_000;

/** One direction of replication: opens the stream at the checkpoint, pumps, copies what is to be copied, and opens it again when it breaks. */
export class Pipeline {
  readonly #o: PipelineOptions;
  readonly #units: UnitRanges[];
  readonly #holes = new HoleSet();
  readonly #planner: Planner;
  readonly lag: Lag;
  /** What the stream has changed on green, once {@link ChangedKeys.start} was called. */
  readonly changed: ChangedKeys;
  readonly counters: PipelineCounters = newCounters();
  #pump: Pump | null = null;
  #stream: ChangeStream | null = null;
  #progress = new Map<string, { rows: number; bytes: number }>();
  #head: Position | null = null;
  #health: SourceHealth | null = null;
  #applied: Position | null = null;
  /** How far the log had been received when the last stream ended. */
  #received: Position | null = null;
  readonly #oneByOne: OneByOne;
  readonly #opened = Promise.withResolvers<undefined>();
  #copied = Promise.withResolvers<undefined>();
  #paused = false;
  #unblock: PromiseWithResolvers<undefined> | null = null;
  #waiting: string | null = null;
  /** Of the last stream: rows that are copied were refused. No cutting of the stream finds those. */
  #rangeFailure: unknown = null;
  /** What the operator has to see to before it goes on. */
  #blockedBy: VerdigrisError | null = null;
  #session = 0;
  /** As of the opening of the stream: what was applied before it may belong to transactions that this does not see. */
  #before: Visibility | null = null;

  constructor(options: PipelineOptions) {
    this.#o = options;
    this.#units = options.units.map((unit) => new UnitRanges(unit, options.snapshot, options.positions));
    this.#planner = new Planner(options.plans, this.#holes);
    this.changed = new ChangedKeys(options.tracked ?? []);
    this.lag = new Lag(options.clock, options.settings.heartbeatMs);
    this.#copied.promise.catch(() => undefined);
    this.#opened.promise.catch(() => undefined);
    this.#oneByOne = new OneByOne(options.positions);
  }

  /** Cuts the units into ranges where the sink has none stored yet. Call once the sink is prepared and has its first checkpoint. */
  async defineRanges(): Promise<void> {
    const known = new Set((await this.#o.sink.ranges()).map((range) => range.unit));
    const start = this.#o.copied === true ? await this.#o.sink.checkpoint() : null;
    for (const { unit } of this.#units) {
      if (known.has(unit.id)) continue;
      if (start !== null) {
        await this.#o.sink.defineRanges(unit.id, [], start);
        continue;
      }
      const owner = unit.relations[0];
      if (owner === undefined) continue;
      await this.#o.sink.defineRanges(
        unit.id,
        await this.#o.snapshot.split(owner, this.#o.settings.chunkRows),
      );
    }
  }

  /** Runs until the signal fires or a fatal error. An error that needs the operator blocks until {@link retry}. */
  async run(signal: AbortSignal): Promise<void> {
    let wait = FIRST_WAIT_MS;
    for (;;) {
      const started = this.#o.clock.monotonic();
      try {
        await this.#open(signal);
      } catch (raw) {
        if (signal.aborted) return;
        const error = asVerdigrisError(raw);
        this.#o.log.warn({ code: error.code, directive: error.directive, ...error.context }, error.message);
        if (error.directive === 'fatal') {
          this.#o.onState({ condition: 'error', reason: error.message, error });
          this.#copied.reject(error);
          this.#opened.reject(error);
          throw error;
        }
        if (this.#o.clock.monotonic() - started > HEALTHY_AFTER_MS) wait = FIRST_WAIT_MS;
        this.counters.retries += 1;
        if (
          DID_NOT_FIT.has(error.code) &&
          raw !== this.#rangeFailure &&
          !this.#oneByOne.pending(this.#applied) &&
          this.#received !== null
        ) {
          // Once more, transaction by transaction, so that it stops exactly before the one in question.
          this.#oneByOne.begin(this.#received);
        } else if (error.directive === 'operator') {
          this.#oneByOne.end();
          this.#blockedBy = error;
          this.#o.onState({ condition: 'blocked', reason: error.message, error });
          await this.#untilRetry(signal);
          this.#blockedBy = null;
        } else {
          this.#o.onState({ condition: 'error', reason: `${error.message} (reconnecting)`, error });
          await this.#o.clock.sleep(wait * (0.5 + Math.random()), signal).catch(() => undefined);
          wait = Math.min(wait * 2, LONGEST_WAIT_MS);
        }
        if (signal.aborted) return;
      }
    }
  }

  /** Resolves when every range is copied and no incomplete hole is left; rejects when the pipeline fails for good. */
  get copied(): Promise<undefined> {
    return this.#copied.promise;
  }

  /** Resolves when the stream was opened for the first time; rejects when the pipeline fails for good before. */
  get opened(): Promise<undefined> {
    return this.#opened.promise;
  }

  get copyComplete(): boolean {
    return this.#session > 0 && this.#units.every((unit) => unit.complete) && this.#holes.size === 0;
  }

  /** Waits until the durable checkpoint covers `to`. Goes on over reconnects until the signal fires. */
  async drain(to: Position, signal: AbortSignal): Promise<Position> {
    for (;;) {
      signal.throwIfAborted();
      const pump = this.#pump;
      if (pump !== null) {
        try {
          const aborted = new Promise<never>((_, reject) => {
            signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
          });
          await Promise.race([pump.drain(to), aborted]);
          return pump.applied;
        } catch (error) {
          signal.throwIfAborted();
          if (asVerdigrisError(error).directive !== 'retry') throw error;
        }
      }
      await this.#o.clock.sleep(20, signal);
    }
  }

  covers(have: Position, want: Position): boolean {
    return this.#o.positions.covers(have, want);
  }

  /** Takes rows off green, reads them again from blue, and resolves when they are there. */
  async repair(repair: Repair, signal: AbortSignal): Promise<void> {
    // One after the other: a re-read that is under way must not meet keys that are taken off again.
    while (this.#holes.size > this.#holes.rejected) await this.#o.clock.sleep(20, signal);
    for (;;) {
      signal.throwIfAborted();
      const pump = this.#pump;
      if (pump !== null) {
        try {
          await this.#earlierEnded(signal);
          await pump.repair(repair);
          break;
        } catch (error) {
          // Done or not: to do it again is the same.
          if (asVerdigrisError(error).directive !== 'retry') throw error;
        }
      }
      await this.#o.clock.sleep(20, signal);
    }
    const open = (): boolean =>
      repair.missing.some(({ relation, keys }) =>
        keys.some((key) => this.#holes.waits(relation, keyText(relation, rowOf(relation, key)))),
      );
    while (open()) await this.#o.clock.sleep(20, signal);
  }

  /**
   * A commit can be in the log, and applied, before blue shows it. Those of this stream the pump knows; of those before it only this is
   * known: blue still counts them among the open ones.
   * @throws VerdigrisError VERIFY_FAILED when they do not end in time; nothing was changed
   */
  async #earlierEnded(signal: AbortSignal): Promise<void> {
    const { snapshot, clock } = this.#o;
    const since = clock.monotonic();
    for (;;) {
      const before = this.#before;
      if (before === null) return;
      const open = (await snapshot.visibility()).stillOpen?.(before) ?? [];
      if (open.length === 0) {
        if (this.#before === before) this.#before = null;
        return;
      }
      if (clock.monotonic() - since > EARLIER_MS) {
        throw new VerdigrisError(
          'VERIFY_FAILED',
          `Transactions are open on the source since before replication began to read its log: ${open.slice(0, 5).join(', ')}. What one of them committed may be applied already and not be visible yet, so a row that is read again could be the old one; nothing was repaired.`,
          { remedy: 'Wait until they have ended, or end them, then run `verdigris verify repair` again.' },
        );
      }
      await clock.sleep(100, signal);
    }
  }

  pause(): void {
    this.#paused = true;
    if (this.#pump === null) return;
    this.#pump.pause();
    this.#o.onState({ condition: 'paused', reason: '', error: null });
  }

  /** Lifts a pause, and tries again what is blocked. */
  resume(): void {
    this.#paused = false;
    if (this.#pump !== null) {
      this.#pump.resume();
      this.#o.onState({ condition: 'running', reason: '', error: null });
    }
    this.#unblock?.resolve(undefined);
  }

  get holes(): number {
    return this.#holes.size;
  }

  get fallbacks(): number {
    return this.#o.sink.fallbacks;
  }

  get rejects(): number {
    return this.#holes.rejected;
  }

  /** Whether the sink can hold everything that has arrived: on the way back, whether a rollback would fit. */
  get fit(): Fit {
    const holes = this.#holes;
    return fitOf({
      opened: this.#session > 0,
      rejected: holes.rejected,
      firstRejected: holes.firstRejected,
      incomplete: holes.size - holes.rejected,
      blockedBy: this.#blockedBy,
    });
  }

  get health(): SourceHealth | null {
    return this.#pump === null ? null : this.#health;
  }

  get queuedBytes(): number {
    return this.#pump?.queuedBytes ?? 0;
  }

  /** Why a group waits, or null. */
  get waiting(): string | null {
    return this.#waiting;
  }

  get positions(): { head: Position | null; received: Position | null; applied: Position | null } {
    return {
      head: this.#head,
      received: this.#stream?.received ?? null,
      applied: this.#pump?.applied ?? this.#applied,
    };
  }

  /** Log bytes between what is applied and the head, as of the last heartbeat; null when not known. */
  get distance(): number | null {
    const { head, applied } = this.positions;
    return this.#pump === null || head === null || applied === null
      ? null
      : this.#o.positions.distance(applied, head);
  }

  get progress(): UnitProgress[] {
    return this.#units.map((unit) => {
      const counted = this.#progress.get(unit.unit.id) ?? { rows: 0, bytes: 0 };
      const open = unit.todo().length + unit.windows().filter((window) => window.ordinal !== null).length;
      return { unit: unit.unit.id, ranges: unit.count, done: unit.count - open, ...counted };
    });
  }

  async #open(outer: AbortSignal): Promise<never> {
    const { source, sink, snapshot, settings, positions, plans } = this.#o;
    const relations = this.#o.units.flatMap((unit) => unit.relations);
    const checkpoint = await sink.checkpoint();
    if (checkpoint === null) throw new VerdigrisError('STATE_FORMAT', 'The sink has no checkpoint.');
    this.#applied = checkpoint;
    await source.check(checkpoint, relations);
    const states = await sink.ranges();
    for (const unit of this.#units) unit.load(states);
    this.#progress = new Map();
    for (const { unit, rows, bytes } of states) this.#count(unit, rows, bytes);
    this.#holes.load(relations, await sink.holes());

    const ended = new AbortController();
    const signal = AbortSignal.any([outer, ended.signal]);
    await using stream = await source.open(checkpoint, signal);
    const common = {
      clock: this.#o.clock,
      failpoints: this.#o.failpoints,
      log: this.#o.log,
      counters: this.counters,
    };
    this.#before = await snapshot.visibility().catch(() => null);
    const pump = new Pump({
      ...common,
      stream: this.#oneByOne.over(stream),
      sink,
      snapshot,
      positions,
      planner: this.#planner,
      holes: this.#holes,
      units: this.#units,
      checkpoint,
      settings: this.#oneByOne.settings(settings),
      lag: this.lag,
      onWaiting: (reason) => {
        this.#waiting = reason;
      },
      onDecided: (runs) => this.changed.note(runs),
    });
    this.#session += 1;
    const markPrefix = `${this.#o.holder}:${this.#session}`;
    const copier = new Copier({
      ...common,
      units: this.#units,
      plans,
      holes: this.#holes,
      source,
      snapshot,
      sink,
      pump,
      workers: settings.workers,
      maxRowsPerSecond: settings.maxRowsPerSecond,
      rawCopy: this.#o.rawCopy,
      rawFits: this.#o.rawFits ?? (() => true),
      markPrefix,
      permit: this.#o.copyPermit,
      onRange: (unit, rows, bytes) => this.#count(unit, rows, bytes),
    });
    this.#stream = stream;
    this.#pump = pump;
    this.lag.connected();
    if (this.#paused) pump.pause();
    this.#o.onState({ condition: this.#paused ? 'paused' : 'running', reason: '', error: null });
    this.#opened.resolve(undefined);
    try {
      const parts = [
        pump.run(signal),
        this.#copy(copier, signal).catch((failure: unknown) => {
          if (!signal.aborted) pump.rangeFailure = failure;
          throw failure;
        }),
        this.#heartbeats(pump, stream, markPrefix, signal),
      ];
      return (await firstFailure(parts, (error) => ended.abort(error))) as never;
    } finally {
      this.#rangeFailure = pump.rangeFailure;
      this.#applied = pump.applied;
      this.#received = stream.received;
      this.#pump = null;
      this.#stream = null;
      this.lag.disconnected();
    }
  }

  async #copy(copier: Copier, signal: AbortSignal): Promise<never> {
    await copier.run(signal);
    this.#copied.resolve(undefined);
    // Holes can still appear (a key change without its whole image): look whenever the pump had time to make one.
    for (;;) {
      await this.#o.clock.sleep(this.#o.settings.heartbeatMs, signal);
      await copier.fillHoles(signal);
    }
  }

  async #heartbeats(pump: Pump, stream: ChangeStream, prefix: string, signal: AbortSignal): Promise<never> {
    const { source, clock, settings } = this.#o;
    let healthAt = Number.NEGATIVE_INFINITY;
    for (let beat = 0; ; beat++) {
      const asked = clock.monotonic();
      const now = await source.clock();
      this.lag.sourceClock(now, asked);
      const label = `${prefix}:h${beat}`;
      this.lag.heartbeatSent(label);
      await source.mark(label);
      this.#head = await source.head();
      if (clock.monotonic() - healthAt > HEALTH_EVERY_MS) {
        this.#health = await source.health();
        healthAt = clock.monotonic();
      }
      this.lag.heard(stream.lastReceivedMs);
      this.lag.sample();
      pump.tick();
      await clock.sleep(settings.heartbeatMs, signal);
    }
  }

  #count(unit: string, rows: number, bytes: number): void {
    const counted = this.#progress.get(unit) ?? { rows: 0, bytes: 0 };
    this.#progress.set(unit, { rows: counted.rows + rows, bytes: counted.bytes + bytes });
  }

  async #untilRetry(signal: AbortSignal): Promise<void> {
    this.#unblock = Promise.withResolvers<undefined>();
    const aborted = (): void => this.#unblock?.resolve(undefined);
    signal.addEventListener('abort', aborted, { once: true });
    await this.#unblock.promise;
    signal.removeEventListener('abort', aborted);
    this.#unblock = null;
  }
}

/** Waits for all parts; the first that fails ends the others through `abort`, and its error is the one that is thrown. */
async function firstFailure(
  parts: readonly Promise<unknown>[],
  abort: (error: Error) => void,
): Promise<unknown> {
  let first: Error | null = null;
  await Promise.all(
    parts.map((part) =>
      part.catch((error: unknown) => {
        if (first !== null) return;
        first = error as Error;
        abort(first);
      }),
    ),
  );
  throw first ?? new VerdigrisError('INTERNAL', 'A part of the pipeline ended.');
}
