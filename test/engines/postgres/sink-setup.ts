import type { RowRun } from '../../../src/core/change.ts';
import type { SessionEnv } from '../../../src/core/engine.ts';
import { NO_FAILPOINTS } from '../../../src/core/failpoint.ts';
import { SILENT } from '../../../src/core/log.ts';
import type { TargetTable } from '../../../src/core/plan.ts';
import { asPosition, type Position } from '../../../src/core/position.ts';
import type { SinkGroup } from '../../../src/core/sink.ts';
import { UNCHANGED, type Cell, type Relation, type Tuple } from '../../../src/core/table.ts';
import { describeTarget } from '../../../src/engines/postgres/catalog.ts';
import { schema as configSchema, type PostgresConfig } from '../../../src/engines/postgres/config.ts';
import { createSink, type PostgresSink } from '../../../src/engines/postgres/sink.ts';
import { createStateStore, type PostgresStateStore } from '../../../src/engines/postgres/state.ts';
import { createDatabase, type TestDatabase } from '../../support/databases.ts';

export const MIGRATION = 'shop';
export const U: typeof UNCHANGED = UNCHANGED;
export const NO_HOLES = { opened: [], closed: [] };

export interface Green extends AsyncDisposable {
  readonly db: TestDatabase;
  readonly config: PostgresConfig;
  readonly env: SessionEnv;
  readonly state: PostgresStateStore;
  readonly term: number;
  readonly sink: PostgresSink;
  /** Position of the last group that was applied. */
  at: Position;
  /** A table as the catalog has it, as a plain target. */
  target(name: string, shape?: Partial<TargetTable>): Promise<TargetTable>;
  targets(...names: string[]): Promise<TargetTable[]>;
  another(term: number): PostgresSink;
  /** One group with these runs. */
  apply(...runs: RowRun[]): Promise<Position | null>;
  group(runs: readonly RowRun[], change?: Partial<SinkGroup>): SinkGroup;
  rows(sql: string): Promise<string[]>;
}

export interface GreenOptions {
  readonly version?: 14 | 15 | 16 | 17 | 18;
  readonly session?: Partial<PostgresConfig['session']>;
  readonly begin?: boolean;
}

/** A database with this schema, a lease at term 1 and a checkpoint at `0`. */
export async function green(ddl: string, options: GreenOptions = {}): Promise<Green> {
  const db = await createDatabase(options.version ?? 18);
  try {
    await db.query(ddl);
    const config = configSchema.parse({ url: db.url, session: options.session ?? {} });
    const env: SessionEnv = {
      migration: MIGRATION,
      side: 'green',
      stateSchema: 'verdigris',
      log: SILENT,
      failpoints: NO_FAILPOINTS,
    };
    const state = createStateStore({ config, env });
    await state.prepare();
    const term = await state.acquire(MIGRATION, 'test', { ttlMs: 60_000, takeover: false });
    return new OpenGreen({ db, config, env, state, term });
  } catch (error) {
    await Promise.resolve(db[Symbol.asyncDispose]()).catch(() => undefined);
    throw error;
  }
}

class OpenGreen implements Green {
  readonly db: TestDatabase;
  readonly config: PostgresConfig;
  readonly env: SessionEnv;
  readonly state: PostgresStateStore;
  readonly term: number;
  readonly sink: PostgresSink;
  at = asPosition('0');
  #count = 0;
  #begun = false;
  readonly #others: PostgresSink[] = [];

  constructor(parts: Pick<Green, 'db' | 'config' | 'env' | 'state' | 'term'>) {
    this.db = parts.db;
    this.config = parts.config;
    this.env = parts.env;
    this.state = parts.state;
    this.term = parts.term;
    this.sink = this.#make(parts.term);
  }

  #make(term: number): PostgresSink {
    return createSink({
      config: this.config,
      env: this.env,
      options: { direction: 'forward', term, maxBatchBytes: 1 << 20 },
    });
  }

  another(term: number): PostgresSink {
    const sink = this.#make(term);
    this.#others.push(sink);
    return sink;
  }

  async targets(...names: string[]): Promise<TargetTable[]> {
    const targets: TargetTable[] = [];
    for (const name of names) targets.push(await this.target(name));
    return targets;
  }

  async target(name: string, shape: Partial<TargetTable> = {}): Promise<TargetTable> {
    const relation = await describeTarget(this.db.client, { schema: 'public', name });
    return { relation, merge: null, prefix: 0, ...shape };
  }

  group(runs: readonly RowRun[], change: Partial<SinkGroup> = {}): SinkGroup {
    this.#count += 1;
    return {
      previous: this.at,
      end: asPosition(String(this.#count)),
      runs,
      holes: NO_HOLES,
      transactions: 1,
      newestCommitMs: 1_700_000_000_000,
      ...change,
    };
  }

  async start(): Promise<void> {
    if (this.#begun) return;
    this.#begun = true;
    await this.sink.begin(this.at);
  }

  async apply(...runs: RowRun[]): Promise<Position | null> {
    await this.start();
    const group = this.group(runs);
    const durable = await this.sink.apply(group);
    this.at = group.end as Position;
    return durable;
  }

  async rows(sql: string): Promise<string[]> {
    const result = await this.db.client.query<string[]>({ text: sql, rowMode: 'array' });
    return result.rows.map((row) => row.map((cell) => (cell === null ? '∅' : String(cell))).join('|'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const sink of this.#others) await sink[Symbol.asyncDispose]();
    await this.sink[Symbol.asyncDispose]();
    await this.state[Symbol.asyncDispose]();
    await this.db[Symbol.asyncDispose]();
  }
}

export const insert = (relation: Relation, ...after: Tuple[]): RowRun => ({
  relation,
  op: 'insert',
  after,
  before: after.map(() => null),
  columns: all(relation),
});

/** Rows whose key did not move; `columns` are those that are set. */
export const update = (relation: Relation, columns: readonly number[], ...after: Tuple[]): RowRun => ({
  relation,
  op: 'update',
  after,
  before: after.map(() => null),
  columns,
});

/** Pairs of old key image and new row. */
export const move = (
  relation: Relation,
  columns: readonly number[],
  ...rows: (readonly [Tuple, Tuple])[]
): RowRun => ({
  relation,
  op: 'update',
  after: rows.map(([, after]) => after),
  before: rows.map(([before]) => before),
  columns,
});

export const remove = (relation: Relation, ...before: Tuple[]): RowRun => ({
  relation,
  op: 'delete',
  after: [],
  before,
});

export const truncate = (relation: Relation): RowRun => ({ relation, op: 'truncate', after: [], before: [] });

/** An image in which only these cells are known. */
export const only = (relation: Relation, cells: Readonly<Record<number, Cell>>): Tuple =>
  relation.columns.map((_, index) => (index in cells ? (cells[index] as Cell) : UNCHANGED));

const all = (relation: Relation): number[] =>
  relation.columns.flatMap((column, index) => (column.generated ? [] : [index]));
