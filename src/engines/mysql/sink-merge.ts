import type { RowRun } from '../../core/change.ts';
import { UNCHANGED, type Tuple } from '../../core/table.ts';
import type { Link } from './connect.ts';
import {
  cellSql,
  keysCondition,
  nameList,
  namesAlso,
  pieces,
  type SinkColumn,
  type SinkLayout,
} from './sink-layout.ts';
import { insertRows, isFinal, overwriting, refusedRow, type RowsOptions } from './sink-rows.ts';
import type { Waiting } from './sink-waiting.ts';

/** As {@link SinkLayout.hint}, where parts wait; statements name a column of a part as well, see {@link SinkLayout.beyond}. */
const BY_KEY = ' FORCE INDEX (PRIMARY)';

/** A row of the owner as it comes into being: what other parts set is absent until {@link takeParts}. */
export const withAbsent = (row: Tuple, { absent }: Waiting): Tuple =>
  row.map((cell, column) => (absent.has(column) ? (absent.get(column) ?? null) : cell));

/** Rows of the owner leave their keys: what the parts set stays behind. */
export async function keepParts(link: Link, layout: SinkLayout, keys: readonly Tuple[]): Promise<void> {
  const { sql, absent } = layout.waiting as Waiting;
  const columns = nameList(layout, [...layout.key, ...absent.keys()]);
  for (const piece of pieces(keys))
    await link.run(
      `INSERT INTO ${sql} (${columns}) SELECT ${columns} FROM ${layout.sql}${layout.hint} WHERE ${keysCondition(layout, piece)} AND NOT (${allAbsent(layout)})`,
    );
}

/** Rows of the owner have arrived at these keys: they take what waits there. */
export async function takeParts(
  link: Link,
  layout: SinkLayout,
  keys: readonly Tuple[],
  options: Tentative,
): Promise<void> {
  const columns = [...(layout.waiting as Waiting).absent.keys()];
  for (const piece of pieces(keys)) await moveInNamed(link, layout, piece, { ...options, columns });
}

/** Rows of a part: into the rows of the owner that are there; the others wait. */
export async function putParts(
  link: Link,
  layout: SinkLayout,
  run: RowRun,
  options: Tentative,
): Promise<void> {
  for (const shape of shapes(layout, run)) await putShape(link, layout, shape, options);
}

type Tentative = Pick<RowsOptions, 'tentative'>;

interface Shape {
  readonly columns: readonly number[];
  readonly rows: Tuple[];
}

/** Rows that set the same columns of parts, in their order. */
function shapes(layout: SinkLayout, run: RowRun): readonly Shape[] {
  const parts = [...(layout.waiting as Waiting).absent.keys()];
  const known = run.columns?.filter((column) => parts.includes(column));
  if (known !== undefined) return [{ columns: known, rows: [...run.after] }];
  const found: Shape[] = [];
  for (const row of run.after) {
    const columns = parts.filter((column) => row[column] !== UNCHANGED && row[column] !== undefined);
    const last = found.at(-1);
    if (last !== undefined && last.columns.join() === columns.join()) last.rows.push(row);
    else found.push({ columns, rows: [row] });
  }
  return found;
}

/** All wait at first, on top of what waits already; then those with a row of the owner go there. */
async function putShape(
  link: Link,
  layout: SinkLayout,
  { columns: set, rows: given }: Shape,
  options: Tentative,
): Promise<void> {
  if (set.length === 0) return;
  const { sql, absent } = layout.waiting as Waiting;
  const others = [...absent.keys()].filter((column) => !set.includes(column));
  const rows = given.map((row) =>
    row.map((cell, column) => (others.includes(column) ? (absent.get(column) ?? null) : cell)),
  );
  await insertRows(link, layout, [...layout.key, ...set, ...others], rows, {
    into: sql,
    tail: overwriting(link, layout, set),
  });
  for (const piece of pieces(given)) {
    await moveInNamed(link, layout, piece, { ...options, columns: set });
    await link.run(
      `DELETE ${sql} FROM ${sql}${BY_KEY} WHERE ${keysCondition(layout, piece)} AND ${allAbsent(layout)}`,
    );
  }
}

/** As {@link moveIn}; when the server refuses, the row is looked for. The transaction is rolled back by whoever began it. */
async function moveInNamed(
  link: Link,
  layout: SinkLayout,
  keys: readonly Tuple[],
  { columns, tentative }: Tentative & { readonly columns: readonly number[] },
): Promise<void> {
  try {
    await moveIn(link, layout, keys, columns);
  } catch (error) {
    if (isFinal(error, tentative))
      for (const key of keys)
        await moveIn(link, layout, [key], columns).catch((one: unknown) => {
          throw isFinal(one, tentative) ? refusedRow(one, layout, key) : one;
        });
    throw error;
  }
}

/** From where they wait into the rows that are there. */
async function moveIn(
  link: Link,
  layout: SinkLayout,
  keys: readonly Tuple[],
  columns: readonly number[],
): Promise<void> {
  const { sql, absent } = layout.waiting as Waiting;
  const name = (column: number): string => (layout.columns[column] as SinkColumn).sql;
  const here = layout.key.map((column) => `g.${name(column)} = h.${name(column)}`).join(' AND ');
  const which = keysCondition(layout, keys, layout.key, 'h.');
  const assign = columns.map((column) => `g.${name(column)} = h.${name(column)}`).join(', ');
  await link.run(
    `UPDATE ${sql} h${BY_KEY} STRAIGHT_JOIN ${layout.sql} g${layout.hint} ON ${here} SET ${assign} WHERE ${which}`,
  );
  // By its name: an alias is looked for in a database that we have not chosen. Not by EXISTS: the servers make that a join that may begin with all rows of the
  // owner, and lock them until the end.
  const there = layout.key.map((column) => `g.${name(column)} = ${sql}.${name(column)}`).join(' AND ');
  const [part = 0] = absent.keys();
  await link.run(
    `DELETE ${sql} FROM ${sql}${BY_KEY} STRAIGHT_JOIN ${layout.sql} g${layout.hint} ON ${there}
     WHERE ${keysCondition(layout, keys, layout.key, `${sql}.`)}${namesAlso(`${sql}.${name(part)}`)}`,
  );
}

/** All parts' columns stand at their absent values. Texts byte by byte: a collation would call others equal. */
function allAbsent(layout: SinkLayout): string {
  const { absent } = layout.waiting as Waiting;
  return [...absent]
    .map(([column, cell]) => {
      const { sql, codec } = layout.columns[column] as SinkColumn;
      if (cell === null) return `${sql} IS NULL`;
      const value = cellSql(layout, column, cell);
      return layout.relation.columns[column]?.kind === 'text'
        ? `CAST(${sql} AS BINARY) <=> CAST(${value} AS BINARY)`
        : `${codec.select} <=> ${value}`;
    })
    .join(' AND ');
}
