import type { RowRun } from '../core/change.ts';
import type { Relation, Tuple } from '../core/table.ts';

/**
 * Rows that are taken off green and read again from blue: the removals and the holes are one transaction of the sink, so a
 * hole means "not on green" here too.
 */
export interface Repair {
  /** Of green: `replace` runs without children, and parts set to their absent values. */
  readonly removals: readonly RowRun[];
  /** Keys of blue, by table. */
  readonly missing: readonly { readonly relation: Relation; readonly keys: readonly Tuple[] }[];
}
