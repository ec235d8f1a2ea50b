import type { Socket } from 'node:net';
import type pg from 'pg';
import { FrameQueue, type FrameListener } from './plugin-frames.ts';
import { ident } from './sql.ts';

export interface PluginOptions {
  readonly publication: string;
  /** Protocol 2: large transactions arrive while they are still in progress. */
  readonly streaming: boolean;
}

/** What `pg` keeps under its client: the same connection for queries and for replication. */
interface Wire {
  readonly stream: Socket;
  sendCopyFromChunk(chunk: Buffer): void;
  end(): void;
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
  readonly #listener: FrameListener;
  readonly #failed: (error: unknown) => void;
  #wire: Wire | null = null;
  #original: ((chunk: Buffer) => void)[] = [];
  /** The server's wal_sender_timeout for this connection; 0: none. */
  timeoutMs = 0;
  paused = false;
  /** The stream is over: what still arrives is dropped. */
  #discard = false;
  /** Monotonic ms of the last byte of any kind. */
  lastReceivedMs: number | null = null;

  constructor(
    options: PluginOptions,
    listener: Omit<FrameListener, 'other'>,
    failed: (error: unknown) => void,
  ) {
    this.options = options;
    this.#failed = failed;
    this.#listener = {
      keepalive: (walEnd, reply) => listener.keepalive(walEnd, reply),
      data: (lsn) => listener.data(lsn),
      other: (frame) => {
        for (const handler of this.#original) handler(frame);
      },
    };
    this.queue = new FrameQueue(this.#listener);
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
    this.#takeOver((client as unknown as { connection: Wire }).connection);
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
    if (this.#wire === null || !this.#wire.stream.writable) return false;
    this.#wire.sendCopyFromChunk(status);
    return true;
  }

  pause(): void {
    if (this.paused || this.#wire === null) return;
    this.paused = true;
    this.#wire.stream.pause();
  }

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    this.#wire?.stream.resume();
  }

  /** Tells the server to end the session and waits, so that the slot is free when it resolves; cuts after `boundMs`. */
  async close(boundMs: number): Promise<void> {
    const socket = this.#wire?.stream;
    this.queue.clear();
    if (socket === undefined) return;
    this.#discard = true;
    this.paused = false;
    socket.resume();
    if (socket.destroyed) return;
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    // Not client.end(): with a query running it cuts the socket at once, and the server would notice late.
    this.#wire?.end();
    const cut = setTimeout(() => socket.destroy(), boundMs);
    await closed;
    clearTimeout(cut);
  }

  /** Cuts the connection without a word: for a peer that does not answer. */
  cut(): void {
    this.#discard = true;
    this.#wire?.stream.destroy();
  }

  /** pg's parser is between two messages here: it has just answered the query above. */
  #takeOver(wire: Wire): void {
    this.#wire = wire;
    const socket = wire.stream;
    this.#original = socket.listeners('data') as ((chunk: Buffer) => void)[];
    socket.removeAllListeners('data');
    socket.on('data', (chunk: Buffer) => {
      this.lastReceivedMs = performance.now();
      if (this.#discard) return;
      try {
        this.queue.push(chunk);
      } catch (error) {
        this.#discard = true;
        this.#failed(error);
      }
    });
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
