import { createServer, type Server } from 'node:http';

import { MongoClient } from 'mongodb';
import pg from 'pg';

import { type MongoReplicaSet, startMongo } from './mongo.ts';
import { POSTGRES_VERSIONS, type PostgresServer, type PostgresVersion, startPostgres } from './postgres.ts';

/** Where the workers of a run ask for shared servers: a URL of the process that runs vitest's global setup. */
export const SHARED_HOST_VARIABLE = 'VERDIGRIS_TEST_SERVERS';

export interface SharedAddress {
  version: number;
  host: string;
  port: number;
  pid: number;
  dataDir: string;
}

export function asVersion(version: number): PostgresVersion {
  const found = POSTGRES_VERSIONS.find((known) => known === version);
  if (found === undefined)
    throw new Error(`no PostgreSQL ${version} here; there are ${POSTGRES_VERSIONS.join(', ')}`);
  return found;
}

/** Keeps one server per version (and two replica sets) for all workers of a run: each is started when it is first asked for, and all end with the host. */
export class SharedHost {
  readonly #servers = new Map<PostgresVersion, Promise<PostgresServer>>();
  readonly #replicaSets = new Map<string, Promise<MongoReplicaSet>>();
  readonly #http: Server;

  constructor() {
    this.#http = createServer((request, response) => {
      const [kind, which] = (request.url ?? '').split('/').slice(1);
      const answer =
        kind === 'mongo'
          ? this.#replicaSet(which ?? '').then((set) => String(set.members[0]?.port))
          : this.#address(Number(which)).then((address) => JSON.stringify(address));
      answer.then(
        (body) => response.end(body),
        (error: unknown) => response.writeHead(500).end(String(error)),
      );
    });
  }

  /** Starts listening on 127.0.0.1 and returns the address for the workers. */
  async open(): Promise<string> {
    await new Promise<void>((resolve) => this.#http.listen(0, '127.0.0.1', resolve));
    const address = this.#http.address();
    if (address === null || typeof address === 'string')
      throw new Error('the host of the shared servers has no port');
    return `http://127.0.0.1:${address.port}`;
  }

  /** Databases and slots that tests left on the shared servers, one line each. */
  async leftBehind(): Promise<string[]> {
    const left: string[] = [];
    for (const [version, starting] of this.#servers) {
      const server = await starting;
      const client = new pg.Client({ connectionString: server.url() });
      await client.connect();
      const { rows } = await client.query<{ what: string }>(
        `SELECT format('replication slot %s', slot_name) AS what FROM pg_replication_slots
         UNION ALL SELECT format('database %s', datname) FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')`,
      );
      await client.end();
      left.push(...rows.map((row) => `${row.what} on PostgreSQL ${version}`));
    }
    for (const [side, starting] of this.#replicaSets) {
      const client = await new MongoClient((await starting).uri()).connect();
      const { databases } = await client.db().admin().listDatabases({ nameOnly: true });
      await client.close();
      const own = new Set(['admin', 'config', 'local']);
      left.push(
        ...databases.flatMap(({ name }) => (own.has(name) ? [] : [`database ${name} on MongoDB ${side}`])),
      );
    }
    return left;
  }

  async close(): Promise<void> {
    this.#http.closeAllConnections();
    this.#http.close();
    for (const starting of this.#servers.values()) await (await starting)[Symbol.asyncDispose]();
    for (const starting of this.#replicaSets.values()) await (await starting)[Symbol.asyncDispose]();
  }

  #replicaSet(side: string): Promise<MongoReplicaSet> {
    let set = this.#replicaSets.get(side);
    if (set === undefined) {
      this.#replicaSets.set(side, (set = startMongo()));
      set.catch(() => this.#replicaSets.delete(side));
    }
    return set;
  }

  async #address(wanted: number): Promise<SharedAddress> {
    const version = asVersion(wanted);
    let server = this.#servers.get(version);
    if (server === undefined) {
      server = startPostgres({ version });
      this.#servers.set(version, server);
      server.catch(() => this.#servers.delete(version));
    }
    const { port, pid, dataDir, url } = await server.then((ready) => ({
      port: ready.port,
      pid: ready.pid,
      dataDir: ready.dataDir,
      url: ready.url(),
    }));
    return { version, host: new URL(url).hostname, port, pid, dataDir };
  }
}
