import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { waitFor } from '../../support/wait.ts';

/** Between two transactions of a client, and between two attempts to connect. */
const THINK_MS = 15;
const BACK_OFF_MS = 30;

/** Each side labels and times the rows that it takes itself; replication copies both as they are. */
export const tablesOf = (side: 'blue' | 'green'): string => `
  CREATE TABLE orders (id bigint PRIMARY KEY, client int NOT NULL, side text NOT NULL DEFAULT '${side}',
    at timestamptz NOT NULL DEFAULT clock_timestamp());
  CREATE TABLE tally (client int PRIMARY KEY, n bigint NOT NULL)`;

/**
 * Clients that keep a ledger: each commits one transaction of two tables after the other (an order, and its client's count), and knows
 * what was acknowledged, when, and what nobody can know because the connection went away over the COMMIT.
 */
export class Clients implements AsyncDisposable {
  /** By order: `performance.now()` of the answer. */
  readonly acknowledged = new Map<number, number>();
  readonly unsure = new Set<number>();
  readonly failures: string[] = [];
  #next: number;
  #on = true;
  readonly #running: Promise<void>[];

  /** @param numbers the clients' own numbers, which are theirs alone: so are their rows of `tally` */
  constructor(url: string, { numbers, firstId }: { numbers: readonly number[]; firstId: number }) {
    this.#next = firstId;
    this.#running = numbers.map((number) => this.#work(url, number));
  }

  /** ms from then to the first transaction that was acknowledged later. */
  firstAfter(then: number, timeoutMs = 30_000): Promise<number> {
    return waitFor(
      () => {
        const later = [...this.acknowledged.values()].filter((at) => at > then);
        return later.length > 0 ? Math.min(...later) - then : null;
      },
      { what: 'a client to write again', timeoutMs, everyMs: 5 },
    );
  }

  async more(count = 12, timeoutMs = 30_000): Promise<void> {
    const until = this.acknowledged.size + count;
    await waitFor(() => this.acknowledged.size >= until, { what: `${count} more transactions`, timeoutMs });
  }

  /** Every client ends its transaction and leaves. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#on = false;
    await Promise.all(this.#running);
  }

  async #work(url: string, number: number): Promise<void> {
    while (this.#on) {
      const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 20_000 });
      client.on('error', () => undefined);
      try {
        await client.connect();
        while (this.#on) {
          await this.#order(client, number);
          await sleep(THINK_MS);
        }
      } catch (error) {
        this.failures.push(String(error));
        await sleep(BACK_OFF_MS);
      }
      await client.end().catch(() => undefined);
    }
  }

  async #order(client: pg.Client, number: number): Promise<void> {
    const id = this.#next++;
    await client.query('BEGIN');
    await client.query('INSERT INTO orders (id, client) VALUES ($1, $2)', [id, number]);
    await client.query(
      'INSERT INTO tally VALUES ($1, 1) ON CONFLICT (client) DO UPDATE SET n = tally.n + 1',
      [number],
    );
    this.unsure.add(id);
    await client.query('COMMIT');
    this.unsure.delete(id);
    this.acknowledged.set(id, performance.now());
  }
}
