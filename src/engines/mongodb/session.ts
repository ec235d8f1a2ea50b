import { BSON, type Document, type MongoClient } from 'mongodb';
import type { Catalog } from '../../core/catalog.ts';
import type { Digester } from '../../core/digest.ts';
import type { PreflightScope, Session, SessionEnv, Side, StreamOptions } from '../../core/engine.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { WriteFence } from '../../core/fence.ts';
import type { CheckResult } from '../../core/preflight.ts';
import type { ReadinessReader } from '../../core/readiness.ts';
import type { Sink } from '../../core/sink.ts';
import type { SnapshotSource } from '../../core/snapshot.ts';
import type { ChangeSource } from '../../core/source.ts';
import type { StateStore } from '../../core/state.ts';
import { showTable, type Relation, type TableName, type Tuple } from '../../core/table.ts';
import type { VerificationStore } from '../../core/verification.ts';
import { createCatalog } from './catalog.ts';
import type { MongoConfig } from './config.ts';
import { appName, connect } from './connect.ts';
import { NO_COUNTERS } from './counters.ts';
import { createDigester } from './digest.ts';
import { rowOfDocument } from './shape.ts';
import { translate, type Where } from './errors.ts';
import { FenceProver } from './fence-proof.ts';
import { MongoFence } from './fence.ts';
import { runPreflight } from './preflight.ts';
import { createReadiness } from './readiness.ts';
import { createSink } from './sink.ts';
import { createSnapshotSource, estimate } from './snapshot.ts';
import { MongoSource } from './source.ts';
import { MongoStateStore } from './state.ts';
import { MongoVerificationStore } from './verification.ts';
import { documentsOf, rawCursor } from './wire.ts';

/**
 * Connects to one side.
 * @throws VerdigrisError SOURCE_CONNECT (blue), SINK_CONNECT (green)
 */
export async function connectSession(config: MongoConfig, env: SessionEnv): Promise<Session> {
  const where: Where = env.side === 'blue' ? 'source' : 'sink';
  try {
    return new MongoSession(
      config,
      env,
      await connect(config, { appName: appName(env.migration, env.side, 0) }),
    );
  } catch (error) {
    const translated = translate(error, where);
    const code = where === 'source' ? 'SOURCE_CONNECT' : 'SINK_CONNECT';
    throw translated.code === code ? translated : new VerdigrisError(code, translated.message);
  }
}

/** One side: its parts, and the client that they share. */
class MongoSession implements Session {
  readonly side: Side;
  readonly catalog: Catalog;
  readonly digester: Digester;
  readonly counters = NO_COUNTERS;
  readonly state: StateStore;
  readonly readiness: ReadinessReader;
  readonly verification: VerificationStore;
  readonly #config: MongoConfig;
  readonly #env: SessionEnv;
  readonly #client: MongoClient;
  readonly #where: Where;
  readonly #provers: FenceProver[] = [];

  constructor(config: MongoConfig, env: SessionEnv, client: MongoClient) {
    this.side = env.side;
    this.#config = config;
    this.#env = env;
    this.#client = client;
    this.#where = env.side === 'blue' ? 'source' : 'sink';
    const where = this.#where;
    this.catalog = createCatalog({ client, stateDatabase: env.stateSchema, where });
    this.digester = createDigester({ client, config, where });
    this.state = new MongoStateStore(client, env);
    this.verification = new MongoVerificationStore(client, env.stateSchema);
    this.readiness = createReadiness(client, where);
  }

  preflight(scope: PreflightScope): Promise<readonly CheckResult[]> {
    return runPreflight({ client: this.#client, config: this.#config, env: this.#env, scope });
  }

  changes(options: StreamOptions): ChangeSource {
    return new MongoSource({ config: this.#config, env: this.#env, options, client: this.#client });
  }

  snapshot(): SnapshotSource {
    return createSnapshotSource({
      client: this.#client,
      config: this.#config,
      stateDatabase: this.#env.stateSchema,
    });
  }

  sink(options: StreamOptions): Sink {
    return createSink({ config: this.#config, env: this.#env, options });
  }

  fence(tables: readonly TableName[]): WriteFence {
    const parts = { client: this.#client, env: this.#env, tables };
    const prover = new FenceProver({ ...parts, config: this.#config });
    this.#provers.push(prover);
    return new MongoFence({ ...parts, where: this.#where, prover });
  }

  /**
   * A command in extended JSON with the database it runs in (`{"$db":"shop","count":"orders"}`): the first field of its first document, or
   * `n` where it answers with a number. Only commands that read.
   */
  async scalar(text: string, timeoutMs: number): Promise<string | null> {
    const { database, command } = readingCommand(text);
    try {
      const reply = await this.#client
        .db(database)
        .command({ ...command, maxTimeMS: Math.max(1, Math.ceil(timeoutMs)) });
      const cursor = reply['cursor'] as { readonly firstBatch: readonly Document[] } | undefined;
      const value: unknown =
        cursor === undefined ? (reply['n'] ?? null) : (Object.values(cursor.firstBatch[0] ?? {})[0] ?? null);
      return value === null ? null : typeof value === 'object' ? BSON.EJSON.stringify(value) : String(value);
    } catch (error) {
      throw translate(error, this.#where, { statement: 'scalar' });
    }
  }

  async estimate(relation: Relation): Promise<{ readonly rows: number; readonly bytes: number }> {
    try {
      return await estimate(this.#client, relation);
    } catch (error) {
      throw translate(error, this.#where, { table: showTable(relation.table) });
    }
  }

  /** `where` is a filter in extended JSON. */
  async sample(
    { table }: Relation,
    options: { readonly rows: number; readonly where?: string },
  ): Promise<readonly Tuple[]> {
    try {
      const { batch } = await rawCursor(this.#client.db(table.schema), {
        find: table.name,
        filter: options.where === undefined ? {} : (BSON.EJSON.parse(options.where) as Document),
        limit: options.rows,
        singleBatch: true,
      });
      return documentsOf(batch).map(rowOfDocument);
    } catch (error) {
      throw translate(error, this.#where, { table: showTable(table) });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#provers.map((prover) => prover[Symbol.asyncDispose]()));
    await this.#client.close();
  }
}

const READING = new Set([
  'count',
  'find',
  'aggregate',
  'distinct',
  'ping',
  'serverStatus',
  'dbStats',
  'collStats',
]);

function readingCommand(text: string): { readonly database: string; readonly command: Document } {
  const refuse = (why: string): VerdigrisError =>
    new VerdigrisError('SOURCE_FAILED', `A query ${why}.`, {
      remedy: 'Write a command that reads, with its database: {"$db":"shop","count":"orders"}.',
    });
  let parsed: Document;
  try {
    parsed = BSON.EJSON.parse(text) as Document;
  } catch {
    throw refuse('is not extended JSON');
  }
  const { $db: database, ...command } = parsed ?? {};
  const verb = Object.keys(command)[0] ?? '';
  if (typeof database !== 'string') throw refuse('names no $db');
  if (!READING.has(verb)) throw refuse(`may not ${verb}`);
  const stages = (command['pipeline'] ?? []) as readonly Document[];
  if (stages.some((stage) => '$out' in stage || '$merge' in stage)) throw refuse('may not write');
  return { database, command };
}
