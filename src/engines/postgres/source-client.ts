import type pg from 'pg';
import type { PostgresConfig } from './config.ts';
import { connect, type ClientOptions } from './connect.ts';
import { translate } from './errors.ts';

const IDLE_MS = 5_000;
/** The server's own limit, and ours for a server that does not answer at all. */
const STATEMENT_MS = 30_000;
const ANSWER_MS = 35_000;

/** One query connection, made when it is needed, closed when nobody used it for a while; its users take turns. */
export class QueryClient implements AsyncDisposable {
  readonly #config: PostgresConfig;
  readonly #options: ClientOptions;
  #client: pg.Client | null = null;
  #turn: Promise<unknown> = Promise.resolve();
  #idle: NodeJS.Timeout | null = null;

  constructor(config: PostgresConfig, options: ClientOptions) {
    this.#config = config;
    this.#options = { ...options, statementTimeoutMs: STATEMENT_MS };
  }

  /** @throws VerdigrisError SOURCE_* for what the driver or the server says */
  run<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    const result = this.#turn.then(() => this.#run(work));
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async #run<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    if (this.#idle !== null) clearTimeout(this.#idle);
    let bound: NodeJS.Timeout | undefined;
    try {
      const client = this.#client ?? (await this.#connect());
      // With a query running, end() cuts the connection, which fails the query.
      bound = setTimeout(() => void client.end().catch(() => undefined), ANSWER_MS);
      return await work(client);
    } catch (error) {
      throw translate(error, 'source');
    } finally {
      clearTimeout(bound);
      this.#idle = setTimeout(() => void this.#end(), IDLE_MS);
      this.#idle.unref();
    }
  }

  async #connect(): Promise<pg.Client> {
    const client = await connect(this.#config, this.#options);
    client.on('end', () => {
      if (this.#client === client) this.#client = null;
    });
    this.#client = client;
    return client;
  }

  async #end(): Promise<void> {
    const client = this.#client;
    this.#client = null;
    await client?.end().catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
    await this.#turn;
    if (this.#idle !== null) clearTimeout(this.#idle);
    await this.#end();
  }
}
