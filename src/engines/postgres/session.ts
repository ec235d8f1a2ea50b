import type pg from 'pg';
import type { Canary } from '../../core/canary.ts';
import type { Catalog } from '../../core/catalog.ts';
import type { Counters } from '../../core/counters.ts';
import type { ForeignWriteStore } from '../../core/foreign-writes.ts';
import type { Digester } from '../../core/digest.ts';
import type { PreflightScope, Session, SessionEnv, Side, StreamOptions } from '../../core/engine.ts';
import type { WriteFence } from '../../core/fence.ts';
import type { CheckResult } from '../../core/preflight.ts';
import type { ReadinessReader } from '../../core/readiness.ts';
import type { Sink } from '../../core/sink.ts';
import type { SnapshotSource } from '../../core/snapshot.ts';
import type { ChangeSource } from '../../core/source.ts';
import type { StateStore } from '../../core/state.ts';
import type { VerificationStore } from '../../core/verification.ts';
import { showTable, type Relation, type TableName, type Tuple } from '../../core/table.ts';
import { createCatalog, describeSource } from './catalog.ts';
import { createCanary } from './canary.ts';
import { readAccess } from './chunk-reader-sql.ts';
import { withoutNames, type PostgresConfig } from './config.ts';
import { createCounters } from './counters.ts';
import { createDigester } from './digest.ts';
import { translate, type Where } from './errors.ts';
import { createFence } from './fence.ts';
import { runPreflight } from './preflight/run.ts';
import { createReadiness } from './readiness.ts';
import {
  createConnections,
  openConnection,
  OPERATOR_SEARCH_PATH,
  proveConnection,
  type Connections,
} from './session-connections.ts';
import { sampleRows } from './sample.ts';
import { createSink } from './sink.ts';
import { createSnapshotSource } from './snapshot.ts';
import { readSize } from './snapshot-split.ts';
import { createSource } from './source.ts';
import { createStateStore, type PostgresStateStore } from './state.ts';

/**
 * Connects to one side.
 * @throws VerdigrisError SOURCE_CONNECT (blue), SINK_CONNECT (green), PREFLIGHT_FAILED for a server that is too old
 */
export async function connectSession(given: PostgresConfig, env: SessionEnv): Promise<Session> {
  const config = env.rehearsal === true ? withoutNames(given) : given;
  const connections = createConnections(config, env.migration);
  try {
    await proveConnection(connections, env.side);
  } catch (error) {
    await connections[Symbol.asyncDispose]();
    throw error;
  }
  return new PostgresSession(config, env, connections);
}

/** One side: its parts, and the connections that they share. */
class PostgresSession implements Session {
  readonly side: Side;
  readonly catalog: Catalog;
  readonly digester: Digester;
  readonly counters: Counters;
  readonly readiness: ReadinessReader;
  readonly #state: PostgresStateStore;
  readonly #config: PostgresConfig;
  readonly #env: SessionEnv;
  readonly #connections: Connections;
  readonly #snapshot: SnapshotSource;
  readonly #where: Where;
  readonly #sources: AsyncDisposable[] = [];

  readonly canary: Canary;

  constructor(config: PostgresConfig, env: SessionEnv, connections: Connections) {
    this.side = env.side;
    this.#config = config;
    this.#env = env;
    this.#connections = connections;
    this.#where = env.side === 'blue' ? 'source' : 'sink';
    const withClient = <T>(work: (client: pg.Client) => Promise<T>): Promise<T> =>
      connections.query.use(work);
    this.catalog = createCatalog({
      withClient,
      openForSchema: () =>
        openConnection({
          config,
          migration: env.migration,
          purpose: 'schema',
          settings: { search_path: OPERATOR_SEARCH_PATH },
        }),
      stateSchema: env.stateSchema,
      where: this.#where,
    });
    this.digester = createDigester(connections.verify, this.#where);
    this.counters = createCounters({ connections: connections.counters, env });
    this.readiness = createReadiness({ withClient, where: this.#where });
    this.canary = createCanary({ env, withClient, where: this.#where });
    this.#snapshot = createSnapshotSource(connections);
    this.#state = createStateStore({ config, env });
  }

  get verification(): VerificationStore {
    return this.#state.verification;
  }

  get foreignWrites(): ForeignWriteStore {
    return this.#state.foreignWrites;
  }

  get state(): StateStore {
    return this.#state;
  }

  preflight(scope: PreflightScope): Promise<readonly CheckResult[]> {
    return runPreflight({ config: this.#config, env: this.#env }, scope);
  }

  /** The source is disposed of with the session. */
  changes(options: StreamOptions): ChangeSource {
    const source = createSource({
      config: this.#config,
      env: this.#env,
      options,
      describe: (table) => this.#connections.query.use((client) => describeSource(client, table)),
    });
    this.#sources.push(source);
    return source;
  }

  snapshot(): SnapshotSource {
    return this.#snapshot;
  }

  sink(options: StreamOptions): Sink {
    return createSink({ config: this.#config, env: this.#env, options });
  }

  fence(tables: readonly TableName[]): WriteFence {
    // Guards per row stop logical apply workers of others, which write to a side that serves; on the side that is being filled
    // they would run for every row that we write.
    return createFence({ config: this.#config, env: this.#env, tables, rowGuards: this.side === 'blue' });
  }

  async scalar(sql: string, timeoutMs: number): Promise<string | null> {
    try {
      return await this.#connections.operator.use(async (client) => {
        try {
          await client.query(`SET statement_timeout = ${Math.max(1, Math.ceil(timeoutMs))}`);
          // The extended protocol takes one statement only.
          const query: pg.QueryArrayConfig & { queryMode: 'extended' } = {
            text: sql,
            rowMode: 'array',
            queryMode: 'extended',
          };
          const { rows } = await client.query<(string | null)[]>(query);
          return rows[0]?.[0] ?? null;
        } finally {
          // Whatever the statement set or began must not reach the next one.
          await client.query('ROLLBACK');
          await client.query('DISCARD ALL');
        }
      });
    } catch (error) {
      throw translate(error, this.#where, { statement: 'scalar' });
    }
  }

  async estimate(relation: Relation): Promise<{ readonly rows: number; readonly bytes: number }> {
    try {
      return await this.#connections.query.use(async (client) => {
        const { rows, bytes } = await readSize(client, relation, await readAccess(client, relation));
        return { rows, bytes };
      });
    } catch (error) {
      throw translate(error, this.#where, { table: showTable(relation.table) });
    }
  }

  async sample(
    relation: Relation,
    options: { readonly rows: number; readonly where?: string },
  ): Promise<readonly Tuple[]> {
    try {
      return await this.#connections.operator.use((client) => sampleRows(client, relation, options));
    } catch (error) {
      throw translate(error, this.#where, { table: showTable(relation.table) });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const parts: AsyncDisposable[] = [...this.#sources, this.#state, this.#connections];
    const results = await Promise.allSettled(parts.map((part) => part[Symbol.asyncDispose]()));
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw translate(failed.reason, this.#where);
  }
}
