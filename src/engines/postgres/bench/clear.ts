import type pg from 'pg';
import { VerdigrisError } from '../../../core/errors.ts';
import type { PostgresConfig } from '../config.ts';
import { connect } from '../connect.ts';
import { ident } from '../sql.ts';
import { MADE_BY, namesOf, SCHEMAS } from './names.ts';
import { until } from './until.ts';

/** Longest wait for a reader of one of our slots to be gone. */
const LEAVE_MS = 30_000;

/** Removes everything of a bench on both sides, by connections of its own, and gives the names of what was there. */
export async function clear(blue: PostgresConfig, green: PostgresConfig): Promise<string[]> {
  await using stack = new AsyncDisposableStack();
  const open = async (config: PostgresConfig): Promise<pg.Client> => {
    const client = await connect(config, { applicationName: 'verdigris-bench:clear' });
    stack.defer(() => client.end().catch(() => undefined));
    return client;
  };
  const left = await open(blue);
  const right = await open(green);
  const { peer } = namesOf(blue);
  const subscription = await dropSubscription(right, peer);
  const removed = subscription === null ? [] : [`subscription ${peer} of green`];
  const sides = [
    ['blue', left, blue],
    ['green', right, green],
  ] as const;
  for (const [side, client, config] of sides) {
    const { slots, publications } = namesOf(config);
    const dropped = await dropSlots(client, slots, subscription);
    removed.push(...dropped.map((name) => `slot ${name} of ${side}`));
    const { rows } = await client.query<{ name: string }>(
      'SELECT pubname::text AS name FROM pg_publication WHERE pubname = ANY ($1)',
      [publications],
    );
    for (const { name } of rows) {
      await client.query(`DROP PUBLICATION IF EXISTS ${ident(name)}`);
      removed.push(`publication ${name} of ${side}`);
    }
    for (const { name, ours } of await schemasOf(client)) {
      if (ours !== 't') continue;
      await client.query(`DROP SCHEMA IF EXISTS ${ident(name)} CASCADE`);
      removed.push(`schema ${name} of ${side}`);
    }
  }
  return removed;
}

/** Schemas that have one of our names, and whether we made them (`t`). */
export async function schemasOf(client: pg.Client): Promise<{ name: string; ours: 't' | 'f' }[]> {
  const { rows } = await client.query<{ name: string; ours: 't' | 'f' }>(
    `SELECT nspname::text AS name, coalesce(obj_description(oid, 'pg_namespace') = $2, false) AS ours
     FROM pg_namespace WHERE nspname = ANY ($1) ORDER BY 1`,
    [Object.values(SCHEMAS), MADE_BY],
  );
  return rows;
}

/**
 * Drops a subscription of this database without asking blue for its slot.
 * @returns its oid, which is in the names of the slots that its first copy makes; null: there was none
 */
export async function dropSubscription(green: pg.Client, name: string): Promise<string | null> {
  const { rows } = await green.query<{ oid: string }>(
    `SELECT s.oid::text FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
     WHERE s.subname = $1 AND d.datname = current_database()`,
    [name],
  );
  const [found] = rows;
  if (found === undefined) return null;
  await green.query(`ALTER SUBSCRIPTION ${ident(name)} DISABLE`);
  await green.query(`ALTER SUBSCRIPTION ${ident(name)} SET (slot_name = NONE)`);
  await green.query(`DROP SUBSCRIPTION ${ident(name)}`);
  return found.oid;
}

/** Drops these slots of this database, and those of the first copy of that subscription; ends who still reads one. */
export async function dropSlots(
  client: pg.Client,
  slots: readonly string[],
  subscription: string | null,
): Promise<string[]> {
  const dropped: string[] = [];
  const look = async (): Promise<boolean> => {
    const { rows } = await client.query<{ name: string; pid: string | null }>(
      `SELECT slot_name::text AS name, active_pid::text AS pid FROM pg_replication_slots
       WHERE database = current_database() AND (slot_name = ANY ($1) OR starts_with(slot_name::text, $2))`,
      [slots, subscription === null ? 'no subscription' : `pg_${subscription}_sync_`],
    );
    for (const { name, pid } of rows) {
      if (pid !== null) {
        // A role that may not end it waits until it leaves by itself.
        await client.query('SELECT pg_terminate_backend($1::int)', [pid]).catch(() => undefined);
        continue;
      }
      try {
        await client.query('SELECT pg_drop_replication_slot($1)', [name]);
        dropped.push(name);
      } catch (error) {
        // In use again, or dropped by who made it.
        if (!['55006', '42704'].includes((error as { code?: string }).code ?? '')) throw error;
      }
    }
    return rows.length === 0;
  };
  const late = new VerdigrisError(
    'TIMED_OUT',
    `a slot of the bench is still being read: ${slots.join(', ')}`,
  );
  await until(look, { timeoutMs: LEAVE_MS, everyMs: 50, late });
  return dropped;
}
