import { SYSTEM_CLOCK } from '../../core/clock.ts';
import type { QueryClient } from './source-client.ts';

const FREE_WAIT_MS = 10_000;

/** A slot and who we are: the prefix of our walsenders' application names, and our term. */
export interface SlotClaim {
  readonly slot: string;
  readonly prefix: string;
  readonly term: number;
}

/**
 * Ends a walsender of this migration that holds the slot under our term or an older one: a connection that died without the server noticing,
 * or an engine that was taken over. True when the slot is free, false when somebody else reads it.
 */
export async function freeSlot(
  queries: QueryClient,
  claim: SlotClaim,
  signal: AbortSignal,
): Promise<boolean> {
  const started = performance.now();
  while (performance.now() - started < FREE_WAIT_MS) {
    const holder = await slotHolder(queries, claim.slot);
    if (holder === null) return true;
    if (!mayEnd(holder.application, claim)) return false;
    await queries.run((client) => client.query('SELECT pg_catalog.pg_terminate_backend($1)', [holder.pid]));
    await SYSTEM_CLOCK.sleep(50, signal);
  }
  return false;
}

function mayEnd(application: string, { prefix, term }: SlotClaim): boolean {
  if (!application.startsWith(prefix)) return false;
  const rest = application.slice(prefix.length);
  return /^\d+$/.test(rest) && Number(rest) <= term;
}

interface Holder {
  readonly pid: number;
  readonly application: string;
}

async function slotHolder(queries: QueryClient, slot: string): Promise<Holder | null> {
  const result = await queries.run((client) =>
    client.query<{ pid: string; application: string | null }>(
      `SELECT s.active_pid AS pid, a.application_name AS application FROM pg_catalog.pg_replication_slots s
       LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid
       WHERE s.slot_name = $1 AND s.active_pid IS NOT NULL`,
      [slot],
    ),
  );
  const row = result.rows[0];
  return row === undefined ? null : { pid: Number(row.pid), application: row.application ?? '' };
}
