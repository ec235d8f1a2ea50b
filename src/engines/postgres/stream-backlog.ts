import { VerdigrisError } from '../../core/errors.ts';
import { translate } from './errors.ts';
import { formatLsn, maxLsn, minLsn, parseLsn } from './position.ts';
import type { QueryClient } from './source-client.ts';
import { HEAD } from './source-objects.ts';
import { SlotCopy, type Call, type SlotCopyParts } from './stream-slot-copy.ts';

export interface BacklogParts extends SlotCopyParts {
  /** Bytes of log behind which the walsender takes over. */
  readonly restBytes: number;
  /** For what is asked beside the messages. */
  readonly queries: QueryClient;
  /** Everything up to here was received. */
  readonly reached: (lsn: bigint) => void;
  /** What is durable on the sink. */
  readonly durable: () => bigint;
}

/** Log that the first call decodes; each one after it takes twice as much, so that there is something to do soon. */
const FIRST_BYTES = 2 << 20;
/** What a call decodes later on. Its messages are held by the server until they are sent. */
const CALL_BYTES = 32 << 20;
/**
 * A call begins to read where the oldest transaction began that was open at its start, or up to 15 s of log before it (that is how often the
 * server notes such a place). What it takes is three times what it has to read again, but never more than this; where that is not even as much
 * as is read again, the walsender, which reads it once, is the better reader.
 */
const MOST_BYTES = 512n << 20n;
/**
 * Bytes of log for one message, from which on the walsender reads as fast: what it does beside decoding is per message, and it sends while it
 * decodes, where a call gathers its result first.
 */
const LARGE_MESSAGE = 400;
/** Time between two advances of the slot to what is durable, so that the server may let go of log. */
const ADVANCE_MS = 10_000;

/**
 * A backlog, read through `pg_logical_slot_get_binary_changes` on temporary copies of the slot. The messages are those that a walsender sends,
 * for a fraction of the work: a walsender looks for an answer before each record and sends each message by itself (PostgreSQL 16: 150,000 small
 * transactions took 8.5 to 10.7 s of its CPU and 500,000 reads here, and 2.3 s and 5,000 reads this way). The slot itself stays where it is,
 * so that nothing is lost whatever happens to a copy, which lives as long as its session.
 *
 * A call sends nothing before it has decoded everything. So there are two copies: one decodes while the messages of the other are sent.
 */
export class Backlog {
  readonly #parts: BacklogParts;
  /** Whose messages are sent. */
  #reader: SlotCopy;
  /** Which decodes meanwhile; null: there is none yet, or none to be had. */
  #spare: SlotCopy | null = null;
  #opening: Promise<void> | null = null;
  readonly #ending = new AbortController();
  /** Everything before was received. */
  #position: bigint;
  #least = FIRST_BYTES;
  #closed = false;
  #advanced: bigint;
  #advancedMs = performance.now();

  private constructor(from: bigint, copy: SlotCopy, parts: BacklogParts) {
    this.#position = from;
    this.#advanced = from;
    this.#reader = copy;
    this.#parts = parts;
  }

  /** Null when the server does not let us have a copy: then the walsender reads the backlog. */
  static async open(from: bigint, parts: BacklogParts): Promise<Backlog | null> {
    const copy = await SlotCopy.open(parts);
    return copy === null ? null : new Backlog(from, copy, parts);
  }

  get paused(): boolean {
    return this.#reader.paused;
  }

  get lastReceivedMs(): number | null {
    return this.#reader.lastReceivedMs;
  }

  pause(): void {
    this.#reader.pause();
  }

  resume(): void {
    this.#reader.resume();
  }

  /**
   * Reads until the rest is small, or until the walsender is the better reader. Resolves with where that has to begin.
   * @throws what ended a connection inside of a result
   */
  async run(): Promise<bigint> {
    let call = await this.#begin(this.#reader, this.#position);
    let small = false;
    while (call !== null) {
      await call.decoded;
      let end = (await this.#look(this.#reader)).confirmed;
      // A notice of the server looks like the begin of a result, but the copy moves at the end of one.
      const next: Promise<Call | null> | null =
        this.#spare !== null && small && end > this.#position ? this.#begin(this.#spare, end) : null;
      this.#reader.release();
      const [messages, ahead]: readonly [number | null, Call | null] = await Promise.all([call.done, next]);
      if (messages === null) break;
      if (end === this.#position) end = (await this.#look(this.#reader)).confirmed;
      const bytes = Number(end - this.#position);
      this.#position = end;
      this.#parts.reached(end);
      await this.#advance();
      if (messages > 0) small = bytes < LARGE_MESSAGE * messages;
      if (ahead !== null) [this.#reader, this.#spare] = [this.#spare as SlotCopy, this.#reader];
      else if (messages > 0 && !small) break;
      call = ahead ?? (await this.#begin(this.#reader, end));
      await (this.#opening ??= this.#openSpare());
    }
    return this.#position;
  }

  /** Ends the sessions and with them the copies; cuts after `boundMs`. */
  async close(boundMs: number): Promise<void> {
    this.#closed = true;
    this.#ending.abort();
    await Promise.all([this.#reader.close(boundMs), this.#spare?.close(boundMs), this.#opening]);
  }

  async #openSpare(): Promise<void> {
    const signal = AbortSignal.any([this.#parts.signal, this.#ending.signal]);
    const copy = await SlotCopy.open({ ...this.#parts, signal });
    if (this.#closed) await copy?.close(0);
    else this.#spare = copy;
  }

  /** Lets a copy decode what comes after `from`; null when there is no need. */
  async #begin(copy: SlotCopy, from: bigint): Promise<Call | null> {
    if (this.#closed || !(await copy.advance(from))) return null;
    const { restart, head } = await this.#look(copy);
    const reread = from - restart;
    if (this.#closed || head - from < this.#parts.restBytes || reread > MOST_BYTES) return null;
    const step = minLsn(maxLsn(3n * reread, BigInt(this.#least)), MOST_BYTES);
    this.#least = Math.min(CALL_BYTES, 2 * this.#least);
    return copy.call(from + step);
  }

  /** Where a copy stands, how far back it has to read, and how far the log goes. */
  async #look(copy: SlotCopy): Promise<{ confirmed: bigint; restart: bigint; head: bigint }> {
    const { rows } = await this.#parts.queries.run((client) =>
      client.query<{ confirmed: string; restart: string; head: string }>(
        `SELECT confirmed_flush_lsn::text AS confirmed, restart_lsn::text AS restart, ${HEAD} AS head
         FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`,
        [copy.name],
      ),
    );
    const [row] = rows;
    if (row === undefined) {
      throw new VerdigrisError('SOURCE_LOST', `The temporary slot ${copy.name} is gone with its session.`, {
        context: { slot: copy.name },
      });
    }
    return { confirmed: parseLsn(row.confirmed), restart: parseLsn(row.restart), head: parseLsn(row.head) };
  }

  /** Tells the slot what is durable, now and then; what it refuses it is told again through the walsender. */
  async #advance(): Promise<void> {
    const { slot, log, queries } = this.#parts;
    const durable = this.#parts.durable();
    if (durable <= this.#advanced || performance.now() - this.#advancedMs < ADVANCE_MS) return;
    this.#advancedMs = performance.now();
    try {
      await queries.run((client) =>
        client.query(
          `SELECT pg_catalog.pg_replication_slot_advance(slot_name, $2::pg_catalog.pg_lsn)
           FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND confirmed_flush_lsn < $2::pg_catalog.pg_lsn`,
          [slot, formatLsn(durable)],
        ),
      );
      this.#advanced = durable;
    } catch (error) {
      log.debug({ slot, code: translate(error, 'source').code }, 'the slot was not advanced');
    }
  }
}
