import pg from 'pg';
import type { Logger } from '../../core/log.ts';
import { translate } from './errors.ts';
import { FrameSocket } from './frame-socket.ts';
import { FrameSplitter, rowFrames, type FrameQueue } from './plugin-frames.ts';
import { formatLsn } from './position.ts';
import { copyName } from './source-names.ts';
import { ident } from './sql.ts';

/** Of the session of a copy: a call takes as long as it takes, and ends when nobody is there any more. */
export const SLOT_COPY_SETTINGS = {
  statement_timeout: '0',
  client_connection_check_interval: '2s',
  // A notice comes before the result is there.
  client_min_messages: 'warning',
};

export interface SlotCopyParts {
  readonly slot: string;
  readonly publication: string;
  readonly clientConfig: pg.ClientConfig;
  readonly queue: FrameQueue;
  readonly log: Logger;
  /** Messages were queued. */
  readonly data: () => void;
  /** Gives up what waits for the server while the copy is made. */
  readonly signal: AbortSignal;
  /** What arrives cannot be frames. */
  readonly failed: (error: unknown) => void;
}

/** One result of a copy. */
export interface Call {
  /** The server has decoded all of it, or it is over. */
  readonly decoded: Promise<void>;
  /**
   * How many messages were queued; null when the server refused, with nothing received.
   * @throws what ended the connection inside of the result
   */
  readonly done: Promise<number | null>;
}

/** How long making the copy may take; where it takes longer, the walsender is as quick. */
const OPEN_MS = 30_000;

/** A temporary copy of a slot and the session that it lives in, which reads it in calls of `pg_logical_slot_get_binary_changes`. */
export class SlotCopy {
  readonly name: string;
  readonly #client: pg.Client;
  readonly #socket: FrameSocket;
  readonly #parts: SlotCopyParts;
  #closed = false;
  #received = false;

  private constructor(client: pg.Client, name: string, parts: SlotCopyParts) {
    this.#client = client;
    this.name = name;
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
   * Makes the copy, where the slot stands. Null when the server does not let us have one (no slot is free, the function is not granted, somebody
   * reads the slot): whoever opens the slot itself hears what is wrong, if something is.
   */
  static async open(parts: SlotCopyParts): Promise<SlotCopy | null> {
    const { slot, log, signal } = parts;
    const name = copyName(slot);
    const client = new pg.Client(parts.clientConfig);
    client.on('error', () => undefined);
    // With a query running this cuts the connection, which fails the query.
    const cut = (): void => void client.end().catch(() => undefined);
    const late = setTimeout(cut, OPEN_MS);
    signal.addEventListener('abort', cut, { once: true });
    try {
      await client.connect();
      // A reader of the slot under an older term is dealt with where the slot itself is opened.
      const made = await client.query(
        `SELECT pg_catalog.pg_copy_logical_replication_slot(slot_name, $2, true)
         FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND NOT active`,
        [slot, name],
      );
      if (made.rows.length > 0) return new SlotCopy(client, name, parts);
    } catch (error) {
      log.info({ slot, code: translate(error, 'source').code }, 'no temporary copy of the slot');
    } finally {
      clearTimeout(late);
      signal.removeEventListener('abort', cut);
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

  /** Moves it forward without reading. False when the server refused. */
  async advance(to: bigint): Promise<boolean> {
    // Its last messages may have filled the queue, which pauses.
    this.#socket.resume();
    try {
      // Each row of this connection is a message: this has none.
      await this.#client.query(
        'SELECT FROM pg_catalog.pg_replication_slot_advance($1, $2) AS moved WHERE moved.end_lsn IS NULL',
        [this.name, formatLsn(to)],
      );
      return true;
    } catch (error) {
      this.#refused(error);
      return false;
    }
  }

  /** Decodes up to `to` or a little more. The messages come with {@link release}. */
  call(to: bigint): Call {
    this.#received = false;
    const done = this.#read(to);
    // Nobody may be waiting for it yet when the connection ends.
    const over = done.then(
      () => undefined,
      () => undefined,
    );
    // Results are gathered before the first row is sent.
    return { decoded: Promise.race([this.#socket.hold(), over]), done };
  }

  /** Lets the messages of the call come. */
  release(): void {
    this.#socket.release();
  }

  /** Ends the session and with it the copy; cuts after `boundMs`. */
  async close(boundMs: number): Promise<void> {
    this.#closed = true;
    await this.#socket.close(boundMs);
  }

  async #read(to: bigint): Promise<number | null> {
    const { publication } = this.#parts;
    try {
      const { rowCount } = await this.#client.query({
        text: `SELECT data FROM pg_catalog.pg_logical_slot_get_binary_changes($1, $2, NULL,
          'proto_version', '1', 'publication_names', $3, 'messages', 'true')`,
        values: [this.name, formatLsn(to), ident(publication)],
        binary: true,
      } as pg.QueryConfig);
      return rowCount ?? 0;
    } catch (error) {
      if (this.#received || this.#closed) throw error;
      this.#refused(error);
      return null;
    }
  }

  #refused(error: unknown): void {
    const { slot, log } = this.#parts;
    const { code } = translate(error, 'source');
    log.info({ slot, code }, 'the backlog is read through the slot itself from here on');
  }
}
