import type pg from 'pg';
import type { SourceHealth } from '../../core/source.ts';

const sql = `SELECT s.wal_status, s.active, s.safe_wal_size::text,
    pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
      ELSE pg_catalog.pg_current_wal_insert_lsn() END, s.restart_lsn)::text AS retained,
    (SELECT extract(epoch FROM pg_catalog.clock_timestamp() - min(t))::text FROM (
       SELECT a.xact_start AS t FROM pg_catalog.pg_stat_activity a
         WHERE a.backend_type = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid() AND a.xact_start IS NOT NULL
       UNION ALL SELECT p.prepared FROM pg_catalog.pg_prepared_xacts p) o) AS oldest
  FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $1`;

interface Row {
  readonly wal_status: string | null;
  readonly active: string | null;
  readonly safe_wal_size: string | null;
  readonly retained: string | null;
  readonly oldest: string | null;
}

/** What the slot keeps for us, against the budget of the configuration. */
export async function readHealth(client: pg.Client, slot: string, limitBytes: number): Promise<SourceHealth> {
  const result = await client.query<Row>(sql, [slot]);
  const row = result.rows[0];
  const exists = row !== undefined && row.active !== null;
  const state = exists ? (row.wal_status ?? 'lost') : 'missing';
  const retainedBytes =
    row?.retained === null || row === undefined ? null : Math.max(0, Number(row.retained));
  const overBudget = retainedBytes !== null && retainedBytes >= limitBytes;
  const safe = row?.safe_wal_size ?? null;
  return {
    state,
    ok: (state === 'reserved' || state === 'extended') && !overBudget,
    retainedBytes,
    limitBytes,
    oldestTransactionSeconds:
      row === undefined || row.oldest === null ? null : Math.max(0, Number(row.oldest)),
    detail:
      `slot ${slot}: ${state}, ${row?.active === 't' ? 'active' : 'not active'}` +
      (safe === null ? '' : `, ${safe} bytes until the server drops it`) +
      (overBudget ? ', over the budget' : ''),
  };
}
