import PQueue from 'p-queue';
import type { RowRun } from '../core/change.ts';
import type { Clock } from '../core/clock.ts';
import { VerdigrisError, asVerdigrisError } from '../core/errors.ts';
import type { Failpoints } from '../core/failpoint.ts';
import type { Logger } from '../core/log.ts';
import type { PipelineCounters } from '../core/metrics.ts';
import type { TablePlan, TargetTable } from '../core/plan.ts';
import type { ChunkWriter, Sink } from '../core/sink.ts';
import type { ChunkReader, KeyRange, SnapshotSource } from '../core/snapshot.ts';
import type { ChangeSource } from '../core/source.ts';
import { keyText, tableId, type Column, type Relation, type Tuple, rowOf } from '../core/table.ts';
import type { HoleSet } from './holes.ts';
import type { Pump } from './pump.ts';
import type { UnitRanges } from './ranges.ts';
import { Window } from './window.ts';

/** A window that was cancelled is tried again after this, so that what cancelled it can pass. */
const RETRY_MS = 50;

export interface CopierOptions {
  readonly units: readonly UnitRanges[];
  readonly plans: readonly TablePlan[];
  readonly holes: HoleSet;
  readonly source: ChangeSource;
  readonly snapshot: SnapshotSource;
  readonly sink: Sink;
  readonly pump: Pump;
  readonly workers: number;
  readonly maxRowsPerSecond: number | null;
  /** The engine's bulk format may go through untouched. */
  readonly rawCopy: boolean;
  /** It brings values of the one column to the other. */
  readonly rawFits: (from: Column, to: Column) => boolean;
  readonly counters: PipelineCounters;
  readonly clock: Clock;
  readonly failpoints: Failpoints;
  readonly log: Logger;
  /** Prefix of the marks of this process, unique among processes. */
  readonly markPrefix: string;
  /** Resolves when the copy may go on (not paused, not throttled). */
  readonly permit: (signal: AbortSignal) => Promise<void>;
  readonly onRange: (unit: string, rows: number, bytes: number) => void;
}

/** Copies ranges that are todo, in parallel, and reads the keys of holes again. */
export class Copier {
  readonly #o: CopierOptions;
  readonly #plans: ReadonlyMap<string, TablePlan>;
  /** Indexes of one unit at a time are built beside the copying of the others. */
  readonly #builds = new PQueue({ concurrency: 1 });
  readonly #finished = new Set<UnitRanges>();
  #marks = 0;

  constructor(options: CopierOptions) {
    this.#o = options;
    this.#plans = new Map(options.plans.map((plan) => [tableId(plan.from.table), plan]));
  }

  /** Copies until every range is done and no incomplete hole is left. Rejects with the first error that a retry does not mend. */
  async run(signal: AbortSignal): Promise<void> {
    const failed = new AbortController();
    const both = AbortSignal.any([signal, failed.signal]);
    const queue = new PQueue({ concurrency: this.#o.workers });
    const work = new Work(this.#o.units);
    const add = (): void => {
      void queue
        .add(async () => {
          if (both.aborted) return;
          await this.#o.permit(both);
          const { ranges, ordinal } = work.take();
          const again = await this.#attempt(ranges, ordinal, ranges.bounds(ordinal), both);
          work.give(ranges, again ? ordinal : null);
          if (again) add();
          else if (ranges.complete) this.#finish(ranges, both);
        })
        .catch((error: unknown) => failed.abort(asVerdigrisError(error)));
    };
    for (let left = work.size; left > 0; left -= 1) add();
    await queue.onIdle();
    both.throwIfAborted();
    await this.fillHoles(both);
    await this.#builds.onIdle();
  }

  /** All rows of a unit are there. */
  #finish(ranges: UnitRanges, signal: AbortSignal): void {
    const { sink, log } = this.#o;
    if (this.#finished.has(ranges)) return;
    this.#finished.add(ranges);
    void this.#builds.add(async () => {
      await sink.finishTables?.(this.#targets(ranges.unit.relations), signal).catch((raw: unknown) => {
        if (signal.aborted) return;
        const { code, message } = asVerdigrisError(raw);
        log.info({ unit: ranges.unit.id, code, reason: message }, 'indexes are built at the end of the copy');
      });
    });
  }

  /** Reads the keys of incomplete holes again, one window per table, until there are none. */
  async fillHoles(signal: AbortSignal): Promise<void> {
    for (;;) {
      const work = this.#o.units.flatMap((ranges) =>
        ranges.unit.relations.flatMap((relation) => {
          const keys = this.#o.holes.incomplete(relation).map((hole) => hole.key);
          return keys.length === 0 ? [] : [{ ranges, relation, keys: keys.slice(0, 500) }];
        }),
      );
      if (work.length === 0) return;
      for (const { ranges, relation, keys } of work) {
        await this.#o.permit(signal);
        await this.#attempt(ranges, null, { keys }, signal, relation);
      }
    }
  }

  /** True: try again. */
  async #attempt(
    ranges: UnitRanges,
    ordinal: number | null,
    range: KeyRange,
    signal: AbortSignal,
    only?: Relation,
  ): Promise<boolean> {
    try {
      await this.#copy(ranges, ordinal, range, signal, only);
      return false;
    } catch (raw) {
      signal.throwIfAborted();
      const error = asVerdigrisError(raw);
      if (error.directive !== 'retry') throw error;
      this.#o.log.info(
        { unit: ranges.unit.id, range: ordinal, code: error.code, reason: error.message },
        'range is copied again',
      );
      await this.#o.clock.sleep(RETRY_MS, signal);
      return true;
    }
  }

  async #copy(
    ranges: UnitRanges,
    ordinal: number | null,
    range: KeyRange,
    signal: AbortSignal,
    only?: Relation,
  ): Promise<void> {
    const { pump, source, snapshot, sink, failpoints } = this.#o;
    const unit = only === undefined ? ranges.unit : { id: ranges.unit.id, relations: [only] };
    const label = `${this.#o.markPrefix}:w${this.#marks++}`;
    const window = new Window({ unit, ordinal, range, label });
    const both = AbortSignal.any([signal, window.signal]);
    await pump.openWindow(window, ranges);
    try {
      if ('keys' in range && only !== undefined) this.#stillHoles(only, range.keys);
      await failpoints.hit('copy.window-open');
      await using reader = await snapshot.open({ relations: unit.relations, range }, both);
      await source.mark(label);
      await failpoints.hit('copy.snapshot-taken');
      const tables = this.#targets(unit.relations);
      await using writer = await sink.openChunk({ unit: ranges.unit.id, ordinal, range, tables }, both);
      const chunk = new Chunk(writer, window);
      for (const relation of unit.relations) {
        const plan = this.#plan(relation);
        await chunk.copy(reader, plan, { raw: ordinal === null ? null : this.#passage(plan), signal: both });
      }
      await failpoints.hit('copy.rows-written');
      const closing = pump.closeWindow(window, ranges, {
        writer,
        visibility: reader.visibility,
        bytes: chunk.bytes,
        written: chunk.written,
        holes: () => {
          if ('keys' in range && only !== undefined)
            for (const key of range.keys) this.#o.holes.close(only, rowOf(only, key));
          for (const { relation, row, reject } of chunk.rejects) this.#o.holes.open(relation, row, reject);
        },
      });
      await closing;
      this.#o.counters.copyRows += chunk.rows;
      this.#o.counters.copyBytes += chunk.bytes;
      this.#o.onRange(ranges.unit.id, chunk.rows, chunk.bytes);
      await this.#pace(chunk.rows, signal);
    } catch (error) {
      // What cancelled the window is the reason, not the error that the cancelled reader or writer gave.
      const reason = window.cancelled ? (window.signal.reason as Error) : asVerdigrisError(error);
      pump.cancelWindow(window, ranges, reason);
      throw reason;
    } finally {
      window.released();
    }
  }

  /** Between the look at the holes and the opening of the window a change may have closed one. */
  #stillHoles(relation: Relation, keys: readonly Tuple[]): void {
    if (keys.every((key) => this.#o.holes.has(relation, keyText(relation, rowOf(relation, key))))) return;
    throw new VerdigrisError('SOURCE_BUSY', 'A missing row arrived by itself before it was read again.');
  }

  /** How rows of a table can go through as they are; null: they cannot. */
  #passage({ from, to, passthrough }: TablePlan): Passage | null {
    const [target] = to;
    if (!this.#o.rawCopy || passthrough === null || target === undefined || to.length > 1) return null;
    const pairs = passthrough.from.map((column, index): [Column, Column] => [
      from.columns[column] as Column,
      target.relation.columns[passthrough.columns[index] as number] as Column,
    ]);
    if (!pairs.every(([blue, green]) => this.#o.rawFits(blue, green))) return null;
    return { ...passthrough, target, alike: pairs.every(([blue, green]) => blue.type === green.type) };
  }

  /** The tables of green that some of blue feed. */
  #targets(relations: readonly Relation[]): readonly TargetTable[] {
    return [...new Set(relations.flatMap((relation) => this.#plan(relation).to))];
  }

  #plan(relation: Relation): TablePlan {
    const plan = this.#plans.get(tableId(relation.table));
    if (plan === undefined) throw new VerdigrisError('INTERNAL', 'A copied table has no plan.');
    return plan;
  }

  /** Every worker rests after its chunk for its share of the allowed rate. */
  async #pace(rows: number, signal: AbortSignal): Promise<void> {
    const rate = this.#o.maxRowsPerSecond;
    if (rate !== null && rows > 0) await this.#o.clock.sleep((rows * 1000 * this.#o.workers) / rate, signal);
  }
}

/** Columns of blue and of the one table of green that they go to untouched. */
type Passage = NonNullable<TablePlan['passthrough']> & {
  readonly target: TargetTable;
  /** They have the same types. */
  readonly alike: boolean;
};

interface UnitWork {
  readonly ranges: UnitRanges;
  readonly todo: number[];
  workers: number;
}

/**
 * The ranges that are to be copied. Workers keep to units of their own while there are enough: the rows of a table then arrive in the order of
 * its key, which its index takes at half the cost, and nobody waits for another to extend the same file.
 */
class Work {
  readonly #units: readonly UnitWork[];

  constructor(units: readonly UnitRanges[]) {
    this.#units = units.map((ranges) => ({ ranges, todo: [...ranges.todo()], workers: 0 }));
  }

  /** Ranges that nobody has taken. */
  get size(): number {
    return this.#units.reduce((sum, { todo }) => sum + todo.length, 0);
  }

  take(): { readonly ranges: UnitRanges; readonly ordinal: number } {
    let least: UnitWork | null = null;
    for (const unit of this.#units) {
      if (unit.todo.length === 0 || (least !== null && unit.workers >= least.workers)) continue;
      least = unit;
      if (unit.workers === 0) break;
    }
    const ordinal = least?.todo.shift();
    if (least === null || ordinal === undefined) throw new VerdigrisError('INTERNAL', 'No range is left.');
    least.workers += 1;
    return { ranges: least.ranges, ordinal };
  }

  /** @param again the range that has to be copied once more */
  give(ranges: UnitRanges, again: number | null): void {
    const unit = this.#units.find((one) => one.ranges === ranges);
    if (unit === undefined) return;
    unit.workers -= 1;
    if (again !== null) unit.todo.unshift(again);
  }
}

interface ChunkReject {
  readonly relation: Relation;
  readonly row: Tuple;
  readonly reject: {
    readonly kind: 'rejected' | 'incomplete';
    readonly column: string;
    readonly reason: string;
  };
}

/** Moves the rows of one chunk from reader to writer. */
class Chunk {
  readonly #writer: ChunkWriter;
  readonly #window: Window;
  rows = 0;
  bytes = 0;
  readonly rejects: ChunkReject[] = [];
  /** Of a re-read of keys only: a range that is copied is not compared before it is done. */
  readonly written: RowRun[] = [];

  constructor(writer: ChunkWriter, window: Window) {
    this.#writer = writer;
    this.#window = window;
  }

  async copy(
    reader: ChunkReader,
    plan: TablePlan,
    { raw, signal }: { readonly raw: Passage | null; readonly signal: AbortSignal },
  ): Promise<void> {
    if (raw !== null) {
      const before = this.bytes;
      const bytes = this.#counted(reader.raw(plan.from, raw.from, raw.alike), signal);
      const rows = await this.#writer.raw(raw.target, raw.columns, bytes, raw.alike);
      if (rows !== null) {
        this.rows += rows;
        return;
      }
      this.bytes = before;
    }
    for await (const rows of reader.rows(plan.from)) {
      signal.throwIfAborted();
      await this.#write(plan, rows);
    }
  }

  async #write(plan: TablePlan, rows: readonly Tuple[]): Promise<void> {
    const output = plan.run({ relation: plan.from, op: 'insert', after: rows, before: rows.map(() => null) });
    this.rows += rows.length;
    for (const row of rows) this.bytes += sizeOf(row);
    for (const { row, kind, column, reason } of output.rejects) {
      if (plan.from.key.length === 0) {
        throw new VerdigrisError(
          'MAPPING_VALUE',
          `A row of a table without a key does not fit the mapping (${column}: ${reason}).`,
        );
      }
      const reject = { kind: kind === 'value' ? ('rejected' as const) : kind, column, reason };
      this.rejects.push({ relation: plan.from, row: rows[row] as Tuple, reject });
    }
    if (this.#window.ordinal === null) this.written.push(...output.runs);
    for (const run of output.runs) {
      // A range that is todo has no children on green yet: nothing to replace.
      await this.#writer.write(
        run.op === 'replace' && this.#window.ordinal !== null ? { ...run, op: 'insert', before: [] } : run,
      );
    }
  }

  async *#counted(bytes: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncIterable<Uint8Array> {
    for await (const piece of bytes) {
      signal.throwIfAborted();
      this.bytes += piece.byteLength;
      yield piece;
    }
  }
}

function sizeOf(row: Tuple): number {
  let size = row.length;
  for (const cell of row) {
    if (typeof cell === 'string') size += cell.length;
    else if (cell instanceof Uint8Array) size += cell.byteLength;
  }
  return size;
}
