import type { Link } from './connect.ts';
import { literal } from './sql.ts';
import { stateTable } from './state-names.ts';

/** The account that this session is of; sessions of others are the application's or an operator's. */
export const OUR_USER = "SUBSTRING_INDEX(USER(), '@', 1)";

const GONE_MS = 10_000;

/** Notes which session of the server writes under which term, where a takeover finds it. */
export async function registerSession(
  link: Link,
  at: { readonly stateSchema: string; readonly migration: string; readonly term: number },
): Promise<void> {
  await link.run(
    `REPLACE INTO ${stateTable(at.stateSchema, 'own')} (id, token) VALUES (${literal(at.migration)}, ${literal(`session:${link.id}:t${at.term}`)})`,
  );
}

/**
 * Ends sessions of this migration that write under a lower term, and waits until they are gone. The number of a session may be another
 * one's after a restart of the server, so only sessions of our own account are ended.
 */
export async function endOlderTerms(
  link: Link,
  at: { readonly stateSchema: string; readonly migration: string; readonly term: number },
): Promise<void> {
  const own = stateTable(at.stateSchema, 'own');
  const rows = await link.rows(
    `SELECT token FROM ${own} WHERE id = ${literal(at.migration)} AND token LIKE 'session:%'`,
  );
  for (const [token] of rows) {
    const match = /^session:(\d+):t(\d+)$/.exec(token ?? '');
    if (match === null || Number(match[2]) >= at.term) continue;
    const id = Number(match[1]);
    const ours = await link.value(
      `SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = ${id} AND ID <> CONNECTION_ID() AND USER = ${OUR_USER}`,
    );
    if (ours !== null) await end(link, id);
    await link.run(
      `DELETE FROM ${own} WHERE id = ${literal(at.migration)} AND token = ${literal(token ?? '')}`,
    );
  }
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
