import { hash } from 'node:crypto';
import { UNCHANGED, type Cell, type Tuple, rowOf } from '../core/table.ts';
import type { VerifyTable } from './verify-table.ts';

/**
 * What is looked at again when two rows differ: all green rows that one blue row makes, where green's key says which one that is;
 * else one green row, by its key or, in a table without a key, by its content.
 */
export interface Subject {
  readonly id: string;
  /** Cells of {@link subjectColumns}; empty where rows cannot be asked for by them. */
  readonly key: Tuple;
}

/** Green columns that a subject is asked for by, in the order of green's key. Empty: it can only be found by reading all. */
export function subjectColumns(table: VerifyTable): readonly number[] {
  const linked = new Set(table.links?.[0]);
  return table.target.relation.key.filter((column) => linked.has(column));
}

/** Which subject a green row belongs to; null when the cells that say so are not there. */
export function subjectOf(table: VerifyTable): (row: Tuple) => Subject | null {
  const columns = subjectColumns(table);
  if (columns.length > 0) {
    return (row) => {
      const key = columns.map((column) => row[column] as Cell);
      return known(key) ? { id: idOf(table, columns, row), key } : null;
    };
  }
  const { key } = table.target.relation;
  const named = key.length > 0 ? key : table.compared;
  return (row) =>
    named.some((column) => !known([row[column] as Cell])) ? null : { id: rowId(table, row), key: [] };
}

const known = (cells: Tuple): boolean => cells.every((cell) => cell !== UNCHANGED && cell !== undefined);

/** One text per row: its key, or a hash of its content where it has none. */
export function rowId(table: VerifyTable, row: Tuple): string {
  const { key } = table.target.relation;
  return key.length > 0 ? idOf(table, key, row) : contentHash(table, row);
}

/** The key cells of a row, as {@link rowId} has them, in their places of a row that holds nothing else. */
export function rowOfId(table: VerifyTable, id: string): Tuple {
  return rowOf(table.target.relation, JSON.parse(id) as (string | null)[]);
}

/** Hash of what is compared of a row. */
export const contentHash = (table: VerifyTable, row: Tuple): string =>
  digestOf(idOf(table, table.compared, row));

const digestOf = (text: string): string => hash('sha256', text, 'base64').slice(0, 27);

const idOf = (table: VerifyTable, columns: readonly number[], row: Tuple): string =>
  JSON.stringify(
    columns.map((column) => textOf(table.canonical[column]?.(row[column] as Cell) ?? (row[column] as Cell))),
  );

function textOf(cell: Cell): string | null {
  if (typeof cell === 'string' || cell === null) return cell;
  if (cell instanceof Uint8Array) return Buffer.from(cell).toString('hex');
  return typeof cell === 'object' ? JSON.stringify(cell) : String(cell);
}
