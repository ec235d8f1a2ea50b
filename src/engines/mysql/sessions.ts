import type { Link } from './connect.ts';
import { literal } from './sql.ts';

/** The account that this session is of; sessions of others are the application's or an operator's. */
export const OUR_USER = "SUBSTRING_INDEX(USER(), '@', 1)";

const GONE_MS = 10_000;

/**
 * Ends sessions of this migration that carry a lower term, and waits until they are gone. They are known by their names, which the
 * server shows in its performance schema; where that is off (MariaDB's default) a takeover waits for their locks instead, which end
 * with the server's own time-outs.
 */
export async function endOlderTerms(link: Link, migration: string, term: number): Promise<void> {
  for (const [id, holder] of await holders(link, migration)) {
    const known = /:t(\d+)$/.exec(holder);
    if (known === null || Number(known[1]) >= term) continue;
    await end(link, id);
  }
}

async function holders(link: Link, migration: string): Promise<readonly (readonly [number, string])[]> {
  const prefix = literal(`verdigris:${migration.replaceAll(/[\\%_]/g, '\\$&')}:%`);
  const sql =
    link.flavour === 'mysql'
      ? `SELECT t.PROCESSLIST_ID, v.VARIABLE_VALUE FROM performance_schema.user_variables_by_thread v
         JOIN performance_schema.threads t ON t.THREAD_ID = v.THREAD_ID
         WHERE v.VARIABLE_NAME = 'verdigris' AND v.VARIABLE_VALUE LIKE ${prefix}`
      : `SELECT a.PROCESSLIST_ID, a.ATTR_VALUE FROM performance_schema.session_connect_attrs a
         WHERE a.ATTR_NAME = 'program_name' AND a.ATTR_VALUE LIKE ${prefix}`;
  const rows = await link.rows(sql).catch(() => []);
  return rows.map(([id, name]) => [Number(id), name ?? ''] as const);
}

/** Ends one session and waits until the server no longer lists it: what it had received could still be committed. */
export async function end(link: Link, id: number): Promise<void> {
  await link.run(`KILL ${id}`).catch(() => undefined);
  const started = performance.now();
  while (performance.now() - started < GONE_MS) {
    const there = await link.value(`SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = ${id}`);
    if (there === null) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
