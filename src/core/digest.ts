import type { KeyRange } from './snapshot.ts';
import type { Cell, Relation, Tuple } from './table.ts';

/** Count and sum of row hashes of 64 bits or more over a range; equal digests of equal columns mean equal rows. */
export interface Digest {
  readonly rows: number;
  readonly hash: string;
}

/** Reads one side for verification. Reads lock the table against rewrites first and use one snapshot per call. */
export interface Digester {
  /** Boundaries of the first key column, as {@link import('./snapshot.ts').SnapshotSource.split}. */
  split(relation: Relation, rows: number): Promise<readonly Cell[]>;
  /** Computed in the server over the canonical text of the given columns. */
  digest(relation: Relation, columns: readonly number[], range: KeyRange): Promise<Digest>;
  /**
   * Per row of the range the `key` cells and then a hash of `columns`, as {@link digest} takes it: what tells which rows of a
   * range differ without moving them. In no order.
   */
  hashes(
    relation: Relation,
    columns: { readonly key: readonly number[]; readonly hashed: readonly number[] },
    range: KeyRange,
  ): AsyncIterable<readonly Tuple[]>;
  /** Rows of the range in relation order, ordered by key where there is one. */
  read(relation: Relation, range: KeyRange): AsyncIterable<readonly Tuple[]>;
}
