import type pg from 'pg';
import type { Digest, Digester } from '../../core/digest.ts';
import type { KeyRange } from '../../core/snapshot.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { showTable, type Cell, type Relation, type Tuple } from '../../core/table.ts';
import { copyOut } from './chunk-reader.ts';
import { readAccess, selectRange, type TableAccess } from './chunk-reader-sql.ts';
import { parseCopyText } from './copy-text.ts';
import { translate, type Where } from './errors.ts';
import type { ConnectionPool } from './session-pool.ts';
import { splitKeys } from './snapshot-split.ts';
import { ident, qualified } from './sql.ts';

/** Digests and reads in short transactions that lock the table first, so that a rewrite cannot make them read nothing. */
export function createDigester(pool: ConnectionPool, where: Where): Digester {
  const run = async <T>(
    relation: Relation,
    work: (client: pg.Client, access: TableAccess) => Promise<T>,
  ): Promise<T> => {
    try {
      return await pool.use(async (client) => {
        await begin(client, relation);
        const result = await work(client, await readAccess(client, relation));
        await client.query('COMMIT');
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
        : run(relation, (client, access) => splitKeys(client, relation, access, rows)),
    digest: (relation, columns, range) =>
      run(relation, async (client, access) => {
        const { rows } = await client.query<{ rows: string; a: string; b: string }>(
          digestSql(relation, access, columns, range),
        );
        const row = rows[0];
        return { rows: Number(row?.rows ?? 0), hash: `${row?.a ?? 0}:${row?.b ?? 0}` } satisfies Digest;
      }),
    hashes: (relation, { key, hashed }, range) =>
      stream(pool, where, relation, {
        columns: key.length + 1,
        query: (access) => hashSql(relation, access, { key, hashed }, range),
      }),
    read: (relation, range) => {
      const columns = relation.columns.map((_, index) => index);
      return stream(pool, where, relation, {
        columns: columns.length,
        query: (access) => selectRange(relation, access, { columns, range, ordered: true }),
      });
    },
  };
}

/** Undefined column, table or type. */
const CHANGED = new Set(['42703', '42P01', '42704', '3F000']);

function failed(error: unknown, where: Where, relation: Relation): VerdigrisError {
  const table = showTable(relation.table);
  const translated = translate(error, where, { table });
  if (!CHANGED.has(String(translated.context['sqlstate']))) return translated;
  return new VerdigrisError(
    'SCHEMA_CHANGED',
    `The layout of ${table} changed: it cannot be compared (${translated.message}).`,
    {
      context: translated.context,
    },
  );
}

async function begin(client: pg.Client, relation: Relation): Promise<void> {
  await client.query(
    `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE ${qualified(relation.table)} IN ACCESS SHARE MODE`,
  );
}

/**
 * A row is hashed over the text of a record of its columns: the record's quoting keeps borders and tells NULL from the empty
 * string, and every column is printed by its type's output function, exactly as COPY and the stream print it. The hash is the
 * server's own for text with two seeds, 128 bits, the same in every version; MD5 took three times as long. The halves are summed
 * without wrapping, so that order does not matter and equal rows do not cancel out.
 */
export function digestSql(
  relation: Relation,
  access: TableAccess,
  columns: readonly number[],
  range: KeyRange,
): string {
  const inner = selectRange(relation, access, { columns, range });
  const half = (seed: number): string => `coalesce(sum(${halfOf(seed)}), 0)::text`;
  return `SELECT count(*)::text AS rows, ${half(0)} AS a, ${half(1)} AS b
    FROM (SELECT ${recordOf('d', 0, columns.length)} AS r FROM (${inner}) AS ${aliased('d', columns.length)} OFFSET 0) AS printed`;
}

const halfOf = (seed: number): string => `pg_catalog.hashtextextended(r COLLATE "C", ${seed})`;

/** Key cells and hash per row. The key comes first in the inner query, printed as COPY prints it. */
function hashSql(
  relation: Relation,
  access: TableAccess,
  { key, hashed }: { readonly key: readonly number[]; readonly hashed: readonly number[] },
  range: KeyRange,
): string {
  const columns = [...key, ...hashed];
  const inner = selectRange(relation, access, { columns, range });
  const cells = key.map((_, index) => `d.${ident(`c${index}`)} AS ${ident(`k${index}`)}, `).join('');
  const named = key.map((_, index) => `${ident(`k${index}`)}, `).join('');
  return `SELECT ${named}concat(${halfOf(0)}, ':', ${halfOf(1)})
    FROM (SELECT ${cells}${recordOf('d', key.length, hashed.length)} AS r FROM (${inner}) AS ${aliased('d', columns.length)} OFFSET 0) AS printed`;
}

const recordOf = (alias: string, from: number, count: number): string =>
  `ROW(${Array.from({ length: count }, (_, index) => `${alias}.${ident(`c${from + index}`)}`).join(', ')})::text`;

const aliased = (alias: string, count: number): string =>
  count === 0
    ? alias
    : `${alias}(${Array.from({ length: count }, (_, index) => ident(`c${index}`)).join(', ')})`;

/** Streams a query over one table, locked against rewrites, as tuples of text. */
async function* stream(
  pool: ConnectionPool,
  where: Where,
  relation: Relation,
  what: { readonly columns: number; readonly query: (access: TableAccess) => string },
): AsyncGenerator<readonly Tuple[]> {
  let client: pg.Client;
  try {
    client = await pool.acquire();
  } catch (error) {
    throw failed(error, where, relation);
  }
  let clean = false;
  try {
    await begin(client, relation);
    const access = await readAccess(client, relation);
    yield* parseCopyText(copyOut(client, what.query(access), { where, broken: () => undefined }), {
      columns: what.columns,
    });
    await client.query('COMMIT');
    clean = true;
  } catch (error) {
    throw failed(error, where, relation);
  } finally {
    pool.release(client, !clean);
  }
}
