import { compareAscii, compareIntegers, type Compare } from '../../core/key-order.ts';
import type { Cell, Relation } from '../../core/table.ts';
import type { Layout, LayoutColumn } from './catalog-layout.ts';
import type { Link, RawRow } from './connect.ts';
import { isExact, sortsByBytes } from './kinds.ts';
import { literal } from './sql.ts';
import { rangeCondition, type TableAccess } from './snapshot-range.ts';

/** Up to here the keys are walked; a larger table is cut by arithmetic where its key is a number. */
const WALKED_BYTES = 256 * 1024 * 1024;
const MOST_RANGES = 20_000;

/** From the server's statistics. */
export async function readSize(link: Link, relation: Relation): Promise<{ rows: number; bytes: number }> {
  const { schema, name } = relation.table;
  const row = (
    await link.rows(
      `SELECT coalesce(TABLE_ROWS, 0), coalesce(DATA_LENGTH, 0) FROM information_schema.TABLES
       WHERE TABLE_SCHEMA = ${literal(schema)} AND TABLE_NAME = ${literal(name)}`,
    )
  )[0];
  return { rows: Number(row?.[0] ?? 0), bytes: Number(row?.[1] ?? 0) };
}

/** Types whose comparison with a literal goes as their order does. An ENUM sorts by number and compares as text. */
const ORDERED = new Set([
  ...['tinyint', 'smallint', 'mediumint', 'int', 'bigint', 'decimal', 'year', 'bit'],
  ...['date', 'datetime', 'timestamp', 'time', 'char', 'varchar', 'binary', 'varbinary'],
]);

export const firstKeyColumn = (relation: Relation, layout: Layout): LayoutColumn | null => {
  const name = relation.columns[relation.key[0] ?? -1]?.name;
  return layout.columns.find((column) => column.name === name) ?? null;
};

/** Boundaries of ranges of about `rows` rows; none where one range has to do. */
export async function splitKeys(link: Link, access: TableAccess, rows: number): Promise<readonly Cell[]> {
  const { relation, layout, from } = access;
  const column = firstKeyColumn(relation, layout);
  if (column === null || !ORDERED.has(column.dataType)) return [];
  const first = relation.key[0] as number;
  const name = access.names[first] as string;
  const size = await readSize(link, relation);
  if (size.bytes > WALKED_BYTES && relation.columns[first]?.kind === 'integer') {
    const bounds = (await link.rows(`SELECT MIN(${name}+0), MAX(${name}+0) FROM ${from}`))[0];
    if (bounds?.[0] === null || bounds?.[0] === undefined) return [];
    return evenly(
      BigInt(bounds[0]),
      BigInt(bounds[1] as string),
      Math.min(MOST_RANGES, Math.ceil(size.rows / rows)),
    );
  }
  const codec = access.codecs[first];
  const boundaries: Cell[] = [];
  let step = Math.max(1, Math.floor(rows));
  if (size.rows / step > MOST_RANGES) step = Math.ceil(size.rows / MOST_RANGES);
  let lower: Cell = null;
  while (boundaries.length < MOST_RANGES) {
    const condition = rangeCondition(access, { lower, upper: null });
    const next = (
      await link.raw(
        `SELECT ${codec?.select} FROM ${from} WHERE ${condition} ORDER BY ${name} LIMIT 1 OFFSET ${step}`,
      )
    )[0]?.[0];
    if (next === undefined || next === null) break;
    const boundary = codec?.read(next) ?? null;
    if (boundary === lower) {
      // More rows than a range holds share this value: go on behind them.
      const above: RawRow[0] | undefined = (
        await link.raw(
          `SELECT ${codec?.select} FROM ${from} WHERE ${name} > ${codec?.write(boundary)} ORDER BY ${name} LIMIT 1`,
        )
      )[0]?.[0];
      if (above === undefined || above === null) break;
      lower = codec?.read(above) ?? null;
    } else lower = boundary;
    boundaries.push(lower);
  }
  return boundaries;
}

function evenly(least: bigint, greatest: bigint, ranges: number): readonly Cell[] {
  const width = (greatest - least + 1n) / BigInt(Math.max(1, ranges));
  if (width < 1n) return [];
  const boundaries: Cell[] = [];
  for (let at = least + width; at <= greatest && boundaries.length < ranges - 1; at += width)
    boundaries.push(String(at));
  return boundaries;
}

/** For each value the number of boundaries that are not greater: the server sorts both, boundaries before equal values. */
export async function bucketKeys(
  link: Link,
  access: TableAccess,
  boundaries: readonly Cell[],
  values: readonly Cell[],
): Promise<number[]> {
  const { relation, layout } = access;
  const column = firstKeyColumn(relation, layout);
  const codec = access.codecs[relation.key[0] ?? -1];
  if (column === null || codec === undefined || boundaries.length === 0 || values.length === 0)
    return values.map(() => 0);
  const literalOf = (cell: Cell): string => {
    const text = codec.write(cell);
    return column.charset === null || column.charset === 'binary'
      ? castOf(column, text)
      : `CONVERT(${text} USING ${column.charset}) COLLATE ${column.collation}`;
  };
  const buckets = new Array<number>(values.length).fill(0);
  const pieceSize = 2_000;
  for (let at = 0; at < values.length; at += pieceSize) {
    const piece = values.slice(at, at + pieceSize);
    const rows = await link.rows(
      `SELECT which, place FROM (${[
        ...boundaries.map((cell, index) => `SELECT 0 AS which, ${index} AS place, ${literalOf(cell)} AS k`),
        ...piece.map((cell, index) => `SELECT 1, ${at + index}, ${literalOf(cell)}`),
      ].join(' UNION ALL ')}) AS keys_to_sort ORDER BY k, which`,
    );
    let passed = 0;
    for (const [which, place] of rows) {
      if (which === '0') passed += 1;
      else buckets[Number(place)] = passed;
    }
  }
  return buckets;
}

/** A union takes the type of its literals: those of one type each. */
function castOf(column: LayoutColumn, text: string): string {
  switch (column.dataType) {
    case 'time':
      return `CAST(${text} AS TIME(6))`;
    case 'date':
      return `CAST(${text} AS DATE)`;
    case 'datetime':
    case 'timestamp':
      return `CAST(${text} AS DATETIME(6))`;
    case 'binary':
    case 'varbinary':
      return `CAST(${text} AS BINARY)`;
    default:
      return text;
  }
}

/** Compares values of the first key column by their text the way the server compares the values, or null where only it can. */
export function comparatorOf(relation: Relation, collation: string | null): Compare | null {
  const column = relation.columns[relation.key[0] ?? -1];
  if (column === undefined) return null;
  switch (column.kind) {
    case 'integer':
      return compareIntegers;
    case 'bytes':
    case 'date':
    case 'timestamp':
    case 'timestamptz':
      // Two digits a byte; or fixed places, where a fraction comes last, and `+00` sorts before its point.
      return compareAscii;
    case 'text':
      return column.labels === undefined && sortsByBytes(collation) && isExact('varchar', collation)
        ? compareCodePoints
        : null;
    default:
      return null;
  }
}

const compareCodePoints: Compare = (left, right) =>
  Buffer.compare(Buffer.from(String(left)), Buffer.from(String(right)));
