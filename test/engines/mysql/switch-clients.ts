import { setTimeout as delay } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import { MYSQL_PASSWORD } from '../../support/mysql-server.ts';
import { APP_USER } from '../../support/mysql-harness.ts';
import { waitFor } from '../../support/wait.ts';

const ATTEMPTS = 2;
/** Between two transactions of a client: a load, and still a test that shares its two cores. */
const THINK_MS = 10;
/** A held connection gets its greeting only when the proxy lets go. */
const CONNECT_MS = 60_000;

/**
 * Clients of a proxy that ends their connections in a switch: each writes an order and its own tally in one transaction, again and again,
 * connects anew after an error, looks whether the order is there, and tries once more where it is not.
 */
export class ShopClients implements AsyncDisposable {
  /** Orders whose COMMIT was answered, or that were found afterwards. */
  readonly acknowledged = new Set<string>();
  /** Errors of a second attempt. */
  readonly failures: string[] = [];
  reconnects = 0;
  readonly #at: { readonly port: number; readonly database: string };
  readonly #work: Promise<void>[];
  readonly #ended = new AbortController();

  constructor(at: { readonly port: number; readonly database: string }, count: number) {
    this.#at = at;
    this.#work = Array.from({ length: count }, (_, client) => this.#client(client));
  }

  async more(count = 50): Promise<void> {
    const from = this.acknowledged.size;
    await waitFor(() => this.acknowledged.size >= from + count, {
      what: `${count} more transactions of the clients`,
      timeoutMs: 60_000,
    });
  }

  async stop(): Promise<void> {
    this.#ended.abort();
    await Promise.all(this.#work);
  }

  async #client(client: number): Promise<void> {
    let connection: mysql.Connection | null = null;
    for (let number = 1; !this.#ended.signal.aborted; number += 1) {
      const id = `${client}-${number}`;
      for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
        try {
          if (connection === null) {
            connection = await this.#connect();
            if (attempt > 1) this.reconnects += 1;
          }
          if (attempt === 1 || !(await there(connection, id))) await order(connection, id, client);
          this.acknowledged.add(id);
          break;
        } catch (error) {
          connection?.destroy();
          connection = null;
          if (attempt === ATTEMPTS) this.failures.push(`${id}: ${String(error)}`);
        }
      }
      await delay(THINK_MS);
    }
    connection?.destroy();
  }

  async #connect(): Promise<mysql.Connection> {
    const connection = await mysql.createConnection({
      host: '127.0.0.1',
      ...this.#at,
      user: APP_USER,
      password: MYSQL_PASSWORD,
      connectTimeout: CONNECT_MS,
    });
    connection.on('error', () => undefined);
    return connection;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

async function order(connection: mysql.Connection, id: string, client: number): Promise<void> {
  await connection.query('START TRANSACTION');
  await connection.query('INSERT INTO orders (code, client, note) VALUES (?, ?, ?)', [
    id,
    client,
    `note of ${id}`,
  ]);
  await connection.query('UPDATE tally SET count = count + 1 WHERE client = ?', [client]);
  await connection.query('COMMIT');
}

async function there(connection: mysql.Connection, id: string): Promise<boolean> {
  const [rows] = await connection.query<mysql.RowDataPacket[]>('SELECT 1 FROM orders WHERE code = ?', [id]);
  return rows.length > 0;
}
