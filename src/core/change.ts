import type { Position } from './position.ts';
import type { Relation, TableName, Tuple } from './table.ts';

/**
 * What a run does to its rows.
 *
 * - `insert`, `update`, `delete`, `truncate`: strict; an insert finds nothing, an update or delete hits exactly one row.
 * - `put`: one part of a merged row. Sets the present columns of the row with that key; where the owner's row is not
 *   there yet, the part waits in the sink's state.
 * - `replace`: delete by key prefix, then insert: the children of an exploded row. `before` holds one tuple per parent
 *   in which only the prefix columns are set, `after` holds all children of all those parents; the two differ in length.
 */
export type Operation = 'insert' | 'update' | 'delete' | 'truncate' | 'put' | 'replace';

/**
 * The unit of data: rows of one table and one operation in commit order, as arrays of tuples, never per-row objects.
 *
 * - insert, put: `after[i]` is the row; `before[i]` is null.
 * - update: `after[i]` is the new row (cells may be UNCHANGED); `before[i]` is the old image or old key in relation
 *   order (cells that are not known are UNCHANGED), or null when the key did not move and no old image was sent.
 * - delete: `before[i]` is the old image or old key; `after` is empty.
 * - truncate: both empty.
 */
export interface RowRun {
  readonly relation: Relation;
  readonly op: Operation;
  readonly after: readonly Tuple[];
  readonly before: readonly (Tuple | null)[];
  /**
   * Indexes of the columns that are present in every row of the run (update, put, insert). Set by the fold, which
   * only puts rows of one shape into a run; absent means all columns that are not generated, and cells may be UNCHANGED.
   */
  readonly columns?: readonly number[];
}

/** A run as a source delivers it: it also says which transaction each row belongs to. */
export interface ChangeRun extends RowRun {
  /** One entry per row (one entry in all for a truncate): index into the batch's `transactions`, ascending. */
  readonly transaction: readonly number[];
}

/** A transaction of the source. */
export interface SourceTransaction {
  /**
   * The engine's id of the top-level transaction as snapshots know it; opaque, only for
   * {@link import('./snapshot.ts').Visibility}. Null where the engine judges visibility by position.
   */
  readonly id: string;
  /** Where the transaction ends. For a part of a transaction: a position after everything that committed before it. */
  readonly end: Position;
  /** Commit time by the source's clock, milliseconds since 1970. */
  readonly commitMs: number;
}

/** A marker we wrote into the source's log, come back through the stream. */
export interface MarkSeen {
  readonly label: string;
  readonly position: Position;
}

/** The layout of a table changed, or something happened that may have changed rows without row events. */
export interface SchemaChange {
  readonly table: TableName;
  /** The layout from here on; null when the table is gone or cannot be replicated any more. */
  readonly relation: Relation | null;
  readonly detail: string;
}

/** What a stream yields: whole transactions, or a part of one that is larger than the cap. */
export interface ChangeBatch {
  /** In the order of their first row. Order across tables inside a batch is not kept; order inside a table is. */
  readonly runs: readonly ChangeRun[];
  /** The position after the batch; null inside a transaction that goes on in the next batch. */
  readonly end: Position | null;
  readonly transactions: readonly SourceTransaction[];
  /** Oldest commit time in the batch, source's clock; null when it holds no transaction. */
  readonly oldestCommitMs: number | null;
  /** Bytes as received. */
  readonly bytes: number;
  readonly marks: readonly MarkSeen[];
  /** Take effect before the batch's runs; a source ends the batch before it yields one. */
  readonly schemaChanges: readonly SchemaChange[];
  /** Nothing but a position: the source is idle and `end` may be checkpointed and then acknowledged. */
  readonly idle: boolean;
}

/** What every batch without rows is made of. */
export const EMPTY_BATCH = {
  runs: [] as readonly ChangeRun[],
  transactions: [],
  oldestCommitMs: null,
  bytes: 0,
  marks: [],
  schemaChanges: [],
  idle: false,
} as const;

/** A batch that carries nothing but a position. */
export const idleBatch = (end: Position): ChangeBatch => ({ ...EMPTY_BATCH, end, idle: true });
