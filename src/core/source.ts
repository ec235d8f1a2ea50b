import type { ChangeBatch } from './change.ts';
import type { Position } from './position.ts';
import type { Relation, TableName } from './table.ts';

/** An open stream of changes. Iterate it once; leaving the loop closes it. */
export interface ChangeStream extends AsyncIterable<ChangeBatch>, AsyncDisposable {
  /**
   * Tells the source that everything up to `durable` will never be asked for again. Legal only for a position whose
   * checkpoint is durable on the sink. Never blocks, never throws.
   */
  ack(durable: Position): void;
  /** Bytes received and not yet handed out. */
  readonly queued: number;
  /** When the last byte of any kind arrived, engine's monotonic clock in ms; null before the first. Liveness, not lag. */
  readonly lastReceivedMs: number | null;
  /** How far the log has been received. */
  readonly received: Position;
}

/** State of what the source retains for us. */
export interface SourceHealth {
  /** The engine's word: reserved, extended, unreserved, lost, purged, … */
  readonly state: string;
  readonly ok: boolean;
  readonly retainedBytes: number | null;
  readonly limitBytes: number | null;
  /** Age of the oldest open transaction, seconds. */
  readonly oldestTransactionSeconds: number | null;
  readonly detail: string;
}

/** What the log brought of old rows of a table before, in the engine's own words. JSON. */
export interface ImageChange {
  readonly table: TableName;
  readonly before: string;
}

/** Reads the log of one database. The session that made it may be used for other things at the same time. */
export interface ChangeSource {
  /**
   * Creates (or finds its own) server objects that make the log of exactly these tables readable, and returns the
   * position to start from. Idempotent. Call before the first {@link open}; the copy opens its first window later.
   */
  prepare(tables: readonly Relation[]): Promise<Position>;
  /**
   * Refuses a start that would lose data: other system, log purged, someone acknowledged past `checkpoint`.
   * @throws VerdigrisError SOURCE_*
   */
  check(checkpoint: Position, tables: readonly Relation[]): Promise<void>;
  /**
   * Streams from `from`, which must be the durable checkpoint. One open stream at a time. Transactions in which the sink of the same
   * migration and the other direction wrote to this side are dropped whole: what came from where the stream leads is no change.
   * Every other transaction is handed out, so on a side that only we may write whatever comes is foreign.
   */
  open(from: Position, signal: AbortSignal): Promise<ChangeStream>;
  /** The current end of the log. */
  head(): Promise<Position>;
  /**
   * Writes a mark into the log, in a transaction of its own. Everything that was committed before the call is covered
   * by the returned position. May be refused while the side is fenced (see `capabilities.marksWhileFenced`).
   */
  mark(label: string): Promise<Position>;
  /** The source's clock, ms since 1970. */
  clock(): Promise<number>;
  health(): Promise<SourceHealth>;
  /**
   * From here on the log brings whole old rows of these tables. Returns what {@link restoreImages} needs to take that back; tables
   * that bring them already are left out. Absent where every change brings them, or only an operator can arrange it.
   */
  fullImages?(tables: readonly TableName[]): Promise<readonly ImageChange[]>;
  /** Takes back what {@link fullImages} did, where the table still stands as it left it. */
  restoreImages?(changes: readonly ImageChange[]): Promise<void>;
  /** Removes the server objects of {@link prepare}. Idempotent. */
  retire(): Promise<void>;
}
