import { chmod, chown, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import pg from 'pg';

import { freePort } from './free-port.ts';
import { postgresUrl, TEST_PASSWORD } from './postgres.ts';
import { newDir } from './run-dir.ts';
import { ServerProcess } from './server-process.ts';
import { reachableCopy, serverUser } from './server-user.ts';
import { waitFor } from './wait.ts';

const PORT_ATTEMPTS = 4;
const START_TIMEOUT_MS = 15_000;

export interface PgBouncerTarget {
  host: string;
  port: number;
  dbname: string;
}

export interface PgBouncerOptions {
  /** The [databases] section: the name clients ask for, and where it leads. */
  databases: Record<string, PgBouncerTarget>;
  /** More users beside `postgres`, by password. */
  users?: Record<string, string>;
  /** Lines of the [pgbouncer] section, over those every test pooler has. */
  settings?: Record<string, string>;
}

export interface PgBouncer extends AsyncDisposable {
  readonly port: number;
  readonly pid: number;
  /** The main file; it takes the next one in with %include. */
  readonly iniPath: string;
  /** Holds the [databases] section and nothing else: the file that an adapter rewrites. */
  readonly databasesIniPath: string;
  /** URL of the admin console. */
  readonly adminUrl: string;
  url(database: string, user?: string): string;
  log(): string;
  /** Ends it in order, dropping its clients. */
  stop(): Promise<void>;
  /** Starts it again after `stop` or `kill`, with the files as they are now. */
  start(): Promise<void>;
  /** Sends a signal and, for SIGKILL, waits until the process is gone. */
  kill(signal: NodeJS.Signals): Promise<void>;
}

/** A pooler in transaction mode with server-side prepared statements, on a free port of 127.0.0.1. */
export async function startPgBouncer(options: PgBouncerOptions): Promise<PgBouncer> {
  const folder = fileURLToPath(
    new URL('../../node_modules/@equin/pgbouncer-linux-x64/native', import.meta.url),
  );
  const program = join(await reachableCopy(folder, 'pgbouncer-programs'), 'bin', 'pgbouncer');
  const home = await newDir('pgbouncer');
  await give(home);
  for (let attempt = 1; ; attempt += 1) {
    const pooler = new LocalPgBouncer(program, home, await freePort());
    await configure(pooler, home, options);
    try {
      await pooler.start();
      return pooler;
    } catch (error) {
      if (attempt < PORT_ATTEMPTS && String(error).includes('Address already in use')) continue;
      await pooler[Symbol.asyncDispose]();
      throw error;
    }
  }
}

/** The text of a [databases] section. */
export function databasesSection(databases: Record<string, PgBouncerTarget>): string {
  const lines = Object.entries(databases).map(
    ([name, to]) => `${name} = host=${to.host} port=${to.port} dbname=${to.dbname}`,
  );
  return `[databases]\n${lines.join('\n')}\n`;
}

class LocalPgBouncer implements PgBouncer {
  readonly port: number;
  readonly iniPath: string;
  readonly databasesIniPath: string;
  readonly #program: string;
  readonly #home: string;
  #process: ServerProcess | undefined;

  constructor(program: string, home: string, port: number) {
    this.#program = program;
    this.#home = home;
    this.port = port;
    this.iniPath = join(home, 'pgbouncer.ini');
    this.databasesIniPath = join(home, 'databases.ini');
  }

  get pid(): number {
    if (this.#process === undefined) throw new Error('PgBouncer is not running');
    return this.#process.pid;
  }

  get adminUrl(): string {
    return this.url('pgbouncer');
  }

  url(database: string, user?: string): string {
    return postgresUrl({ port: this.port }, database, user);
  }

  log(): string {
    return this.#process?.log() ?? '';
  }

  async start(): Promise<void> {
    if (this.#process?.running === true) throw new Error('PgBouncer is running already');
    const pooler = await ServerProcess.launch({
      name: `PgBouncer on port ${this.port}`,
      program: this.#program,
      args: [this.iniPath],
      cwd: this.#home,
      logFile: join(this.#home, 'pgbouncer.log'),
      killSignal: 'SIGKILL',
    });
    this.#process = pooler;
    let ended = false;
    await waitFor(
      async () => {
        ended = !pooler.running;
        return ended || (await answers(this.adminUrl));
      },
      { what: `PgBouncer to answer on port ${this.port}`, timeoutMs: START_TIMEOUT_MS },
    ).catch(async (cause: unknown) => {
      await pooler.end('SIGKILL');
      throw new Error(`PgBouncer did not start:\n${pooler.log()}`, { cause });
    });
    if (ended) throw new Error(`PgBouncer did not start:\n${pooler.log()}`);
  }

  async stop(): Promise<void> {
    // SIGTERM is the immediate shutdown; SIGINT would wait for clients that a test may never end.
    await this.#process?.end('SIGTERM');
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    await this.#process?.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process?.end('SIGKILL');
    await rm(this.#home, { recursive: true, force: true });
  }
}

async function configure(pooler: LocalPgBouncer, home: string, options: PgBouncerOptions): Promise<void> {
  const settings: Record<string, string> = {
    listen_addr: '127.0.0.1',
    listen_port: String(pooler.port),
    unix_socket_dir: '',
    auth_type: 'plain',
    auth_file: join(home, 'users.txt'),
    admin_users: 'postgres',
    pool_mode: 'transaction',
    max_prepared_statements: '200',
    default_pool_size: '20',
    max_client_conn: '500',
    // The answer to PAUSE and RESUME of a test shall not wait for a server that a fault made unreachable.
    server_connect_timeout: '5',
    server_login_retry: '1',
    ...options.settings,
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}`);
  const users = { postgres: TEST_PASSWORD, ...options.users };
  const accounts = Object.entries(users).map(([user, password]) => `"${user}" "${password}"`);
  await write(pooler.databasesIniPath, databasesSection(options.databases));
  await write(pooler.iniPath, `%include ${pooler.databasesIniPath}\n\n[pgbouncer]\n${lines.join('\n')}\n`);
  await write(join(home, 'users.txt'), `${accounts.join('\n')}\n`);
}

async function answers(adminUrl: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: adminUrl, connectionTimeoutMillis: 2_000 });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('SHOW VERSION');
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function write(file: string, text: string): Promise<void> {
  await writeFile(file, text);
  await give(file);
  await chmod(file, 0o644);
}

async function give(path: string): Promise<void> {
  const { uid, gid } = serverUser();
  if (uid !== undefined && gid !== undefined) await chown(path, uid, gid);
}
