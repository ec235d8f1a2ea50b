import { randomBytes } from 'node:crypto';
import type { Session, Side } from '../../../src/core/engine.ts';
import { VerdigrisError } from '../../../src/core/errors.ts';
import { NO_FAILPOINTS } from '../../../src/core/failpoint.ts';
import { SILENT } from '../../../src/core/log.ts';
import type { TargetTable } from '../../../src/core/plan.ts';
import type { Sink } from '../../../src/core/sink.ts';
import type { TableName } from '../../../src/core/table.ts';
import type { Address, EngineDatabase, EngineHarness } from './harness.ts';

export const NO_HOLES = { opened: [], closed: [] };
export const never = new AbortController().signal;

/** A name that no other test uses: engines put it into the names of what they make on servers. */
export const newMigration = (): string => `c${randomBytes(5).toString('hex')}`;

export interface SideOptions {
  readonly side: Side;
  readonly migration: string;
  /** Connects through here instead of the database's own address. */
  readonly through?: Address;
}

/** A session on a database; the caller disposes it before the database. */
export async function connectSide(
  harness: EngineHarness,
  database: EngineDatabase,
  options: SideOptions,
): Promise<Session> {
  const parsed = harness.engine.parseConfig(database.config(options.through));
  if ('issues' in parsed)
    throw new Error(`the harness's own configuration: ${JSON.stringify(parsed.issues)}`);
  return harness.engine.connect(parsed.config, {
    migration: options.migration,
    side: options.side,
    stateSchema: database.stateSchema,
    log: SILENT,
    failpoints: NO_FAILPOINTS,
  });
}

/** What an engine throws; fails when it does not, or throws something of its driver's. */
export async function failure(work: Promise<unknown>): Promise<VerdigrisError> {
  const thrown: unknown = await work.then(
    () => null,
    (error: unknown) => error,
  );
  if (thrown instanceof VerdigrisError) return thrown;
  throw new Error(thrown === null ? 'it did not fail' : `not an error of ours: ${String(thrown)}`, {
    cause: thrown,
  });
}

export async function targetOf(session: Session, table: TableName): Promise<TargetTable> {
  return { relation: await session.catalog.target(table), merge: null, prefix: 0 };
}

export const STREAM = { direction: 'forward', maxBatchBytes: 64 * 1024 } as const;

/** Prepares the state and takes the lease. */
export async function lease(session: Session, migration: string, takeover = false): Promise<number> {
  await session.state.prepare();
  return session.state.acquire(migration, `contract ${randomBytes(4).toString('hex')}`, {
    ttlMs: 60_000,
    takeover,
  });
}

export interface Filled extends AsyncDisposable {
  readonly database: EngineDatabase;
  readonly session: Session;
  readonly migration: string;
  readonly term: number;
  readonly sink: Sink;
}

/** A green database with a session that holds the lease, and its sink; nothing is prepared or begun on it. */
export async function openSink(harness: EngineHarness): Promise<Filled> {
  const migration = newMigration();
  const database = await harness.database('green');
  const parts: AsyncDisposable[] = [database];
  const close = async (): Promise<void> => {
    for (const part of parts.toReversed()) await part[Symbol.asyncDispose]();
  };
  try {
    const session = await connectSide(harness, database, { side: 'green', migration });
    parts.push(session);
    const term = await lease(session, migration);
    const sink = session.sink({ ...STREAM, term });
    parts.push(sink);
    return { database, session, migration, term, sink, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close().catch(() => undefined);
    throw error;
  }
}
