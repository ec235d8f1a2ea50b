import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import pg from 'pg';

import { newDir } from '../../support/run-dir.ts';
import { startPgBouncer } from '../../support/pgbouncer.ts';
import { type PostgresServer, startPostgres, TEST_PASSWORD } from '../../support/postgres.ts';
import { play, type Stage, type SwitchWatch } from '../acts.ts';
import type { DemoOptions, DemoResult } from '../result.ts';
import { collidingSequences, compare, countTransactions } from './comparison.ts';
import { seed } from './seed.ts';
import { SwitchSnapshot } from './switch-snapshot.ts';

const MIGRATION = 'shop-demo';
const CLIENTS = 16;
const THINK_MS = 45;

/** A shop moves from PostgreSQL 16 to 18 through PgBouncer, and back. */
export async function runDemo(options: DemoOptions): Promise<DemoResult> {
  return await play(options, (stack) => open(stack, options));
}

async function open(stack: AsyncDisposableStack, { scale, report }: DemoOptions): Promise<Stage> {
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
  const state = join(home, 'state');
  await mkdir(state);
  return {
    migration: MIGRATION,
    proxy: 'PgBouncer',
    rows: shop.rows,
    home,
    engine: {
      config: fileURLToPath(new URL('./verdigris.yaml', import.meta.url)),
      env: {
        BLUE_URL: blueServer.url('shop'),
        GREEN_URL: greenServer.url('shop'),
        BLUE_PORT: String(blueServer.port),
        GREEN_PORT: String(greenServer.port),
        PGBOUNCER_ADMIN_URL: pooler.adminUrl,
        PGBOUNCER_INI: pooler.databasesIniPath,
        STATE_DIR: state,
      },
    },
    clients: {
      module: new URL('./clients.ts', import.meta.url),
      options: { ...shop, url: pooler.url('shop', 'app'), count: CLIENTS, thinkMs: THINK_MS },
    },
    versions: async () => ({ blue: await versionOf(blue), green: await versionOf(green) }),
    watchSwitch: () => watchSwitch(stack, blueServer, greenServer),
    count: async (side, committed) => {
      if (side === 'blue') return await countTransactions(blue, committed);
      await green.query('SET search_path = compat, shop');
      return await countTransactions(green, committed);
    },
    compare: async () => {
      await green.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
      const compared = await compare(blue, green);
      await green.query('ROLLBACK');
      return compared;
    },
    checkFenced: () => checkFenced(blue),
    colliding: () => collidingSequences(green),
    madeOnGreen: (committed, fromMs) => madeAfter(green, committed, fromMs),
    mark: async (transaction) => {
      await blue.query('INSERT INTO audit_log (transaction_id, client, action) VALUES ($1, 0, $2)', [
        transaction,
        'end',
      ]);
    },
    marked: async (transaction) =>
      (await green.query('SELECT 1 FROM shop.audit_log WHERE transaction_id = $1', [transaction])).rows
        .length > 0,
  };
}

async function watchSwitch(
  stack: AsyncDisposableStack,
  blueServer: PostgresServer,
  greenServer: PostgresServer,
): Promise<SwitchWatch> {
  const ofGreen = stack.use(await SwitchSnapshot.open('green', greenServer.url('shop'), MIGRATION));
  const ofBlue = stack.use(await SwitchSnapshot.open('blue', blueServer.url('shop'), MIGRATION));
  for (const snapshot of [ofGreen, ofBlue]) snapshot.watch();
  const taken = async () => ({ green: await ofGreen.taken(), blue: await ofBlue.taken() });
  return {
    taken: async () => void (await taken()),
    compare: async () => {
      const held = await taken();
      const tables = await compare(held.blue, held.green);
      // Their snapshots would keep the servers from making the slot of the way back, and from cleaning up.
      for (const client of [held.blue, held.green]) await client.query('ROLLBACK');
      return tables;
    },
  };
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
  // A server that goes away also fails the statement that waits, or the next one.
  client.on('error', () => undefined);
  await client.connect();
  stack.defer(() => client.end().catch(() => undefined));
  return client;
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
