import type pg from 'pg';
import { VerdigrisError } from '../../core/errors.ts';
import type { ImageChange } from '../../core/source.ts';
import { showTable, type TableName } from '../../core/table.ts';
import { family } from './guards.ts';
import { ident, qualified } from './sql.ts';

/** Somebody's long statement must not make every later one wait behind ours. */
const LOCK_MS = 5_000;

interface Identity {
  readonly kind: string;
  readonly index: string | null;
}

/** Sets REPLICA IDENTITY FULL where it is not, on partitions too: theirs is what the log goes by. `before` is the clause that brings the former one back. */
export async function setFullImages(
  client: pg.Client,
  tables: readonly TableName[],
): Promise<readonly ImageChange[]> {
  const changes: ImageChange[] = [];
  for (const { table } of await family(client, tables)) {
    const { kind, index } = await identityOf(client, table);
    if (kind === 'f') continue;
    const before = kind === 'n' ? 'NOTHING' : index === null ? 'DEFAULT' : `USING INDEX ${ident(index)}`;
    await alter(client, table, 'FULL');
    changes.push({ table, before });
  }
  return changes;
}

export async function restoreImages(client: pg.Client, changes: readonly ImageChange[]): Promise<void> {
  for (const { table, before } of changes) {
    const found = await identityOf(client, table).catch(() => null);
    // Gone, or somebody has set another one since.
    if (found?.kind === 'f') await alter(client, table, before);
  }
}

async function identityOf(client: pg.Client, table: TableName): Promise<Identity> {
  const { rows } = await client.query<{ kind: string; index: string | null }>(
    `SELECT c.relreplident::text AS kind, (SELECT x.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
       WHERE i.indrelid = c.oid AND i.indisreplident AND c.relreplident = 'i') AS index
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`,
    [table.schema, table.name],
  );
  const [row] = rows;
  if (row === undefined)
    throw new VerdigrisError('SCHEMA_TABLE_MISSING', `The table ${showTable(table)} does not exist.`);
  return row;
}

async function alter(client: pg.Client, table: TableName, clause: string): Promise<void> {
  await client.query(`SET lock_timeout = ${LOCK_MS}`);
  try {
    await client.query(`ALTER TABLE ${qualified(table)} REPLICA IDENTITY ${clause}`);
  } finally {
    await client.query('RESET lock_timeout');
  }
}
