import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import pg from 'pg';

import type { CutoverReport, Status } from '../../src/app/engine.ts';
import { newDir } from '../support/run-dir.ts';
import { startPgBouncer } from '../support/pgbouncer.ts';
import { type PostgresServer, startPostgres, TEST_PASSWORD } from '../support/postgres.ts';
import { collidingSequences, compare, type Compared, differencesOf } from './comparison.ts';
import { EngineProcess } from './engine-process.ts';
import { type Failure, type Ledger, longestWait } from './ledger.ts';
import { Load } from './load.ts';
import { seed } from './seed.ts';
import { SwitchSnapshot } from './switch-snapshot.ts';

const MIGRATION = 'shop-demo';
const CLIENTS = 16;
const THINK_MS = 35;
/** The gates must open in this time after the start of the engine. */
const GATES_MS = 120_000;
/** A write pause is looked for until this long after the switch was reported. */
const AFTER_MS = 1_000;

export interface DemoOptions {
  /** 1: a little more than 300,000 rows. */
  readonly scale: number;
  /** How long the clients go on after the switch. */
  readonly afterMs: number;
  readonly report: DemoReport;
}

/** Where the demo tells what it does. */
export interface DemoReport {
  phase(text: string): void;
  progress(line: string): void;
  cutover(report: CutoverReport): void;
}

/** `data` of the last line. */
export interface DemoData {
  readonly blue: string;
  readonly green: string;
  readonly rows: number;
  readonly clientTransactions: number;
  readonly failedTransactions: number;
  readonly lostTransactions: number;
  readonly duplicatedTransactions: number;
  readonly differences: number;
  readonly writePauseMs: number;
  readonly activeSide: 'blue' | 'green';
  readonly copyRowsPerSecond: number;
  readonly seconds: number;
}

export interface DemoResult {
  readonly data: DemoData;
  readonly ok: boolean;
  readonly tables: readonly Compared[];
  readonly failures: readonly Failure[];
  readonly byAction: Ledger['byAction'];
  /** Sequences of green that would hand out a number twice. */
  readonly colliding: readonly string[];
  readonly engineWritePauseMs: number | null;
  readonly transactionsOnGreen: number;
}

/** The whole move, from two empty servers to the comparison. Ends everything it has started. */
export async function runDemo({ scale, afterMs, report }: DemoOptions): Promise<DemoResult> {
  const startedAt = performance.now();
  await using stack = new AsyncDisposableStack();
  report.phase('starting PostgreSQL 16 (blue), PostgreSQL 18 (green) and PgBouncer');
  const [blueServer, greenServer] = await startServers(stack);
  const home = await newDir('demo');
  stack.defer(() => rm(home, { recursive: true, force: true }));
  const pooler = stack.use(
    await startPgBouncer({
      databases: { shop: { host: '127.0.0.1', port: blueServer.port, dbname: 'shop' } },
      users: { app: TEST_PASSWORD },
    }),
  );
  const blue = await connect(stack, blueServer.url('shop'));
  const green = await connect(stack, greenServer.url('shop'));

  report.phase('filling the shop on blue');
  const shop = await seed(blue, scale);

  report.phase(`${CLIENTS} clients go to work through PgBouncer, on ${shop.rows.toLocaleString('en')} rows`);
  const load = stack.use(
    await Load.start({ ...shop, url: pooler.url('shop', 'app'), count: CLIENTS, thinkMs: THINK_MS }),
  );

  const run = new Run();
  const engine = stack.use(
    new EngineProcess({
      config: fileURLToPath(new URL('./verdigris.yaml', import.meta.url)),
      env: await engineEnv({
        home,
        blueServer,
        greenServer,
        admin: pooler.adminUrl,
        ini: pooler.databasesIniPath,
      }),
      onStatus: (status) => {
        run.take(status);
        report.progress(progressLine(status, load.progress));
      },
    }),
  );
  report.phase('verdigris plan');
  const planFile = join(home, 'plan.json');
  await engine.plan(planFile);
  report.phase('verdigris start: copy, then stream, then verify, under load');
  engine.start(planFile);
  await Promise.race([run.gatesOpen(), engine.failed.promise]);

  report.phase('verdigris cutover --dry-run');
  report.cutover(await engine.dryRun());
  report.phase('verdigris cutover');
  const snapshot = stack.use(await SwitchSnapshot.open(greenServer.url('shop'), MIGRATION));
  snapshot.watch();
  const switchFrom = Date.now();
  const cutover = await engine.cutover(planFile, MIGRATION);
  const switchUntil = Date.now();
  report.cutover(cutover);
  const held = await snapshot.taken();

  report.phase('the same clients, now on green');
  await new Promise((resolve) => setTimeout(resolve, Math.max(afterMs, AFTER_MS)));
  report.phase('clients end; looking for every transaction they were told was committed');
  const ledger = await load.hold();
  const counted = await countTransactions(green, ledger.committed);
  report.phase('comparing blue, mapped by hand, with green as it was at the switch');
  const tables = await compare(blue, held);
  const { activeSide } = run.last();
  const colliding = await collidingSequences(green);
  const data: DemoData = {
    blue: await versionOf(blue),
    green: await versionOf(green),
    rows: shop.rows,
    clientTransactions: ledger.committed.length,
    failedTransactions: ledger.failures.length,
    lostTransactions: counted.lost,
    duplicatedTransactions: counted.duplicated,
    differences: differencesOf(tables),
    writePauseMs: longestWait(ledger.waits, switchFrom, switchUntil + AFTER_MS),
    activeSide,
    copyRowsPerSecond: run.copyRowsPerSecond(),
    seconds: Math.round((performance.now() - startedAt) / 100) / 10,
  };
  const transactionsOnGreen = counted.onlyGreen;
  return {
    data,
    ok: holds(data) && colliding.length === 0 && transactionsOnGreen > 0,
    tables,
    failures: ledger.failures,
    byAction: ledger.byAction,
    colliding,
    engineWritePauseMs: cutover.writePauseMs,
    transactionsOnGreen,
  };

  /** Present, and how often, on the side that serves; those that blue does not know were made after the switch. */
  async function countTransactions(serving: pg.Client, committed: readonly string[]) {
    const count = async (on: pg.Client) => {
      const { rows } = await on.query<{ lost: number; duplicated: number }>(
        `SELECT count(*) FILTER (WHERE n = 0)::int AS lost, count(*) FILTER (WHERE n > 1)::int AS duplicated
         FROM (SELECT a.id, count(l.transaction_id) AS n FROM unnest($1::uuid[]) AS a (id)
               LEFT JOIN audit_log l ON l.transaction_id = a.id GROUP BY a.id) AS counted`,
        [committed],
      );
      return rows[0] ?? { lost: committed.length, duplicated: 0 };
    };
    await serving.query('SET search_path = compat, shop');
    const { lost, duplicated } = await count(serving);
    return { lost, duplicated, onlyGreen: (await count(blue)).lost };
  }
}

const holds = (data: DemoData): boolean =>
  data.failedTransactions === 0 &&
  data.lostTransactions === 0 &&
  data.duplicatedTransactions === 0 &&
  data.differences === 0 &&
  data.clientTransactions > 0 &&
  data.activeSide === 'green';

/** What the statuses of the engine tell over time. */
class Run {
  readonly #open = Promise.withResolvers<void>();
  readonly #startedAt = performance.now();
  #last: Status | null = null;
  #copyFrom: number | null = null;
  #copied: { readonly rows: number; readonly seconds: number } | null = null;

  take(status: Status): void {
    this.#last = status;
    const now = performance.now();
    if (status.phase === 'copying') this.#copyFrom ??= now;
    else if (this.#copyFrom !== null)
      this.#copied ??= { rows: status.copy.rows, seconds: (now - this.#copyFrom) / 1_000 };
    const { state, detail, differences } = status.verify;
    if (state === 'error' || state === 'fail') {
      this.#open.reject(new Error(`the verification did not pass: ${differences} differences; ${detail ?? 'no detail'}`));
    }
    if (status.phase === 'replicating' && status.gates.length > 0 && status.gates.every(({ ok }) => ok))
      this.#open.resolve();
    else if (now - this.#startedAt > GATES_MS) {
      const shut = status.gates.filter(({ ok }) => !ok).map(({ name, reason }) => `${name} (${reason})`);
      this.#open.reject(
        new Error(
          `not ready after ${GATES_MS / 1_000} s: ${status.phase}, ${status.condition} ${status.reason}; shut: ${shut.join(', ')}`,
        ),
      );
    }
  }

  gatesOpen(): Promise<void> {
    return this.#open.promise;
  }

  last(): Status {
    if (this.#last === null) throw new Error('the engine has not told its status');
    return this.#last;
  }

  copyRowsPerSecond(): number {
    return this.#copied === null ? 0 : Math.round(this.#copied.rows / this.#copied.seconds);
  }
}

function progressLine(status: Status, clients: Load['progress']): string {
  const { phase, condition, copy, lag, gates, verify } = status;
  const open = gates.filter(({ ok }) => ok).length;
  const seconds = (value: number | null): string => (value === null ? '?' : `${value.toFixed(1)} s`);
  return [
    `${phase}${condition === 'running' ? '' : ` (${condition}: ${status.reason})`}`,
    `copied ${copy.rows.toLocaleString('en')} rows, ${Math.round(copy.bytes / 1_048_576)} MiB`,
    `lag ${seconds(lag.commitSeconds)}`,
    `verify ${verify.state}`,
    `gates ${open}/${gates.length}`,
    `clients ${clients.committed.toLocaleString('en')} committed, ${clients.failed} failed`,
  ].join(' · ');
}

async function startServers(stack: AsyncDisposableStack): Promise<[PostgresServer, PostgresServer]> {
  const settled = await Promise.allSettled([startPostgres({ version: 16 }), startPostgres({ version: 18 })]);
  const servers = settled.map((one) =>
    one.status === 'fulfilled' ? stack.use(one.value) : (one.reason as Error),
  );
  const [blue, green] = servers;
  if (blue instanceof Error || green instanceof Error || !blue || !green)
    throw servers.find((one) => one instanceof Error) ?? new Error('no servers');
  for (const server of [blue, green]) {
    const admin = new pg.Client({ connectionString: server.url() });
    await admin.connect();
    await admin.query(`CREATE ROLE app LOGIN PASSWORD '${TEST_PASSWORD}'`);
    await admin.query('CREATE DATABASE shop');
    await admin.end();
  }
  return [blue, green];
}

async function connect(stack: AsyncDisposableStack, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  stack.defer(() => client.end().catch(() => undefined));
  return client;
}

async function engineEnv(at: {
  home: string;
  blueServer: PostgresServer;
  greenServer: PostgresServer;
  admin: string;
  ini: string;
}): Promise<Record<string, string>> {
  const state = join(at.home, 'state');
  await mkdir(state);
  return {
    BLUE_URL: at.blueServer.url('shop'),
    GREEN_URL: at.greenServer.url('shop'),
    BLUE_PORT: String(at.blueServer.port),
    GREEN_PORT: String(at.greenServer.port),
    PGBOUNCER_ADMIN_URL: at.admin,
    PGBOUNCER_INI: at.ini,
    STATE_DIR: state,
  };
}

async function versionOf(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ version: string }>(
    `SELECT current_setting('server_version') AS version`,
  );
  return `PostgreSQL ${rows[0]?.version.split(' ')[0]}`;
}
