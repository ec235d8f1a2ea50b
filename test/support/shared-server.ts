import pg from 'pg';

import { postgresUrl, type PostgresServer, startPostgres } from './postgres.ts';
import { asVersion, type SharedAddress, SHARED_HOST_VARIABLE } from './shared-host.ts';

const known = new Map<number, Promise<PostgresServer>>();

/**
 * The run's one server of a major version. Under vitest the global setup keeps it, starts it when first asked for, and ends it; in any
 * other process (demo, bench) this process does. `VERDIGRIS_TEST_PG_URL` names a server that is there already and is taken for its version.
 */
export function sharedServer(version = 16): Promise<PostgresServer> {
  let server = known.get(version);
  if (server === undefined) {
    server = find(version);
    known.set(version, server);
    server.catch(() => known.delete(version));
  }
  return server;
}

async function find(version: number): Promise<PostgresServer> {
  const existing = await existingServer();
  if (existing?.version === version) return existing;
  const host = process.env[SHARED_HOST_VARIABLE];
  if (host === undefined || host === '') return startPostgres({ version: asVersion(version) });
  const answer = await fetch(`${host}/postgres/${version}`);
  const body = await answer.text();
  if (!answer.ok) throw new Error(`no shared PostgreSQL ${version}: ${body}`);
  return borrowed(JSON.parse(body) as SharedAddress);
}

function borrowed(at: SharedAddress): PostgresServer {
  const refuse = (): Promise<never> =>
    Promise.reject(
      new Error(`PostgreSQL ${at.version} is shared by all tests; start one of your own to stop it`),
    );
  return {
    version: at.version,
    port: at.port,
    pid: at.pid,
    dataDir: at.dataDir,
    url: (database, user) => postgresUrl({ port: at.port, host: at.host }, database, user),
    start: refuse,
    stop: refuse,
    [Symbol.asyncDispose]: refuse,
  };
}

let existing: Promise<PostgresServer | undefined> | undefined;

function existingServer(): Promise<PostgresServer | undefined> {
  const url = process.env['VERDIGRIS_TEST_PG_URL'];
  if (url === undefined || url === '') return Promise.resolve(undefined);
  existing ??= inspect(url);
  return existing;
}

async function inspect(address: string): Promise<PostgresServer> {
  const client = new pg.Client({ connectionString: address });
  await client.connect();
  try {
    const { rows } = await client.query<{ version: number; wal_level: string; data_directory: string }>(
      `SELECT current_setting('server_version_num')::int / 10000 AS version, current_setting('wal_level') AS wal_level,
              current_setting('data_directory') AS data_directory`,
    );
    const facts = rows[0];
    if (facts === undefined || facts.wal_level !== 'logical') {
      throw new Error('the server of VERDIGRIS_TEST_PG_URL needs wal_level=logical');
    }
    const refuse = (): Promise<never> =>
      Promise.reject(new Error('the server of VERDIGRIS_TEST_PG_URL is not ours to stop'));
    return {
      version: facts.version,
      port: Number(new URL(address).port || 5432),
      get pid(): number {
        throw new Error('the server of VERDIGRIS_TEST_PG_URL has no process id here');
      },
      dataDir: facts.data_directory,
      url: (database, user) => withParts(address, database, user),
      start: refuse,
      stop: refuse,
      [Symbol.asyncDispose]: refuse,
    };
  } finally {
    await client.end();
  }
}

function withParts(address: string, database: string | undefined, user: string | undefined): string {
  const url = new URL(address);
  if (database !== undefined) url.pathname = `/${database}`;
  if (user !== undefined && user !== decodeURIComponent(url.username)) {
    const other = new URL(postgresUrl({ port: 0 }, 'any', user));
    url.username = other.username;
    url.password = other.password;
  }
  return url.href;
}
