import type pg from 'pg';
import type { Readiness, ReadinessReader } from '../../core/readiness.ts';
import type { TableName } from '../../core/table.ts';
import { translate, type Where } from './errors.ts';

/** The tables of $1/$2 with their partitions and inheritance children. */
const TABLES = `WITH RECURSIVE mapped AS (
  SELECT c.oid FROM unnest($1::text[], $2::text[]) AS t(schema, name)
  JOIN pg_catalog.pg_namespace n ON n.nspname = t.schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.name
  UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN mapped m ON i.inhparent = m.oid
)`;

const QUERIES: Readonly<Record<keyof Readiness, string>> = {
  // SHARE UPDATE EXCLUSIVE of an autovacuum gives way to the fence; one against wraparound and a manual one do not.
  ddlInProgress: `${TABLES}
    SELECT DISTINCT format('%s: %s of process %s', l.relation::regclass, l.mode, l.pid) AS found
    FROM pg_catalog.pg_locks l JOIN mapped m ON m.oid = l.relation
    LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
      AND coalesce(a.application_name, '') NOT LIKE 'verdigris:%'
      AND NOT (coalesce(a.backend_type, '') = 'autovacuum worker' AND coalesce(a.query, '') NOT LIKE '%to prevent wraparound%')
    UNION
    SELECT format('prepared transaction %s', x.gid) FROM pg_catalog.pg_prepared_xacts x
    WHERE x.database = current_database() AND ($1::text[] IS NOT NULL)`,
  invalidIndexes: `${TABLES}
    SELECT i.indexrelid::regclass::text AS found FROM pg_catalog.pg_index i JOIN mapped m ON m.oid = i.indrelid
    WHERE NOT (i.indisvalid AND i.indisready)`,
  unvalidatedConstraints: `${TABLES}
    SELECT format('%s on %s', quote_ident(c.conname), c.conrelid::regclass) AS found
    FROM pg_catalog.pg_constraint c JOIN mapped m ON m.oid = c.conrelid WHERE NOT c.convalidated`,
  // reltuples is -1 until the first ANALYZE or VACUUM (PostgreSQL 14 and newer).
  tablesWithoutStatistics: `${TABLES}
    SELECT c.oid::regclass::text AS found FROM pg_catalog.pg_class c JOIN mapped m ON m.oid = c.oid
    WHERE c.relkind = 'r' AND c.reltuples < 0`,
};

export function createReadiness(options: {
  readonly withClient: <T>(work: (client: pg.Client) => Promise<T>) => Promise<T>;
  readonly where: Where;
}): ReadinessReader {
  return {
    async read(tables: readonly TableName[]): Promise<Readiness> {
      const values = [tables.map((table) => table.schema), tables.map((table) => table.name)];
      try {
        return await options.withClient(async (client) => {
          const found = async (key: keyof Readiness): Promise<string[]> =>
            (await client.query<{ found: string }>(QUERIES[key], values)).rows.map((row) => row.found);
          return {
            ddlInProgress: await found('ddlInProgress'),
            invalidIndexes: await found('invalidIndexes'),
            unvalidatedConstraints: await found('unvalidatedConstraints'),
            tablesWithoutStatistics: await found('tablesWithoutStatistics'),
          };
        });
      } catch (error) {
        throw translate(error, options.where);
      }
    },
  };
}
