import ZongJi from '@vlasky/zongji';
import type { ConnectionOptions, Connection } from 'mysql2';
import { idleBatch, type ChangeBatch } from '../../core/change.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { Logger } from '../../core/log.ts';
import type { Position } from '../../core/position.ts';
import type { ChangeStream } from '../../core/source.ts';
import type { Assembler } from './stream-assembler.ts';

export interface StreamSettings {
  readonly serverId: number;
  /** Bytes that may wait in memory before the socket is paused. */
  readonly queueBytes: number;
  /** Least time between two idle batches. */
  readonly idleIntervalMs: number;
  /** The server says that it is there when it has had nothing to send for so long. */
  readonly heartbeatMs: number;
}

export interface StreamParts {
  readonly connection: ConnectionOptions;
  readonly assembler: Assembler;
  readonly log: Logger;
  /** Makes an error of ours out of what ended the stream. */
  readonly explain: (error: unknown) => Promise<VerdigrisError>;
}

/** What of the library is used beside its documented interface; the package is pinned to one version. */
interface Library {
  connection: (Connection & { pause(): void; resume(): void }) | null;
  readonly useChecksum: boolean;
  BinlogClass: new (...parameters: never[]) => BinlogCommand;
}

interface BinlogPacket {
  readonly buffer: Buffer;
  readonly offset: number;
  readonly end: number;
  isEOF(): boolean;
  isError(): boolean;
}

interface BinlogCommand {
  start(packet: BinlogPacket, connection: unknown): unknown;
  binlogData(packet: BinlogPacket, connection: unknown): unknown;
}

/** Heartbeats that may fail to come before the connection counts as lost. */
const SILENT_HEARTBEATS = 5;
const CLOSE_MS = 3_000;

/**
 * One open stream. The library connects, speaks for either server and sends the dump command; from there on every packet comes to us
 * as it is, into a queue by which the socket is paused, and is decoded when the iterator asks.
 */
export class MysqlStream implements ChangeStream {
  readonly #settings: StreamSettings;
  readonly #parts: StreamParts;
  readonly #signal: AbortSignal;
  readonly #zongji: ZongJi;
  #lastReceivedMs: number | null = null;
  #lastIdleMs = performance.now();
  #handedOut: Position;
  #paused = false;
  #error: unknown = null;
  #closed = false;
  #closing: Promise<void> | null = null;
  #woken = false;
  #wakeup: (() => void) | null = null;
  #watch: NodeJS.Timeout | null = null;
  readonly #onAbort = (): void => this.#fail(this.#signal.reason);

  constructor(from: Position, settings: StreamSettings, parts: StreamParts, signal: AbortSignal) {
    this.#settings = settings;
    this.#parts = parts;
    this.#signal = signal;
    this.#handedOut = from;
    this.#zongji = new ZongJi(parts.connection as never);
  }

  get checksums(): boolean {
    return this.#library.useChecksum;
  }

  get queued(): number {
    return this.#parts.assembler.queued;
  }

  get lastReceivedMs(): number | null {
    return this.#lastReceivedMs;
  }

  get received(): Position {
    return this.#parts.assembler.position;
  }

  /** The server keeps its log by time and space, whatever a reader says. */
  ack(_durable: Position): void {
    return;
  }

  /** Resolves when the server has accepted the command and sent its first packet. */
  async start(from: Position): Promise<void> {
    this.#signal.throwIfAborted();
    this.#signal.addEventListener('abort', this.#onAbort, { once: true });
    try {
      await this.#subscribe(from);
    } catch (error) {
      await this[Symbol.asyncDispose]();
      throw error;
    }
    const { heartbeatMs } = this.#settings;
    this.#watch = setInterval(() => {
      const silent = performance.now() - (this.#lastReceivedMs ?? 0);
      // A socket that we do not read cannot bring a heartbeat.
      if (!this.#paused && silent > SILENT_HEARTBEATS * heartbeatMs)
        this.#fail(new VerdigrisError('SOURCE_LOST', 'The source has been silent for too long.'));
    }, heartbeatMs);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ChangeBatch, void, undefined> {
    try {
      for (;;) {
        const batch = await this.#next();
        if (batch === null) return;
        yield batch;
      }
    } finally {
      await this[Symbol.asyncDispose]();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  get #library(): Library {
    return this.#zongji as unknown as Library;
  }

  async #close(): Promise<void> {
    this.#closed = true;
    this.#wake();
    if (this.#watch !== null) clearInterval(this.#watch);
    this.#signal.removeEventListener('abort', this.#onAbort);
    await new Promise<void>((resolve) => {
      const late = setTimeout(resolve, CLOSE_MS);
      this.#zongji.once('stopped', () => {
        clearTimeout(late);
        resolve();
      });
      this.#zongji.stop();
    });
  }

  #subscribe(from: Position): Promise<void> {
    return new Promise((resolve, reject) => {
      let started = false;
      this.#signal.addEventListener('abort', () => reject(this.#signal.reason as Error), { once: true });
      this.#zongji.on('error', (error: unknown) => {
        if (this.#closed) return;
        void this.#parts
          .explain(error)
          .then((explained) => (started ? this.#fail(explained) : reject(explained)));
      });
      const take = (packet: BinlogPacket): void => {
        this.#receive(packet);
        started = true;
        resolve();
      };
      this.#zongji.on('ready', () => {
        const library = this.#library;
        const nanoseconds = this.#settings.heartbeatMs * 1_000_000;
        library.connection?.query(
          `SET @master_heartbeat_period = ${nanoseconds}, @source_heartbeat_period = ${nanoseconds}`,
        );
        const Command = library.BinlogClass;
        library.BinlogClass = class extends Command {
          // What a command returns is what it does with the next packet.
          readonly #again = (packet: BinlogPacket, connection: unknown): unknown =>
            this.binlogData(packet, connection);

          override start(packet: BinlogPacket, connection: unknown): unknown {
            super.start(packet, connection);
            return this.#again;
          }

          override binlogData(packet: BinlogPacket, connection: unknown): unknown {
            // The end and errors are the library's; every event is ours.
            if (packet.isEOF() || packet.isError()) return super.binlogData(packet, connection);
            take(packet);
            return this.#again;
          }
        };
      });
      this.#zongji.start({ serverId: this.#settings.serverId, gtidSet: from });
    });
  }

  #receive(packet: BinlogPacket): void {
    this.#lastReceivedMs = performance.now();
    // One status byte goes before the event.
    this.#parts.assembler.push(packet.buffer.subarray(packet.offset + 1, packet.end));
    if (!this.#paused && this.#parts.assembler.waiting > this.#settings.queueBytes) {
      this.#paused = true;
      this.#library.connection?.pause();
    }
    this.#wake();
  }

  async #next(): Promise<ChangeBatch | null> {
    for (;;) {
      if (this.#closed) return null;
      if (this.#error !== null) throw this.#error;
      this.#woken = false;
      const batch = await this.#parts.assembler.next();
      if (this.#paused && this.#parts.assembler.waiting < this.#settings.queueBytes / 2) {
        this.#paused = false;
        this.#lastReceivedMs = performance.now();
        this.#library.connection?.resume();
      }
      if (batch !== null) {
        if (batch.end !== null) this.#handedOut = batch.end;
        return batch;
      }
      const wait = this.#idle();
      if (typeof wait !== 'number') return wait;
      await this.#sleep(wait);
    }
  }

  /** A batch with nothing but a position, or the time to wait for one. */
  #idle(): ChangeBatch | number {
    const { assembler } = this.#parts;
    const due = this.#lastIdleMs + this.#settings.idleIntervalMs - performance.now();
    if (assembler.open || assembler.position === this.#handedOut) return 60_000;
    if (due > 0) return due;
    this.#lastIdleMs = performance.now();
    this.#handedOut = assembler.position;
    return idleBatch(assembler.position);
  }

  /** The first failure counts: the iterator throws it, and nothing more is handed out. */
  #fail(error: unknown): void {
    this.#error ??= error ?? new VerdigrisError('INTERRUPTED', 'The stream was cancelled.');
    this.#wake();
  }

  #wake(): void {
    this.#woken = true;
    this.#wakeup?.();
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      if (this.#woken) {
        resolve();
        return;
      }
      const done = (): void => {
        clearTimeout(timer);
        this.#wakeup = null;
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#wakeup = done;
    });
  }
}
