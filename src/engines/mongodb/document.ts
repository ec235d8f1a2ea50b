import {
  DELTA,
  type Cell,
  type Column,
  type Delta,
  type Relation,
  type TableName,
} from '../../core/table.ts';
import { asBuffer, fields } from './bson.ts';
import { documentFormat } from './document-format.ts';
import { keyTextOf } from './key.ts';

/** A collection as a relation: what identifies a document, and the document. */
const COLUMNS: readonly Column[] = [
  {
    name: '_id',
    type: 'any',
    kind: 'other',
    nullable: false,
    generated: false,
    hasDefault: false,
    exact: true,
    mayBeUnchanged: false,
  },
  {
    name: 'document',
    type: 'document',
    kind: 'document',
    nullable: false,
    generated: false,
    hasDefault: false,
    exact: true,
    mayBeUnchanged: true,
    format: documentFormat,
  },
];

export const ID = 0;
export const DOCUMENT = 1;

/** @param images the collection keeps documents as they were before and after a change */
export const relationOf = (table: TableName, version: string, images = false): Relation => ({
  table,
  columns: COLUMNS,
  key: [ID],
  identity: images ? 'full' : 'key',
  version,
});

/** The row of a document: its key as text, and the bytes, which are copied out of the reply they came in. */
export function rowOfDocument(document: Buffer): readonly Cell[] {
  for (const field of fields(document)) {
    if (field.name === '_id') return [keyTextOf(field), Buffer.from(document)];
  }
  return [keyTextOf({ type: 0, bytes: Buffer.alloc(0) }), Buffer.from(document)];
}

/** Updates of parts of a document, in order; `base` is the document they follow where the same group brought it. */
export class DocumentDelta implements Delta {
  readonly [DELTA] = true as const;
  readonly base: Buffer | null;
  readonly diffs: readonly Buffer[];

  constructor(base: Buffer | null, diffs: readonly Buffer[]) {
    this.base = base;
    this.diffs = diffs;
  }

  after(earlier: Cell): Cell {
    if (earlier instanceof DocumentDelta)
      return new DocumentDelta(earlier.base, [...earlier.diffs, ...this.diffs]);
    return new DocumentDelta(asBuffer(earlier as Uint8Array), this.diffs);
  }
}
