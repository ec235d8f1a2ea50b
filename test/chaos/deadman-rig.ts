import { spawn, type ChildProcess } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import type { DeadmanReport } from '../../src/app/deadman-files.ts';
import type { Envelope } from '../../src/app/envelope.ts';
import { run } from '../e2e/cli-run.ts';
import { createDatabase, type TestDatabase } from '../support/databases.ts';
import { Workplace, type EngineProcess } from '../support/engine-process.ts';
import { startPgBouncer, type PgBouncer } from '../support/pgbouncer.ts';
import { waitFor } from '../support/wait.ts';

/** Slots are the server's, and files that run at the same time share one. */
export const MIGRATION = `held${process.pid}`;
const MAIN = new URL('../../src/cli/main.ts', import.meta.url).pathname;

/** How long a client waited for the answer of one statement, and when it came. */
export interface Wait {
  readonly endedAt: number;
  readonly ms: number;
}

/** Shorter waits are of no interest. */
const NOTED_MS = 5;

/** Clients of the proxy: each commits one transaction after the other, and knows what was acknowledged, and when. */
export class Writers implements AsyncDisposable {
  readonly acknowledged = new Map<number, number>();
  readonly failures: string[] = [];
  readonly waits: Wait[] = [];
  #next = 1;
  #on = true;
  readonly #ledger: boolean;
  readonly #running: Promise<void>[];

  /** @param ledger also one row into a table without a key, in which a transaction that is applied twice stands twice */
  constructor(url: string, count: number, ledger = false) {
    this.#ledger = ledger;
    this.#running = Array.from({ length: count }, () => this.#write(url));
  }

  /** ms from then to the first transaction acknowledged later. */
  firstAfter(then: number): Promise<number> {
    return waitFor(
      () => {
        const later = [...this.acknowledged.values()].filter((at) => at > then);
        return later.length > 0 ? Math.min(...later) - then : null;
      },
      { what: 'a client to write again', timeoutMs: 20_000, everyMs: 5 },
    );
  }

  async more(count = 20): Promise<void> {
    const until = this.acknowledged.size + count;
    await waitFor(() => this.acknowledged.size >= until, {
      what: `${count} more transactions`,
      timeoutMs: 20_000,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#on = false;
    await Promise.all(this.#running);
  }

  async #write(url: string): Promise<void> {
    const client = new pg.Client(url);
    client.on('error', () => undefined);
    await client.connect();
    while (this.#on) {
      const id = this.#next++;
      const ask = async (query: string | pg.QueryConfig): Promise<void> => {
        const from = performance.now();
        await client.query(query);
        const endedAt = performance.now();
        if (endedAt - from >= NOTED_MS) this.waits.push({ endedAt, ms: endedAt - from });
      };
      try {
        await ask('BEGIN');
        await ask({
          name: 'order',
          text: 'INSERT INTO orders (id, note) VALUES ($1, $2)',
          values: [id, 'x'],
        });
        if (this.#ledger) await ask({ name: 'ledger', text: 'INSERT INTO ledger VALUES ($1)', values: [id] });
        await ask('COMMIT');
        this.acknowledged.set(id, performance.now());
      } catch (error) {
        this.failures.push(String(error));
        await client.query('ROLLBACK').catch(() => undefined);
      }
      await new Promise((resolve) => setTimeout(resolve, 15));
    }
    await client.end();
  }
}

/** A small migration behind a PgBouncer under load, whose engine is killed again and again. */
export class Rig implements AsyncDisposable {
  readonly blue: TestDatabase;
  readonly green: TestDatabase;
  readonly bouncer: PgBouncer;
  readonly place: Workplace;
  readonly writers: Writers;
  /** What the configuration says of PgBouncer. */
  readonly proxyConfig: object;
  readonly #stack: AsyncDisposableStack;
  readonly #groups = new Set<ChildProcess>();
  readonly #deadmen = new Set<number>();
  #planned = false;

  private constructor(
    parts: {
      blue: TestDatabase;
      green: TestDatabase;
      bouncer: PgBouncer;
      place: Workplace;
      writers: Writers;
      proxy: object;
    },
    stack: AsyncDisposableStack,
  ) {
    this.blue = parts.blue;
    this.green = parts.green;
    this.bouncer = parts.bouncer;
    this.place = parts.place;
    this.writers = parts.writers;
    this.proxyConfig = parts.proxy;
    this.#stack = stack;
  }

  /** @param options.ledger see {@link Writers} */
  static async create(
    options: { readonly clients?: number; readonly ledger?: boolean; readonly settings?: string } = {},
  ): Promise<Rig> {
    const { clients = 4, ledger = false, settings = '' } = options;
    await using stack = new AsyncDisposableStack();
    const blue = stack.use(await createDatabase(16));
    const green = stack.use(await createDatabase(18));
    for (const database of [blue, green]) {
      await database.query('CREATE TABLE orders (id bigint PRIMARY KEY, note text)');
      if (ledger)
        await database.query('CREATE TABLE ledger (id bigint); ALTER TABLE ledger REPLICA IDENTITY FULL');
    }
    const at = ({ server, name }: TestDatabase) => ({ host: '127.0.0.1', port: server.port, dbname: name });
    const bouncer = stack.use(await startPgBouncer({ databases: { shop: at(blue) } }));
    const proxy = {
      admin_url: bouncer.adminUrl,
      client_url: bouncer.url('shop'),
      ini: bouncer.databasesIniPath,
      databases: ['shop'],
      blue: at(blue),
      green: at(green),
    };
    const place = stack.use(
      await Workplace.create({
        'verdigris.yaml': `version: 1
migration: ${MIGRATION}
blue: { engine: postgres, url: "${blue.url}" }
green: { engine: postgres, url: "${green.url}" }
gates: { stable_for: 500ms, max_round_trip: 20s, max_commit_lag: 20s }
${settings}
cutover:
  max_write_pause: 8s
  kill_blockers_after: null
  proxies:
    - ${JSON.stringify({ adapter: 'pgbouncer', ...proxy })}
tables:
  - from: public.orders
    to: [{ table: public.orders }]
${ledger ? '  - from: public.ledger\n' : ''}`,
      }),
    );
    const writers = stack.use(new Writers(bouncer.url('shop'), clients, ledger));
    await writers.more();
    return new Rig({ blue, green, bouncer, place, writers, proxy }, stack.move());
  }

  get planFile(): string {
    return join(this.place.dir, 'plan.json');
  }

  /** An engine whose other side follows, with every gate open. */
  async engine(
    failpoint?: string,
    following: 'replicating' | 'reversing' = 'replicating',
  ): Promise<EngineProcess> {
    const engine = this.place.start({
      args: ['--takeover'],
      ...(failpoint === undefined ? {} : { failpoint }),
    });
    try {
      await engine.until(
        'every gate to be open',
        ({ phase, gates }) => phase === following && gates.length > 0 && gates.every(({ ok }) => ok),
      );
    } catch (cause) {
      const shut = engine.status?.gates
        .filter(({ ok }) => !ok)
        .map(({ name, reason }) => `${name}: ${reason}`);
      throw new Error(
        `phase ${engine.status?.phase}, shut: ${shut?.join('; ')}\n${engine.output().slice(-1500)}`,
        { cause },
      );
    }
    return engine;
  }

  /** The same as the leader of a process group of its own. */
  async engineInGroup(failpoint: string): Promise<ChildProcess> {
    const child = spawn(
      process.execPath,
      [MAIN, 'start', '--config', this.place.file, '--takeover', '--json'],
      {
        detached: true,
        cwd: this.place.dir,
        env: { ...process.env, XDG_STATE_HOME: this.place.dir, VERDIGRIS_FAILPOINT: failpoint },
        stdio: 'ignore',
      },
    );
    this.#groups.add(child);
    child.once('exit', () => this.#groups.delete(child));
    await waitFor(
      async () => (await run(this.place, 'wait', '--for', 'gate=ready', '--timeout', '1s')).code === 0,
      {
        what: 'the engine in its group to be ready',
        timeoutMs: 60_000,
      },
    );
    return child;
  }

  cutover(): Promise<Envelope | undefined> {
    return this.turn('cutover');
  }

  async turn(
    command: 'cutover' | 'rollback',
    overrides: readonly string[] = [],
  ): Promise<Envelope | undefined> {
    if (!this.#planned) await run(this.place, 'plan', '--out', this.planFile, '--quiet');
    this.#planned = true;
    const done = await run(
      this.place,
      command,
      '--confirm',
      MIGRATION,
      '--plan',
      this.planFile,
      '--json',
      ...overrides.flatMap((gate) => ['--override', `${gate}=test`]),
    );
    return done.envelopes.at(-1);
  }

  async report(): Promise<DeadmanReport> {
    return JSON.parse(
      await readFile(join(this.place.dir, 'verdigris', `${MIGRATION}.deadman.json`), 'utf8'),
    ) as DeadmanReport;
  }

  /** Waits until the dead-man of this attempt acts. */
  async deadmanActs(): Promise<DeadmanReport> {
    return waitFor(
      async () => {
        const found = await this.report();
        return found.state !== 'armed' && !this.#deadmen.has(found.pid) ? found : null;
      },
      { what: 'the dead-man to act', timeoutMs: 40_000, everyMs: 5 },
    );
  }

  /** Waits until the dead-man has written what it came to. Its watch over what follows may still go on. */
  async deadmanDone(): Promise<DeadmanReport> {
    const report = await waitFor(
      async () => {
        const found = await this.report();
        const done = found.state !== 'armed' && found.state !== 'acting';
        return done && !this.#deadmen.has(found.pid) ? found : null;
      },
      { what: 'the dead-man to come to something', timeoutMs: 20_000 },
    );
    this.#deadmen.add(report.pid);
    return report;
  }

  async record(side: TestDatabase): Promise<string | undefined> {
    const [row] = await side.query<{ state: string }>(
      'SELECT state FROM verdigris.fence WHERE migration = $1',
      [MIGRATION],
    );
    return row?.state;
  }

  async events(event: string): Promise<readonly Readonly<Record<string, unknown>>[]> {
    const rows = await this.green.query<{ detail: string }>(
      'SELECT detail FROM verdigris.journal WHERE id = $1 AND event = $2 ORDER BY sequence',
      [MIGRATION, event],
    );
    return rows.map(({ detail }) => JSON.parse(detail) as Record<string, unknown>);
  }

  /** What PgBouncer says itself. */
  async proxy(): Promise<{ dbname: string; paused: boolean }> {
    const admin = new pg.Client(this.bouncer.adminUrl);
    await admin.connect();
    try {
      const { rows } = await admin.query<{ name: string; database: string; paused: string | number }>(
        'SHOW DATABASES',
      );
      const row = rows.find(({ name }) => name === 'shop');
      return { dbname: row?.database ?? '', paused: Number(row?.paused) === 1 };
    } finally {
      await admin.end();
    }
  }

  /** How often each transaction stands in the table without a key. */
  async ledger(side: TestDatabase): Promise<ReadonlyMap<number, number>> {
    const rows = await side.query<{ id: string; n: number }>(
      'SELECT id, count(*)::int AS n FROM ledger GROUP BY id',
    );
    return new Map(rows.map(({ id, n }) => [Number(id), n]));
  }

  async ids(side: TestDatabase): Promise<Set<number>> {
    return new Set((await side.query<{ id: string }>('SELECT id FROM orders')).map(({ id }) => Number(id)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#groups) if (child.pid !== undefined) process.kill(child.pid, 'SIGKILL');
    // None outlives its job: without an engine it ends by itself.
    await waitFor(() => [...this.#deadmen].every((pid) => !alive(pid)), { what: 'every dead-man to end' });
    await this.#stack.disposeAsync();
  }
}

export function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
