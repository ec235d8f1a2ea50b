import type { TablePlan, TargetTable } from '../core/plan.ts';
import type { Cell } from '../core/table.ts';

/** One green table and everything that feeds it. */
export interface VerifyTable {
  readonly target: TargetTable;
  /** Plans that feed it, the owner of a merge first. */
  readonly plans: readonly TablePlan[];
  /** Green columns that are a function of blue's row. */
  readonly compared: readonly number[];
  /** Per green column: brings both sides to one text; null where the text is compared as it is. */
  readonly canonical: readonly (((cell: Cell) => Cell) | null)[];
  /** Both servers can digest the same columns: blue's `from[i]` is green's `columns[i]`. */
  readonly direct: { readonly from: readonly number[]; readonly columns: readonly number[] } | null;
  readonly notCompared: readonly { readonly column: string; readonly reason: string }[];
  /**
   * Green's first key column has the same text as blue's: a range of blue is a range of green. Where it is not, the table is
   * read whole.
   */
  readonly sameRanges: boolean;
  /**
   * Per plan and column of blue's key the column of green's key that holds the same text: from green's key follow the blue rows
   * that make it. Null where they do not.
   */
  readonly links: readonly (readonly number[])[] | null;
}
