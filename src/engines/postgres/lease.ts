import { createHash } from 'node:crypto';
import { MAX_IDENTIFIER_BYTES } from './sql.ts';
import { stateTable } from './state-tables.ts';
import type { Statement } from './sink-wire.ts';

/**
 * `verdigris:<migration>:<purpose>:t<term>`. A takeover ends the sessions of an older term by this name, so a migration name that does
 * not fit is cut and made unique by a hash: the server would cut the term off.
 */
export function applicationName(migration: string, purpose: string, term: number): string {
  const tail = `:${purpose}:t${term}`;
  return `${applicationHead(migration)}${tail}`;
}

/** Room that purpose and term need. */
const TAIL_BYTES = 30;

function applicationHead(migration: string): string {
  const whole = `verdigris:${migration}`;
  if (Buffer.byteLength(whole) <= MAX_IDENTIFIER_BYTES - TAIL_BYTES && /^[\x20-\x7e]*$/.test(migration))
    return whole;
  return `verdigris:${createHash('sha256').update(migration).digest('hex').slice(0, 20)}`;
}

/** Ends sessions of this migration that carry a lower term; returns how many. */
export const endOlderTerms = (migration: string, term: number): Statement => ({
  text: `SELECT pg_catalog.count(*) FILTER (WHERE pg_catalog.pg_terminate_backend(a.pid)) FROM pg_catalog.pg_stat_activity a
    WHERE a.pid <> pg_catalog.pg_backend_pid() AND a.datname = pg_catalog.current_database()
      AND pg_catalog.starts_with(a.application_name, $1)
      AND pg_catalog.substring(a.application_name, ':t([0-9]+)$')::bigint < $2::bigint`,
  values: [`${applicationHead(migration)}:`, String(term)],
});

/** Longest wait for a session of ours to be gone. */
const GHOST_MS = 10_000;

/**
 * Ends sessions of ours whose connection was lost, and waits until they are gone. The server goes on with what it had received, a
 * pipelined COMMIT included, and would commit behind the back of whoever reads the state now. Answers 1, or 0 when one is still there.
 */
export const endGhosts = (migration: string, pids: Iterable<number>): Statement => ({
  text: `SELECT coalesce(pg_catalog.bool_and(pg_catalog.pg_terminate_backend(a.pid, ${GHOST_MS})), true)::int::text
    FROM pg_catalog.pg_stat_activity a WHERE a.pid = ANY ($1::int[]) AND pg_catalog.starts_with(a.application_name, $2)`,
  values: [`{${[...pids].join(',')}}`, `${applicationHead(migration)}:`],
});

/**
 * First statement of every transaction on the sink but a group: fails on the server (division by zero) when another term stands
 * there. FOR KEY SHARE lets the holder renew the lease and makes a takeover wait.
 * @param also an expression to evaluate in the same statement
 */
export const leaseGuard = (schema: string, id: string, term: number, also?: string): Statement => ({
  text: `SELECT 1 / count(*)${also === undefined ? '' : `, ${also}`} FROM (SELECT 1 FROM ${stateTable(schema, 'lease')} WHERE id = $1 AND term = $2::bigint FOR KEY SHARE) AS l`,
  values: [id, String(term)],
});
