import { readFile } from 'node:fs/promises';
import type { Duplex, Readable } from 'node:stream';
import mysql from 'mysql2';
import { VerdigrisError } from '../../core/errors.ts';
import { parseDuration } from '../../core/units.ts';
import { hostOf, tlsMode, type MysqlConfig } from './config.ts';
import { translate, type Where } from './errors.ts';

export type Row = readonly (string | null)[];
export type RawRow = readonly (Buffer | null)[];

export interface LinkOptions {
  /** `verdigris:<migration>:<purpose>[:t<term>]`, as a connection attribute and in `@verdigris`. */
  readonly name: string;
  readonly where: Where;
  readonly settings?: Readonly<Record<string, string>>;
  /** Default: none. */
  readonly database?: string;
  readonly timeoutMs?: number;
  readonly connectTimeoutMs?: number;
}

export interface Outcome {
  /** Rows that the statement found, whether it changed them or not. */
  readonly affected: number;
  readonly warnings: number;
}

/**
 * Settings that decide what values mean. Pinned on every connection: the server's own differ. ALLOW_INVALID_DATES and the absence
 * of NO_ZERO_DATE let through what the other side holds; NO_AUTO_VALUE_ON_ZERO keeps a zero in an auto-increment column.
 */
const PINNED: Readonly<Record<string, string>> = {
  time_zone: "'+00:00'",
  sql_mode:
    "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,ERROR_FOR_DIVISION_BY_ZERO'",
  autocommit: '1',
  sql_auto_is_null: '0',
  sql_safe_updates: '0',
  completion_type: '0',
  transaction_isolation: "'REPEATABLE-READ'",
  wait_timeout: '28800',
  net_write_timeout: '600',
  net_read_timeout: '600',
  group_concat_max_len: '16777216',
  // What a server does to a value it says in a warning or a note, which has to be there when we ask for it.
  max_error_count: '1024',
  sql_notes: '1',
};

/** Bounds of a piece of {@link Link.stream}; of rows of a megabyte a thousand would be a gigabyte. */
const PIECE_ROWS = 1_000;
const PIECE_BYTES = 1024 * 1024;

/** TLS options of every connection to this side; undefined: none. */
export async function tlsOptions(config: MysqlConfig): Promise<mysql.SslOptions | undefined> {
  const mode = tlsMode(config);
  const { ca, cert, key } = config.tls;
  if (mode === 'disable') return undefined;
  return {
    rejectUnauthorized: true,
    // The driver compares the certificate with the host name only when it is told to.
    verifyIdentity: mode === 'verify-full',
    ...(ca === undefined ? {} : { ca: await readFile(ca) }),
    ...(cert === undefined ? {} : { cert: await readFile(cert) }),
    ...(key === undefined ? {} : { key: await readFile(key) }),
  };
}

/** What every connection is made with, the one that reads the log included. */
export async function connectionOptions(
  config: MysqlConfig,
  options: Pick<LinkOptions, 'name' | 'connectTimeoutMs' | 'database'>,
): Promise<mysql.ConnectionOptions> {
  const url = new URL(config.url);
  const ssl = await tlsOptions(config);
  return {
    host: hostOf(config),
    port: url.port === '' ? 3306 : Number(url.port),
    user: decodeURIComponent(url.username),
    password: decodeURIComponent(url.password),
    charset: 'utf8mb4',
    timezone: 'Z',
    dateStrings: true,
    supportBigNumbers: true,
    bigNumberStrings: true,
    decimalNumbers: false,
    jsonStrings: true,
    multipleStatements: false,
    maxPreparedStatements: 16,
    enableKeepAlive: true,
    connectTimeout: options.connectTimeoutMs ?? 10_000,
    connectAttributes: { program_name: options.name.slice(0, 200) },
    ...(options.database === undefined ? {} : { database: options.database }),
    ...(ssl === undefined ? {} : { ssl }),
  };
}

/** One connection: statements one after the other, values as the bytes that the server sent. */
export class Link implements AsyncDisposable {
  readonly #connection: mysql.Connection;
  readonly #where: Where;
  readonly id: number;
  readonly flavour: 'mysql' | 'mariadb';
  readonly version: readonly [number, number, number];
  /** Who waits for an answer, and who for rows: the driver tells neither when we end the connection. */
  readonly #asking = new Set<(error: Error) => void>();
  readonly #reading = new Set<(error: Error) => void>();
  #lost = false;

  constructor(connection: mysql.Connection, where: Where, server: { id: number; version: string }) {
    this.#connection = connection;
    this.#where = where;
    this.id = server.id;
    this.flavour = /mariadb/i.test(server.version) ? 'mariadb' : 'mysql';
    const [, major, minor, patch] = /^(\d+)\.(\d+)\.(\d+)/.exec(server.version) ?? [];
    this.version = [Number(major ?? 0), Number(minor ?? 0), Number(patch ?? 0)];
    // Without a listener a lost idle connection would end the process; the next statement reports it.
    connection.on('error', () => {
      this.#lost = true;
    });
    connection.on('end', () => {
      this.#lost = true;
      giveUp(this.#reading, this.#asking);
    });
  }

  get lost(): boolean {
    return this.#lost;
  }

  /** Rows as text. For what is known to be text or numbers. */
  async rows(sql: string): Promise<readonly Row[]> {
    const rows = await this.raw(sql);
    return rows.map((row) => row.map((cell) => cell?.toString('utf8') ?? null));
  }

  /** The only value of the only row; null when there is none. */
  async value(sql: string): Promise<string | null> {
    return (await this.rows(sql))[0]?.[0] ?? null;
  }

  raw(sql: string): Promise<readonly RawRow[]> {
    return this.#ask((resolve, reject) => {
      this.#connection.query<mysql.RowDataPacket[][]>(
        { sql, rowsAsArray: true, typeCast: false } as mysql.QueryOptions,
        (error, rows) => {
          if (error !== null) reject(error);
          else resolve((Array.isArray(rows) ? rows : []) as unknown as RawRow[]);
        },
      );
    });
  }

  run(sql: string): Promise<Outcome> {
    return this.#ask((resolve, reject) => {
      this.#connection.query<mysql.ResultSetHeader>(sql, (error, result) => {
        if (error !== null) reject(error);
        else resolve(outcomeOf(result));
      });
    });
  }

  /** LOAD DATA LOCAL: whatever file the server asks for, it is given these bytes and no others, and once. */
  load(sql: string, bytes: () => Readable): Promise<Outcome> {
    let given: Readable | null = null;
    const give = (): Readable => (given ??= bytes());
    return this.#ask<Outcome>((resolve, reject) => {
      this.#connection.query<mysql.ResultSetHeader>(
        { sql, infileStreamFactory: give } as mysql.QueryOptions,
        (error, result) => {
          if (error !== null) reject(error);
          else resolve(outcomeOf(result));
        },
      );
    }).finally(() => given?.destroy());
  }

  #ask<T>(send: (resolve: (answer: T) => void, reject: (error: Error) => void) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      const fail = (error: Error): void => {
        this.#asking.delete(fail);
        reject(this.#failed(error));
      };
      this.#asking.add(fail);
      send((answer) => {
        this.#asking.delete(fail);
        resolve(answer);
      }, fail);
    });
  }

  /**
   * Rows as they arrive, in pieces of a thousand rows or a megabyte; the socket is paused while nobody asks for the next piece, so that a
   * piece is larger only by what had been received by then (64 kB, or one row).
   */
  async *stream(sql: string): AsyncGenerator<readonly RawRow[]> {
    if (this.#lost) throw this.#failed(closedHere());
    const query = this.#connection.query({ sql, rowsAsArray: true, typeCast: false } as mysql.QueryOptions);
    let piece: RawRow[] = [];
    let bytes = 0;
    let failure: Error | null = null;
    let ended = false;
    let wake = Promise.withResolvers<undefined>();
    query.on('result', (row: unknown) => {
      piece.push(row as RawRow);
      for (const cell of row as RawRow) bytes += cell?.length ?? 0;
      if (piece.length >= PIECE_ROWS || bytes >= PIECE_BYTES) {
        this.#connection.pause();
        wake.resolve(undefined);
      }
    });
    const fail = (error: Error): void => {
      failure = error;
      wake.resolve(undefined);
    };
    this.#reading.add(fail);
    query.on('error', fail);
    query.on('end', () => {
      ended = true;
      wake.resolve(undefined);
    });
    try {
      for (;;) {
        await wake.promise;
        wake = Promise.withResolvers<undefined>();
        if (failure !== null) throw this.#failed(failure);
        const rows = piece;
        piece = [];
        bytes = 0;
        const last = ended;
        if (rows.length > 0) yield rows;
        if (last) {
          ended = true;
          return;
        }
        this.#connection.resume();
      }
    } finally {
      // Left in the middle: what the server still sends belongs to nobody.
      if (!ended && failure === null) this.destroy();
      this.#reading.delete(fail);
    }
  }

  /**
   * Ends the connection. The driver only says that nothing more will be asked; so what was asked of a sink is still waited for, as long as
   * its server has the connection open. Of a source nobody wants the answer, nor rows of either.
   */
  destroy(): void {
    this.#lost = true;
    this.#connection.destroy();
    giveUp(this.#reading);
    if (this.#where !== 'source' && this.#reading.size === 0) return;
    // A server that writes to a socket which nobody reads would keep its snapshot until it times out.
    (this.#connection as unknown as { readonly stream: Duplex }).stream.destroy();
    giveUp(this.#asking);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#lost) {
      this.#connection.destroy();
      return;
    }
    this.#lost = true;
    await new Promise<void>((resolve) => {
      const late = setTimeout(() => {
        this.#connection.destroy();
        resolve();
      }, 1_000);
      this.#connection.end(() => {
        clearTimeout(late);
        resolve();
      });
    });
  }

  #failed(error: unknown): Error {
    if ((error as { fatal?: boolean }).fatal === true) this.#lost = true;
    // The bare error: callers look at its number; `translate` makes it one of ours.
    const translated = translate(error, this.#where);
    if (translated.code.endsWith('_LOST')) this.#lost = true;
    return Object.assign(error as Error, { verdigris: translated.code });
  }
}

const outcomeOf = (result: mysql.ResultSetHeader): Outcome => ({
  affected: result.affectedRows ?? 0,
  warnings: result.warningStatus ?? 0,
});

const closedHere = (): Error =>
  Object.assign(new Error('The connection was closed.'), { fatal: true, code: 'PROTOCOL_CONNECTION_LOST' });

const giveUp = (...all: readonly ReadonlySet<(error: Error) => void>[]): void => {
  for (const waiting of all) for (const fail of [...waiting]) fail(closedHere());
};

/** Connects and pins the session. @throws VerdigrisError SOURCE_CONNECT, SINK_CONNECT */
export async function connect(config: MysqlConfig, options: LinkOptions): Promise<Link> {
  const connection = mysql.createConnection({
    ...(await connectionOptions(config, options)),
    // Statements come with their values in them: the driver need not look for places to put some in.
    queryFormat: (sql: string) => sql,
  });
  connection.on('error', () => undefined);
  try {
    const server = await new Promise<{ id: number; version: string }>((resolve, reject) => {
      connection.query<mysql.RowDataPacket[][]>(
        {
          sql: 'SELECT CONNECTION_ID(), VERSION()',
          rowsAsArray: true,
          typeCast: false,
        } as mysql.QueryOptions,
        (error, rows) => {
          if (error !== null) reject(error);
          else {
            const row = (rows as unknown as RawRow[])[0] as RawRow;
            resolve({ id: Number(String(row[0])), version: String(row[1]) });
          }
        },
      );
    });
    const link = new Link(connection, options.where, server);
    const mariadb = link.flavour === 'mariadb';
    const settings: Record<string, string> = {
      ...PINNED,
      ...(mariadb ? {} : { information_schema_stats_expiry: '0' }),
      ...(options.timeoutMs === undefined
        ? {}
        : mariadb
          ? { max_statement_time: String(options.timeoutMs / 1000) }
          : { max_execution_time: String(options.timeoutMs) }),
      ...options.settings,
    };
    // Before 11.1 MariaDB knows the isolation level only under its old name.
    if (mariadb && settings['transaction_isolation'] !== undefined) {
      settings['tx_isolation'] = settings['transaction_isolation'];
      delete settings['transaction_isolation'];
    }
    const list = Object.entries(settings).map(([name, value]) => `SESSION ${name} = ${value}`);
    await link.run(
      `SET ${list.join(', ')}, @verdigris = '${options.name.replaceAll(/['\\]/g, '_').slice(0, 200)}'`,
    );
    return link;
  } catch (error) {
    connection.destroy();
    const translated = translate(error, options.where);
    const code = options.where === 'source' ? 'SOURCE_CONNECT' : 'SINK_CONNECT';
    if (translated.code === code || translated.code.endsWith('_PRIVILEGE')) throw translated;
    throw new VerdigrisError(code, translated.message, { context: translated.context });
  }
}

export const statementTimeout = (config: MysqlConfig): number =>
  parseDuration(config.limits.statement_timeout) as number;
