import pg from 'pg';
import { VerdigrisError } from '../../core/errors.ts';

export interface PoolOptions {
  readonly open: () => Promise<pg.Client>;
  /** Most connections at one time; further callers wait. */
  readonly max: number;
  /** An unused connection is ended after this time, so that it does not count against the server's limit. */
  readonly idleMs: number;
}

interface Idle {
  readonly client: pg.Client;
  readonly timer: NodeJS.Timeout;
}

/**
 * Connections for one purpose, each used by one caller at a time. Unlike `pg.Pool` it hands out clients made by
 * {@link PoolOptions.open}, with their pinned settings, and forgets a client that lost its server.
 */
export class ConnectionPool implements AsyncDisposable {
  readonly #options: PoolOptions;
  readonly #idle: Idle[] = [];
  readonly #waiting: { resolve: () => void; reject: (error: unknown) => void }[] = [];
  readonly #dead = new WeakSet<pg.Client>();
  readonly #busy = new Set<pg.Client>();
  #count = 0;
  #closed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /** @throws what opening a connection throws; the signal's reason */
  async acquire(signal?: AbortSignal): Promise<pg.Client> {
    for (;;) {
      if (this.#closed) throw new VerdigrisError('INTERRUPTED', 'The session is closed.');
      signal?.throwIfAborted();
      const idle = this.#idle.pop();
      if (idle !== undefined) {
        clearTimeout(idle.timer);
        if (this.#dead.has(idle.client)) {
          this.#count -= 1;
          continue;
        }
        this.#busy.add(idle.client);
        return idle.client;
      }
      if (this.#count < this.#options.max) return this.#open();
      await this.#turn(signal);
    }
  }

  /** Gives a client back. `broken`: its transaction or protocol state is not known, so it is ended. */
  release(client: pg.Client, broken = false): void {
    if (!this.#busy.delete(client)) return;
    if (broken || this.#closed || this.#dead.has(client)) {
      this.#count -= 1;
      destroy(client);
    } else {
      const timer = setTimeout(() => this.#expire(client), this.#options.idleMs);
      timer.unref();
      this.#idle.push({ client, timer });
    }
    this.#waiting.shift()?.resolve();
  }

  /** Runs `work` with a client outside a transaction; after an error the client is only kept if the server still answers. */
  async use<T>(work: (client: pg.Client) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const client = await this.acquire(signal);
    let broken = true;
    try {
      const result = await work(client);
      broken = false;
      return result;
    } catch (error) {
      broken =
        !(error instanceof pg.DatabaseError || error instanceof VerdigrisError) ||
        (await rollbackFails(client));
      throw error;
    } finally {
      this.release(client, broken);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const waiter of this.#waiting.splice(0)) waiter.resolve();
    for (const client of this.#busy) destroy(client);
    const idle = this.#idle.splice(0);
    for (const { timer } of idle) clearTimeout(timer);
    await Promise.allSettled(idle.map(({ client }) => client.end()));
  }

  async #open(): Promise<pg.Client> {
    this.#count += 1;
    try {
      const client = await this.#options.open();
      const lost = (): void => {
        this.#dead.add(client);
      };
      client.on('error', lost);
      client.on('end', lost);
      if (this.#closed) {
        destroy(client);
        throw new VerdigrisError('INTERRUPTED', 'The session is closed.');
      }
      this.#busy.add(client);
      return client;
    } catch (error) {
      this.#count -= 1;
      this.#waiting.shift()?.resolve();
      throw error;
    }
  }

  #turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(signal?.reason as Error);
      };
      const waiter = {
        resolve: (): void => {
          signal?.removeEventListener('abort', abort);
          resolve();
        },
        reject,
      };
      signal?.addEventListener('abort', abort, { once: true });
      this.#waiting.push(waiter);
    });
  }

  #expire(client: pg.Client): void {
    const at = this.#idle.findIndex((idle) => idle.client === client);
    if (at < 0) return;
    this.#idle.splice(at, 1);
    this.#count -= 1;
    client.end().catch(() => undefined);
  }
}

async function rollbackFails(client: pg.Client): Promise<boolean> {
  try {
    await client.query('ROLLBACK');
    return false;
  } catch {
    return true;
  }
}

/** Closes the socket without waiting for what the server still wants to send. */
function destroy(client: pg.Client): void {
  client.end().catch(() => undefined);
  const { stream } = (client as unknown as { connection: { stream: { destroy(): void } } }).connection;
  stream.destroy();
}
