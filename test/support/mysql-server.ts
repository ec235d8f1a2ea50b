import { chown, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import mysql from 'mysql2/promise';

import { debianProgram } from './debian.ts';
import { suiteCommand, suiteProgram } from './debian-suite.ts';
import { freePort } from './free-port.ts';
import { newDir, runDir } from './run-dir.ts';
import { ServerProcess } from './server-process.ts';
import { exists, renameOrDrop, runAsServerUser, serverUser } from './server-user.ts';
import { waitFor } from './wait.ts';

export type MysqlFlavour = 'mysql' | 'mariadb';

/** The password of `root`; tests give it to the accounts they create. */
export const MYSQL_PASSWORD = 'sesame-for-tests';

export interface MysqlOptions {
  readonly flavour: MysqlFlavour;
  /** Options on top of those every test server has: `{ 'binlog-row-image': 'MINIMAL' }`. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly tls?: { readonly caFile: string; readonly certFile: string; readonly keyFile: string };
}

/** A server of this test alone. Ends and loses its data when it is disposed of, or when this process ends. */
export interface MysqlServer extends AsyncDisposable {
  readonly flavour: MysqlFlavour;
  readonly port: number;
  readonly pid: number;
  readonly dataDir: string;
  /** Default: user `root` and no database. */
  url(database?: string, user?: string): string;
  /** A connection with the driver's own types. The caller ends it. */
  connect(database?: string, user?: string): Promise<mysql.Connection>;
  /** One statement on a connection of its own. */
  query(sql: string, database?: string): Promise<Record<string, unknown>[]>;
  /** `fast` ends sessions in order, `immediate` is a crash. Data is kept until dispose. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>;
  start(): Promise<void>;
  log(): string;
}

interface Programs {
  readonly root: string;
  readonly server: readonly [string, ...string[]];
  readonly base: readonly string[];
}

const COMMON: Readonly<Record<string, string>> = {
  'bind-address': '127.0.0.1',
  'skip-name-resolve': 'ON',
  'log-bin': 'binlog',
  'binlog-format': 'ROW',
  'binlog-row-image': 'FULL',
  'binlog-row-metadata': 'FULL',
  'innodb-buffer-pool-size': '64M',
  'innodb-flush-log-at-trx-commit': '2',
  'innodb-doublewrite': 'OFF',
  // A killed server loses nothing by it, a machine without power would.
  'innodb-flush-method': 'nosync',
  'sync-binlog': '0',
  'max-connections': '200',
  'local-infile': 'ON',
  'event-scheduler': 'OFF',
};

const BY_FLAVOUR: Readonly<Record<MysqlFlavour, Readonly<Record<string, string>>>> = {
  mysql: {
    'gtid-mode': 'ON',
    'enforce-gtid-consistency': 'ON',
    'innodb-redo-log-capacity': '32M',
    'secure-file-priv': 'NULL',
    'log-error-verbosity': '1',
    mysqlx: 'OFF',
  },
  mariadb: { 'innodb-log-file-size': '32M', 'gtid-strict-mode': 'ON' },
};

const START_TIMEOUT_MS = 60_000;
const PORT_ATTEMPTS = 4;
let serverIds = 100;

/** The programs of both flavours, fetched on first use. */
async function programsOf(flavour: MysqlFlavour): Promise<Programs> {
  if (flavour === 'mysql') {
    const { root } = await suiteProgram({
      suite: 'sid',
      packages: ['mysql-server-core', 'mysql-client-core'],
      program: 'usr/sbin/mysqld',
    });
    return {
      root,
      server: suiteCommand(root, 'usr/sbin/mysqld'),
      base: [
        // Not --no-defaults: that leaves out what SET PERSIST wrote, too.
        '--defaults-file=/dev/null',
        `--basedir=${join(root, 'usr')}`,
        `--lc-messages-dir=${join(root, 'usr/share/mysql')}`,
        `--character-sets-dir=${join(root, 'usr/share/mysql/charsets')}`,
        `--plugin-dir=${join(root, 'usr/lib/mysql/plugin')}`,
      ],
    };
  }
  const program = await debianProgram({
    packages: ['mariadb-server-core', 'mariadb-client-core'],
    program: 'usr/sbin/mariadbd',
  });
  const { root } = program;
  return {
    root,
    server: program.command,
    base: [
      '--no-defaults',
      `--basedir=${join(root, 'usr')}`,
      `--lc-messages-dir=${join(root, 'usr/share/mysql')}`,
      `--character-sets-dir=${join(root, 'usr/share/mysql/charsets')}`,
      `--plugin-dir=${join(root, 'usr/lib/mysql/plugin')}`,
    ],
  };
}

/** A program of the same packages: `usr/bin/mysqldump`, `usr/bin/mysql`, `usr/bin/mariadb`. */
export async function mysqlClientProgram(flavour: MysqlFlavour, program: string): Promise<readonly string[]> {
  const { root, server } = await programsOf(flavour);
  return flavour === 'mysql' ? suiteCommand(root, program) : [...server.slice(0, -1), join(root, program)];
}

export async function startMysql(options: MysqlOptions): Promise<MysqlServer> {
  const programs = await programsOf(options.flavour);
  const home = await newDir(options.flavour);
  await give(home);
  const dataDir = join(home, 'data');
  await runAsServerUser('/bin/cp', ['-a', await template(options.flavour, programs), dataDir], home);
  for (let attempt = 1; ; attempt += 1) {
    const server = new LocalMysql(options, programs, { home, dataDir, port: await freePort() });
    try {
      await server.start();
      return server;
    } catch (error) {
      if (attempt < PORT_ATTEMPTS && /Address already in use/i.test(String(error))) continue;
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }
}

class LocalMysql implements MysqlServer {
  readonly flavour: MysqlFlavour;
  readonly port: number;
  readonly dataDir: string;
  readonly #home: string;
  readonly #options: MysqlOptions;
  readonly #programs: Programs;
  readonly #serverId: number;
  #process: ServerProcess | undefined;

  constructor(
    options: MysqlOptions,
    programs: Programs,
    place: { readonly home: string; readonly dataDir: string; readonly port: number },
  ) {
    this.flavour = options.flavour;
    this.port = place.port;
    this.dataDir = place.dataDir;
    this.#home = place.home;
    this.#options = options;
    this.#programs = programs;
    this.#serverId = (process.pid % 100_000) * 1_000 + serverIds++;
  }

  get pid(): number {
    if (this.#process === undefined) throw new Error(`${this.flavour} is not running`);
    return this.#process.pid;
  }

  log(): string {
    return this.#process?.log() ?? '';
  }

  url(database = '', user = 'root'): string {
    return `mysql://${user}:${MYSQL_PASSWORD}@127.0.0.1:${this.port}/${database}`;
  }

  connect(database?: string, user = 'root'): Promise<mysql.Connection> {
    return mysql.createConnection({
      host: '127.0.0.1',
      port: this.port,
      user,
      password: MYSQL_PASSWORD,
      charset: 'utf8mb4',
      dateStrings: true,
      supportBigNumbers: true,
      bigNumberStrings: true,
      ...(database === undefined ? {} : { database }),
    });
  }

  async query(sql: string, database?: string): Promise<Record<string, unknown>[]> {
    const connection = await this.connect(database);
    try {
      const [rows] = await connection.query(sql);
      return rows as Record<string, unknown>[];
    } finally {
      await connection.end();
    }
  }

  async start(): Promise<void> {
    if (this.#process?.running === true) throw new Error(`${this.flavour} is running already`);
    const [program, ...args] = this.#programs.server;
    const { tls } = this.#options;
    const settings: Record<string, string> = {
      ...COMMON,
      ...BY_FLAVOUR[this.flavour],
      ...(tls === undefined
        ? {}
        : { 'ssl-ca': tls.caFile, 'ssl-cert': tls.certFile, 'ssl-key': tls.keyFile }),
      ...this.#options.settings,
    };
    const started = await ServerProcess.launch({
      name: `${this.flavour} on port ${this.port}`,
      program,
      args: [
        ...args,
        ...this.#programs.base,
        `--datadir=${this.dataDir}`,
        `--socket=${join(this.#home, 'mysql.sock')}`,
        `--pid-file=${join(this.#home, 'mysql.pid')}`,
        `--port=${this.port}`,
        `--server-id=${this.#serverId}`,
        `--tmpdir=${this.#home}`,
        ...Object.entries(settings).map(([name, value]) => `--${name}=${value}`),
      ],
      cwd: this.#home,
      logFile: join(this.#home, 'server.log'),
      killSignal: 'SIGKILL',
    });
    this.#process = started;
    let ended = false;
    await waitFor(
      async () => {
        ended = !started.running;
        if (ended) return true;
        await (await this.connect()).end();
        return true;
      },
      { what: `${this.flavour} to answer`, timeoutMs: START_TIMEOUT_MS, everyMs: 50 },
    ).catch(async (error: unknown) => {
      await started.end('SIGKILL');
      throw new Error(`${this.flavour} did not start:\n${started.log()}`, { cause: error });
    });
    if (ended) throw new Error(`${this.flavour} did not start:\n${started.log()}`);
  }

  async stop(mode: 'fast' | 'immediate' = 'fast'): Promise<void> {
    await this.#process?.end(mode === 'fast' ? 'SIGTERM' : 'SIGKILL');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process?.end('SIGKILL');
    await rm(this.#home, { recursive: true, force: true });
  }
}

/** A data folder with `root` in it, made once per flavour and run; servers start on copies of it. */
async function template(flavour: MysqlFlavour, programs: Programs): Promise<string> {
  const target = join(runDir(), `template-${flavour}`);
  if (await exists(target)) return join(target, 'data');
  const draft = await newDir(`template-${flavour}-draft`);
  await give(draft);
  const data = join(draft, 'data');
  const sql = join(draft, 'accounts.sql');
  const accounts = [
    `CREATE USER IF NOT EXISTS 'root'@'%' IDENTIFIED BY '${MYSQL_PASSWORD}';`,
    `GRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION;`,
  ];
  await writeFile(sql, `${accounts.join('\n')}\n`);
  await give(sql);
  const [program, ...args] = programs.server;
  if (flavour === 'mysql') {
    await runAsServerUser(
      program,
      [
        ...args,
        ...programs.base,
        '--initialize-insecure',
        `--datadir=${data}`,
        '--innodb-redo-log-capacity=32M',
        '--secure-file-priv=NULL',
        `--init-file=${sql}`,
      ],
      draft,
    );
  } else {
    await mkdir(data);
    await give(data);
    // The accounts that come with it name 127.0.0.1 and have no password: more exact, so they would win.
    const others = `FLUSH PRIVILEGES;\nDROP USER IF EXISTS 'root'@'127.0.0.1', ''@'localhost';`;
    await writeFile(sql, `${others}\n${accounts.join('\n')}\n`);
    const [env, library] = programs.server;
    await runAsServerUser(
      env,
      [
        library as string,
        '/bin/sh',
        join(programs.root, 'usr/bin/mariadb-install-db'),
        // Not --no-defaults: that leaves out what SET PERSIST wrote, too.
        '--defaults-file=/dev/null',
        `--basedir=${join(programs.root, 'usr')}`,
        `--datadir=${data}`,
        '--auth-root-authentication-method=normal',
        '--skip-test-db',
        '--innodb-log-file-size=32M',
        `--extra-file=${sql}`,
      ],
      draft,
    );
  }
  await renameOrDrop(draft, target);
  return join(target, 'data');
}

async function give(path: string): Promise<void> {
  const { uid, gid } = serverUser();
  if (uid !== undefined && gid !== undefined) await chown(path, uid, gid);
}
