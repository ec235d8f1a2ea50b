import {
  DELTA,
  type Cell,
  type Column,
  type Delta,
  type Relation,
  type TableName,
} from '../../core/table.ts';
import { asBuffer } from './bson.ts';
import { documentFormat } from './document-format.ts';

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
    children: (table, { parent, ordinal }) => childrenOf(table, parent, ordinal),
    merged: (table, parts, alone) => mergedOf(table, parts, alone === 'alone'),
  },
];

/** The column of a part of a merge: its top-level fields of the document. */
interface PartColumn extends Column {
  readonly fields: readonly string[];
  /** The document is nobody else's. */
  readonly alone: boolean;
}

function mergedOf(table: Relation, parts: readonly (readonly string[])[], alone: boolean): Relation {
  const [id, document] = table.columns as readonly [Column, Column];
  const { children: _, merged: __, ...plain } = document;
  const columns = parts.map((fields): PartColumn => ({
    ...plain,
    ...{ name: fields.join(', '), nullable: true, mayBeUnchanged: false, fields, alone },
  }));
  return { ...table, columns: [id, document, ...columns] };
}

/** Columns of parts and the fields that are theirs; none where the collection is not merged. */
export const partsOf = ({ columns }: Relation): readonly (readonly string[])[] =>
  columns.flatMap((column) => ('fields' in column ? [(column as PartColumn).fields] : []));

/** Its documents are made and ended by what their parts set. */
export const isAlone = ({ columns }: Relation): boolean =>
  columns.some((column) => 'alone' in column && (column as PartColumn).alone);

/** See {@link import('./shape.ts').shapeOf}. */
function childrenOf(table: Relation, parent: string, ordinal: string): Relation {
  const [id, document] = table.columns as readonly [Column, Column];
  const number: Column = { ...id, name: `_id.${ordinal}`, type: 'int', kind: 'integer' };
  return { ...table, columns: [{ ...id, name: `_id.${parent}` }, number, document], key: [0, 1] };
}

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
