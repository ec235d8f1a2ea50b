import { randomUUID } from 'node:crypto';

import mysql from 'mysql2/promise';

import type { Client } from '../client-process.ts';
import type { Book, ClientOptions } from '../ledger.ts';
import { Actions, type Answer, type Ask, type Values, WrongRead } from './actions.ts';
import { statement, type StatementName, type Words } from './statements.ts';

/** A wait that is kept: shorter ones cannot be the longest. */
const NOTED_MS = 5;
const ATTEMPTS = 2;
/** A connection that is held gets its greeting only when the proxy lets go. */
const CONNECT_MS = 60_000;
/** The server took the transaction back and the connection is as good as before: a deadlock, a wait for a lock. */
const TAKEN_BACK = new Set([1213, 1205]);

/**
 * One client of the shop: one transaction after the other. HAProxy ends its connection in a switch: then it connects anew, sees which
 * tables are there, looks whether the transaction that broke off was committed, and does it once more if not.
 */
export class Shopper implements Client {
  readonly #number: number;
  readonly #options: ClientOptions;
  readonly #book: Book;
  readonly #actions: Actions;
  #connection: mysql.Connection | null = null;
  #words: Words = 'today';
  #lastTransaction: string | null = null;
  #holding = false;

  constructor(number: number, options: ClientOptions, book: Book) {
    this.#number = number;
    this.#options = options;
    this.#book = book;
    this.#actions = new Actions(number, options, () => this.#lastTransaction);
    book.reconnects ??= 0;
  }

  async connect(): Promise<void> {
    this.#connection = await mysql.createConnection({
      uri: this.#options.url,
      connectTimeout: CONNECT_MS,
      namedPlaceholders: true,
      jsonStrings: true,
      charset: 'utf8mb4',
    });
    // A lost connection also fails the statement that waits, or the next one: it is seen there.
    this.#connection.on('error', () => undefined);
    const [found] = await this.#connection.query<mysql.RowDataPacket[]>(
      `SELECT COUNT(*) AS n FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'client'`,
    );
    this.#words = Number(found[0]?.['n']) === 1 ? 'tomorrow' : 'today';
  }

  hold(): void {
    this.#holding = true;
  }

  async shop(): Promise<void> {
    const { thinkMs } = this.#options;
    while (!this.#holding) {
      await this.#transaction();
      await new Promise((resolve) => setTimeout(resolve, thinkMs * (0.5 + Math.random())));
    }
    await this.#connection?.end().catch(() => undefined);
  }

  async #transaction(): Promise<void> {
    const [action, act] = this.#actions.pick();
    const transaction = randomUUID();
    let settle: (() => void) | null = null;
    let brokenAt: { readonly atMs: number; readonly from: number } | null = null;
    for (let attempt = 1; ; attempt += 1) {
      const begun = { atMs: Date.now(), from: performance.now() };
      try {
        if (this.#connection === null) {
          await this.connect();
          this.#book.reconnects = (this.#book.reconnects ?? 0) + 1;
        }
        // The answer to COMMIT may be what was lost.
        const known = attempt > 1 && (await this.#isThere(transaction));
        if (brokenAt !== null) this.#note(brokenAt);
        if (!known) {
          await this.#run('START TRANSACTION');
          settle = (await act(this.#ask)) ?? null;
          const written = { transaction: bytesOf(transaction), client: this.#number, action };
          await this.#ask('audit', {
            ...written,
            detail: JSON.stringify({ own: this.#book.committed.length }),
          });
          await this.#run('COMMIT');
        }
        break;
      } catch (error) {
        brokenAt ??= begun;
        const keeps = error instanceof WrongRead || TAKEN_BACK.has((error as { errno?: number }).errno ?? 0);
        if (keeps) await this.#connection?.query('ROLLBACK').catch(() => this.#leave());
        else this.#leave();
        if (!(error instanceof WrongRead) && attempt < ATTEMPTS) continue;
        this.#note(brokenAt);
        this.#fail(transaction, action, error as Error);
        return;
      }
    }
    this.#book.committed.push(transaction);
    this.#book.byAction[action] = (this.#book.byAction[action] ?? 0) + 1;
    this.#lastTransaction = transaction;
    settle?.();
  }

  #leave(): void {
    this.#connection?.destroy();
    this.#connection = null;
  }

  #fail(transaction: string, action: string, error: Error): void {
    const { code, message } = error as Error & { code?: string };
    this.#book.failures.push({
      transaction,
      action,
      message: code === undefined ? message : `${code} ${message}`,
      atMs: Date.now(),
    });
  }

  async #isThere(transaction: string): Promise<boolean> {
    const { rows } = await this.#ask('audited', { transaction: bytesOf(transaction) });
    return Number(rows[0]?.['n']) > 0;
  }

  readonly #ask: Ask = (name: StatementName, values) => this.#run(statement(name, this.#words), values);

  async #run(sql: string, values: Values = {}): Promise<Answer> {
    if (this.#connection === null) throw new Error('not connected');
    const begun = { atMs: Date.now(), from: performance.now() };
    try {
      const [result] = await this.#connection.query<mysql.RowDataPacket[] | mysql.ResultSetHeader>({
        sql,
        values,
      });
      if (Array.isArray(result)) return { rows: result, affected: 0, insertId: 0 };
      const { affectedRows, insertId } = result;
      return { rows: [], affected: affectedRows, insertId };
    } finally {
      this.#note(begun);
    }
  }

  /** From here until now a client waited. */
  #note({ atMs, from }: { readonly atMs: number; readonly from: number }): void {
    const ms = performance.now() - from;
    if (ms >= NOTED_MS) this.#book.waits.push({ atMs, ms });
  }
}

const bytesOf = (uuid: string): Buffer => Buffer.from(uuid.replaceAll('-', ''), 'hex');
