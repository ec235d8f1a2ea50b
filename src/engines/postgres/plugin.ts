import type pg from 'pg';
import { FrameSocket } from './frame-socket.ts';
import { FrameSplitter, replicationFrames, type FrameListener, type FrameQueue } from './plugin-frames.ts';
import { ident } from './sql.ts';

export interface PluginOptions {
  readonly publication: string;
  /** Protocol 2: large transactions arrive while they are still in progress. */
  readonly streaming: boolean;
}

/**
 * Our output plugin for pg-logical-replication: it asks for pgoutput with exact options, and takes CopyData over from the socket. The
 * library would give one event, one string position and one confirmed position (plus one) per message; here whole chunks are queued,
 * keepalives are seen on arrival, and everything else of the protocol still goes to `pg`.
 */
export class PgoutputTakeover {
  readonly name = 'pgoutput';
  readonly options: PluginOptions;
  readonly queue: FrameQueue;
  readonly #splitter: FrameSplitter;
  readonly #failed: (error: unknown) => void;
  #socket: FrameSocket | null = null;
  /** The server's wal_sender_timeout for this connection; 0: none. */
  timeoutMs = 0;

  constructor(
    options: PluginOptions,
    queue: FrameQueue,
    listener: Omit<FrameListener, 'other'>,
    failed: (error: unknown) => void,
  ) {
    this.options = options;
    this.queue = queue;
    this.#failed = failed;
    this.#splitter = new FrameSplitter(
      queue,
      replicationFrames({ ...listener, other: (frame) => this.#socket?.pass(frame) }),
    );
  }

  get paused(): boolean {
    return this.#socket?.paused === true;
  }

  get lastReceivedMs(): number | null {
    return this.#socket?.lastReceivedMs ?? null;
  }

  /** Called by the library with a connected client; resolves or rejects when the stream ends. */
  async start(client: pg.Client, slot: string, lastLsn: string): Promise<unknown> {
    const timeout = await client.query<{ wal_sender_timeout: string }>('SHOW wal_sender_timeout');
    this.timeoutMs = settingMs(timeout.rows[0]?.wal_sender_timeout ?? '60s');
    const { publication, streaming } = this.options;
    const options = [
      `proto_version '${streaming ? 2 : 1}'`,
      `publication_names ${replicationLiteral(ident(publication))}`,
      `messages 'true'`,
      ...(streaming ? [`streaming 'true'`] : []),
    ];
    // pg has just answered the query above, so its parser is between two messages.
    this.#socket = new FrameSocket(client, this.#splitter, this.#failed);
    return await client.query(
      `START_REPLICATION SLOT ${ident(slot)} LOGICAL ${lastLsn} (${options.join(', ')})`,
    );
  }

  /** Only for the library's shape check: log data never reaches its parser. */
  parse(buffer: Buffer): Buffer {
    return buffer;
  }

  /** False when the connection cannot be written to. */
  send(status: Buffer): boolean {
    return this.#socket?.send(status) === true;
  }

  pause(): void {
    this.#socket?.pause();
  }

  resume(): void {
    this.#socket?.resume();
  }

  /** Tells the server to end the session and waits, so that the slot is free when it resolves; cuts after `boundMs`. */
  async close(boundMs: number): Promise<void> {
    this.queue.clear();
    await this.#socket?.close(boundMs);
  }

  /** Cuts the connection without a word: for a peer that does not answer. */
  cut(): void {
    this.#socket?.cut();
  }
}

/** The replication grammar knows no E'' literals; a backslash is a plain character in it. */
const replicationLiteral = (text: string): string => `'${text.replaceAll("'", "''")}'`;

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 };

/** `SHOW` of a setting in milliseconds: `0`, `500ms`, `1min`. */
export function settingMs(text: string): number {
  const match = /^(\d+)\s*(ms|s|min|h|d)?$/.exec(text.trim());
  return match === null ? 60_000 : Number(match[1]) * (UNITS[match[2] ?? 'ms'] ?? 1);
}
