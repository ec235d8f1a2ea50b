import type { Socket } from 'node:net';
import type pg from 'pg';
import type { FrameSplitter } from './plugin-frames.ts';

/** What `pg` keeps under its client: the same connection for queries and for replication. */
interface Wire {
  readonly stream: Socket;
  sendCopyFromChunk(chunk: Buffer): void;
  end(): void;
}

/** The bytes of a connection of `pg`, taken over: chunks are split into frames here, and what is no log data goes back to `pg`'s own parser. */
export class FrameSocket {
  paused = false;
  /** The stream is over: what still arrives is dropped. */
  #discard = false;
  /** Monotonic ms of the last byte of any kind. */
  lastReceivedMs: number | null = null;
  /** Chunks kept back, and who waits for the first of them; null: they are split as they come. */
  #held: { chunks: Buffer[]; first: () => void } | null = null;
  readonly #splitter: FrameSplitter;
  readonly #failed: (error: unknown) => void;
  readonly #wire: Wire;
  readonly #handlers: ((chunk: Buffer) => void)[];

  /** `pg`'s parser must be between two messages: a query has just been answered and none is under way. */
  constructor(client: pg.Client, splitter: FrameSplitter, failed: (error: unknown) => void) {
    this.#wire = (client as unknown as { connection: Wire }).connection;
    this.#splitter = splitter;
    this.#failed = failed;
    const socket = this.#wire.stream;
    this.#handlers = socket.listeners('data') as ((chunk: Buffer) => void)[];
    socket.removeAllListeners('data');
    socket.on('data', (chunk: Buffer) => {
      this.lastReceivedMs = performance.now();
      if (this.#held === null) this.#split(chunk);
      else {
        this.#held.chunks.push(chunk);
        this.pause();
        this.#held.first();
      }
    });
  }

  #split(chunk: Buffer): void {
    if (this.#discard) return;
    try {
      this.#splitter.push(chunk);
    } catch (error) {
      this.#discard = true;
      this.#failed(error);
    }
  }

  /** Keeps back what arrives, and pauses with the first of it. Resolves then. */
  hold(): Promise<void> {
    return new Promise((resolve) => {
      this.#held = { chunks: [], first: resolve };
    });
  }

  /** Lets go of what {@link hold} kept back; drops it where the connection has ended, for whoever asked was told that nothing came. */
  release(): void {
    if (this.#wire.stream.destroyed) this.#discard = true;
    const chunks = this.#held?.chunks ?? [];
    this.#held = null;
    this.resume();
    for (const chunk of chunks) this.#split(chunk);
  }

  /** Gives a frame to `pg`. */
  readonly pass = (frame: Buffer): void => {
    for (const handler of this.#handlers) handler(frame);
  };

  /** False when the connection cannot be written to. */
  send(data: Buffer): boolean {
    if (!this.#wire.stream.writable) return false;
    this.#wire.sendCopyFromChunk(data);
    return true;
  }

  pause(): void {
    if (this.paused) return;
    this.paused = true;
    this.#wire.stream.pause();
  }

  /** Nothing, where something is held: that waits for {@link release}. */
  resume(): void {
    if (!this.paused || (this.#held?.chunks.length ?? 0) > 0) return;
    this.paused = false;
    this.#wire.stream.resume();
  }

  /** Tells the server to end the session and waits until it did; cuts after `boundMs`. */
  async close(boundMs: number): Promise<void> {
    const socket = this.#wire.stream;
    this.#discard = true;
    this.release();
    socket.resume();
    if (socket.destroyed) return;
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    // Not client.end(): with a query running it cuts the socket at once, and the server would notice late.
    this.#wire.end();
    const cut = setTimeout(() => socket.destroy(), boundMs);
    await closed;
    clearTimeout(cut);
  }

  /** Cuts the connection without a word: for a peer that does not answer. */
  cut(): void {
    this.#discard = true;
    this.#wire.stream.destroy();
  }
}
