import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import {
  createEngine,
  type EngineOptions,
  type VerdigrisEngine,
  type WatchedStatus,
} from '../../src/app/engine.ts';
import { loadConfig } from '../../src/app/load.ts';
import type { Failpoints } from '../../src/core/failpoint.ts';
import { createDatabase, createDatabaseOn, type TestDatabase } from './databases.ts';
import type { PostgresServer, PostgresVersion } from './postgres.ts';
import { untilStarted } from './started.ts';
import { waitFor } from './wait.ts';

export interface RunOptions {
  /** Version of the shared server, or a server of the test's own. Default 16. */
  readonly blueOn?: PostgresVersion | PostgresServer;
  /** Default 18. */
  readonly greenOn?: PostgresVersion | PostgresServer;
  /** DDL and first rows of blue. */
  readonly blue: string;
  /** Green's schema file. */
  readonly green: string;
  /** Entries of `tables:`, in YAML, without indentation. */
  readonly tables: string;
  /** More top-level YAML; `verify` and `apply` belong to the run unless they stand here. */
  readonly settings?: string;
  /** More keys of `blue:` and `green:`, as they stand between braces. */
  readonly blueSettings?: string;
  readonly greenSettings?: string;
}

const PINNED = `SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET extra_float_digits = 1;
  SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET search_path = pg_catalog`;
const MARKS = 'CREATE TABLE public.run_mark (id bigint PRIMARY KEY);';
const TEXT = { getTypeParser: () => String };

/** A migration of its own two databases, driven through the library. A table of marks tells how far green is. */
export class Run implements AsyncDisposable {
  readonly blue: TestDatabase;
  readonly green: TestDatabase;
  readonly dir: string;
  readonly name: string;
  #engine: VerdigrisEngine | null = null;
  #starting: Promise<void> = Promise.resolve();
  #marks = 0;

  private constructor(at: { blue: TestDatabase; green: TestDatabase; dir: string; name: string }) {
    this.blue = at.blue;
    this.green = at.green;
    this.dir = at.dir;
    this.name = at.name;
  }

  static async create(options: RunOptions): Promise<Run> {
    const open = (on: PostgresVersion | PostgresServer): Promise<TestDatabase> =>
      typeof on === 'number' ? createDatabase(on) : createDatabaseOn(on);
    const blue = await open(options.blueOn ?? 16);
    const green = await open(options.greenOn ?? 18);
    const name = `r${randomBytes(6).toString('hex')}`;
    const run = new Run({ blue, green, dir: await mkdtemp(join(tmpdir(), 'verdigris-run-')), name });
    const settings = options.settings ?? '';
    const more = (keys: string | undefined): string => (keys === undefined ? '' : `, ${keys}`);
    const has = (key: string): boolean => new RegExp(`^${key}:`, 'm').test(settings);
    const yaml = [
      'version: 1',
      `migration: ${name}`,
      `blue: { engine: postgres, url: "${blue.url}"${more(options.blueSettings)} }`,
      `green: { engine: postgres, url: "${green.url}", schema_file: ./green.sql${more(options.greenSettings)} }`,
      has('verify') ? '' : 'verify: { after_copy: "off" }',
      has('apply') ? '' : 'apply: { heartbeat: 200ms }',
      settings,
      'tables:',
      ...`- from: public.run_mark\n${options.tables.trim()}`.split('\n').map((line) => `  ${line}`),
    ];
    try {
      await writeFile(run.file, `${yaml.join('\n')}\n`);
      await writeFile(join(run.dir, 'green.sql'), `${MARKS}\n${options.green}\n`);
      await blue.query(`${MARKS}\n${options.blue}`);
    } catch (error) {
      await run[Symbol.asyncDispose]();
      throw error;
    }
    return run;
  }

  /** The configuration file. */
  get file(): string {
    return join(this.dir, 'verdigris.yaml');
  }

  get engine(): VerdigrisEngine {
    if (this.#engine === null) throw new Error('the run was not started');
    return this.#engine;
  }

  /** Starts without waiting for it; {@link started} does. */
  async begin(options: EngineOptions = {}): Promise<void> {
    this.#engine = createEngine(await loadConfig(this.file), options);
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

  /** Everything that was committed on blue before the call is on green, keys that had to be read again included. */
  async settled(timeoutMs = 30_000): Promise<void> {
    const mark = await this.mark();
    await this.marked(mark, timeoutMs);
    await waitFor(
      async () =>
        (await this.green.query(`SELECT 1 FROM verdigris.holes WHERE kind = 'incomplete'`)).length === 0,
      { what: 'incomplete rows to be read again', timeoutMs },
    );
  }

  /** Commits a mark on blue. */
  async mark(): Promise<number> {
    this.#marks += 1;
    await this.blue.query('INSERT INTO public.run_mark VALUES ($1)', [this.#marks]);
    return this.#marks;
  }

  /** The mark is on green, and all that was committed before it. */
  async marked(mark: number, timeoutMs = 30_000): Promise<void> {
    const find = (): Promise<unknown[]> =>
      this.green.query('SELECT 1 FROM public.run_mark WHERE id = $1', [mark]);
    await waitFor(async () => (await find()).length > 0, {
      what: 'the mark to arrive on green',
      timeoutMs,
    }).catch(async (error: unknown) => {
      const status = await this.engine.status().catch((failure: unknown) => failure);
      throw new Error(`${String(error)}; status ${JSON.stringify(status)}`, { cause: error });
    });
  }

  /** Waits until the engine stops for the operator with this error, and returns the status. */
  async parked(code: string, timeoutMs = 30_000): Promise<WatchedStatus> {
    return waitFor(
      async () => {
        const status = await this.engine.status();
        return status.condition === 'blocked' && status.error?.code === code ? status : null;
      },
      { what: `the run to stop with ${code}`, timeoutMs },
    );
  }

  async resume(): Promise<void> {
    await (await this.engine.migration()).resume('all');
  }

  /** The rows of a query as text, read with pinned settings. */
  async rows(side: 'blue' | 'green', sql: string): Promise<(string | null)[][]> {
    const client = await this[side].connect();
    try {
      await client.query(PINNED);
      const { rows } = await client.query({ text: sql, rowMode: 'array', types: TEXT });
      return rows as (string | null)[][];
    } finally {
      await client.end();
    }
  }

  /** Blue and green give the same rows in the same order, each to a query of its own. Order by something unique. */
  async compare(blueSql: string, greenSql = blueSql): Promise<(string | null)[][]> {
    const left = await this.rows('blue', blueSql);
    const right = await this.rows('green', greenSql);
    expect(right).toEqual(left);
    return right;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await rm(this.dir, { recursive: true, force: true });
    const ended = await Promise.allSettled([
      this.blue[Symbol.asyncDispose](),
      this.green[Symbol.asyncDispose](),
    ]);
    for (const one of ended) if (one.status === 'rejected') throw one.reason;
  }
}

/** Makes the engine wait at named places until the test lets it go on. */
export class HoldPoints implements Failpoints {
  readonly #held = new Map<
    string,
    { reached: PromiseWithResolvers<void>; open: PromiseWithResolvers<void> }
  >();

  /** From now on the engine waits there. Resolves when it is there. */
  hold(name: string): Promise<void> {
    const point = { reached: Promise.withResolvers<void>(), open: Promise.withResolvers<void>() };
    this.#held.set(name, point);
    return point.reached.promise;
  }

  release(name: string): void {
    this.#held.get(name)?.open.resolve();
    this.#held.delete(name);
  }

  hit(name: string): Promise<void> | undefined {
    const point = this.#held.get(name);
    point?.reached.resolve();
    return point?.open.promise;
  }
}
