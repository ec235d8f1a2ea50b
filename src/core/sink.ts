import type { RowRun } from './change.ts';
import type { TargetTable } from './plan.ts';
import type { Position } from './position.ts';
import type { KeyRange } from './snapshot.ts';
import type { Cell, TableName, Tuple } from './table.ts';

/** A key of a source table that is known to be missing on the sink, or out of date there. */
export interface Hole {
  readonly table: TableName;
  /** Cells of the source relation's key. */
  readonly key: Tuple;
  /**
   * Set where the row is on the sink as it was before something that did not fit: the source columns (indexes, ascending)
   * that changed since. Absent: the row is not on the sink.
   */
  readonly stale?: readonly number[];
  /** `incomplete`: a re-read closes it. `rejected`: a later image that the mapping takes, or a delete, closes it. */
  readonly kind: 'incomplete' | 'rejected';
  readonly column: string;
  readonly reason: string;
}

/** What one sink transaction does to the set of holes. */
export interface HoleChanges {
  readonly opened: readonly Hole[];
  readonly closed: readonly { readonly table: TableName; readonly key: Tuple }[];
}

/** What the sink commits in one transaction. */
export interface SinkGroup {
  /** The checkpoint it builds on; anything else on the server makes the transaction fail there. */
  readonly previous: Position;
  /** The new checkpoint, or null for a part of a source transaction that goes on in the next call. */
  readonly end: Position | null;
  /** Folded: at most one row per key, rows of one shape per run, in the order delete, update, insert per table. */
  readonly runs: readonly RowRun[];
  readonly holes: HoleChanges;
  readonly transactions: number;
  /** Commit time of the newest transaction in it, source's clock; null for an idle advance. */
  readonly newestCommitMs: number | null;
}

/** A range of a copy unit and what is known about it. */
export interface RangeState {
  readonly unit: string;
  readonly ordinal: number;
  readonly lower: Cell | null;
  readonly upper: Cell | null;
  /** Position up to which the range already holds all changes; null while it is not done. */
  readonly upto: Position | null;
  readonly rows: number;
  readonly bytes: number;
}

/** What a chunk is. */
export interface ChunkTarget {
  readonly unit: string;
  /** The range that becomes done, or null for a re-read of single keys. */
  readonly ordinal: number | null;
  readonly range: KeyRange;
  readonly tables: readonly TargetTable[];
}

/** Rows that {@link Sink.finishCopy} builds or checks, for progress. */
export interface FinishStep {
  readonly table: TableName;
  readonly kind: 'index' | 'constraint' | 'statistics';
  readonly name: string;
  readonly done: number;
  readonly total: number;
}

/**
 * One sink transaction that holds the rows of one range. It stays open until the pump closes it between two groups.
 * Every call after a failed one throws.
 */
export interface ChunkWriter extends AsyncDisposable {
  /**
   * Bulk bytes from {@link import('./snapshot.ts').ChunkReader.raw} of the same engine, into these columns. Gives the number of rows, or
   * null when they cannot be taken in that way: then nothing of them is written, and they have to come through `write`.
   * @param alike as the reader was told
   */
  raw(
    target: TargetTable,
    columns: readonly number[],
    bytes: AsyncIterable<Uint8Array>,
    alike: boolean,
  ): Promise<number | null>;
  /** Mapped rows: insert, put, or replace. */
  write(run: RowRun): Promise<void>;
  /**
   * Applies the held changes (folded as in {@link SinkGroup.runs}) on top, records the range as done up to `upto` and
   * commits. Resolves when it is committed. Where the reader's visibility is a lower bound, the runs are state instead: a delete
   * of every touched key, which may find nothing, then the rows that are there in the end as inserts.
   */
  close(held: readonly RowRun[], holes: HoleChanges, upto: Position, bytes: number): Promise<void>;
  /** Rolls back. Idempotent; also what disposing without close does. */
  cancel(): Promise<void>;
}

/** Writes to one database. All methods but openChunk's writers share one connection and are called one at a time. */
export interface Sink extends AsyncDisposable {
  /** Groups, or parts of one, that needed the exact fallback on a constraint error, since the start. */
  readonly fallbacks: number;
  /**
   * Creates the state of this stream on the sink (checkpoint, ranges, holes, waiting parts). Idempotent.
   * @throws VerdigrisError STATE_* when state of another run, configuration or version stands there.
   */
  prepare(tables: readonly TargetTable[]): Promise<void>;
  /** The durable checkpoint, read again from the server; null before the first. */
  checkpoint(): Promise<Position | null>;
  /** Writes the first checkpoint; fails when there is one. */
  begin(start: Position): Promise<void>;
  /**
   * Applies a group in one transaction. A call with `end: null` leaves the transaction open for the next call.
   * Returns the newest position that would survive a crash of the sink, or null when none is known yet.
   * @throws VerdigrisError SINK_CONFLICT (table, key, constraint), SINK_FENCED when another term or position stands there
   */
  apply(group: SinkGroup): Promise<Position | null>;
  /** Makes everything committed so far survive a crash; returns that position. */
  flush(): Promise<Position>;
  /**
   * From here on every commit survives a crash when it returns, whatever the configuration says of catching up. For sinks that
   * commit asynchronously; absent where every commit is durable anyway.
   */
  harden?(): Promise<void>;
  /** Gives up the open transaction of a group that was not ended. */
  abandon(): Promise<void>;

  /** Records secondary indexes and foreign keys of the empty tables and drops them. Idempotent. */
  prepareCopy(tables: readonly TargetTable[]): Promise<void>;
  /**
   * Stores the ranges of a unit: all todo, or all done up to `upto`, where the sink holds everything up to there already. Fails when
   * the unit already has some.
   */
  defineRanges(unit: string, boundaries: readonly Cell[], upto?: Position): Promise<void>;
  ranges(): Promise<readonly RangeState[]>;
  holes(): Promise<readonly Hole[]>;
  openChunk(target: ChunkTarget, signal: AbortSignal): Promise<ChunkWriter>;
  /**
   * Does what {@link finishCopy} will do, but for foreign keys, for tables whose rows are all there while others are still copied. What it does not get
   * to is left to {@link finishCopy}. Absent where nothing is gained by it.
   */
  finishTables?(tables: readonly TargetTable[], signal: AbortSignal): Promise<void>;
  /** Builds what {@link prepareCopy} dropped, validates it, and gathers statistics. Idempotent, resumable. */
  finishCopy(
    tables: readonly TargetTable[],
    progress: (step: FinishStep) => void,
    signal: AbortSignal,
  ): Promise<void>;
  /** Removes the state of this stream. */
  retire(): Promise<void>;
}
