import { pipeline } from 'node:stream/promises';
import type pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { VerdigrisError } from '../../core/errors.ts';
import {
  closeMessage,
  copyMessages,
  bindMessage,
  EXECUTE,
  Gather,
  parseMessage,
  SYNC,
  type Param,
} from './sink-messages.ts';

/** One statement of a batch. */
export interface Statement {
  readonly text: string;
  readonly values: readonly Param[];
  /** What follows a COPY … FROM STDIN. */
  readonly data?: readonly Buffer[];
}

/** What one statement answered: its command tag and its rows as text. */
export interface Outcome {
  readonly tag: string;
  readonly rows: readonly (readonly (string | null)[])[];
}

/** A batch failed at statement `index`; nothing after it was executed. */
export class BatchFailure extends Error {
  readonly index: number;
  /** What `pg` reported. */
  readonly error: unknown;

  constructor(index: number, error: unknown) {
    super('a statement of a batch failed');
    this.name = 'BatchFailure';
    this.index = index;
    this.error = error;
  }
}

/** SQLSTATE of what `pg` threw, or ''. */
export const sqlState = (error: unknown): string => {
  const code = (error as { readonly code?: unknown }).code;
  return typeof code === 'string' ? code : '';
};

/**
 * Prepared statements kept per connection; the server holds a plan for each, some 10 kB. Fewer than a group has (an insert and an update of
 * each of 500 tables) is as if none were kept: each would be prepared anew every time.
 */
const MAX_PREPARED = 2_000;

/** The socket of a `pg` connection, typed narrower there. */
interface Socket {
  cork(): void;
  uncork(): void;
  write(bytes: Buffer): boolean;
}

/**
 * Many statements in one write with one Sync at the end, COPY and its data among them. `pg`'s own pipeline mode sends a Sync after every
 * statement and refuses COPY on the same client; with one Sync the server skips everything after the first error by itself,
 * COMMIT included.
 */
class Batch {
  readonly #statements: readonly Statement[];
  readonly #prepared: Prepared;
  readonly #resolve: (outcomes: Outcome[]) => void;
  readonly #reject: (failure: BatchFailure) => void;
  readonly #outcomes: Outcome[] = [];
  #rows: (readonly (string | null)[])[] = [];
  #names: readonly string[] = [];

  constructor(
    statements: readonly Statement[],
    prepared: Prepared,
    settle: { resolve: (outcomes: Outcome[]) => void; reject: (failure: BatchFailure) => void },
  ) {
    this.#statements = statements;
    this.#prepared = prepared;
    this.#resolve = settle.resolve;
    this.#reject = settle.reject;
  }

  /** Called by `pg` when the connection is free. */
  submit(connection: pg.Connection): void {
    const { stream } = connection as unknown as { readonly stream: Socket };
    const gather = new Gather((bytes) => stream.write(bytes));
    stream.cork();
    try {
      this.#names = this.#statements.map((statement) => {
        const { name, parse, close } = this.#prepared.use(statement.text);
        for (const old of close) gather.add(closeMessage(old));
        if (parse) gather.add(parseMessage(name, statement.text));
        for (const piece of bindMessage(name, statement.values)) gather.add(piece);
        gather.add(EXECUTE);
        if (statement.data !== undefined) for (const piece of copyMessages(statement.data)) gather.add(piece);
        return name;
      });
      gather.add(SYNC);
    } finally {
      gather.flush();
      stream.uncork();
    }
  }

  handleDataRow(message: { readonly fields: readonly (string | null)[] }): void {
    this.#rows.push(message.fields);
  }

  handleCommandComplete(message: { readonly text: string }): void {
    this.#outcomes.push({ tag: message.text, rows: this.#rows });
    this.#rows = [];
  }

  handleReadyForQuery(): void {
    this.#resolve(this.#outcomes);
  }

  handleError(error: unknown): void {
    const index = this.#outcomes.length;
    this.#prepared.doubt(this.#names.slice(index));
    this.#reject(new BatchFailure(index, error));
  }

  handleRowDescription(): void {
    // Never asked for.
  }

  handleCopyInResponse(): void {
    // The data is on its way. After an error before it the server reads over it.
  }

  handleEmptyQuery(): void {
    this.#outcomes.push({ tag: '', rows: [] });
  }

  handlePortalSuspended(): void {
    // Cannot happen: every Execute asks for all rows.
  }
}

/** Names of prepared statements by text, least recently used first. */
class Prepared {
  readonly #names = new Map<string, string>();
  #doubtful: string[] = [];
  #next = 0;

  use(text: string): { name: string; parse: boolean; close: readonly string[] } {
    const close = this.#doubtful;
    this.#doubtful = [];
    const known = this.#names.get(text);
    if (known !== undefined) {
      this.#names.delete(text);
      this.#names.set(text, known);
      return { name: known, parse: false, close };
    }
    if (this.#names.size >= MAX_PREPARED) {
      const [oldest, name] = this.#names.entries().next().value as [string, string];
      this.#names.delete(oldest);
      close.push(name);
    }
    const name = `v${this.#next++}`;
    this.#names.set(text, name);
    return { name, parse: true, close };
  }

  /** After an error it is not known which of these the server has parsed. Close of an unknown name is no error. */
  doubt(names: readonly string[]): void {
    const gone = new Set(names);
    for (const [text, name] of this.#names) if (gone.has(name)) this.#names.delete(text);
    this.#doubtful.push(...gone);
  }

  clear(): void {
    for (const name of this.#names.values()) this.#doubtful.push(name);
    this.#names.clear();
  }
}

/** A connection that runs batches and COPY. One call at a time. */
export class Wire implements AsyncDisposable {
  readonly client: pg.Client;
  readonly #prepared = new Prepared();
  #lost = false;

  constructor(client: pg.Client) {
    this.client = client;
    client.on('error', () => {
      this.#lost = true;
    });
    client.on('end', () => {
      this.#lost = true;
    });
  }

  /** The connection is known to be gone. */
  get lost(): boolean {
    return this.#lost;
  }

  /** Process id of the server's side. */
  get pid(): number | null {
    return (this.client as unknown as { readonly processID: number | null }).processID;
  }

  /** A transaction is open, failed or not. */
  get inTransaction(): boolean {
    return this.client.getTransactionStatus() !== 'I';
  }

  /** Runs the statements in one round trip. @throws BatchFailure */
  run(statements: readonly Statement[]): Promise<readonly Outcome[]> {
    if (statements.length === 0) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      const batch = new Batch(statements, this.#prepared, {
        resolve,
        reject: (failure) => {
          // The server ends the session after a FATAL; `pg` reports the end only later.
          if (
            /^(08|57P0|25P03|57P05)/.test(sqlState(failure.error)) ||
            sqlState(failure.error).startsWith('E')
          )
            this.#lost = true;
          reject(failure);
        },
      });
      this.client.query(batch);
    });
  }

  /** One statement. */
  async one(text: string, values: readonly Param[] = []): Promise<Outcome> {
    const [outcome] = await this.all([{ text, values }]);
    return outcome as Outcome;
  }

  /** Some statements in one round trip. @throws what `pg` reported */
  async all(statements: readonly Statement[]): Promise<readonly Outcome[]> {
    try {
      return await this.run(statements);
    } catch (failure) {
      throw failure instanceof BatchFailure ? failure.error : failure;
    }
  }

  /** COPY … FROM STDIN; returns the number of rows. */
  async copy(
    text: string,
    chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    signal?: AbortSignal,
  ): Promise<number> {
    const stream = this.client.query(copyFrom(text));
    await pipeline(chunks, stream, signal === undefined ? {} : { signal });
    return stream.rowCount;
  }

  /** Forget plans: after DDL on the tables. */
  forgetPlans(): void {
    this.#prepared.clear();
  }

  /** Ends the connection without waiting for what it is doing. The server rolls back. */
  destroy(): void {
    this.#lost = true;
    (
      this.client as unknown as { readonly connection: { readonly stream: { destroy(): void } } }
    ).connection.stream.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#lost) {
      this.destroy();
      return;
    }
    this.#lost = true;
    await this.client.end();
  }
}

/** The rows a command tag counts (`INSERT 0 5`, `UPDATE 5`, `COPY 5`). */
export function taggedRows(outcome: Outcome): number {
  const match = /(\d+)$/.exec(outcome.tag);
  if (match === null) throw new VerdigrisError('INTERNAL', `A command tag has no count: ${outcome.tag}`);
  return Number(match[1]);
}
