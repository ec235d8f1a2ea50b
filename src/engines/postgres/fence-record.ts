import type pg from 'pg';
import type { SessionEnv } from '../../core/engine.ts';
import type { FenceState } from '../../core/fence.ts';
import { begin } from './fence-session.ts';
import { functionSql } from './guards.ts';
import { ident } from './sql.ts';

/** The record of one migration on one side. */
export interface FenceRow {
  readonly state: FenceState['state'];
  readonly epoch: string;
  readonly barrier: string | null;
}

export const recordTable = (env: SessionEnv): string => `${ident(env.stateSchema)}.fence`;

/** Null when nothing was prepared. */
export async function readRecord(client: pg.Client, env: SessionEnv): Promise<FenceRow | null> {
  return read(client, env, '');
}

/** The same, locked until the transaction ends: whoever undoes waits for it. */
export async function lockRecord(client: pg.Client, env: SessionEnv): Promise<FenceRow | null> {
  return read(client, env, 'FOR UPDATE');
}

async function read(client: pg.Client, env: SessionEnv, suffix: string): Promise<FenceRow | null> {
  try {
    const { rows } = await client.query<FenceRow>(
      `SELECT state, epoch, barrier FROM ${recordTable(env)} WHERE migration = $1 ${suffix}`,
      [env.migration],
    );
    return rows[0] ?? null;
  } catch (error) {
    // Schema or table does not exist.
    if (['3F000', '42P01'].includes((error as { code?: string }).code ?? '')) return null;
    throw error;
  }
}

/** Creates schema, record and guard function. Idempotent; a record that is there stays as it is. */
export async function createRecord(client: pg.Client, env: SessionEnv, limitMs: number): Promise<void> {
  const { migration, stateSchema } = env;
  await begin(client, { limitMs, commit: 'on' });
  try {
    // Two engines that prepare at once would otherwise collide in the catalog.
    await client.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`verdigris ${stateSchema}`]);
    const schema = await client.query('SELECT FROM pg_namespace WHERE nspname = $1', [stateSchema]);
    if (schema.rowCount === 0) await client.query(`CREATE SCHEMA ${ident(stateSchema)}`);
    await client.query(
      `CREATE TABLE IF NOT EXISTS ${recordTable(env)} (
           migration text PRIMARY KEY,
           state text NOT NULL CHECK (state IN ('open', 'raised', 'sealed')),
           epoch bigint NOT NULL,
           barrier text,
           changed_at timestamptz NOT NULL DEFAULT clock_timestamp())`,
    );
    await client.query(
      `INSERT INTO ${recordTable(env)} (migration, state, epoch) VALUES ($1, 'open', 0) ON CONFLICT DO NOTHING`,
      [migration],
    );
    const { rows } = await client.query<{ role: string }>('SELECT session_user::text AS role');
    await client.query(functionSql(stateSchema, migration, rows[0]?.role as string));
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  }
}
