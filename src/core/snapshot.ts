import type { Cell, Relation, Tuple } from './table.ts';

/** Which transactions a snapshot of the source sees. */
export interface Visibility {
  /**
   * True: what `sees` says is a lower bound, and changes that it does not tell as seen may be in the rows already. They are
   * then applied as state (see {@link import('./sink.ts').ChunkWriter.close}). Legal for tables with a key and whole images
   * only. Absent: it is exact.
   */
  readonly lowerBound?: boolean;
  /** `transaction` is {@link import('./change.ts').SourceTransaction.id}. */
  sees(transaction: string): boolean;
  /**
   * Transactions that were in progress in `earlier` and still are: what they have committed may be in the log already. Empty when
   * there is none. Absent where the engine judges visibility by position.
   */
  stillOpen?(earlier: Visibility): readonly string[];
  /** For errors and logs. */
  describe(): string;
}

/**
 * A half-open range over the first key column, or a set of keys. `on` are the places in the key that the cells of `keys` stand for;
 * absent: whole keys. Only verification reads by a part of a key.
 */
export type KeyRange =
  | { readonly lower: Cell | null; readonly upper: Cell | null }
  | { readonly keys: readonly Tuple[]; readonly on?: readonly number[] };

/** One consistent read of a range. Everything it returns comes from the same snapshot. */
export interface ChunkReader extends AsyncDisposable {
  readonly visibility: Visibility;
  /**
   * The chosen columns of the range as the engine's bulk format, untouched, for {@link import('./sink.ts').ChunkWriter.raw}
   * of the same engine. Chunks of bytes are not row boundaries. Only where `capabilities.rawCopy`, and read to its end
   * before anything else is asked of the reader.
   * @param alike the columns have the same types on both sides: the form may be one that only they have in common. The writer is told the same
   */
  raw(relation: Relation, columns: readonly number[], alike: boolean): AsyncIterable<Uint8Array>;
  /** The rows of the range in relation order, in pieces of some thousand. */
  rows(relation: Relation): AsyncIterable<readonly Tuple[]>;
}

export interface ChunkRequest {
  /** The tables of the copy unit. All are read in one snapshot with the same range. */
  readonly relations: readonly Relation[];
  readonly range: KeyRange;
}

/** Reads what is there, in ranges whose snapshot is known. Uses the node that also streams. */
export interface SnapshotSource {
  /** From statistics, not counted. */
  estimate(relation: Relation): Promise<{ readonly rows: number; readonly bytes: number }>;
  /**
   * Boundaries of the first key column, ascending, that cut the table into ranges of about `rows` rows: n boundaries make
   * n + 1 ranges. Empty for a table without a key, or when one range will do.
   */
  split(relation: Relation, rows: number): Promise<readonly Cell[]>;
  /**
   * Compares two values of the first key column the way the server does, or null where only the server can
   * (then {@link bucket} decides).
   */
  comparator(relation: Relation): ((left: Cell, right: Cell) => number) | null;
  /** For each first-key value the number of boundaries that are ≤ it, by the server's own comparison. */
  bucket(
    relation: Relation,
    boundaries: readonly Cell[],
    values: readonly Cell[],
  ): Promise<readonly number[]>;
  /** A fresh snapshot, only to learn what is visible now. */
  visibility(): Promise<Visibility>;
  /** Takes the snapshot and checks that the layout is still `relations`. The reader holds one connection. */
  open(request: ChunkRequest, signal: AbortSignal): Promise<ChunkReader>;
}
