import type { ChangeBatch } from '../../../src/core/change.ts';
import { NO_FAILPOINTS } from '../../../src/core/failpoint.ts';
import { SILENT } from '../../../src/core/log.ts';
import type { Position } from '../../../src/core/position.ts';
import type { ChangeSource } from '../../../src/core/source.ts';
import type { Relation, Tuple } from '../../../src/core/table.ts';
import { describeSource } from '../../../src/engines/postgres/catalog.ts';
import { parseConfig, type PostgresConfig } from '../../../src/engines/postgres/config.ts';
import { connect } from '../../../src/engines/postgres/connect.ts';
import { createSource, type SourceParts } from '../../../src/engines/postgres/source.ts';
import type { TestDatabase } from '../../support/databases.ts';
import { Reader } from '../../support/stream-reader.ts';

export interface HarnessOptions {
  readonly tables?: readonly string[];
  readonly streaming?: boolean;
  readonly maxBatchBytes?: number;
  readonly idleIntervalMs?: number;
  readonly pollIntervalMs?: number;
  readonly backlogBytes?: number;
  readonly backlog?: 'copies' | 'walsender';
  readonly term?: number;
  readonly tls?: PostgresConfig['tls'];
  /** Address instead of the database's own, for instance of a proxy before it. */
  readonly url?: string;
}

export interface Harness extends AsyncDisposable {
  readonly source: ChangeSource & AsyncDisposable;
  readonly relations: readonly Relation[];
  /** What `prepare` returned. */
  readonly start: Position;
  readonly migration: string;
}

export function configOf(url: string, options: HarnessOptions = {}): PostgresConfig {
  const parsed = parseConfig({
    url,
    replication: { streaming: options.streaming ?? false, backlog: options.backlog },
    ...(options.tls === undefined ? {} : { tls: options.tls }),
  });
  if ('issues' in parsed) throw new Error(JSON.stringify(parsed.issues));
  return parsed.config;
}

/** A source over tables of the schema public; the migration has the name of the database, because slots are per cluster. */
export async function sourceOn(db: TestDatabase, options: HarnessOptions = {}): Promise<Harness> {
  const config = configOf(options.url ?? db.url, options);
  const describe: SourceParts['describe'] = async (table) => {
    const client = await connect(config, { applicationName: 'test' });
    try {
      return await describeSource(client, table);
    } finally {
      await client.end();
    }
  };
  const source = createSource({
    config,
    describe,
    env: {
      migration: db.name,
      side: 'blue',
      stateSchema: 'verdigris',
      log: SILENT,
      failpoints: NO_FAILPOINTS,
    },
    options: {
      direction: 'forward',
      term: options.term ?? 1,
      maxBatchBytes: options.maxBatchBytes ?? 1 << 20,
    },
    idleIntervalMs: options.idleIntervalMs ?? 10_000,
    pollIntervalMs: options.pollIntervalMs ?? 5_000,
    ...(options.backlogBytes === undefined ? {} : { backlogBytes: options.backlogBytes }),
  });
  const relations = await Promise.all(
    (options.tables ?? ['t']).map((name) => describe({ schema: 'public', name })),
  );
  const start = await source.prepare(relations).catch(async (error: unknown) => {
    await source[Symbol.asyncDispose]();
    throw error;
  });
  return {
    source,
    relations,
    start,
    migration: db.name,
    [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
  };
}

export interface Row {
  readonly op: string;
  readonly table: string;
  readonly after: Tuple | null;
  readonly before: Tuple | null;
  readonly transaction: string;
}

/** The rows of a batch, run by run. */
export const rowsOf = (batch: ChangeBatch): Row[] =>
  batch.runs.flatMap((run) =>
    run.transaction.map((index, row) => ({
      op: run.op,
      table: run.relation.table.name,
      after: run.after[row] ?? null,
      before: run.before[row] ?? null,
      transaction: batch.transactions[index]?.id ?? 'none',
    })),
  );

export const open = async (harness: Harness, from = harness.start): Promise<Reader> =>
  new Reader(await harness.source.open(from, new AbortController().signal));

/** The confirmed position of the migration's slot, as the server has it. */
export async function confirmed(db: TestDatabase): Promise<string> {
  const rows = await db.query<{ lsn: string }>(
    'SELECT confirmed_flush_lsn::text AS lsn FROM pg_replication_slots WHERE database = $1',
    [db.name],
  );
  return rows[0]?.lsn ?? 'none';
}

/** Ends the slot's reader and removes it, as tests do at their end: the database cannot be dropped before. */
export async function finish(harness: Harness, reader?: Reader): Promise<void> {
  await reader?.stream[Symbol.asyncDispose]();
  await harness.source.retire();
}
