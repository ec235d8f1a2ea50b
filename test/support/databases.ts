import { randomBytes } from 'node:crypto';

import pg from 'pg';

import type { PostgresServer, PostgresVersion } from './postgres.ts';
import { sharedServer } from './shared-server.ts';
import { waitFor } from './wait.ts';

export { sharedServer };

/** How long a walsender or a closing pool may take to be gone from the server's point of view after the client left. */
const LEAVE_TIMEOUT_MS = 5_000;

export interface TestDatabase extends AsyncDisposable {
  readonly url: string;
  readonly name: string;
  readonly version: number;
  readonly server: PostgresServer;
  /** Connected as superuser, with the driver's default types. */
  readonly client: pg.Client;
  query<Row = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<Row[]>;
  /** One more connection, ended with the database. The role is expected to have `TEST_PASSWORD`. */
  connect(user?: string): Promise<pg.Client>;
  urlFor(user: string): string;
}

/** A new database on the run's shared server of that version. Disposing fails when something of it is still in use. */
export async function createDatabase(version: PostgresVersion = 16, name?: string): Promise<TestDatabase> {
  return createDatabaseOn(await sharedServer(version), name);
}

/** The same on a server of the test's own. */
export async function createDatabaseOn(server: PostgresServer, name = newName()): Promise<TestDatabase> {
  await onServer(server, (admin) => admin.query(`CREATE DATABASE ${pg.escapeIdentifier(name)}`));
  return new OpenDatabase(server, name, await open(server.url(name)));
}

class OpenDatabase implements TestDatabase {
  readonly url: string;
  readonly name: string;
  readonly version: number;
  readonly server: PostgresServer;
  readonly client: pg.Client;
  readonly #clients: pg.Client[];

  constructor(server: PostgresServer, name: string, client: pg.Client) {
    this.server = server;
    this.name = name;
    this.version = server.version;
    this.url = server.url(name);
    this.client = client;
    this.#clients = [client];
  }

  async query<Row = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<Row[]> {
    const result = await this.client.query(sql, params === undefined ? undefined : [...params]);
    return result.rows as Row[];
  }

  urlFor(user: string): string {
    return this.server.url(this.name, user);
  }

  async connect(user?: string): Promise<pg.Client> {
    const client = await open(this.server.url(this.name, user));
    this.#clients.push(client);
    return client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.end().catch(() => undefined)));
    await onServer(this.server, async (admin) => {
      const left = await leftBehind(admin, this.name);
      // What the test left is removed all the same: only this test shall fail for it.
      await admin.query(
        `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = $1 AND active_pid IS NOT NULL`,
        [this.name],
      );
      await waitFor(() => dropSlots(admin, this.name), {
        what: `the slots of ${this.name} to go`,
        timeoutMs: LEAVE_TIMEOUT_MS,
      });
      await rollbackPrepared(this.server, this.name);
      await admin.query(`DROP DATABASE ${pg.escapeIdentifier(this.name)} WITH (FORCE)`);
      if (left.length > 0)
        throw new Error(`the test left in use in database ${this.name}: ${left.join('; ')}`);
    });
  }
}

/** Slots that somebody reads, and connections that nobody closed; waits a moment, since a server notices a client's leave late. */
async function leftBehind(admin: pg.Client, name: string): Promise<string[]> {
  let left: string[] = [];
  const look = async (): Promise<boolean> => {
    const { rows } = await admin.query<{ what: string }>(
      `SELECT format('active slot %s', slot_name) AS what FROM pg_replication_slots WHERE database = $1 AND active
       UNION ALL
       SELECT format('connection of "%s" (%s, %s)', application_name, usename, coalesce(state, backend_type))
       FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend' AND pid <> pg_backend_pid()`,
      [name],
    );
    left = rows.map((row) => row.what);
    return left.length === 0;
  };
  await waitFor(look, { what: 'everybody to leave', timeoutMs: LEAVE_TIMEOUT_MS }).catch(() => undefined);
  return left;
}

async function dropSlots(admin: pg.Client, name: string): Promise<boolean> {
  await admin.query(
    `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1 AND NOT active`,
    [name],
  );
  const { rows } = await admin.query(`SELECT 1 FROM pg_replication_slots WHERE database = $1`, [name]);
  return rows.length === 0;
}

/** A prepared transaction outlives its session and keeps its database from being dropped; only a session in there can end it. */
async function rollbackPrepared(server: PostgresServer, name: string): Promise<void> {
  const client = await open(server.url(name));
  try {
    const { rows } = await client.query<{ gid: string }>(
      `SELECT gid FROM pg_prepared_xacts WHERE database = current_database()`,
    );
    for (const { gid } of rows) await client.query(`ROLLBACK PREPARED ${pg.escapeLiteral(gid)}`);
  } finally {
    await client.end();
  }
}

async function onServer<T>(server: PostgresServer, work: (admin: pg.Client) => Promise<T>): Promise<T> {
  const admin = await open(server.url());
  try {
    return await work(admin);
  } finally {
    await admin.end();
  }
}

async function open(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'test' });
  // A server that is stopped under a connection must fail the next query, not the process.
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

function newName(): string {
  return `t_${process.pid}_${randomBytes(5).toString('hex')}`;
}
