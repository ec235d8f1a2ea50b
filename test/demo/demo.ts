import { randomUUID } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import pg from 'pg';

import type { CutoverReport } from '../../src/app/engine.ts';
import { newDir } from '../support/run-dir.ts';
import { startPgBouncer } from '../support/pgbouncer.ts';
import { type PostgresServer, startPostgres, TEST_PASSWORD } from '../support/postgres.ts';
import { waitFor } from '../support/wait.ts';
import {
  collidingSequences,
  compare,
  type Compared,
  countTransactions,
  differencesOf,
} from './comparison.ts';
import { EngineProcess } from './engine-process.ts';
import { progressLine, Run } from './engine-watch.ts';
import { type Failure, type Ledger, longestWait } from './ledger.ts';
import { Load } from './load.ts';
import { seed } from './seed.ts';
import { SwitchSnapshot } from './switch-snapshot.ts';

const MIGRATION = 'shop-demo';
const CLIENTS = 16;
const THINK_MS = 45;
/**
 * The write pause is looked for from the moment the command is given until this long after it has reported the switch: that holds
 * the pause of the proxy and the second after it, so the number can only be too high.
 */
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
  readonly rollback: RollbackData;
  readonly seconds: number;
}

/** The way back, under the same load. */
export interface RollbackData {
  readonly activeSide: 'blue' | 'green';
  readonly failedTransactions: number;
  /** Of every transaction that was ever answered: not on blue. */
  readonly lostTransactions: number;
  readonly duplicatedTransactions: number;
  /** Between blue, mapped by hand, and green, once green has followed blue to the end. */
  readonly differences: number;
  readonly writePauseMs: number;
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
  /** Made while green served and after it, by the clients of the rollback. */
  readonly clientTransactionsOfRollback: number;
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
  const clients = { ...shop, url: pooler.url('shop', 'app'), count: CLIENTS, thinkMs: THINK_MS };
  const load = stack.use(await Load.start(clients));
  let working = load;

  const run = stack.use(new Run());
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
        report.progress(progressLine(status, working.progress));
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

  const ofGreen = stack.use(await SwitchSnapshot.open('green', greenServer.url('shop'), MIGRATION));
  const ofBlue = stack.use(await SwitchSnapshot.open('blue', blueServer.url('shop'), MIGRATION));
  for (const snapshot of [ofGreen, ofBlue]) snapshot.watch();
  const { done: cutover, from: switchFrom, until: switchUntil } = await turn('cutover');
  report.cutover(cutover);
  const held = { green: await ofGreen.taken(), blue: await ofBlue.taken() };

  report.phase('the same clients, now on green');
  await new Promise((resolve) => setTimeout(resolve, Math.max(afterMs, AFTER_MS)));
  report.phase('clients end; looking for every transaction they were told was committed');
  const ledger = await load.hold();
  await green.query('SET search_path = compat, shop');
  const onGreen = await countTransactions(green, ledger.committed);
  report.phase('comparing blue, mapped by hand, with green, as they were at the switch');
  const tables = await compare(held.blue, held.green);
  // Their snapshots would keep the servers from making the slot of the way back, and from cleaning up.
  for (const client of [held.blue, held.green]) await client.query('ROLLBACK');
  await checkFenced(blue);
  const { activeSide } = run.last();
  const colliding = await collidingSequences(green);
  // By the clock of green: what was made there, as blue has it by now or not.
  const transactionsOnGreen = await madeAfter(green, ledger.committed, switchUntil);
  const rollback = await goBack(ledger.committed);
  const data: DemoData = {
    blue: await versionOf(blue),
    green: await versionOf(green),
    rows: shop.rows,
    clientTransactions: ledger.committed.length,
    failedTransactions: ledger.failures.length,
    lostTransactions: onGreen.lost,
    duplicatedTransactions: onGreen.duplicated,
    differences: differencesOf(tables),
    writePauseMs: longestWait(ledger.waits, switchFrom, switchUntil + AFTER_MS),
    activeSide,
    copyRowsPerSecond: run.copyRowsPerSecond(),
    rollback: rollback.data,
    seconds: Math.round((performance.now() - startedAt) / 100) / 10,
  };
  return {
    data,
    ok: holds(data) && colliding.length === 0 && transactionsOnGreen > 0 && rollback.transactions > 0,
    tables: [...tables, ...rollback.tables],
    failures: [...ledger.failures, ...rollback.failures],
    byAction: ledger.byAction,
    colliding,
    engineWritePauseMs: cutover.writePauseMs,
    transactionsOnGreen,
    clientTransactionsOfRollback: rollback.transactions,
  };

  /** The same clients again, on green; and while they work, back to blue. */
  async function goBack(before: readonly string[]) {
    report.phase(`${CLIENTS} clients go to work again, on green`);
    const second = stack.use(await Load.start(clients));
    working = second;
    const { done, from, until } = await turn('rollback');
    report.cutover(done);
    report.phase('the same clients, now on blue again; green follows it');
    await new Promise((resolve) => setTimeout(resolve, Math.max(afterMs, AFTER_MS)));
    const after = await second.hold();
    const side = run.last().activeSide;
    report.phase('comparing blue, mapped by hand, with green once it has followed to the end');
    await followed();
    const counted = await countTransactions(blue, [...before, ...after.committed]);
    await green.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    const compared = await compare(blue, green);
    await green.query('ROLLBACK');
    const result: RollbackData = {
      activeSide: side,
      failedTransactions: after.failures.length,
      lostTransactions: counted.lost,
      duplicatedTransactions: counted.duplicated,
      differences: differencesOf(compared),
      writePauseMs: longestWait(after.waits, from, until + AFTER_MS),
    };
    return {
      data: result,
      tables: compared.map((one) => ({ ...one, table: `${one.table}, after the rollback` })),
      failures: after.failures,
      transactions: after.committed.length,
    };
  }

  /** The last transaction of blue is on green, and so are all before it. */
  async function followed(): Promise<void> {
    const last = randomUUID();
    await blue.query('INSERT INTO audit_log (transaction_id, client, action) VALUES ($1, 0, $2)', [
      last,
      'end',
    ]);
    await waitFor(
      async () =>
        (await green.query('SELECT 1 FROM shop.audit_log WHERE transaction_id = $1', [last])).rows.length > 0,
      { what: 'green to follow blue after the rollback', timeoutMs: 60_000 },
    );
  }

  /** A gate may shut between the look and the command, on a machine that is busy: then nothing was changed. */
  async function turn(
    command: 'cutover' | 'rollback',
  ): Promise<{ done: CutoverReport; from: number; until: number }> {
    for (;;) {
      await Promise.race([
        run.gatesOpen(command === 'cutover' ? 'replicating' : 'reversing'),
        engine.failed.promise,
      ]);
      report.phase(`verdigris ${command}`);
      const from = Date.now();
      const done = await engine.turn(command, planFile, MIGRATION);
      if (done !== null) return { done, from, until: Date.now() };
      report.phase('a gate shut in the last moment; nothing was changed');
    }
  }
}

const holds = (data: DemoData): boolean =>
  data.failedTransactions === 0 &&
  data.lostTransactions === 0 &&
  data.duplicatedTransactions === 0 &&
  data.differences === 0 &&
  data.clientTransactions > 0 &&
  data.activeSide === 'green' &&
  data.rollback.failedTransactions === 0 &&
  data.rollback.lostTransactions === 0 &&
  data.rollback.duplicatedTransactions === 0 &&
  data.rollback.differences === 0 &&
  data.rollback.activeSide === 'blue';

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
  // A server that goes away also fails the statement that waits, or the next one.
  client.on('error', () => undefined);
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

/** Else the comparison would be with something that came later. */
async function checkFenced(blue: pg.Client): Promise<void> {
  const { rows } = await blue.query<{ state: string }>(
    'SELECT state FROM verdigris.fence WHERE migration = $1',
    [MIGRATION],
  );
  if (rows[0]?.state !== 'sealed')
    throw new Error(`the fence of blue is ${rows[0]?.state ?? 'not there'}, not sealed`);
}

/** Transactions of the clients that green itself has written: the servers of this run share one clock. */
async function madeAfter(green: pg.Client, committed: readonly string[], fromMs: number): Promise<number> {
  const { rows } = await green.query<{ n: number }>(
    'SELECT count(*)::int AS n FROM shop.audit_log WHERE transaction_id = ANY ($1::uuid[]) AND at > to_timestamp($2::float8 / 1000)',
    [committed, fromMs],
  );
  return rows[0]?.n ?? 0;
}

async function versionOf(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ version: string }>(
    `SELECT current_setting('server_version') AS version`,
  );
  return `PostgreSQL ${rows[0]?.version.split(' ')[0]}`;
}
