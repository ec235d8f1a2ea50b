import type { RowRun } from './change.ts';
import type { Cell, Relation } from './table.ts';

/** One part of a merged row that is not the owner's. */
export interface MergePart {
  /** Columns of the green relation that this part sets. */
  readonly columns: readonly number[];
  /** Their values while the part's row does not exist, same order. */
  readonly absent: readonly Cell[];
}

/**
 * A JSON array of a sink table, written element by element: the way back of an exploded array, of which one change
 * brings one element and never its siblings. The target's relation is made up: the key columns of `of`, then the
 * ordinal, then the element as JSON text; its key is all but the element, and its name is not to be looked up. Only
 * insert, update and delete come for it.
 *
 * Elements belong to their parent's key, never to its row: they stay where they are when the parent is deleted or moves, and whichever
 * parent arrives at the key has them. A group touches the parent of every element in it (of the old and of the new key), and every parent
 * that it inserts, deletes or moves (both keys). The sink takes a touched parent's elements from its array, with the ordinals 1..n,
 * before any run of the group, unless it has kept them; then applies the runs as to any table, strictly; and at the end of the group writes
 * the array of every touched parent that is there: the elements in the order of their ordinals, `[]` when there are none. What an
 * array cannot tell (gaps in the ordinals, elements without a parent) it keeps in its state until the stream is retired.
 */
export interface ArrayElements {
  /** The relation with the array, as the other runs of that table name it. */
  readonly of: Relation;
  /** Index of the array in `of`. */
  readonly array: number;
  /** Indexes in the target's own relation. */
  readonly ordinal: number;
  readonly element: number;
}

/** A table that plans write to. */
export interface TargetTable {
  readonly relation: Relation;
  /**
   * Set when several blue tables feed it: `owner` are the columns of the table whose rows make and end the green row,
   * `parts` those of the others. `insert`, `update` and `delete` are the owner's, `put` is a part's.
   *
   * What a part set belongs to its key, never to the owner's row: it waits while there is no such row, stays behind (waiting)
   * when the row is deleted or moves to another key, and is taken by whichever row of the owner arrives there.
   *
   * Without columns of an owner the rows are nobody else's: a `put` that sets something makes the row that is not there, and one that leaves
   * nothing but the key takes it away. What else the row holds stays as it is. Nothing waits. Only for documents.
   */
  readonly merge: { readonly owner: readonly number[]; readonly parts: readonly MergePart[] } | null;
  /** Number of leading key columns that identify the parent of an exploded child; 0 when it is not exploded. */
  readonly prefix: number;
  /** Its first key column is not the source's: the rows of a range of the source may stand anywhere in it. Absent: they stand in that range. */
  readonly scattered?: true;
  /** Set when it is no table of the database but the elements of an array in one; see {@link ArrayElements}. */
  readonly elements?: ArrayElements;
}

/** A row that the mapping did not take. It is not on green; its key becomes a hole. Never holds a value of the row. */
export interface Reject {
  /** Index of the row in the run that was given to the plan. */
  readonly row: number;
  /**
   * `value`: the mapping cannot take it and the configuration says reject. `incomplete`: a new key or a mixed output
   * needs cells that the log did not bring; a re-read of the key closes it.
   */
  readonly kind: 'value' | 'incomplete';
  /** Green column (or condition) that failed. */
  readonly column: string;
  /** Why, without values. */
  readonly reason: string;
  /**
   * True: what the sink has of the row stays as it was before this change, out of date instead of missing; only its key is
   * moved, where that changed. The image that closes such a hole has to reach the plan as an update, in whose old row the
   * columns that changed since are not known (see {@link import('./sink.ts').Hole.stale}), and a delete as a delete. Absent:
   * the row is not on the sink.
   */
  readonly stays?: boolean;
}

export interface PlanOutput {
  /**
   * Per target table in order. A rejected row appears only as the removal of what it was on green before, where the
   * run was an update (so that a hole means: not on green), or as its new key, where it stays.
   */
  readonly runs: readonly RowRun[];
  readonly rejects: readonly Reject[];
}

/** The compiled mapping of one blue table in one version. Pure and synchronous: same rows in, same rows out. */
export interface TablePlan {
  readonly from: Relation;
  readonly to: readonly TargetTable[];
  /**
   * Set when the rows pass through unchanged to a single table: entry i is the index of the blue column that feeds
   * `columns[i]` of the target; the copy then never looks at a value.
   */
  readonly passthrough: { readonly columns: readonly number[]; readonly from: readonly number[] } | null;
  /** Blue columns (indexes) that the mapping reads. */
  readonly inputs: readonly number[];
  /**
   * @throws VerdigrisError MAPPING_VALUE with table, key columns and column when a value cannot be taken and the configuration says
   * fail.
   */
  run(run: RowRun): PlanOutput;
}
