import type pg from 'pg';
import type { Cell, Relation } from '../../core/table.ts';
import type { TableAccess } from './chunk-reader-sql.ts';
import { ident } from './sql.ts';

/** More ranges than this make bookkeeping dearer than an uneven copy. */
const MAX_RANGES = 20_000;

/** Up to this size the key is read whole and the boundaries are exact. */
const EXACT_BYTES = 4 * 1024 * 1024;

/** Sampled rows per range: enough that a range is rarely twice its size. */
const SAMPLES_PER_RANGE = 100;
const ENOUGH_PER_RANGE = 20;

export interface Size {
  readonly rows: number;
  readonly bytes: number;
}

const SIZE = `
SELECT coalesce(sum(pg_catalog.pg_table_size(c.oid)), 0)::text AS bytes,
  coalesce(sum(pg_catalog.pg_relation_size(c.oid)), 0)::text AS heap,
  coalesce(sum(CASE
    WHEN c.reltuples >= 0 AND c.relpages > 0
      THEN c.reltuples::float8 / c.relpages * (pg_catalog.pg_relation_size(c.oid) / current_setting('block_size')::float8)
    ELSE pg_catalog.pg_relation_size(c.oid) / $2::float8 END), 0)::text AS rows
FROM (
  SELECT pg_catalog.to_regclass($1) AS relid
  UNION
  SELECT t.relid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) t WHERE t.isleaf
) p JOIN pg_catalog.pg_class c ON c.oid = p.relid`;

/**
 * Rows and bytes (TOAST included) from statistics and file sizes, partitions summed. Rows per page come from the last ANALYZE
 * or VACUUM; without one from a guess of the width by column.
 */
export async function readSize(
  client: pg.ClientBase,
  relation: Relation,
  access: TableAccess,
): Promise<Size & { heap: number }> {
  const width = 28 + relation.columns.reduce((sum, column) => sum + (column.mayBeUnchanged ? 24 : 8), 0);
  const name = access.from.replace(/^ONLY /, '');
  const { rows } = await client.query<{ rows: string; bytes: string; heap: string }>(SIZE, [name, width]);
  const row = rows[0];
  return {
    rows: Math.round(Number(row?.rows ?? 0)),
    bytes: Number(row?.bytes ?? 0),
    heap: Number(row?.heap ?? 0),
  };
}

/**
 * Boundaries of the first key column that make ranges of about `rows` rows, ascending and distinct by the server's own
 * comparison; none equals the smallest key. A value that many rows share stays in one range: only the first column counts.
 */
export async function splitKeys(
  client: pg.ClientBase,
  relation: Relation,
  access: TableAccess,
  rows: number,
): Promise<readonly Cell[]> {
  const first = access.key[0];
  if (first === undefined || !first.sortable) return [];
  const size = await readSize(client, relation, access);
  if (size.heap <= EXACT_BYTES) return (await quantiles(client, access, { rows, sample: '' })).boundaries;
  if (size.rows <= rows) return [];
  const ranges = Math.min(MAX_RANGES, Math.ceil(size.rows / rows));
  const wanted = Math.max(20_000, ranges * SAMPLES_PER_RANGE);
  // Few pages can hold most of the rows, or statistics can lie: then a larger part is read. Few distinct values are no reason.
  for (let percent = Math.max(0.001, (100 * wanted) / size.rows); ; percent *= 10) {
    const sample = percent >= 100 ? '' : ` TABLESAMPLE SYSTEM (${percent.toFixed(6)})`;
    const { boundaries, keys } = await quantiles(client, access, { ranges, sample });
    if (sample === '' || keys >= ranges * ENOUGH_PER_RANGE) return boundaries;
  }
}

/** Boundaries of equal parts: of about `rows` rows each, or `ranges` of them. */
async function quantiles(
  client: pg.ClientBase,
  access: TableAccess,
  how: { readonly rows?: number; readonly ranges?: number; readonly sample: string },
): Promise<{ readonly keys: number; readonly boundaries: readonly Cell[] }> {
  const column = `t.${ident(access.key[0]?.name ?? '')}`;
  const rows = Math.max(1, Math.floor(how.rows ?? 1));
  const ranges =
    how.ranges === undefined ? `least(${MAX_RANGES}, (c + ${rows - 1}) / ${rows})` : String(how.ranges);
  // concat() prints with the type's output function, as COPY and the stream do; a cast to text may print otherwise.
  const result = await client.query<{ keys: string; boundaries: string }>(
    `WITH keys AS MATERIALIZED (SELECT ${column} AS k FROM ${access.from} AS t${how.sample}),
     numbered AS (
       SELECT k, row_number() OVER (ORDER BY k) - 1 AS n, rank() OVER (ORDER BY k) AS r, count(*) OVER () AS c FROM keys
     ),
     picked AS (
       SELECT DISTINCT ON (k) k FROM numbered WHERE r > 1 AND n * ${ranges} / c <> (n - 1) * ${ranges} / c ORDER BY k
     )
     SELECT (SELECT count(*) FROM keys)::text AS keys,
       (SELECT coalesce(json_agg(concat(k) ORDER BY k), '[]') FROM picked)::text AS boundaries`,
  );
  const row = result.rows[0];
  return { keys: Number(row?.keys ?? 0), boundaries: JSON.parse(row?.boundaries ?? '[]') as string[] };
}

/** For each value the number of boundaries that are not greater, by the server's comparison. */
export async function bucketKeys(
  client: pg.ClientBase,
  access: TableAccess,
  boundaries: readonly Cell[],
  values: readonly Cell[],
): Promise<number[]> {
  const first = access.key[0];
  if (first === undefined || boundaries.length === 0 || values.length === 0) return values.map(() => 0);
  const { rows } = await client.query<{ bucket: string | number }>(
    `SELECT width_bucket(v.k::${first.type} ${first.collate}, $1::text[]::${first.type}[]) AS bucket
     FROM unnest($2::text[]) WITH ORDINALITY AS v(k, n) ORDER BY v.n`,
    [boundaries.map(String), values.map(String)],
  );
  return rows.map((row) => Number(row.bucket));
}
