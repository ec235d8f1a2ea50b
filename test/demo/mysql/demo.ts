import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import type mysql from 'mysql2/promise';

import { debianProgram } from '../../support/debian.ts';
import { HAPROXY, startHaproxy } from '../../support/haproxy.ts';
import { APP_USER, ENGINE_USER, startMysqlWithAccounts } from '../../support/mysql-harness.ts';
import { MYSQL_PASSWORD, type MysqlFlavour, type MysqlServer } from '../../support/mysql-server.ts';
import { newDir } from '../../support/run-dir.ts';
import { play, type Stage, type SwitchWatch } from '../acts.ts';
import type { DemoOptions, DemoResult } from '../result.ts';
import { AUDIT, collidingCounters, compare, countTransactions } from './comparison.ts';
import { createShop, DATABASE, seed } from './seed.ts';
import { SwitchSnapshot } from './switch-snapshot.ts';

const MIGRATION = 'shop-demo';
const CLIENTS = 16;
const THINK_MS = 45;
const NAMES: Readonly<Record<MysqlFlavour, string>> = { mysql: 'MySQL 9.7', mariadb: 'MariaDB 10.11' };

/** A shop moves from one MySQL, or MariaDB, to another through HAProxy, and back. */
export async function runDemo(options: DemoOptions): Promise<DemoResult> {
  return await play(options, (stack) => open(stack, options));
}

async function open(stack: AsyncDisposableStack, { scale, report, flavour }: DemoOptions): Promise<Stage> {
  const name = flavour === 'mariadb' ? 'mariadb' : 'mysql';
  report.phase(
    `starting ${NAMES[name]} (blue), ${NAMES[name]} (green) and HAProxy; the first run fetches them`,
  );
  const blueServer = stack.use(await startMysqlWithAccounts(name));
  const greenServer = stack.use(await startMysqlWithAccounts(name));
  const home = await newDir('demo');
  stack.defer(() => rm(home, { recursive: true, force: true }));
  const proxy = stack.use(
    await startHaproxy({
      program: await debianProgram(HAPROXY),
      blue: { host: '127.0.0.1', port: blueServer.port },
      green: { host: '127.0.0.1', port: greenServer.port },
    }),
  );
  await createShop(greenServer, 'green.sql');

  report.phase('filling the shop on blue');
  const shop = await seed(blueServer, scale);
  const blue = await connect(stack, blueServer);
  const green = await connect(stack, greenServer);
  const state = join(home, 'state');
  await mkdir(state);
  return {
    migration: MIGRATION,
    proxy: 'HAProxy',
    rows: shop.rows,
    home,
    engine: {
      config: fileURLToPath(new URL('./verdigris.yaml', import.meta.url)),
      env: {
        BLUE_URL: blueServer.url(DATABASE, ENGINE_USER),
        GREEN_URL: greenServer.url(DATABASE, ENGINE_USER),
        BLUE_PORT: String(blueServer.port),
        GREEN_PORT: String(greenServer.port),
        HAPROXY_SOCKET: proxy.socket,
        HAPROXY_STATE_FILE: proxy.stateFile,
        STATE_DIR: state,
      },
    },
    clients: {
      module: new URL('./clients.ts', import.meta.url),
      options: {
        ...shop,
        url: `mysql://${APP_USER}:${MYSQL_PASSWORD}@127.0.0.1:${proxy.port}/${DATABASE}`,
        count: CLIENTS,
        thinkMs: THINK_MS,
      },
    },
    versions: async () => ({ blue: await versionOf(blue), green: await versionOf(green) }),
    watchSwitch: () => watchSwitch(stack, blueServer, greenServer),
    count: (side, committed) => countTransactions(side === 'blue' ? blue : green, side, committed),
    compare: () => compare(blue, green),
    checkFenced: () => checkFenced(blue),
    colliding: () => collidingCounters(green),
    madeOnGreen: (committed, fromMs) => madeAfter(green, committed, fromMs),
    mark: async (transaction) => {
      await blue.query(`INSERT INTO ${AUDIT.blue} (transaction_id, client, action) VALUES (?, 0, 'end')`, [
        bytesOf(transaction),
      ]);
    },
    marked: async (transaction) => {
      const [rows] = await green.query<mysql.RowDataPacket[]>(
        `SELECT 1 FROM ${AUDIT.green} WHERE transaction_id = ?`,
        [bytesOf(transaction)],
      );
      return rows.length > 0;
    },
  };
}

/** Of the engine's account: the fence ends every other session. */
async function connect(stack: AsyncDisposableStack, server: MysqlServer): Promise<mysql.Connection> {
  const connection = await server.connect(DATABASE, ENGINE_USER);
  // A server that goes away also fails the statement that waits, or the next one.
  connection.on('error', () => undefined);
  stack.defer(() => connection.destroy());
  return connection;
}

async function watchSwitch(
  stack: AsyncDisposableStack,
  blueServer: MysqlServer,
  greenServer: MysqlServer,
): Promise<SwitchWatch> {
  const ofGreen = stack.use(await SwitchSnapshot.open('green', greenServer, MIGRATION));
  const ofBlue = stack.use(await SwitchSnapshot.open('blue', blueServer, MIGRATION));
  for (const snapshot of [ofGreen, ofBlue]) snapshot.watch();
  const taken = async () => ({ green: await ofGreen.taken(), blue: await ofBlue.taken() });
  return {
    taken: async () => void (await taken()),
    compare: async () => {
      const held = await taken();
      const tables = await compare(held.blue, held.green);
      for (const session of [held.blue, held.green]) await session.query('ROLLBACK');
      return tables;
    },
  };
}

/** Else the comparison would be with something that came later. */
async function checkFenced(blue: mysql.Connection): Promise<void> {
  const [rows] = await blue.query<mysql.RowDataPacket[]>(
    'SELECT state, @@global.read_only AS closed FROM verdigris.fence WHERE id = ?',
    [MIGRATION],
  );
  const state = String(rows[0]?.['state'] ?? 'not there');
  if (state !== 'sealed') throw new Error(`the fence of blue is ${state}, not sealed`);
  if (Number(rows[0]?.['closed']) === 0) throw new Error('blue is not read-only');
}

/** Transactions of the clients that green itself has written: the servers of this run share one clock. */
async function madeAfter(
  green: mysql.Connection,
  committed: readonly string[],
  fromMs: number,
): Promise<number> {
  const [rows] = await green.query<mysql.RowDataPacket[]>(
    `SELECT LOWER(HEX(transaction_id)) AS id FROM ${AUDIT.green} WHERE at > FROM_UNIXTIME(?)`,
    [fromMs / 1000],
  );
  const ours = new Set(committed.map((id) => id.replaceAll('-', '')));
  return rows.filter(({ id }) => ours.has(id as string)).length;
}

async function versionOf(connection: mysql.Connection): Promise<string> {
  const [rows] = await connection.query<mysql.RowDataPacket[]>('SELECT VERSION() AS version');
  const version = String(rows[0]?.['version']);
  return `${version.includes('MariaDB') ? 'MariaDB' : 'MySQL'} ${version.split('-')[0]}`;
}

const bytesOf = (uuid: string): Buffer => Buffer.from(uuid.replaceAll('-', ''), 'hex');
