import type { KeyRange } from '../../core/snapshot.ts';
import { showTable, type Cell, type Relation, type Tuple } from '../../core/table.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { Layout } from './catalog-layout.ts';
import { codecOf, type Codec } from './cells.ts';
import type { RawRow } from './connect.ts';
import { ident, qualified } from './sql.ts';

/** How the rows of a relation are read. */
export interface TableAccess {
  readonly relation: Relation;
  readonly layout: Layout;
  readonly from: string;
  /** In the order of the relation. */
  readonly codecs: readonly Codec[];
  readonly names: readonly string[];
}

/** @throws VerdigrisError SCHEMA_CHANGED when the table lacks a column of the relation */
export function accessOf(relation: Relation, layout: Layout): TableAccess {
  const byName = new Map(layout.columns.map((column) => [column.name, column]));
  const codecs = relation.columns.map((column) => {
    const known = byName.get(column.name);
    if (known === undefined)
      throw new VerdigrisError(
        'SCHEMA_CHANGED',
        `The table ${showTable(relation.table)} has no column ${column.name} any more.`,
      );
    return codecOf(known);
  });
  return {
    relation,
    layout,
    from: qualified(relation.table),
    codecs,
    names: relation.columns.map((column) => ident(column.name)),
  };
}

export const selectList = (access: TableAccess, columns?: readonly number[]): string =>
  (columns ?? access.codecs.map((_, index) => index))
    .map((column) => (access.codecs[column] as Codec).select)
    .join(', ');

export const readRow = (access: TableAccess, row: RawRow): Tuple =>
  row.map((cell, index): Cell => (cell === null ? null : (access.codecs[index] as Codec).read(cell)));

/** Condition of a range, or of a set of keys. */
export function rangeCondition(access: TableAccess, range: KeyRange): string {
  const { relation } = access;
  const cell = (column: number, value: Cell | undefined): string =>
    value === null || value === undefined ? 'NULL' : (access.codecs[column] as Codec).write(value);
  if ('keys' in range) {
    const places = range.on ?? relation.key.map((_, index) => index);
    const columns = places.map((place) => relation.key[place] as number);
    if (range.keys.length === 0) return 'FALSE';
    const [single] = columns;
    if (columns.length === 1 && single !== undefined)
      return `${access.names[single]} IN (${range.keys.map((key) => cell(single, key[0])).join(', ')})`;
    return range.keys
      .map(
        (key) =>
          `(${columns.map((column, index) => `${access.names[column]} = ${cell(column, key[index])}`).join(' AND ')})`,
      )
      .join(' OR ');
  }
  const first = relation.key[0];
  if (first === undefined) return 'TRUE';
  const parts: string[] = [];
  if (range.lower !== null) parts.push(`${access.names[first]} >= ${cell(first, range.lower)}`);
  if (range.upper !== null) parts.push(`${access.names[first]} < ${cell(first, range.upper)}`);
  return parts.length === 0 ? 'TRUE' : parts.join(' AND ');
}
