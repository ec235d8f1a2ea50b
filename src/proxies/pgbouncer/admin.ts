import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { VerdigrisError } from '../../core/errors.ts';

/** One row of a SHOW command, as text. */
export type ShowRow = Readonly<Record<string, string | null>>;

const rawText: pg.CustomTypesConfig = { getTypeParser: () => (value: string) => value };

/** Connecting is part of an act that has its own bound; this only ends an attempt that nobody waits for any more. */
const CONNECT_TIMEOUT_MS = 10_000;
const END_PATIENCE_MS = 1_000;

/** A database name in an admin command. The console folds nothing, so every name is quoted. */
export const adminIdent = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/**
 * The admin console. It speaks the simple protocol only: no parameters, one statement at a time. Loses and finds its
 * connection by itself: every call that finds none opens one.
 */
export class AdminConsole implements AsyncDisposable {
  readonly address: string;
  readonly user: string;
  readonly #config: pg.ClientConfig;
  #client: pg.Client | null = null;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(adminUrl: string) {
    const url = new URL(adminUrl);
    const host = (url.searchParams.get('host') ?? decodeURIComponent(url.hostname)).replace(/^\[|\]$/g, '');
    const port = url.port === '' ? 6432 : Number(url.port);
    this.user = decodeURIComponent(url.username);
    this.address = `${host}:${port}`;
    this.#config = {
      host,
      port,
      user: this.user,
      password: decodeURIComponent(url.password),
      database: url.pathname.length > 1 ? decodeURIComponent(url.pathname.slice(1)) : 'pgbouncer',
      ssl: false,
      application_name: 'verdigris',
      types: rawText,
      keepAlive: true,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    };
  }

  /** Runs one command on the connection that is kept. Calls take turns. @throws VerdigrisError PROXY_* */
  async command(text: string, signal: AbortSignal): Promise<readonly ShowRow[]> {
    const before = this.#turn;
    const mine = (async () => {
      await bounded(before, signal, () => this.#late(text, signal));
      const client = (this.#client ??= await this.connect(signal));
      try {
        return await this.run(client, text, signal);
      } catch (error) {
        if (error instanceof VerdigrisError && error.code !== 'PROXY_UNEXPECTED') this.#drop(client);
        throw error;
      }
    })();
    // A call that gives up while it waits must not let the next one pass the call before it.
    this.#turn = Promise.allSettled([before, mine]);
    return mine;
  }

  /** A connection of its own, for a command whose answer may never come. The caller ends it. */
  async connect(signal: AbortSignal): Promise<pg.Client> {
    const client = new pg.Client(this.#config);
    // Without a listener the loss of an idle connection would end the process; the next command reports it.
    client.on('error', () => this.#drop(client));
    client.on('end', () => this.#drop(client));
    try {
      await bounded(client.connect(), signal, () => this.#late('connect', signal));
      return client;
    } catch (error) {
      void client.end().catch(() => undefined);
      if (error instanceof VerdigrisError) throw error;
      throw new VerdigrisError(
        'PROXY_UNREACHABLE',
        `The admin console of PgBouncer at ${this.address} cannot be reached: ${text(error)}.`,
        {
          context: { address: this.address },
          cause: error,
        },
      );
    }
  }

  /** One command on a connection of {@link connect}; when the signal fires the connection is cut, whatever runs there. */
  async run(client: pg.Client, command: string, signal: AbortSignal): Promise<readonly ShowRow[]> {
    try {
      const result = await bounded(client.query<Record<string, string | null>>(command), signal, () => {
        void client.end().catch(() => undefined);
        return this.#late(command, signal);
      });
      return result.rows;
    } catch (error) {
      if (error instanceof VerdigrisError) throw error;
      if (error instanceof pg.DatabaseError && error.severity !== 'FATAL') {
        throw new VerdigrisError(
          'PROXY_UNEXPECTED',
          `PgBouncer at ${this.address} refused ${command}: ${error.message}.`,
          {
            context: { address: this.address, answer: error.message },
            cause: error,
          },
        );
      }
      throw new VerdigrisError(
        'PROXY_UNREACHABLE',
        `The admin connection to PgBouncer at ${this.address} was lost during ${command}: ${text(error)}.`,
        {
          context: { address: this.address },
          cause: error,
        },
      );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const client = this.#client;
    this.#client = null;
    if (!client) return;
    // A half-open connection never confirms its end.
    const patience = new AbortController();
    await Promise.race([client.end(), sleep(END_PATIENCE_MS, undefined, { signal: patience.signal })]).catch(
      () => undefined,
    );
    patience.abort();
  }

  #drop(client: pg.Client): void {
    if (this.#client === client) this.#client = null;
    void client.end().catch(() => undefined);
  }

  #late(command: string, signal: AbortSignal): VerdigrisError {
    return new VerdigrisError(
      'PROXY_TIMEOUT',
      `PgBouncer at ${this.address} did not answer ${command} in time.`,
      {
        context: { address: this.address },
        cause: signal.reason,
      },
    );
  }
}

const text = (error: unknown): string =>
  error instanceof Error ? error.message || error.name : String(error);

/** The promise, or a rejection with `late()` as soon as the signal fires. */
async function bounded<T>(promise: Promise<T>, signal: AbortSignal, late: () => VerdigrisError): Promise<T> {
  let stop: (() => void) | undefined;
  const fired = new Promise<never>((_resolve, reject) => {
    stop = () => reject(late());
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
  // The loser of the race may still reject later; nobody waits for it then.
  promise.catch(() => undefined);
  try {
    return await Promise.race([promise, fired]);
  } finally {
    if (stop) signal.removeEventListener('abort', stop);
  }
}
