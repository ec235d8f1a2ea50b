import type pg from 'pg';
import { VerdigrisError } from '../../core/errors.ts';
import type { ChunkReader, ChunkRequest, SnapshotSource, Visibility } from '../../core/snapshot.ts';
import { showTable, tableId, type Relation } from '../../core/table.ts';
import { describeSource, rewriteMarker } from './catalog.ts';
import { PostgresChunkReader } from './chunk-reader.ts';
import { readAccess, type TableAccess } from './chunk-reader-sql.ts';
import { translate } from './errors.ts';
import type { ConnectionPool } from './session-pool.ts';
import { keyComparator } from './snapshot-order.ts';
import { bucketKeys, readSize, splitKeys } from './snapshot-split.ts';
import { qualified } from './sql.ts';
import { visibilityOf } from './visibility.ts';

export interface SnapshotOptions {
  /** Connections of the copy; each open chunk holds one. */
  readonly copy: ConnectionPool;
  /** Short questions: splits, buckets, sizes. */
  readonly query: ConnectionPool;
  /** Asked once per group while tables are being copied: kept apart, so that a slow split cannot delay it. */
  readonly visibility: ConnectionPool;
}

/**
 * Reads ranges of tables in short transactions whose snapshot is known. `open` returns a {@link PostgresChunkReader}.
 */
export function createSnapshotSource(options: SnapshotOptions): SnapshotSource {
  const accesses = new Map<string, Promise<TableAccess>>();

  /** Names of types and operators do not change while the layout does not. */
  const accessOf = (client: pg.Client, relation: Relation): Promise<TableAccess> => {
    const id = `${tableId(relation.table)}\u0000${relation.version}`;
    const known = accesses.get(id);
    if (known !== undefined) return known;
    const access = readAccess(client, relation);
    accesses.set(id, access);
    access.catch(() => accesses.delete(id));
    return access;
  };

  const ask = async <T>(
    relation: Relation,
    work: (client: pg.Client, access: TableAccess) => Promise<T>,
  ): Promise<T> => {
    try {
      return await options.query.use(async (client) => work(client, await accessOf(client, relation)));
    } catch (error) {
      throw translate(error, 'source', { table: showTable(relation.table) });
    }
  };

  return {
    estimate: (relation) =>
      ask(relation, async (client, access) => {
        const { rows, bytes } = await readSize(client, relation, access);
        return { rows, bytes };
      }),
    split: (relation, rows) =>
      relation.key.length === 0
        ? Promise.resolve([])
        : ask(relation, (client, access) => splitKeys(client, relation, access, rows)),
    comparator: keyComparator,
    bucket: (relation, boundaries, values) =>
      ask(relation, (client, access) => bucketKeys(client, access, boundaries, values)),
    async visibility(): Promise<Visibility> {
      try {
        return await options.visibility.use(readVisibility);
      } catch (error) {
        throw translate(error, 'source');
      }
    },
    open: (request, signal) => openChunk(options.copy, accessOf, request, signal),
  };
}

/** @throws VerdigrisError SOURCE_FAILED on a standby: its snapshots do not list what runs on the primary */
async function readVisibility(client: pg.Client): Promise<Visibility> {
  const { rows } = await client.query<{ snapshot: string; standby: string | boolean }>({
    name: 'verdigris_snapshot',
    text: 'SELECT pg_catalog.pg_current_snapshot()::text AS snapshot, pg_catalog.pg_is_in_recovery() AS standby',
  });
  const row = rows[0];
  if (row === undefined || row.standby === true || row.standby === 't') {
    throw new VerdigrisError(
      'SOURCE_FAILED',
      'The source is a standby; the copy needs the primary that also streams.',
      {
        remedy: 'Point the address at the primary.',
      },
    );
  }
  return visibilityOf(row.snapshot);
}

async function openChunk(
  pool: ConnectionPool,
  accessOf: (client: pg.Client, relation: Relation) => Promise<TableAccess>,
  request: ChunkRequest,
  signal: AbortSignal,
): Promise<ChunkReader> {
  const { relations, range } = request;
  const tables = relations.map((relation) => showTable(relation.table)).join(', ');
  let client: pg.Client;
  try {
    client = await pool.acquire(signal);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw translate(error, 'source', { tables });
  }
  // Waiting for a lock cannot be interrupted otherwise; the server ends the backend once it sees that we are gone.
  const abort = (): void => pool.release(client, true);
  signal.addEventListener('abort', abort, { once: true });
  const release = (broken: boolean): void => {
    signal.removeEventListener('abort', abort);
    pool.release(client, broken);
  };
  try {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    // The lock takes no snapshot. Taken first, it keeps out rewriting DDL, which is not MVCC-safe: behind a rewrite an older
    // snapshot would read no rows at all. LOCK covers partitions too.
    const names = relations.map((relation) => qualified(relation.table)).join(', ');
    await client.query(`LOCK TABLE ${names} IN ACCESS SHARE MODE`);
    const visibility = await readVisibility(client);
    const access = new Map<string, TableAccess>();
    const markers = new Map<string, string>();
    for (const relation of relations) {
      await checkLayout(client, relation);
      access.set(tableId(relation.table), await accessOf(client, relation));
      markers.set(tableId(relation.table), await rewriteMarker(client, relation.table));
    }
    return new PostgresChunkReader({ client, visibility, range, access, markers, signal, release });
  } catch (error) {
    release(true);
    if (signal.aborted) throw signal.reason;
    throw translate(error, 'source', { tables });
  }
}

async function checkLayout(client: pg.Client, relation: Relation): Promise<void> {
  const now = await describeSource(client, relation.table);
  if (now.version === relation.version) return;
  const before = relation.columns.map((column) => `${column.name} ${column.type}`);
  const after = now.columns.map((column) => `${column.name} ${column.type}`);
  const gone = before.filter((column) => !after.includes(column));
  const added = after.filter((column) => !before.includes(column));
  const what = [
    ...(gone.length > 0 ? [`no longer there: ${gone.join(', ')}`] : []),
    ...(added.length > 0 ? [`new: ${added.join(', ')}`] : []),
  ];
  throw new VerdigrisError(
    'SCHEMA_CHANGED',
    `The layout of ${showTable(relation.table)} changed (${what.length > 0 ? what.join('; ') : 'key, constraints or order of columns'}).`,
    { context: { table: showTable(relation.table) } },
  );
}
