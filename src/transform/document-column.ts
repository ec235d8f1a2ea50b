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
  /**
   * What of green's document has to come out again when what comes back is mapped once more, as a text; the same of what the mapping made. Null: nothing is
   * asked, since another column has it.
   */
  readonly again: ((document: Cell) => string) | null;
  /** What it reads of green's document, to the byte, where that is not all of it. @throws BadValue */
  readonly region?: (document: Cell) => string;
  /** Of a document that is only a part of green's: its way back, or why there is none. Absent: it is no part. */
  readonly part?: DocumentPart | string;
}

/** What a part of green's document gives back: some fields of blue's, of which the others stay as they are. */
export interface DocumentPart {
  /** Top-level fields of blue. */
  readonly fields: readonly string[];
  /** From green's document to those fields as a document without the key; null where there are none. @throws BadValue */
  readonly back: (document: Cell) => Cell;
  readonly operation: string;
  /** They come back in the order in which they were. */
  readonly ordered: boolean;
}

/** The bytes of a document. */
export const bytesText = (document: Cell): string => Buffer.from(document as Uint8Array).toString('latin1');
