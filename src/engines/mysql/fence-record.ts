import type { SessionEnv } from '../../core/engine.ts';
import type { FenceState } from '../../core/fence.ts';
import type { Link } from './connect.ts';
import { literal } from './sql.ts';
import { stateTable } from './state-names.ts';
import { presentTables } from './state-tables.ts';

export interface FenceRow extends FenceState {
  readonly barrier: string | null;
}

export const recordTable = (env: SessionEnv): string => stateTable(env.stateSchema, 'fence');

export const owner = (env: SessionEnv): string => `id = ${literal(env.migration)}`;

/** Null when there is none. */
export async function readRecord(link: Link, env: SessionEnv): Promise<FenceRow | null> {
  if (!(await presentTables(link, env.stateSchema)).has('fence')) return null;
  const row = (
    await link.rows(`SELECT state, epoch, barrier FROM ${recordTable(env)} WHERE ${owner(env)}`)
  )[0];
  if (row === undefined) return null;
  return { state: row[0] as FenceState['state'], epoch: Number(row[1]), barrier: row[2] ?? null };
}

/** Changes the record where `condition` holds of it; one statement, so of two that try exactly one finds it. */
export async function changeRecord(
  link: Link,
  env: SessionEnv,
  change: { readonly set: string; readonly when: string },
): Promise<boolean> {
  const { affected } = await link.run(
    `UPDATE ${recordTable(env)} SET ${change.set}, changed = UTC_TIMESTAMP(6) WHERE ${owner(env)} AND ${change.when}`,
  );
  return affected === 1;
}
