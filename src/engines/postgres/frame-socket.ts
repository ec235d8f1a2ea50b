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
  readonly #wire: Wire;
  readonly #handlers: ((chunk: Buffer) => void)[];

  /** `pg`'s parser must be between two messages: a query has just been answered and none is under way. */
  constructor(client: pg.Client, splitter: FrameSplitter, failed: (error: unknown) => void) {
    this.#wire = (client as unknown as { connection: Wire }).connection;
    const socket = this.#wire.stream;
    this.#handlers = socket.listeners('data') as ((chunk: Buffer) => void)[];
    socket.removeAllListeners('data');
    socket.on('data', (chunk: Buffer) => {
      this.lastReceivedMs = performance.now();
      if (this.#discard) return;
      try {
        splitter.push(chunk);
      } catch (error) {
        this.#discard = true;
        failed(error);
      }
    });
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

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    this.#wire.stream.resume();
  }

  /** Tells the server to end the session and waits until it did; cuts after `boundMs`. */
  async close(boundMs: number): Promise<void> {
    const socket = this.#wire.stream;
    this.#discard = true;
    this.paused = false;
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
