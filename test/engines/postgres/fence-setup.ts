import type pg from 'pg';
import { NO_FAILPOINTS } from '../../../src/core/failpoint.ts';
import { SILENT } from '../../../src/core/log.ts';
import type { SessionEnv, Side } from '../../../src/core/engine.ts';
import type { TableName } from '../../../src/core/table.ts';
import { parseConfig, type PostgresConfig } from '../../../src/engines/postgres/config.ts';
import { createFence, type PostgresFence } from '../../../src/engines/postgres/fence.ts';
import type { TestDatabase } from '../../support/databases.ts';

export function configOf(url: string): PostgresConfig {
  const parsed = parseConfig({ url });
  if ('issues' in parsed) throw new Error(JSON.stringify(parsed.issues));
  return parsed.config;
}

export const envOf = (migration = 'm', side: Side = 'blue'): SessionEnv => ({
  migration,
  side,
  stateSchema: 'verdigris',
  log: SILENT,
  failpoints: NO_FAILPOINTS,
});

export const inPublic = (...names: string[]): TableName[] =>
  names.map((name) => ({ schema: 'public', name }));

export const fenceOf = (
  db: TestDatabase,
  tables: readonly TableName[],
  more: { migration?: string; rowGuards?: boolean; user?: string } = {},
): PostgresFence =>
  createFence({
    config: configOf(more.user === undefined ? db.url : db.urlFor(more.user)),
    env: envOf(more.migration),
    tables,
    ...(more.rowGuards === undefined ? {} : { rowGuards: more.rowGuards }),
  });

/** SQLSTATE with which the server refuses the statement; `accepted` when it does not. */
export async function outcome(client: pg.Client, sql: string): Promise<string> {
  try {
    await client.query(sql);
    return 'accepted';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

/** An LSN as a number, to compare. */
export function lsn(text: string): bigint {
  const [high = '', low = ''] = text.split('/');
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
}
