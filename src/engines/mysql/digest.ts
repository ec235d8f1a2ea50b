import type { Digest, Digester } from '../../core/digest.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { KeyRange } from '../../core/snapshot.ts';
import { showTable, type Cell, type Relation, type Tuple } from '../../core/table.ts';
import { readLayout, type LayoutColumn } from './catalog-layout.ts';
import type { Codec } from './cells.ts';
import type { Link } from './connect.ts';
import { errnoOf, ERRNO, translate, type Where } from './errors.ts';
import type { Pool } from './pool.ts';
import { orderBy } from './snapshot.ts';
import { accessOf, rangeCondition, readRow, selectList, type TableAccess } from './snapshot-range.ts';
import { splitKeys } from './snapshot-split.ts';

/** Digests and reads in short transactions with one snapshot each. */
export function createDigester(pool: Pool, where: Where): Digester {
  const run = async <T>(
    relation: Relation,
    work: (link: Link, access: TableAccess) => Promise<T>,
  ): Promise<T> => {
    try {
      return await pool.use(async (link) => {
        const access = await begin(link, relation);
        const result = await work(link, access);
        await link.run('COMMIT');
        return result;
      });
    } catch (error) {
      throw failed(error, where, relation);
    }
  };
  return {
    split: (relation, rows): Promise<readonly Cell[]> =>
      relation.key.length === 0
        ? Promise.resolve([])
        : run(relation, (link, access) => splitKeys(link, access, rows)),
    digest: (relation, columns, range) =>
      run(relation, async (link, access) => {
        const row = (await link.rows(digestSql(access, columns, range)))[0];
        return { rows: Number(row?.[0] ?? 0), hash: `${row?.[1] ?? 0}:${row?.[2] ?? 0}` } satisfies Digest;
      }),
    hashes: (relation, { key, hashed }, range) =>
      stream(pool, where, relation, (access) => ({
        sql: `SELECT ${[...key.map((column) => (access.codecs[column] as Codec).select), hashOf(access, hashed)].join(', ')}
          FROM ${access.from} WHERE ${rangeCondition(access, range)}`,
        read: (row): Tuple =>
          row.map((cell, index): Cell => {
            if (cell === null) return null;
            const column = key[index];
            return column === undefined
              ? cell.toString('latin1')
              : (access.codecs[column] as Codec).read(cell);
          }),
      })),
    read: (relation, range) =>
      stream(pool, where, relation, (access) => ({
        sql: `SELECT ${selectList(access)} FROM ${access.from} WHERE ${rangeCondition(access, range)}${orderBy(access)}`,
        read: (row): Tuple => readRow(access, row),
      })),
  };
}

/** Unknown column or table, or a table that was written anew behind the snapshot. */
const CHANGED: ReadonlySet<number> = new Set([ERRNO.BAD_COLUMN, ERRNO.NO_SUCH_TABLE]);

function failed(error: unknown, where: Where, relation: Relation): VerdigrisError {
  const table = showTable(relation.table);
  const errno = errnoOf(error);
  const translated = translate(error, where, { table });
  if (errno !== null && CHANGED.has(errno))
    return new VerdigrisError('SCHEMA_CHANGED', `The layout of ${table} changed: it cannot be compared.`, {
      context: translated.context,
    });
  return translated;
}

async function begin(link: Link, relation: Relation): Promise<TableAccess> {
  await link.run('START TRANSACTION READ ONLY');
  const access = accessOf(relation, await readLayout(link, relation.table));
  await link.rows(`SELECT 1 FROM ${access.from} LIMIT 1`);
  return access;
}

/** 128 bits in hex. MD5 is no longer a part of every server (MySQL 9.6 and newer have it in a component). */
const hash = (text: string): string => `LEFT(SHA2(${text}, 256), 32)`;

/** Values of these may be longer than what one expression may hold: they are hashed for themselves. */
const LONG = /(text|blob|json|geometry|point|linestring|polygon|collection|vector)$/;

/** The value as bytes that are equal on both sides when its canonical text is. */
function printed(column: LayoutColumn, codec: Codec): string {
  const text =
    column.charset !== null && column.charset !== 'binary'
      ? `CAST(CONVERT(${codec.select} USING utf8mb4) AS BINARY)`
      : column.dataType === 'json'
        ? `CAST(${codec.select} AS BINARY)`
        : /(binary|blob|geometry|point|linestring|polygon|collection|vector)$/.test(column.dataType)
          ? `HEX(${codec.select})`
          : `CAST(${codec.select} AS BINARY)`;
  return LONG.test(column.dataType) ? hash(text) : text;
}

/** A row's hash: each value behind its length, so that borders show, and NULL apart from the empty text. */
function hashOf(access: TableAccess, columns: readonly number[]): string {
  const byName = new Map(access.layout.columns.map((column) => [column.name, column]));
  const parts = columns.map((column) => {
    const known = byName.get(access.relation.columns[column]?.name ?? '') as LayoutColumn;
    const value = printed(known, access.codecs[column] as Codec);
    return `IFNULL(CONCAT(LENGTH(${value}), ':', ${value}), 'N')`;
  });
  return hash(parts.length === 0 ? "''" : `CONCAT(${parts.join(', ')})`);
}

/** Two sums of halves of the hashes: order does not matter, and equal rows do not cancel out. */
export function digestSql(access: TableAccess, columns: readonly number[], range: KeyRange): string {
  const half = (from: number): string =>
    `coalesce(SUM(CAST(CONV(SUBSTRING(h, ${from}, 16), 16, 10) AS DECIMAL(30, 0))), 0)`;
  return `SELECT COUNT(*), ${half(1)}, ${half(17)}
    FROM (SELECT ${hashOf(access, columns)} AS h FROM ${access.from} WHERE ${rangeCondition(access, range)}) AS hashed`;
}

/** Streams a query over one table in one snapshot. */
async function* stream(
  pool: Pool,
  where: Where,
  relation: Relation,
  what: (access: TableAccess) => {
    readonly sql: string;
    readonly read: (row: readonly (Buffer | null)[]) => Tuple;
  },
): AsyncGenerator<readonly Tuple[]> {
  let link: Link;
  try {
    link = await pool.acquire();
  } catch (error) {
    throw failed(error, where, relation);
  }
  let clean = false;
  try {
    const { sql, read } = what(await begin(link, relation));
    for await (const rows of link.stream(sql)) yield rows.map(read);
    await link.run('COMMIT');
    clean = true;
  } catch (error) {
    throw failed(error, where, relation);
  } finally {
    pool.release(link, !clean);
  }
}
