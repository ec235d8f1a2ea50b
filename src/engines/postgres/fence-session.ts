import type { Socket } from 'node:net';
import type pg from 'pg';
import type { SessionEnv } from '../../core/engine.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { PostgresConfig } from './config.ts';
import { connect } from './connect.ts';
import { translate } from './errors.ts';

/** Bounds of a transaction of the fence. */
export interface Act {
  /** Statement and lock bound, ms. */
  readonly limitMs: number;
  /** remote_apply is `on` plus the wait for synchronous standbys, so that a failover keeps fence and barrier. */
  readonly commit: 'on' | 'remote_apply';
}

/** How long a connection that went well waits for the next act of the same fence, ms. The acts of a switch follow one another. */
const WARM_MS = 1_500;
/** How long the server may take to answer on it. */
const ALIVE_MS = 1_000;

/**
 * Connections of one fence. Acts that run at the same time have one each; a connection is used again only after an act that
 * went well, and only soon: nobody has to dispose of a fence, but who does frees it at once.
 */
export class FenceSessions implements AsyncDisposable {
  readonly #config: PostgresConfig;
  readonly #env: SessionEnv;
  #warm: { readonly client: pg.Client; readonly timer: NodeJS.Timeout } | null = null;

  constructor(config: PostgresConfig, env: SessionEnv) {
    this.#config = config;
    this.#env = env;
  }

  /** Runs an act. After `limitMs` the connection is cut, whatever the server or the network is doing. */
  async run<T>(limitMs: number, act: (client: pg.Client) => Promise<T>): Promise<T> {
    let client: pg.Client | undefined;
    let cut: NodeJS.Timeout | undefined;
    try {
      const used = (await this.#alive(limitMs)) ?? (await this.#open(limitMs));
      client = used;
      cut = setTimeout(() => destroy(used), limitMs);
      const result = await act(used);
      this.#keep(used);
      client = undefined;
      return result;
    } catch (error) {
      throw this.#translate(error);
    } finally {
      clearTimeout(cut);
      if (client !== undefined) await end(client);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const client = this.#take();
    if (client !== null) await end(client);
  }

  async #open(limitMs: number): Promise<pg.Client> {
    const client = await connect(this.#config, {
      applicationName: `verdigris:${this.#env.migration}:fence`,
      connectTimeoutMs: Math.min(limitMs, 10_000),
    });
    // The server may end a warm one (a restart, somebody who ends sessions): then the next act opens another.
    const forget = (): void => {
      if (this.#warm?.client === client) this.#take();
    };
    client.on('error', forget);
    client.on('end', forget);
    return client;
  }

  /** The warm connection, when the server still answers on it: its end may not have reached us yet, and an act is not tried twice. */
  async #alive(limitMs: number): Promise<pg.Client | null> {
    const client = this.#take();
    if (client === null) return null;
    const cut = setTimeout(() => destroy(client), Math.min(limitMs, ALIVE_MS));
    try {
      await client.query('SELECT 1');
      return client;
    } catch {
      await end(client);
      return null;
    } finally {
      clearTimeout(cut);
    }
  }

  #take(): pg.Client | null {
    const warm = this.#warm;
    if (warm === null) return null;
    this.#warm = null;
    clearTimeout(warm.timer);
    socket(warm.client).ref();
    return warm.client;
  }

  #keep(client: pg.Client): void {
    if (this.#warm !== null) {
      void end(client);
      return;
    }
    // Neither the timer nor the idle socket keeps the process alive.
    socket(client).unref();
    const timer = setTimeout(() => {
      this.#warm = null;
      void end(client);
    }, WARM_MS);
    timer.unref();
    this.#warm = { client, timer };
  }

  #translate(error: unknown): VerdigrisError {
    if (error instanceof VerdigrisError) return error;
    const { side } = this.#env;
    const translated = translate(error, 'state', { act: 'fence', side });
    if (translated.code !== 'SINK_PRIVILEGE') return translated;
    return new VerdigrisError(
      'SINK_PRIVILEGE',
      `The fence on ${side} is not permitted: ${translated.message}`,
      {
        remedy:
          'Make our role a member of the role that owns the tables (GRANT owner TO role), and let it create the state schema.',
        context: translated.context,
      },
    );
  }
}

export async function begin(client: pg.Client, act: Act): Promise<void> {
  await client.query(
    `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = ${act.limitMs}; ` +
      `SET LOCAL statement_timeout = ${act.limitMs}; SET LOCAL synchronous_commit = ${act.commit}`,
  );
}

/** Ends the session; a server that does not answer is left after a second. */
async function end(client: pg.Client): Promise<void> {
  const late = setTimeout(() => destroy(client), 1_000);
  await client.end().catch(() => undefined);
  clearTimeout(late);
}

const destroy = (client: pg.Client): void => {
  socket(client).destroy();
};

const socket = (client: pg.Client): Socket =>
  (client as unknown as { connection: { stream: Socket } }).connection.stream;
