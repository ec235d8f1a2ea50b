import pg from 'pg';
import {
  postgresUrl,
  startPostgres,
  TEST_PASSWORD,
  type PostgresServer,
  type PostgresVersion,
} from '../test/support/postgres.ts';

/**
 * Both servers of a bench. Settings are those of a server that somebody cares for, the same on both sides: commits reach the disk, and
 * checkpoints do not fall into a run.
 */
const SETTINGS: Readonly<Record<string, string>> = {
  fsync: 'on',
  full_page_writes: 'on',
  shared_buffers: '512MB',
  max_wal_size: '16GB',
  min_wal_size: '1GB',
  checkpoint_timeout: '1h',
  maintenance_work_mem: '128MB',
  max_wal_senders: '20',
};

pg.types.setTypeParser(20, (text) => text);

/** A blue and a green server and a connection to each that is not measured. */
export class Rig implements AsyncDisposable {
  readonly blue: PostgresServer;
  readonly green: PostgresServer;
  readonly #clients: pg.Client[] = [];

  private constructor(blue: PostgresServer, green: PostgresServer) {
    this.blue = blue;
    this.green = green;
  }

  static async start(
    settings: Readonly<Record<string, string>> = {},
    blueVersion: PostgresVersion = 16,
  ): Promise<Rig> {
    const all = { ...SETTINGS, ...settings };
    const blue = await startPostgres({ version: blueVersion, settings: all });
    try {
      return new Rig(blue, await startPostgres({ version: 18, settings: all }));
    } catch (error) {
      await blue[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Closed with the rig. */
  async connect(side: 'blue' | 'green', database: string): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: this.url(side, database), application_name: 'bench' });
    // A database that is dropped under it ends it.
    client.on('error', () => undefined);
    await client.connect();
    this.#clients.push(client);
    return client;
  }

  url(side: 'blue' | 'green', database: string): string {
    return postgresUrl({ port: this[side].port }, database);
  }

  /** For programs of libpq. */
  conninfo(side: 'blue' | 'green', database: string): string {
    return `host=127.0.0.1 port=${this[side].port} dbname=${database} user=postgres password=${TEST_PASSWORD}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.end().catch(() => undefined)));
    await this.green[Symbol.asyncDispose]();
    await this.blue[Symbol.asyncDispose]();
  }
}

/** Makes `name` a fresh copy of `template`. Nobody may be connected to either. */
export async function cloneDatabase(admin: pg.Client, name: string, template: string): Promise<void> {
  await admin.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
  await admin.query(`CREATE DATABASE ${name} TEMPLATE ${template} STRATEGY file_copy`);
}

/** First row of a query, or an error that names it. */
export async function row<T extends object>(
  client: pg.Client,
  sql: string,
  params: unknown[] = [],
): Promise<T> {
  const { rows } = await client.query<T>(sql, params);
  if (rows[0] === undefined) throw new Error(`no row: ${sql}`);
  return rows[0];
}
