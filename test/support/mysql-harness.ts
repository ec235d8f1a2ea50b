import { randomBytes } from 'node:crypto';
import type mysql from 'mysql2/promise';
import { asPosition } from '../../src/core/position.ts';
import type { TableName } from '../../src/core/table.ts';
import { engine } from '../../src/engines/mysql/index.ts';
import { ident, qualified } from '../../src/engines/mysql/sql.ts';
import { columnRows } from '../contract/engine/columns.ts';
import type {
  EngineDatabase,
  EngineHarness,
  EngineServer,
  Item,
  TableSpec,
  Writer,
} from '../contract/engine/harness.ts';
import { MYSQL_PASSWORD, startMysql, type MysqlFlavour, type MysqlServer } from './mysql-server.ts';
import { waitFor } from './wait.ts';

/** Our account, and the application's, which has no right to write past a fence. */
export const ENGINE_USER = 'verdigris';
export const APP_USER = 'app';
/** What the engine may do, and no more: the grants of the README. */
const GRANTS: Readonly<Record<MysqlFlavour, readonly string[]>> = {
  mysql: [
    'SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, LOCK TABLES, SHOW VIEW, TRIGGER, PROCESS, RELOAD, REPLICATION SLAVE, REPLICATION CLIENT',
    'SYSTEM_VARIABLES_ADMIN, SESSION_VARIABLES_ADMIN, CONNECTION_ADMIN, XA_RECOVER_ADMIN',
  ],
  mariadb: [
    'SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, LOCK TABLES, SHOW VIEW, TRIGGER, PROCESS, RELOAD, CREATE USER, REPLICATION SLAVE, BINLOG MONITOR, READ_ONLY ADMIN, CONNECTION ADMIN, SLAVE MONITOR',
  ],
};

/** A server with both accounts. */
export async function startMysqlWithAccounts(
  flavour: MysqlFlavour,
  settings: Readonly<Record<string, string>> = {},
): Promise<MysqlServer> {
  const server = await startMysql({ flavour, settings });
  await server.query(`CREATE USER '${ENGINE_USER}'@'%' IDENTIFIED BY '${MYSQL_PASSWORD}'`);
  for (const grant of GRANTS[flavour]) await server.query(`GRANT ${grant} ON *.* TO '${ENGINE_USER}'@'%'`);
  await server.query(`CREATE USER '${APP_USER}'@'%' IDENTIFIED BY '${MYSQL_PASSWORD}'`);
  await server.query(
    `GRANT SELECT, INSERT, UPDATE, DELETE, DROP, CREATE, ALTER, INDEX ON *.* TO '${APP_USER}'@'%'`,
  );
  return server;
}

export interface MysqlHarness extends EngineHarness, AsyncDisposable {
  /** Starts both servers, which takes longer than a test may: the first run on a machine fetches them. */
  start(): Promise<void>;
  /** A connection as `root`, ended with the harness. */
  administrator(side: 'blue' | 'green'): Promise<mysql.Connection>;
}

/** Two servers of one flavour, started on first use and ended with the harness: read_only is for a whole server. */
export function mysqlHarness(flavour: MysqlFlavour): MysqlHarness {
  const servers = new Map<'blue' | 'green', Promise<MysqlServer>>();
  const administrators: mysql.Connection[] = [];
  const sharedServer = (side: 'blue' | 'green'): Promise<MysqlServer> => {
    let server = servers.get(side);
    if (server === undefined) servers.set(side, (server = startMysqlWithAccounts(flavour)));
    return server;
  };
  const uuid = (last: string): string => `3e11fa47-71ca-11e1-9e33-c80aa942956${last}`;
  const mysqlFlavour = flavour === 'mysql';
  return {
    name: mysqlFlavour ? 'MySQL 9.7' : 'MariaDB 10.11',
    engine,
    traits: {
      counters: true,
      exactSnapshots: !mysqlFlavour,
      mostQueuedBytes: (1 << 20) + 256 * 1024,
      openTransactionHoldsFence: false,
    },
    rows: columnRows,
    // Around a change of length, where an order of texts would be wrong.
    positions: Array.from({ length: 60 }, (_, index) =>
      asPosition(mysqlFlavour ? `${uuid('2')}:1-${80 + index}` : `0-1-${80 + index}`),
    ),
    unordered: mysqlFlavour
      ? [`${uuid('2')}:1-5`, `${uuid('3')}:1-5`, `${uuid('2')}:6-9`].map(asPosition)
      : ['0-1-5,1-1-1', '0-1-4,1-1-2'].map(asPosition),
    secret: MYSQL_PASSWORD,
    statements: { one: 'SELECT 1', slow: 'SELECT SLEEP(90)', wrong: 'SELECT no_such_column' },
    start: async () => {
      await sharedServer('blue');
      await sharedServer('green');
    },
    administrator: async (side) => {
      const connection = await (await sharedServer(side)).connect();
      administrators.push(connection);
      return connection;
    },
    database: async (side) => createDatabase(await sharedServer(side)),
    server: async () => {
      const server = await startMysqlWithAccounts(flavour, {
        'innodb-flush-log-at-trx-commit': '1',
        'sync-binlog': '1',
      });
      return {
        database: () => createDatabase(server),
        kill: () => server.stop('immediate'),
        start: () => server.start(),
        [Symbol.asyncDispose]: () => Promise.resolve(server[Symbol.asyncDispose]()),
      } satisfies EngineServer;
    },
    schemaFile: (_database, ...specs) =>
      specs.map((spec) => `${createTable(ident(spec.name), spec)};`).join('\n'),
    tableName: (database, name) => ({
      schema: new URL(String(database.config()['url'])).pathname.slice(1),
      name,
    }),
    [Symbol.asyncDispose]: async () => {
      await Promise.all(administrators.splice(0).map((connection) => connection.end()));
      const started = await Promise.all(servers.values());
      servers.clear();
      try {
        for (const server of started) await nobodyLeft(server);
      } finally {
        for (const server of started) await server[Symbol.asyncDispose]();
      }
    },
  };
}

/** A session of the engine that is still open was forgotten by a test. */
async function nobodyLeft(server: MysqlServer): Promise<void> {
  let left: string[] = [];
  await waitFor(
    async () => {
      const rows = await server.query(
        `SELECT CONCAT(ID, ' ', COMMAND, ' ', coalesce(INFO, '')) AS what FROM information_schema.PROCESSLIST WHERE USER = '${ENGINE_USER}'`,
      );
      left = rows.map(({ what }) => String(what));
      return left.length === 0;
    },
    { what: 'the engine to leave', timeoutMs: 5_000 },
  ).catch(() => {
    throw new Error(`sessions that tests left open on ${server.flavour}: ${left.join('; ')}`);
  });
}

async function createDatabase(server: MysqlServer): Promise<EngineDatabase> {
  const schema = `t_${randomBytes(5).toString('hex')}`;
  await server.query(`CREATE DATABASE ${schema} CHARACTER SET utf8mb4`);
  return {
    address: { host: '127.0.0.1', port: server.port },
    stateSchema: `${schema}_state`,
    config: (through) => {
      const url = new URL(server.url(schema, ENGINE_USER));
      if (through !== undefined) {
        url.hostname = through.host;
        url.port = String(through.port);
      }
      return { url: url.href };
    },
    table: async (spec) => {
      const table = { schema, name: spec.name };
      await server.query(createTable(qualified(table), spec));
      return table;
    },
    writer: () => Promise.resolve(openWriter(() => server.connect(schema, APP_USER))),
    vandal: () => Promise.resolve(openWriter(() => server.connect(schema))),
    rows: async (table) => {
      const rows = await server.query(`SELECT id, n, v, big FROM ${qualified(table)} ORDER BY id`);
      return rows.map((row) => ({
        id: Number(row['id']),
        n: row['n'] === null ? null : Number(row['n']),
        v: row['v'] as string | null,
        big: row['big'] as string | null,
      }));
    },
    [Symbol.asyncDispose]: async () => {
      await server.query(`DROP DATABASE IF EXISTS ${schema}_state`);
      await server.query(`DROP DATABASE ${schema}`);
    },
  };
}

function createTable(name: string, { unique, counted, extra }: TableSpec): string {
  const columns = [
    `id bigint NOT NULL${counted === true ? ' AUTO_INCREMENT' : ''} PRIMARY KEY`,
    `n bigint NULL${unique === true ? ' UNIQUE' : ''}`,
    'v longtext NULL',
    'big longtext NULL',
    ...(extra === undefined ? [] : [`${ident(extra)} longtext NULL`]),
  ];
  return `CREATE TABLE ${name} (${columns.join(', ')}) DEFAULT CHARACTER SET utf8mb4`;
}

/** Connects with its first statement, as clients of a pool do: an account may be locked while its side is fenced. */
function openWriter(connect: () => Promise<mysql.Connection>): Writer {
  let opened: Promise<mysql.Connection> | null = null;
  const client = (): Promise<mysql.Connection> => {
    opened ??= connect().then((connection) => {
      // A session that is ended by the fence or with its server must fail the next call, not the process.
      connection.on('error', () => undefined);
      return connection;
    });
    return opened;
  };
  const run = async (sql: string, values: readonly unknown[] = []): Promise<mysql.ResultSetHeader> => {
    const [result] = await (await client()).query(sql, [...values]);
    return result as mysql.ResultSetHeader;
  };
  const insert = async (table: TableName, ...items: readonly Item[]): Promise<void> => {
    for (let at = 0; at < items.length; at += 500)
      await run(`INSERT INTO ${qualified(table)} (id, n, v, big) VALUES ?`, [
        items.slice(at, at + 500).map(({ id, n, v, big }) => [id, n, v, big]),
      ]);
  };
  return {
    begin: async () => void (await run('START TRANSACTION')),
    commit: async () => void (await run('COMMIT')),
    rollback: async () => void (await run('ROLLBACK')),
    insert,
    insertCounted: async (table) => {
      const { insertId } = await run(`INSERT INTO ${qualified(table)} (v) VALUES ('counted')`);
      return Number(insertId);
    },
    update: async (table, { id, ...cells }) => {
      const set = Object.keys(cells).map((name) => `${name} = ?`);
      await run(`UPDATE ${qualified(table)} SET ${set.join(', ')} WHERE id = ?`, [
        ...Object.values(cells),
        id,
      ]);
    },
    remove: async (table, ...ids) => {
      await run(`DELETE FROM ${qualified(table)} WHERE id IN (?)`, [ids]);
    },
    move: async (table, from, to) => {
      await run(`UPDATE ${qualified(table)} SET id = ? WHERE id = ?`, [to, from]);
    },
    clear: async (table) => void (await run(`TRUNCATE ${qualified(table)}`)),
    [Symbol.asyncDispose]: async () => {
      const connection = await opened?.catch(() => undefined);
      await connection?.end().catch(() => undefined);
    },
  };
}
