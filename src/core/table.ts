import type { DocumentFormat } from './document.ts';

/** A cell that the source did not send because the statement left it as it was (PostgreSQL: unchanged TOAST). Never null. */
export const UNCHANGED: unique symbol = Symbol('UNCHANGED');

/** Marks a {@link Delta}. */
export const DELTA: unique symbol = Symbol('DELTA');

/**
 * A cell that says how a value changed and not what it is: a log that brings updates of parts of a document. Only in updates, only in
 * columns of kind `document`, and only the engine that made it can read it. Like UNCHANGED it is no whole value: it needs the one
 * before it.
 */
export interface Delta {
  readonly [DELTA]: true;
  /** This change after an earlier one of the same cell (a value, or a delta), as one cell for the sink of the same engine. */
  after(earlier: Cell): Cell;
}

export const isDelta = (cell: Cell | undefined): cell is Cell & Delta =>
  typeof cell === 'object' && cell !== null && DELTA in cell;

/** Every cell is a value: nothing has to be taken from the row before. */
export const isWhole = (tuple: Tuple): boolean => !tuple.some((cell) => cell === UNCHANGED || isDelta(cell));

/** One value. Text exactly as the engine printed it, wherever the engine has a text form. */
export type Cell = string | number | bigint | boolean | Uint8Array | object | null | typeof UNCHANGED;

/** Cells in the order of the relation's columns. */
export type Tuple = readonly Cell[];

/** What transform, comparable and verify may know about a type: one canonical text form per kind. */
export type Kind =
  | 'integer'
  | 'decimal'
  | 'float'
  | 'boolean'
  | 'text'
  | 'bytes'
  | 'date'
  | 'time'
  | 'timestamp'
  | 'timestamptz'
  | 'interval'
  | 'uuid'
  | 'json'
  | 'array'
  | 'document'
  | 'other';

/** A table as the catalog spells it: no quotes, no folding. */
export interface TableName {
  readonly schema: string;
  readonly name: string;
}

export interface Column {
  readonly name: string;
  /** The engine's own word for the type, with length or precision. */
  readonly type: string;
  readonly kind: Kind;
  readonly nullable: boolean;
  /** Computed by the server: can be read, is never written. */
  readonly generated: boolean;
  /** The server fills it when it is left out of an insert (default or identity). */
  readonly hasDefault: boolean;
  /** Equal values always have equal text (false for numeric `1.0`/`1.00`, case-insensitive or padded text). */
  readonly exact: boolean;
  /** An update may leave its value out of the log (see {@link UNCHANGED}). */
  readonly mayBeUnchanged: boolean;
  /** The labels of an enumerated type, in its order. */
  readonly labels?: readonly string[];
  /** Kind `document`: how the mapping looks into it. Absent: it cannot. */
  readonly format?: DocumentFormat;
  /**
   * Kind `document`: its table as one whose documents are elements of arrays. The key is the parent's key and the number of the element, which
   * stand under these names in the field that holds the key; the document is the last column.
   */
  readonly children?: (
    table: Relation,
    names: { readonly parent: string; readonly ordinal: string },
  ) => Relation;
  /**
   * Kind `document`: its table as one that several tables feed. The document is the owner's; behind it stands one column of kind `document` for each
   * part, with those fields of the document that are the part's, in that order and without the key, or null where there are none. `alone`: no
   * table makes its documents but the parts (see {@link import('./plan.ts').TargetTable.merge}).
   */
  readonly merged?: (table: Relation, parts: readonly (readonly string[])[], alone?: 'alone') => Relation;
}

/** A table in one version of its schema. */
export interface Relation {
  readonly table: TableName;
  readonly columns: readonly Column[];
  /** Indexes into `columns` of what identifies a row, in key order. Empty: the table has no key. */
  readonly key: readonly number[];
  /**
   * What an update or delete brings of the row before it: `key` the key columns only, `full` every column,
   * `none` nothing (updates and deletes cannot be replicated).
   */
  readonly identity: 'key' | 'full' | 'none';
  /** Changes whenever the layout changes. */
  readonly version: string;
}

/** A key for maps; unlike `schema.name` it is unambiguous when names contain dots. */
export const tableId = (table: TableName): string => `${table.schema}\u0000${table.name}`;

/** The table for people and errors: quoted only where it has to be. */
export function showTable(table: TableName): string {
  const show = (part: string): string =>
    /^[a-z_][a-z0-9_$]*$/.test(part) ? part : `"${part.replaceAll('"', '""')}"`;
  return `${show(table.schema)}.${show(table.name)}`;
}

/** Index of the column called `name`, or -1. */
export const columnIndex = (relation: Relation, name: string): number =>
  relation.columns.findIndex((column) => column.name === name);

/** The cells of the key, in key order. */
export const keyOf = (relation: Relation, tuple: Tuple): Tuple =>
  relation.key.map((index) => tuple[index] as Cell);

/** A row of which only the key is there: what {@link keyOf} takes apart. */
export function rowOf(relation: Relation, key: Tuple): Tuple {
  const row: Cell[] = [];
  relation.key.forEach((column, index) => {
    row[column] = key[index] as Cell;
  });
  return row;
}

/**
 * One string per key for maps. Cells are prefixed with their length, so that ('a','bc') and ('ab','c') differ.
 * Only meaningful where every key column is `exact`.
 */
export function keyText(relation: Relation, tuple: Tuple): string {
  const key = relation.key;
  if (key.length === 1) return cellText(tuple[key[0] as number] as Cell);
  let text = '';
  for (const index of key) {
    const cell = cellText(tuple[index] as Cell);
    text += `${cell.length}:${cell}`;
  }
  return text;
}

const cellText = (cell: Cell): string => {
  if (typeof cell === 'string') return cell;
  if (cell instanceof Uint8Array)
    return Buffer.from(cell.buffer, cell.byteOffset, cell.byteLength).toString('latin1');
  return typeof cell === 'object' && cell !== null ? JSON.stringify(cell) : String(cell);
};
