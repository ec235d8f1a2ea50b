import pg from 'pg';
import { VerdigrisError } from '../../core/errors.ts';
import type { Logger } from '../../core/log.ts';
import { translate } from './errors.ts';
import { FrameSocket } from './frame-socket.ts';
import { FrameSplitter, rowFrames, type FrameQueue } from './plugin-frames.ts';
import { formatLsn, maxLsn, minLsn, parseLsn } from './position.ts';
import type { QueryClient } from './source-client.ts';
import { copyName } from './source-names.ts';
import { HEAD } from './source-objects.ts';
import { ident } from './sql.ts';

export interface BacklogSettings {
  readonly slot: string;
  readonly publication: string;
  /** Bytes of log behind which the walsender takes over. */
  readonly restBytes: number;
}

export interface BacklogParts {
  readonly clientConfig: pg.ClientConfig;
  readonly queue: FrameQueue;
  /** For what is asked beside the messages: every row of the backlog's own connection is one. */
  readonly queries: QueryClient;
  readonly log: Logger;
  /** Messages were queued. */
  readonly data: () => void;
  /** Everything up to here was received. */
  readonly reached: (lsn: bigint) => void;
  /** What is durable on the sink. */
  readonly durable: () => bigint;
  /** Gives up what waits for the server while the copy is made. */
  readonly signal: AbortSignal;
  /** What arrives cannot be frames. */
  readonly failed: (error: unknown) => void;
}

/** Log that the first call decodes; each one after it takes twice as much, so that there is something to do soon. */
const FIRST_BYTES = 2 << 20;
/** What a call decodes later on. Its messages are held by the server until they are sent, and wait in the queue here. */
const CALL_BYTES = 32 << 20;
/**
 * A call begins to read where the oldest transaction began that was open at its start, or up to 15 s of log before it (that is how often the
 * server notes such a place). What it takes is three times what it has to read again, but never more than this; where that is not even as much
 * as is read again, the walsender, which reads it once, is the better reader.
 */
const MOST_BYTES = 512n << 20n;
/**
 * Bytes of log for one message, from which on the walsender reads as fast: what it does beside decoding is per message, and it sends while it
 * decodes, where a call does first the one and then the other.
 */
const LARGE_MESSAGE = 400;
/** How long making the copy may take; where it takes longer, the walsender is as quick. */
const OPEN_MS = 30_000;
/** Time between two advances of the slot to what is durable, so that the server may let go of log. */
const ADVANCE_MS = 10_000;
/** Moves slot `$1` forward to `$2`, if it is not there yet. */
const ADVANCE = `SELECT pg_catalog.pg_replication_slot_advance(slot_name, $2::pg_catalog.pg_lsn)
  FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND confirmed_flush_lsn < $2::pg_catalog.pg_lsn`;

/**
 * A backlog, read through `pg_logical_slot_get_binary_changes` on a temporary copy of the slot. The messages are those that a walsender sends,
 * for a fraction of the work: a walsender looks for an answer before each record and sends each message by itself (PostgreSQL 16: 150,000 small
 * transactions took 8.5 to 10.7 s of its CPU and 500,000 reads here, and 2.3 s and 5,000 reads this way). The slot itself stays where it is,
 * so that nothing is lost whatever happens to the copy, which lives as long as the session.
 */
export class Backlog {
  readonly #client: pg.Client;
  readonly #socket: FrameSocket;
  readonly #copy: string;
  readonly #settings: BacklogSettings;
  readonly #parts: BacklogParts;
  #position: bigint;
  #closed = false;
  #received = false;
  #advanced: bigint;
  #advancedMs = performance.now();
  #room: (() => void) | null = null;

  private constructor(
    client: pg.Client,
    copy: string,
    from: bigint,
    settings: BacklogSettings,
    parts: BacklogParts,
  ) {
    this.#client = client;
    this.#copy = copy;
    this.#position = from;
    this.#advanced = from;
    this.#settings = settings;
    this.#parts = parts;
    const splitter = new FrameSplitter(
      parts.queue,
      rowFrames({
        data: () => {
          this.#received = true;
          parts.data();
        },
        other: (frame) => this.#socket.pass(frame),
      }),
    );
    this.#socket = new FrameSocket(client, splitter, parts.failed);
  }

  /**
   * Makes the copy, at `from`. Null when the server does not let us have one (no slot is free, the function is not granted, somebody reads the
   * slot): then the walsender reads the backlog, and says what is wrong if something is.
   */
  static async open(from: bigint, settings: BacklogSettings, parts: BacklogParts): Promise<Backlog | null> {
    const { slot } = settings;
    const copy = copyName(slot);
    const client = new pg.Client(parts.clientConfig);
    client.on('error', () => undefined);
    // With a query running this cuts the connection, which fails the query.
    const cut = (): void => void client.end().catch(() => undefined);
    const late = setTimeout(cut, OPEN_MS);
    parts.signal.addEventListener('abort', cut, { once: true });
    try {
      await client.connect();
      // A reader of the slot under an older term is dealt with where the slot itself is opened.
      const made = await client.query(
        `SELECT pg_catalog.pg_copy_logical_replication_slot(slot_name, $2, true)
         FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND NOT active`,
        [slot, copy],
      );
      if (made.rows.length > 0) {
        await client.query(ADVANCE, [copy, formatLsn(from)]);
        return new Backlog(client, copy, from, settings, parts);
      }
    } catch (error) {
      parts.log.info(
        { slot, code: translate(error, 'source').code },
        'no temporary copy of the slot: the backlog is read through the slot itself',
      );
    } finally {
      clearTimeout(late);
      parts.signal.removeEventListener('abort', cut);
    }
    await client.end().catch(() => undefined);
    return null;
  }

  get paused(): boolean {
    return this.#socket.paused;
  }

  get lastReceivedMs(): number | null {
    return this.#socket.lastReceivedMs;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Something was taken out of the queue. */
  consumed(): void {
    if (this.#room !== null && this.#parts.queue.bytes < CALL_BYTES / 2) this.#room();
  }

  /**
   * Reads until the rest is small, or until the walsender is the better reader. Resolves with where that has to begin.
   * @throws what ended the connection inside of a result
   */
  async run(): Promise<bigint> {
    const { restBytes } = this.#settings;
    let least = FIRST_BYTES;
    let looked = await this.#look();
    while (!this.#closed) {
      const reread = this.#position - looked.restart;
      if (looked.head - this.#position < restBytes || reread > MOST_BYTES) break;
      const step = minLsn(maxLsn(3n * reread, BigInt(least)), MOST_BYTES);
      least = Math.min(CALL_BYTES, 2 * least);
      await this.#space();
      if (this.#closed) break;
      const messages = await this.#call(this.#position + step);
      if (messages === null) break;
      looked = await this.#look();
      const bytes = Number(looked.confirmed - this.#position);
      this.#position = looked.confirmed;
      this.#parts.reached(this.#position);
      if (messages > 0 && bytes >= LARGE_MESSAGE * messages) break;
      await this.#advance();
    }
    return this.#position;
  }

  /** Ends the session and with it the copy; cuts after `boundMs`. */
  async close(boundMs: number): Promise<void> {
    this.#closed = true;
    this.#room?.();
    await this.#socket.close(boundMs);
  }

  /** How many messages came; null when the server refused, with nothing received. */
  async #call(to: bigint): Promise<number | null> {
    this.#received = false;
    try {
      const { rowCount } = await this.#client.query({
        text: `SELECT data FROM pg_catalog.pg_logical_slot_get_binary_changes($1, $2, NULL,
          'proto_version', '1', 'publication_names', $3, 'messages', 'true')`,
        values: [this.#copy, formatLsn(to), ident(this.#settings.publication)],
        binary: true,
      } as pg.QueryConfig);
      return rowCount ?? 0;
    } catch (error) {
      if (this.#received || this.#closed) throw error;
      this.#parts.log.info(
        { slot: this.#settings.slot, code: translate(error, 'source').code },
        'the backlog is read through the slot itself from here on',
      );
      return null;
    }
  }

  /** Resolves when little enough is queued for another call. */
  async #space(): Promise<void> {
    if (this.#closed || this.#parts.queue.bytes < CALL_BYTES / 2) return;
    await new Promise<void>((resolve) => {
      this.#room = resolve;
    });
    this.#room = null;
  }

  /** Where the copy stands, how far back it has to read, and how far the log goes. */
  async #look(): Promise<{ confirmed: bigint; restart: bigint; head: bigint }> {
    const { rows } = await this.#parts.queries.run((client) =>
      client.query<{ confirmed: string; restart: string; head: string }>(
        `SELECT confirmed_flush_lsn::text AS confirmed, restart_lsn::text AS restart, ${HEAD} AS head
         FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`,
        [this.#copy],
      ),
    );
    const [row] = rows;
    if (row === undefined) {
      throw new VerdigrisError('SOURCE_LOST', `The temporary slot ${this.#copy} is gone with its session.`, {
        context: { slot: this.#copy },
      });
    }
    return { confirmed: parseLsn(row.confirmed), restart: parseLsn(row.restart), head: parseLsn(row.head) };
  }

  /** Tells the slot what is durable, now and then; what it refuses it is told again through the walsender. */
  async #advance(): Promise<void> {
    const durable = this.#parts.durable();
    if (durable <= this.#advanced || performance.now() - this.#advancedMs < ADVANCE_MS) return;
    this.#advancedMs = performance.now();
    const { slot } = this.#settings;
    try {
      await this.#parts.queries.run((client) => client.query(ADVANCE, [slot, formatLsn(durable)]));
      this.#advanced = durable;
    } catch (error) {
      this.#parts.log.debug({ slot, code: translate(error, 'source').code }, 'the slot was not advanced');
    }
  }
}
