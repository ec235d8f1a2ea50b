import type { Cell } from '../core/table.ts';

/** What the mapping makes of a column of documents. */
export interface DocumentColumn {
  /** From green's document to blue's; the reason when there is no way. @throws BadValue */
  readonly back: ((document: Cell) => Cell) | string;
  readonly backOperation: string;
  /** Two documents that differ in the order of their fields alone count as equal: the way there or back does not keep it. Null: they do not. */
  readonly unordered: ((document: Cell) => string) | null;
}
