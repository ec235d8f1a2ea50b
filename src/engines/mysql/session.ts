import type { Catalog } from '../../core/catalog.ts';
import type { Counters } from '../../core/counters.ts';
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
import { databaseOf, type MysqlConfig } from './config.ts';
import { connect, statementTimeout, type Link } from './connect.ts';
import { createCounters } from './counters.ts';
import { createDigester } from './digest.ts';
import { translate, type Where } from './errors.ts';
import { createFence } from './fence.ts';
import { Pool } from './pool.ts';
import { runPreflight } from './preflight/run.ts';
import { createReadiness } from './readiness.ts';
import { sampleRows } from './sample.ts';
import { MysqlSink } from './sink.ts';
import { createSnapshotSource } from './snapshot.ts';
import { readSize } from './snapshot-split.ts';
import { createSource } from './source.ts';
import { MysqlStateStore } from './state.ts';

const OLDEST: Readonly<Record<'mysql' | 'mariadb', readonly [number, number, number]>> = {
  mysql: [8, 0, 23],
  mariadb: [10, 11, 0],
};

/**
 * Connects to one side.
 * @throws VerdigrisError SOURCE_CONNECT (blue), SINK_CONNECT (green), PREFLIGHT_FAILED for a server that is too old
 */
export async function connectSession(config: MysqlConfig, env: SessionEnv): Promise<Session> {
  const where: Where = env.side === 'blue' ? 'source' : 'sink';
  await using link = await connect(config, { name: `verdigris:${env.migration}:hello`, where });
  const oldest = OLDEST[link.flavour];
  const at = link.version.findIndex((part, index) => part !== oldest[index]);
  if (at >= 0 && (link.version[at] as number) < (oldest[at] as number))
    throw new VerdigrisError('PREFLIGHT_FAILED', `The server is of version ${link.version.join('.')}.`, {
      remedy: `Use ${link.flavour === 'mysql' ? 'MySQL 8.0.23' : 'MariaDB 10.11'} or newer.`,
    });
  return new MysqlSession(config, env, where);
}

/** One side: its parts, and the connections that they share. */
class MysqlSession implements Session {
  readonly side: Side;
  readonly catalog: Catalog;
  readonly digester: Digester;
  readonly counters: Counters;
  readonly readiness: ReadinessReader;
  readonly #state: MysqlStateStore;
  readonly #config: MysqlConfig;
  readonly #env: SessionEnv;
  readonly #where: Where;
  readonly #query: Pool;
  readonly #copy: Pool;
  readonly #verify: Pool;
  readonly #snapshot: SnapshotSource;

  constructor(config: MysqlConfig, env: SessionEnv, where: Where) {
    this.side = env.side;
    this.#config = config;
    this.#env = env;
    this.#where = where;
    const most = config.limits.max_connections;
    const open = (purpose: string, timed: boolean) => (): Promise<Link> =>
      connect(config, {
        name: `verdigris:${env.migration}:${purpose}`,
        where,
        ...(timed ? { timeoutMs: statementTimeout(config) } : {}),
      });
    this.#query = new Pool(open('query', true), Math.max(2, Math.floor(most / 3)));
    this.#copy = new Pool(open('copy', true), most);
    this.#verify = new Pool(open('verify', true), Math.max(2, Math.floor(most / 3)));
    const withLink = <T>(work: (link: Link) => Promise<T>): Promise<T> => this.#query.use(work);
    const database = databaseOf(config);
    this.catalog = createCatalog({
      withLink,
      openForSchema: () =>
        connect(config, {
          name: `verdigris:${env.migration}:schema`,
          where,
          database,
          settings: { sql_mode: 'DEFAULT' },
        }),
      database,
      stateSchema: env.stateSchema,
      where,
    });
    this.digester = createDigester(this.#verify, where);
    this.counters = createCounters({ withLink, database, side: env.side });
    this.readiness = createReadiness({ withLink, where });
    this.#snapshot = createSnapshotSource({ withLink, copy: this.#copy });
    this.#state = new MysqlStateStore(config, env);
  }

  get verification(): VerificationStore {
    return this.#state.verification;
  }

  get state(): StateStore {
    return this.#state;
  }

  preflight(scope: PreflightScope): Promise<readonly CheckResult[]> {
    return runPreflight({ config: this.#config, env: this.#env }, scope);
  }

  changes(options: StreamOptions): ChangeSource {
    return createSource({
      config: this.#config,
      env: this.#env,
      options,
      withLink: (work) => this.#query.use(work),
    });
  }

  snapshot(): SnapshotSource {
    return this.#snapshot;
  }

  sink(options: StreamOptions): Sink {
    return new MysqlSink({ config: this.#config, env: this.#env, options });
  }

  fence(tables: readonly TableName[]): WriteFence {
    return createFence({ config: this.#config, env: this.#env, tables });
  }

  async scalar(sql: string, timeoutMs: number): Promise<string | null> {
    let link: Link | null = null;
    try {
      // A connection of its own: whatever the statement sets must not reach another one.
      const used = await connect(this.#config, {
        name: `verdigris:${this.#env.migration}:operator`,
        where: this.#where,
        database: databaseOf(this.#config),
        timeoutMs,
      });
      link = used;
      const started = performance.now();
      const late = setTimeout(() => used.destroy(), timeoutMs + 1_000);
      try {
        const value = await used.value(sql);
        // SLEEP and its like answer when they are interrupted, as if they had come to their end.
        if (performance.now() - started < timeoutMs) return value;
        throw new VerdigrisError(
          this.#where === 'source' ? 'SOURCE_FAILED' : 'SINK_FAILED',
          `The statement took longer than ${timeoutMs} ms.`,
        );
      } finally {
        clearTimeout(late);
      }
    } catch (error) {
      throw translate(error, this.#where, { statement: 'scalar' });
    } finally {
      await link?.[Symbol.asyncDispose]();
    }
  }

  async estimate(relation: Relation): Promise<{ readonly rows: number; readonly bytes: number }> {
    try {
      return await this.#query.use((link) => readSize(link, relation));
    } catch (error) {
      throw translate(error, this.#where, { table: showTable(relation.table) });
    }
  }

  async sample(
    relation: Relation,
    options: { readonly rows: number; readonly where?: string },
  ): Promise<readonly Tuple[]> {
    try {
      return await this.#query.use((link) => sampleRows(link, relation, options));
    } catch (error) {
      throw translate(error, this.#where, { table: showTable(relation.table) });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const parts: AsyncDisposable[] = [this.#state, this.#query, this.#copy, this.#verify];
    const results = await Promise.allSettled(parts.map((part) => part[Symbol.asyncDispose]()));
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw translate(failed.reason, this.#where);
  }
}
