import type pg from 'pg';
import type { TableName } from '../../core/table.ts';
import { family } from './guards.ts';

/** Somebody who holds, or may still take into effect, a write to a fenced table. Never with the text of a query. */
export interface Blocker {
  /** Null for a prepared transaction. */
  readonly pid: number | null;
  /** Stays the same as long as it is the same transaction. */
  readonly key: string;
  readonly application: string;
  readonly ageSeconds: number;
  readonly describe: string;
}

// Locks of ROW EXCLUSIVE strength and above; autovacuum holds SHARE UPDATE EXCLUSIVE but writes no rows, and ours are told by
// role and application name together. Prepared transactions appear in pg_locks without a pid.
const BLOCKERS = `
SELECT l.pid::text AS pid,
       coalesce(a.application_name, '') AS application,
       coalesce(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.backend_start))::int, 0)::text AS age,
       coalesce(a.state, 'state not visible to this role') AS state,
       coalesce(extract(epoch FROM a.xact_start)::text, '') AS since,
       string_agg(DISTINCT l.relation::regclass::text, ', ') AS tables
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.pid IS NOT NULL AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.relation = ANY ($1::oid[])
  AND l.mode IN ('RowExclusiveLock','ShareUpdateExclusiveLock','ShareLock','ShareRowExclusiveLock','ExclusiveLock','AccessExclusiveLock')
  AND coalesce(a.backend_type, '') <> 'autovacuum worker'
  AND ($2::boolean OR NOT (coalesce(a.usename, '') = session_user AND coalesce(a.application_name, '') LIKE 'verdigris:%'))
GROUP BY 1, 2, 3, 4, 5
ORDER BY 3 DESC, 1`;

const PREPARED = `
SELECT gid, owner, coalesce(extract(epoch FROM clock_timestamp() - prepared)::int, 0)::text AS age
FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared`;

interface LockRow {
  readonly pid: string;
  readonly application: string;
  readonly age: string;
  readonly state: string;
  readonly since: string;
  readonly tables: string;
}

/**
 * Prepared transactions of this database, and other backends with a write lock on one of these tables or their parts;
 * `ours` includes other sessions of our own, which may be what a lock waits for.
 */
export async function readBlockers(
  client: pg.Client,
  tables: readonly TableName[],
  options: { readonly ours: boolean },
): Promise<readonly Blocker[]> {
  const members = await family(client, tables);
  const prepared = await client.query<{ gid: string; owner: string; age: string }>(PREPARED);
  const locks = await client.query<LockRow>(BLOCKERS, [members.map((member) => member.oid), options.ours]);
  return [
    ...prepared.rows.map((row) => ({
      pid: null,
      key: `prepared ${row.gid}`,
      application: '',
      ageSeconds: Number(row.age),
      describe: `prepared transaction ${row.gid} of ${row.owner}, ${row.age} s old`,
    })),
    ...locks.rows.map((row) => ({
      pid: Number(row.pid),
      key: `${row.pid} ${row.since}`,
      application: row.application,
      ageSeconds: Number(row.age),
      describe: `pid ${row.pid} (${row.application === '' ? 'no application_name' : row.application}), ${row.state}, ${row.age} s, holds a write lock on ${row.tables}`,
    })),
  ];
}
