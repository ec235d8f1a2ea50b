import type { Session } from '../../../src/core/engine.ts';
import type { Position } from '../../../src/core/position.ts';
import type { ChangeSource } from '../../../src/core/source.ts';
import type { Relation, TableName } from '../../../src/core/table.ts';
import type { EngineDatabase, EngineHarness, EngineServer, TableSpec, Writer } from './harness.ts';
import { Reader } from '../../support/stream-reader.ts';
import { connectSide, never, newMigration, STREAM } from './side.ts';

export interface Blue extends AsyncDisposable {
  readonly database: EngineDatabase;
  readonly session: Session;
  readonly migration: string;
  readonly source: ChangeSource;
  readonly tables: readonly TableName[];
  readonly relations: readonly Relation[];
  /** The first table. */
  readonly table: TableName;
  readonly relation: Relation;
  readonly writer: Writer;
  /** What `prepare` returned. */
  readonly start: Position;
  /** Opens the stream; at most one is open, and the next call closes it. */
  read(from?: Position, signal?: AbortSignal): Promise<Reader>;
}

export interface BlueOptions {
  readonly tables?: readonly TableSpec[];
  /** Default: one that tests share. */
  readonly server?: EngineServer;
  /** Rows that are there before the log is followed. */
  readonly fill?: (writer: Writer, table: TableName) => Promise<void>;
  readonly maxBatchBytes?: number;
}

/** A blue database whose tables are followed from here on. */
export async function openBlue(harness: EngineHarness, options: BlueOptions = {}): Promise<Blue> {
  const parts: AsyncDisposable[] = [];
  const close = async (): Promise<void> => {
    for (const part of parts.toReversed()) await part[Symbol.asyncDispose]();
  };
  try {
    const migration = newMigration();
    const database = await (options.server?.database() ?? harness.database('blue'));
    parts.push(database);
    const tables: TableName[] = [];
    for (const spec of options.tables ?? [{ name: 'items' }]) tables.push(await database.table(spec));
    const table = tables[0] as TableName;
    const writer = await database.writer();
    parts.push(writer);
    await options.fill?.(writer, table);
    const session = await connectSide(harness, database, { side: 'blue', migration });
    parts.push(session);
    await session.state.prepare();
    const relations: Relation[] = [];
    for (const name of tables) relations.push(await session.catalog.source(name));
    const source = session.changes({
      ...STREAM,
      term: 1,
      ...(options.maxBatchBytes === undefined ? {} : { maxBatchBytes: options.maxBatchBytes }),
    });
    const start = await source.prepare(relations);
    parts.push({ [Symbol.asyncDispose]: () => source.retire() });
    let reader: Reader | null = null;
    parts.push({ [Symbol.asyncDispose]: async () => reader?.close() });
    return {
      database,
      session,
      migration,
      source,
      tables,
      relations,
      table,
      relation: relations[0] as Relation,
      writer,
      start,
      read: async (from = start, signal = never) => {
        await reader?.close();
        reader = new Reader(await source.open(from, signal));
        return reader;
      },
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close().catch(() => undefined);
    throw error;
  }
}
