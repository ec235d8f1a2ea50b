import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type mysql from 'mysql2/promise';
import { expect } from 'vitest';
import {
  createEngine,
  type EngineOptions,
  type VerdigrisEngine,
  type WatchedStatus,
} from '../../src/app/engine.ts';
import { loadConfig } from '../../src/app/load.ts';
import type { Logger } from '../../src/core/log.ts';
import { ENGINE_USER } from './mysql-harness.ts';
import type { MysqlServer } from './mysql-server.ts';
import { untilStarted } from './started.ts';
import { waitFor } from './wait.ts';

export interface MysqlRunOptions {
  readonly blueOn: MysqlServer;
  readonly greenOn: MysqlServer;
  /** Statements that make and fill the tables. `$db` stands for the database, which is also the one in use. */
  readonly blue: readonly string[];
  readonly green: readonly string[];
  /** Entries of `tables:`, in YAML, without indentation; `$db` as above. */
  readonly tables: string;
  /** More top-level YAML. */
  readonly settings?: string;
}

const MARKS = 'CREATE TABLE run_mark (id bigint PRIMARY KEY)';

/** A migration of its own database from one server to another, driven through the library. A table of marks tells how far green is. */
export class MysqlRun implements AsyncDisposable {
  readonly name: string;
  readonly dir: string;
  readonly #servers: Readonly<Record<'blue' | 'green', MysqlServer>>;
  readonly #client: mysql.Connection;
  /** What was logged as a warning or worse. */
  readonly told: Readonly<Record<string, unknown>>[] = [];
  #engine: VerdigrisEngine | null = null;
  #starting: Promise<void> = Promise.resolve();
  #marks = 0;

  private constructor(at: {
    readonly name: string;
    readonly dir: string;
    readonly client: mysql.Connection;
    readonly servers: Readonly<Record<'blue' | 'green', MysqlServer>>;
  }) {
    this.name = at.name;
    this.dir = at.dir;
    this.#servers = at.servers;
    this.#client = at.client;
  }

  static async create(options: MysqlRunOptions): Promise<MysqlRun> {
    const name = `r${randomBytes(6).toString('hex')}`;
    const servers = { blue: options.blueOn, green: options.greenOn };
    for (const server of Object.values(servers))
      await server.query(`CREATE DATABASE ${name} CHARACTER SET utf8mb4`);
    const run = new MysqlRun({
      name,
      dir: await mkdtemp(join(tmpdir(), 'verdigris-run-')),
      client: await servers.blue.connect(name),
      servers,
    });
    const settings = options.settings ?? '';
    const has = (key: string): boolean => new RegExp(`^${key}:`, 'm').test(settings);
    const side = (server: MysqlServer): string =>
      `engine: mysql, url: "${server.url(name, ENGINE_USER)}", state_schema: ${name}_state`;
    const tables = `- from: $db.run_mark\n${options.tables.trim()}`.replaceAll('$db', name);
    const yaml = [
      'version: 1',
      `migration: ${name}`,
      `blue: { ${side(servers.blue)} }`,
      `green: { ${side(servers.green)} }`,
      has('verify') ? '' : 'verify: { after_copy: "off" }',
      has('apply') ? '' : 'apply: { heartbeat: 200ms }',
      settings.replaceAll('$db', name),
      'tables:',
      ...tables.split('\n').map((line) => `  ${line}`),
    ];
    try {
      await writeFile(run.file, `${yaml.join('\n')}\n`);
      for (const sql of [MARKS, ...options.blue]) await run.blue(sql);
      for (const sql of [MARKS, ...options.green]) await run.green(sql);
    } catch (error) {
      await run[Symbol.asyncDispose]();
      throw error;
    }
    return run;
  }

  /** One statement on a connection that stays: transactions of several can be made. */
  async blue(sql: string): Promise<Record<string, unknown>[]> {
    const [rows] = await this.#client.query(sql.replaceAll('$db', this.name));
    return rows as Record<string, unknown>[];
  }

  /** One statement on a connection of its own: green ends the sessions of others while it is protected. */
  green(sql: string): Promise<Record<string, unknown>[]> {
    return this.#servers.green.query(sql.replaceAll('$db', this.name), this.name);
  }

  get file(): string {
    return join(this.dir, 'verdigris.yaml');
  }

  get engine(): VerdigrisEngine {
    if (this.#engine === null) throw new Error('the run was not started');
    return this.#engine;
  }

  /** Starts without waiting for it; {@link started} does. */
  async begin(options: EngineOptions = {}): Promise<void> {
    this.#engine = createEngine(await loadConfig(this.file), { logger: keeping(this.told), ...options });
    this.#starting = this.#engine.start();
    this.#starting.catch(() => undefined);
  }

  /** It replicates. Fails when the engine stops for the operator before. */
  async started(): Promise<void> {
    await untilStarted(this.engine, this.#starting);
  }

  async start(options: EngineOptions = {}): Promise<void> {
    await this.begin(options);
    await this.started();
  }

  async stop(): Promise<void> {
    await this.#engine?.close();
    this.#engine = null;
  }

  /** Commits a mark on blue. */
  async mark(): Promise<number> {
    this.#marks += 1;
    await this.blue(`INSERT INTO run_mark VALUES (${this.#marks})`);
    return this.#marks;
  }

  /** The mark is on green, and all that was committed before it. */
  async marked(mark: number, timeoutMs = 30_000): Promise<void> {
    const found = async (): Promise<boolean> =>
      (await this.green(`SELECT 1 FROM run_mark WHERE id = ${mark}`)).length > 0;
    await waitFor(found, { what: 'the mark to arrive on green', timeoutMs }).catch(async (error: unknown) => {
      const status = await this.engine.status().catch((failure: unknown) => failure);
      throw new Error(`${String(error)}; status ${JSON.stringify(status)}`, { cause: error });
    });
  }

  /** Everything that was committed on blue before the call is on green, keys that had to be read again included. */
  async settled(timeoutMs = 30_000): Promise<void> {
    await this.marked(await this.mark(), timeoutMs);
    await waitFor(
      async () => (await this.green("SELECT 1 FROM $db_state.holes WHERE kind = 'incomplete'")).length === 0,
      { what: 'incomplete rows to be read again', timeoutMs },
    );
  }

  /** Waits until the engine stops for the operator with this error, and returns the status. */
  async parked(code: string, timeoutMs = 30_000): Promise<WatchedStatus> {
    let seen: unknown;
    return await waitFor(
      async () => {
        const status = await this.engine.status();
        seen = status.error;
        return status.condition === 'blocked' && status.error?.code === code ? status : null;
      },
      { what: `the run to stop with ${code}`, timeoutMs },
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}; last: ${JSON.stringify(seen)}`, { cause: error });
    });
  }

  async resume(): Promise<void> {
    await (await this.engine.migration()).resume('all');
  }

  /** Blue and green give the same rows in the same order, each to a query of its own. */
  async compare(blueSql: string, greenSql = blueSql): Promise<Record<string, unknown>[]> {
    const left = (await this.blue(blueSql)).map((row) => Object.values(row));
    const right = await this.green(greenSql);
    expect(right.map((row) => Object.values(row))).toEqual(left);
    return right;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#client.end().catch(() => undefined);
    for (const server of Object.values(this.#servers))
      for (const database of [this.name, `${this.name}_state`])
        await server.query(`DROP DATABASE IF EXISTS ${database}`).catch(() => undefined);
    await rm(this.dir, { recursive: true, force: true });
  }
}

function keeping(told: Readonly<Record<string, unknown>>[]): Logger {
  const silent = (): void => undefined;
  const keep = (fields: Readonly<Record<string, unknown>>, message: string): void => {
    told.push({ ...fields, message });
  };
  const logger: Logger = { debug: silent, info: silent, warn: keep, error: keep, child: () => logger };
  return logger;
}
