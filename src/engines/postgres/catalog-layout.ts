import type pg from 'pg';
import { VerdigrisError } from '../../core/errors.ts';
import { showTable, type TableName } from '../../core/table.ts';
import type { TypeFacts } from './kinds.ts';

/** A column as pg_attribute has it. */
export interface LayoutColumn {
  readonly number: number;
  readonly name: string;
  readonly type: string;
  readonly typeOid: string;
  readonly notNull: boolean;
  readonly generated: boolean;
  readonly hasDefault: boolean;
  readonly toastable: boolean;
  readonly deterministic: boolean;
  /** Its text is ordered by bytes (collation "C" and what is defined to be the same). */
  readonly byteOrder: boolean;
}

export interface LayoutIndex {
  readonly name: string;
  /** Attribute numbers of the key columns; 0 stands for an expression. */
  readonly columns: readonly number[];
  readonly primary: boolean;
  readonly identity: boolean;
  readonly immediate: boolean;
  readonly partial: boolean;
}

/** A table as the catalog has it, before roles give it a meaning. */
export interface Layout {
  readonly relkind: string;
  /** pg_class.relreplident: d, i, f or n. */
  readonly replicaIdentity: string;
  readonly columns: readonly LayoutColumn[];
  /** Valid unique indexes, by name. */
  readonly indexes: readonly LayoutIndex[];
  readonly types: ReadonlyMap<string, TypeFacts>;
}

/** OFFSET 0 keeps the planner from reading all of pg_type, which has a row for every table: it does not know how few types a table has. */
const LAYOUT = `
WITH RECURSIVE rel AS (
  SELECT c.oid, c.relkind, c.relreplident FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = $1 AND c.relname = $2
), col AS (
  SELECT a.*, coll.collisdeterministic AS deterministic,
    CASE
      WHEN db.encoding <> 'UTF8' THEN false
      WHEN coll.collprovider = 'd' THEN db.byte_order
      WHEN coll.collprovider = 'c' THEN coll.collcollate IN ('C', 'POSIX')
      WHEN coll.collprovider = 'b' THEN true
      ELSE coalesce(coll.collname IN ('C', 'POSIX', 'ucs_basic') AND coll.collnamespace = 'pg_catalog'::regnamespace, false)
    END AS byte_order
  FROM rel JOIN pg_catalog.pg_attribute a ON a.attrelid = rel.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_catalog.pg_collation coll ON coll.oid = a.attcollation
  CROSS JOIN (
    SELECT pg_catalog.pg_encoding_to_char(d.encoding) AS encoding,
      CASE coalesce(to_jsonb(d) ->> 'datlocprovider', 'c')
        WHEN 'c' THEN d.datcollate IN ('C', 'POSIX') WHEN 'b' THEN true ELSE false END AS byte_order
    FROM pg_catalog.pg_database d WHERE d.datname = current_database()
  ) db
), typ(oid, over) AS (
  SELECT t.oid, o.over FROM col JOIN pg_catalog.pg_type t ON t.oid = col.atttypid
  CROSS JOIN LATERAL (SELECT CASE
    WHEN t.typtype = 'd' THEN t.typbasetype
    WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem
    ELSE (SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)) END AS over) o
  UNION
  SELECT t.oid, o.over FROM typ CROSS JOIN LATERAL (SELECT * FROM pg_catalog.pg_type t WHERE t.oid = typ.over OFFSET 0) t
  CROSS JOIN LATERAL (SELECT CASE
    WHEN t.typtype = 'd' THEN t.typbasetype
    WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem
    ELSE (SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)) END AS over) o
)
SELECT json_build_object(
  'relkind', rel.relkind,
  'replicaIdentity', rel.relreplident,
  'columns', (SELECT coalesce(json_agg(json_build_object(
      'number', a.attnum, 'name', a.attname, 'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
      'typeOid', a.atttypid::text, 'notNull', a.attnotnull, 'generated', a.attgenerated <> '',
      'hasDefault', (a.atthasdef AND a.attgenerated = '') OR a.attidentity <> '',
      'toastable', a.attstorage <> 'p' AND a.attlen = -1,
      'deterministic', coalesce(a.deterministic, true), 'byteOrder', coalesce(a.byte_order, false)
    ) ORDER BY a.attnum), '[]') FROM col a),
  'indexes', (SELECT coalesce(json_agg(json_build_object(
      'name', ic.relname, 'columns', (SELECT json_agg(k.n ORDER BY k.o) FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(n, o)
        WHERE k.o <= i.indnkeyatts),
      'primary', i.indisprimary, 'identity', i.indisreplident, 'immediate', i.indimmediate,
      'partial', i.indpred IS NOT NULL
    ) ORDER BY ic.relname COLLATE "C"), '[]')
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
    WHERE i.indrelid = rel.oid AND i.indisunique AND i.indisvalid),
  'types', (SELECT coalesce(json_agg(json_build_object(
      'oid', t.oid::text, 'name', t.typname, 'builtin', t.typnamespace = 'pg_catalog'::regnamespace,
      'category', t.typtype, 'over', typ.over::text, 'array', t.typcategory = 'A' AND t.typelem <> 0 AND t.typtype <> 'd',
      'notNull', t.typnotnull,
      'labels', (SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid)
    ) ORDER BY t.oid), '[]') FROM (SELECT DISTINCT * FROM typ) typ
      CROSS JOIN LATERAL (SELECT * FROM pg_catalog.pg_type t WHERE t.oid = typ.oid OFFSET 0) t)
)::text AS layout
FROM rel`;

const RELKINDS: Readonly<Record<string, string>> = {
  v: 'a view',
  m: 'a materialized view',
  f: 'a foreign table',
  S: 'a sequence',
  c: 'a composite type',
  i: 'an index',
  I: 'an index',
  t: 'a TOAST table',
};

/**
 * Reads the layout of one table with one query, so that it is consistent with the snapshot of the transaction around it.
 * @throws VerdigrisError SCHEMA_TABLE_MISSING; SCHEMA_UNSUPPORTED when the name is not that of a table
 */
export async function readLayout(client: pg.ClientBase, table: TableName): Promise<Layout> {
  const result = await client.query<{ layout: string }>({
    name: 'verdigris_layout',
    text: LAYOUT,
    values: [table.schema, table.name],
  });
  const row = result.rows[0];
  if (row === undefined) {
    throw new VerdigrisError('SCHEMA_TABLE_MISSING', `The table ${showTable(table)} does not exist.`, {
      context: { table: showTable(table) },
    });
  }
  const layout = JSON.parse(row.layout) as Omit<Layout, 'types'> & { types: (TypeFacts & { oid: string })[] };
  if (layout.relkind !== 'r' && layout.relkind !== 'p') {
    throw new VerdigrisError(
      'SCHEMA_UNSUPPORTED',
      `${showTable(table)} is ${RELKINDS[layout.relkind] ?? 'not a table'}.`,
      {
        remedy: 'Only ordinary and partitioned tables can be replicated. Leave it out of the mapping.',
        context: { table: showTable(table) },
      },
    );
  }
  return { ...layout, types: new Map(layout.types.map((type) => [type.oid, type])) };
}
