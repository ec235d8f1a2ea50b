import type pg from 'pg';
import type { Digest, Digester } from '../../core/digest.ts';
import type { KeyRange } from '../../core/snapshot.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { showTable, type Cell, type Column, type Relation, type Tuple } from '../../core/table.ts';
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
        const { rows } = await client.query<{ rows: string; hash: string }>(
          digestSql(relation, access, columns, range),
        );
        const row = rows[0];
        return { rows: Number(row?.rows ?? 0), hash: row?.hash ?? '0' } satisfies Digest;
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
 * A row is the exclusive or of its columns' hashes, each with a seed of its own, hashed once more; a range is the sum of its rows, without
 * wrapping, so that order does not matter and equal rows do not cancel out. The hashes are the server's own, 64 bits wide and the
 * same in every version, because hash partitions survive an upgrade. What a type prints several ways for one value is hashed as text.
 * Half a million rows a second and core more than hashing the text of a whole record.
 */
export function digestSql(
  relation: Relation,
  access: TableAccess,
  columns: readonly number[],
  range: KeyRange,
): string {
  const inner = selectRange(relation, access, { columns, range });
  return `SELECT count(*)::text AS rows, coalesce(sum(${hashOf(relation, columns)}), 0)::text AS hash
    FROM (${inner}) AS ${aliased('d', columns.length)}`;
}

/** Key cells and hash per row. The key comes first in the inner query, printed as COPY prints it. */
function hashSql(
  relation: Relation,
  access: TableAccess,
  { key, hashed }: { readonly key: readonly number[]; readonly hashed: readonly number[] },
  range: KeyRange,
): string {
  const columns = [...key, ...hashed];
  const inner = selectRange(relation, access, { columns, range });
  const cells = key.map((_, index) => `d.${ident(`c${index}`)}, `).join('');
  return `SELECT ${cells}${hashOf(relation, hashed, key.length)} FROM (${inner}) AS ${aliased('d', columns.length)}`;
}

/** The hash of a row whose columns are `c<from>`, `c<from + 1>` … of `d`. */
function hashOf(relation: Relation, columns: readonly number[], from = 0): string {
  const parts = columns.map((column, seed) => {
    const hash = columnHash(relation.columns[column] as Column, `d.${ident(`c${from + seed}`)}`, seed);
    return `coalesce(${hash}, ${nullHash(seed)})`;
  });
  return `pg_catalog.hashint8extended(${parts.length === 0 ? '0' : parts.join(' # ')}, 0)`;
}

/**
 * Depends on the kind alone: blue and green may spell the type of a column in two ways. Two values have one hash only if their text is
 * the same.
 */
function columnHash({ kind }: Column, cell: string, seed: number): string {
  const ofText = (text: string): string => `pg_catalog.hashtextextended((${text}) COLLATE "C", ${seed})`;
  switch (kind) {
    case 'integer':
      return `pg_catalog.hashint8extended(${cell}::int8, ${seed})`;
    case 'boolean':
      return `pg_catalog.hashint4extended(${cell}::int4, ${seed})`;
    case 'uuid':
      return `pg_catalog.uuid_hash_extended(${cell}, ${seed})`;
    case 'timestamp':
      return `pg_catalog.timestamp_hash_extended(${cell}, ${seed})`;
    case 'timestamptz':
      return `pg_catalog.timestamp_hash_extended(${cell} AT TIME ZONE 'UTC', ${seed})`;
    case 'text':
    case 'decimal':
    case 'date':
    case 'json':
      return ofText(`${cell}::text`);
    default:
      // A cast to text may be somebody's own, or print otherwise than COPY does; the text of a record is what the type itself prints.
      return ofText(`ROW(${cell})::text`);
  }
}

/** NULL, as a hash that no seed shares with another. */
const nullHash = (seed: number): string =>
  String(((BigInt(seed) + 1n) * 0x9e37_79b9_7f4a_7c15n) & (2n ** 62n - 1n));

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
