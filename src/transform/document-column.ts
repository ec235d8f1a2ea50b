import type { Cell } from '../core/table.ts';

/** What the mapping makes of a column of documents, or of their key. */
export interface DocumentColumn {
  /** Column of blue that the way back gives. */
  readonly gives: number;
  /** Column of green (as a sink) with the document that the way back reads. */
  readonly reads: number;
  /** From green's document to blue's cell; the reason when there is no way. @throws BadValue */
  readonly back: ((document: Cell) => Cell) | string;
  readonly backOperation: string;
  /** Two documents that differ in the order of their fields alone count as equal: the way there or back does not keep it. Null: they do not. */
  readonly unordered: ((document: Cell) => string) | null;
}
