import { access, chmod, chown, copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import pg from 'pg';

import { freePort } from './free-port.ts';
import {
  type PostgresOptions,
  type PostgresServer,
  postgresUrl,
  TEST_PASSWORD,
  TEST_SETTINGS,
} from './postgres-server.ts';
import { postgresPrograms } from './provider.ts';
import { newDir, runDir } from './run-dir.ts';
import { ServerProcess } from './server-process.ts';
import { exists, reachableCopy, renameOrDrop, runAsServerUser, serverUser } from './server-user.ts';
import { waitFor } from './wait.ts';

const START_TIMEOUT_MS = 60_000;
/** Another process may take the free port between the look and the start. */
const PORT_ATTEMPTS = 4;

const HBA = [
  'local all all trust',
  'host all all 127.0.0.1/32 scram-sha-256',
  'host replication all 127.0.0.1/32 scram-sha-256',
];

export async function startPostgresLocally(options: PostgresOptions): Promise<PostgresServer> {
  const programs = await programsOf(options.version);
  const home = await newDir(`pg${options.version}`);
  await giveToServerUser(home);
  const dataDir = join(home, 'data');
  await runAsServerUser('/bin/cp', ['-a', await template(options.version, programs), dataDir], home);
  for (let attempt = 1; ; attempt += 1) {
    const server = new LocalPostgres({
      version: options.version,
      programs,
      home,
      dataDir,
      port: await freePort(),
    });
    await configure(server, options);
    try {
      await server.start();
      return server;
    } catch (error) {
      if (attempt < PORT_ATTEMPTS && String(error).includes('Address already in use')) continue;
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }
}

interface Place {
  version: number;
  programs: string;
  home: string;
  dataDir: string;
  port: number;
}

class LocalPostgres implements PostgresServer {
  readonly version: number;
  readonly port: number;
  readonly dataDir: string;
  readonly #place: Place;
  #process: ServerProcess | undefined;

  constructor(place: Place) {
    this.#place = place;
    this.version = place.version;
    this.port = place.port;
    this.dataDir = place.dataDir;
  }

  get pid(): number {
    if (this.#process === undefined) throw new Error(`PostgreSQL ${this.version} is not running`);
    return this.#process.pid;
  }

  url(database?: string, user?: string): string {
    return postgresUrl({ port: this.port }, database, user);
  }

  async start(): Promise<void> {
    if (this.#process?.running === true) throw new Error(`PostgreSQL ${this.version} is running already`);
    const { home, programs } = this.#place;
    // A server that was killed leaves its lock file; its pid may be somebody else's by now.
    await rm(join(this.dataDir, 'postmaster.pid'), { force: true });
    const server = await ServerProcess.launch({
      name: `PostgreSQL ${this.version} on port ${this.port}`,
      program: join(programs, 'bin', 'postgres'),
      args: ['-D', this.dataDir],
      cwd: home,
      logFile: join(home, 'server.log'),
      killSignal: 'SIGQUIT',
    });
    this.#process = server;
    let ended = false;
    try {
      await waitFor(
        async () => {
          ended = !server.running;
          return ended || (await answers(this.url()));
        },
        { what: `PostgreSQL ${this.version} to answer on port ${this.port}`, timeoutMs: START_TIMEOUT_MS },
      );
    } catch (error) {
      await server.end('SIGQUIT');
      throw new Error(`PostgreSQL ${this.version} did not start:\n${server.log()}`, { cause: error });
    }
    if (ended) throw new Error(`PostgreSQL ${this.version} did not start:\n${server.log()}`);
  }

  async stop(mode: 'fast' | 'immediate' = 'fast'): Promise<void> {
    await this.#process?.end(mode === 'fast' ? 'SIGINT' : 'SIGQUIT');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process?.end('SIGQUIT');
    await rm(this.#place.home, { recursive: true, force: true });
  }
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('SELECT 1');
    return true;
  } catch (error) {
    // A refusal is an answer too (pg_hba.conf may ask for TLS); "starting up" is not yet one.
    return error instanceof pg.DatabaseError && error.code !== '57P03';
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function programsOf(version: number): Promise<string> {
  const installed = postgresPrograms(version);
  await access(join(installed, 'bin', 'postgres')).catch((cause: unknown) => {
    throw new Error(`the programs of PostgreSQL ${version} are not at ${installed}; run npm ci`, { cause });
  });
  return reachableCopy(installed, `programs-${version}`);
}

/** A data folder fresh from initdb, made once per version and run; servers start on copies of it. */
async function template(version: number, programs: string): Promise<string> {
  const target = join(runDir(), `template-${version}`);
  if (await exists(target)) return join(target, 'data');
  const draft = await newDir(`template-${version}-draft`);
  await giveToServerUser(draft);
  const passwordFile = join(draft, 'password');
  await writeFile(passwordFile, TEST_PASSWORD);
  await giveToServerUser(passwordFile);
  const args = [
    '-D',
    join(draft, 'data'),
    '-U',
    'postgres',
    '-A',
    'scram-sha-256',
    `--pwfile=${passwordFile}`,
  ];
  await runAsServerUser(
    join(programs, 'bin', 'initdb'),
    [...args, '-E', 'UTF8', '--locale=C', '--no-sync'],
    draft,
  );
  await renameOrDrop(draft, target);
  return join(target, 'data');
}

async function configure(server: LocalPostgres, options: PostgresOptions): Promise<void> {
  const { dataDir } = server;
  const settings: Record<string, string> = {
    ...TEST_SETTINGS,
    listen_addresses: '127.0.0.1',
    port: String(server.port),
    unix_socket_directories: dataDir,
  };
  if (options.tls !== undefined) {
    settings['ssl'] = 'on';
    settings['ssl_cert_file'] = await place(options.tls.certFile, dataDir, 'tls-cert.pem');
    settings['ssl_key_file'] = await place(options.tls.keyFile, dataDir, 'tls-key.pem');
    settings['ssl_ca_file'] = await place(options.tls.caFile, dataDir, 'tls-ca.pem');
  }
  Object.assign(settings, options.settings);
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`);
  await write(join(dataDir, 'postgresql.conf'), lines);
  await write(join(dataDir, 'pg_hba.conf'), options.hba ?? HBA);
}

/** PostgreSQL wants its key to be its own user's and closed to everybody else. */
async function place(file: string, dataDir: string, name: string): Promise<string> {
  const target = join(dataDir, name);
  await copyFile(file, target);
  await chmod(target, 0o600);
  await giveToServerUser(target);
  return name;
}

async function write(file: string, lines: readonly string[]): Promise<void> {
  await mkdir(join(file, '..'), { recursive: true });
  await writeFile(file, `${lines.join('\n')}\n`);
  await giveToServerUser(file);
}

async function giveToServerUser(path: string): Promise<void> {
  const { uid, gid } = serverUser();
  if (uid !== undefined && gid !== undefined) await chown(path, uid, gid);
}
