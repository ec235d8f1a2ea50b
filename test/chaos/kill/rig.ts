import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { Side } from '../../../src/core/engine.ts';
import { createDatabaseOn, type TestDatabase } from '../../support/databases.ts';
import type { PostgresServer } from '../../support/postgres.ts';
import { startTcpProxy, type TcpProxy } from '../../support/tcp-proxy.ts';
import { waitFor } from '../../support/wait.ts';
import { Clients, tablesOf } from './clients.ts';
import { TestEngine } from './engine.ts';
import { startFront, type Front, type FrontName } from './front.ts';

export interface Servers {
  readonly blue: PostgresServer;
  readonly green: PostgresServer;
}

export interface FenceRecord {
  readonly state: string;
  readonly epoch: number;
}

const NEVER_RAISED: FenceRecord = { state: 'open', epoch: 0 };

/** What one side has taken, as it stands in its tables. */
export interface Taken {
  readonly orders: readonly {
    readonly id: number;
    readonly client: number;
    readonly side: string;
    readonly at: number;
  }[];
  readonly tally: ReadonlyMap<number, number>;
}

/**
 * A small migration behind one proxy, under clients that keep a ledger: through the proxy, and past it straight at each side, which no
 * switch may let through at the wrong time.
 */
export class KillRig implements AsyncDisposable {
  readonly migration: string;
  readonly front: Front;
  readonly servers: Servers;
  readonly dir: string;
  /** The engine's ways to the two sides. */
  readonly toBlue: TcpProxy;
  readonly toGreen: TcpProxy;
  readonly blue: TestDatabase;
  readonly green: TestDatabase;
  readonly engines: TestEngine[] = [];
  readonly #stack: AsyncDisposableStack;
  /** Who serves, as far as the cases so far know, and how often that has changed. */
  serving: Side = 'blue';
  turns = 0;
  #clients: Clients | null = null;
  #rogues: Clients[] = [];
  #intrude: (() => Clients) | null = null;
  readonly #past: Clients[] = [];

  private constructor(
    parts: Pick<KillRig, 'migration' | 'front' | 'servers' | 'dir' | 'toBlue' | 'toGreen' | 'blue' | 'green'>,
    stack: AsyncDisposableStack,
  ) {
    this.migration = parts.migration;
    this.front = parts.front;
    this.servers = parts.servers;
    this.dir = parts.dir;
    this.toBlue = parts.toBlue;
    this.toGreen = parts.toGreen;
    this.blue = parts.blue;
    this.green = parts.green;
    this.#stack = stack;
  }

  static async create(name: FrontName, servers: Servers): Promise<KillRig> {
    await using stack = new AsyncDisposableStack();
    const migration = `k${randomBytes(5).toString('hex')}`;
    const blue = stack.use(await createDatabaseOn(servers.blue, migration));
    const green = stack.use(await createDatabaseOn(servers.green, migration));
    await blue.query(tablesOf('blue'));
    await green.query(tablesOf('green'));
    const place = ({ port }: PostgresServer) => ({ host: '127.0.0.1', port });
    const sides = { database: migration, blue: place(servers.blue), green: place(servers.green) };
    const front = stack.use(await startFront(name, sides));
    const [toBlue, toGreen] = [
      stack.use(await startTcpProxy(sides.blue)),
      stack.use(await startTcpProxy(sides.green)),
    ];
    const through = (database: TestDatabase, proxy: TcpProxy): string => {
      const url = new URL(database.url);
      url.port = String(proxy.port);
      return url.href;
    };
    const dir = await mkdtemp(join(tmpdir(), 'verdigris-kill-'));
    stack.defer(() => rm(dir, { recursive: true, force: true }));
    const config = {
      version: 1,
      migration,
      blue: { engine: 'postgres', url: through(blue, toBlue) },
      green: { engine: 'postgres', url: through(green, toGreen) },
      server: { state_dir: dir },
      apply: { heartbeat: '200ms' },
      verify: { after_copy: 'off' },
      gates: { stable_for: '100ms', max_round_trip: '20s', max_commit_lag: '20s' },
      cutover: { max_write_pause: '8s', kill_blockers_after: null, proxies: [front.entry] },
      tables: ['orders', 'tally'].map((table) => ({ from: `public.${table}` })),
    };
    // JSON is YAML.
    await writeFile(join(dir, 'verdigris.yaml'), JSON.stringify(config), { mode: 0o600 });
    return new KillRig({ migration, front, servers, dir, toBlue, toGreen, blue, green }, stack.move());
  }

  get clients(): Clients {
    if (this.#clients === null) throw new Error('no client is at work');
    return this.#clients;
  }

  /** All that any client of this rig knows. */
  get ledger(): { readonly acknowledged: ReadonlySet<number>; readonly unsure: ReadonlySet<number> } {
    const all = [...this.#past, ...this.#rogues, ...(this.#clients ? [this.#clients] : [])];
    return {
      acknowledged: new Set(all.flatMap((one) => [...one.acknowledged.keys()])),
      unsure: new Set(all.flatMap((one) => [...one.unsure])),
    };
  }

  /** Clients through the proxy, and one past it at each side. Their rows are theirs alone. */
  async work(): Promise<void> {
    const round = this.#past.length + 1;
    const client = (url: string, place: number, count: number): Clients =>
      new Clients(url, {
        numbers: Array.from({ length: count }, (_, index) => 100 * round + 10 * place + index),
        firstId: 1 + round * 10_000_000 + place * 1_000_000,
      });
    this.#clients = client(this.front.url, 0, 3);
    this.#rogues = [client(this.blue.url, 1, 1)];
    await this.#clients.more();
    this.#intrude = () => client(this.green.url, 2, 1);
  }

  /** The one who writes straight to green. Only behind its fence: nobody may write there before a run has begun. */
  async intrude(): Promise<void> {
    const begun = async (): Promise<boolean> => {
      const record = await this.record('green');
      return record !== null && (this.serving === 'green' || record.state !== 'open');
    };
    await waitFor(begun, { what: 'the fence of green', timeoutMs: 60_000 });
    if (this.#intrude !== null) this.#rogues.push(this.#intrude());
    this.#intrude = null;
  }

  /** Every client ends its transaction. */
  async rest(): Promise<void> {
    const all = [...this.#rogues, ...(this.#clients ? [this.#clients] : [])];
    await Promise.all(all.map((one) => one[Symbol.asyncDispose]()));
    this.#past.push(...all);
    this.#clients = null;
    this.#rogues = [];
    this.#intrude = null;
  }

  /** An engine that replicates since the case before, and was asked nothing yet. */
  get standing(): TestEngine | null {
    const last = this.engines.at(-1);
    return last !== undefined && !last.over && !last.asked ? last : null;
  }

  engine(): TestEngine {
    const engine = new TestEngine(join(this.dir, 'verdigris.yaml'));
    this.engines.push(engine);
    return engine;
  }

  /** The fence record of a side; null while it cannot be read. One that was never prepared has none: nothing has ever closed it. */
  async record(side: Side): Promise<FenceRecord | null> {
    try {
      const [row] = await this.#ask<{ state: string; epoch: string }>(
        side,
        'SELECT state, epoch::text FROM verdigris.fence WHERE migration = $1',
        [this.migration],
      );
      return row === undefined ? NEVER_RAISED : { state: row.state, epoch: Number(row.epoch) };
    } catch (error) {
      return (error as { code?: unknown }).code === '42P01' ? NEVER_RAISED : null;
    }
  }

  /** Whatever decides: what an engine that was replaced must not move any more. */
  async decisions(): Promise<unknown> {
    const [lease, run, checkpoint] = await Promise.all([
      this.#ask('green', 'SELECT term::text, holder FROM verdigris.lease WHERE id = $1', [this.migration]),
      this.#ask('green', 'SELECT phase, epoch::text, active_side FROM verdigris.run WHERE id = $1', [
        this.migration,
      ]),
      this.#ask('green', 'SELECT DISTINCT term::text FROM verdigris.checkpoint WHERE id = $1', [
        this.migration,
      ]),
    ]);
    return { blue: await this.record('blue'), green: await this.record('green'), lease, run, checkpoint };
  }

  async taken(side: Side): Promise<Taken> {
    const orders = await this.#ask<{ id: string; client: number; side: string; at: string }>(
      side,
      'SELECT id::text, client, side, extract(epoch FROM at)::text AS at FROM orders',
    );
    const tally = await this.#ask<{ client: number; n: string }>(side, 'SELECT client, n::text FROM tally');
    return {
      orders: orders.map((row) => ({ ...row, id: Number(row.id), at: Number(row.at) })),
      tally: new Map(tally.map(({ client, n }) => [client, Number(n)])),
    };
  }

  /** What the dead-man of the last attempt came to; null before it has written anything. */
  async deadman(): Promise<{ readonly pid: number; readonly state: string } | null> {
    try {
      const text = await readFile(join(this.dir, `${this.migration}.deadman.json`), 'utf8');
      return JSON.parse(text) as { pid: number; state: string };
    } catch {
      return null;
    }
  }

  /** On a connection of its own: servers die here. */
  async #ask<Row>(side: Side, sql: string, values: readonly unknown[] = []): Promise<Row[]> {
    const client = new pg.Client({ connectionString: this[side].url, connectionTimeoutMillis: 5_000 });
    client.on('error', () => undefined);
    try {
      await client.connect();
      return (await client.query(sql, [...values])).rows as Row[];
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.rest();
    const deadman = await this.deadman();
    for (const engine of this.engines) await engine[Symbol.asyncDispose]();
    // Without an engine it ends by itself.
    if (deadman !== null)
      await waitFor(() => !alive(deadman.pid), { what: 'the dead-man to end', timeoutMs: 30_000 });
    await this.#stack.disposeAsync();
  }
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
