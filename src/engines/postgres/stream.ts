import { setImmediate as turn } from 'node:timers/promises';
import { LogicalReplicationService } from 'pg-logical-replication';
import type pg from 'pg';
import { idleBatch, type ChangeBatch } from '../../core/change.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { Logger } from '../../core/log.ts';
import type { Position } from '../../core/position.ts';
import type { ChangeStream } from '../../core/source.ts';
import { translate } from './errors.ts';
import { PgoutputTakeover } from './plugin.ts';
import { formatLsn, parseLsn } from './position.ts';
import type { Spool } from './spool.ts';
import { Assembler } from './stream-assembler.ts';
import { Pulse } from './stream-pulse.ts';
import type { RelationMap } from './stream-relations.ts';

export interface StreamSettings {
  readonly migration: string;
  readonly direction: 'forward' | 'reverse';
  readonly slot: string;
  readonly publication: string;
  readonly streaming: boolean;
  readonly maxBatchBytes: number;
  /** Bytes that may wait in memory before the socket is paused. */
  readonly queueBytes: number;
  /** Least time between two idle batches. */
  readonly idleIntervalMs: number;
  /** Time between two looks at slot and publication. */
  readonly pollIntervalMs: number;
}

export interface StreamParts {
  readonly clientConfig: pg.ClientConfig;
  readonly relations: RelationMap;
  readonly spool: Spool;
  readonly log: Logger;
  /** Looks at slot and publication; a fatal error ends the stream. */
  readonly poll: () => Promise<void>;
  /** Makes an error of ours out of what ended the connection. */
  readonly explain: (error: unknown) => Promise<VerdigrisError>;
}

/** Polls that may fail one after the other (the server is busy, a connection was refused) before the stream ends. */
const POLL_FAILURES = 6;
const CLOSE_MS = 5_000;
const NOTHING_MS = 60_000;

/**
 * One open stream. Three things run beside each other and never wait for one another: the socket fills the queue and is paused by bytes;
 * a timer sends status messages with the acknowledged position; the iterator decodes the queue when the consumer asks.
 */
export class PostgresStream implements ChangeStream {
  readonly #settings: StreamSettings;
  readonly #parts: StreamParts;
  readonly #signal: AbortSignal;
  readonly #service: LogicalReplicationService;
  readonly #plugin: PgoutputTakeover;
  readonly #from: bigint;
  readonly #pulse: Pulse;
  readonly #assembler: Assembler;
  #lastIdleMs = performance.now();
  #pollFailures = 0;
  #polling = false;
  #error: unknown = null;
  #closed = false;
  #closing: Promise<void> | null = null;
  #woken = false;
  #wakeup: (() => void) | null = null;
  #pollTimer: NodeJS.Timeout | null = null;
  readonly #onAbort = (): void => this.#fail(this.#signal.reason);

  constructor(from: Position, settings: StreamSettings, parts: StreamParts, signal: AbortSignal) {
    this.#settings = settings;
    this.#parts = parts;
    this.#signal = signal;
    this.#from = parseLsn(from);
    this.#service = new LogicalReplicationService(parts.clientConfig, {
      acknowledge: { auto: false, timeoutSeconds: 0 },
      flowControl: { enabled: false },
    });
    this.#plugin = new PgoutputTakeover(
      { publication: settings.publication, streaming: settings.streaming },
      {
        // A keepalive may make an idle batch possible, and one that asks makes it due.
        keepalive: (walEnd, reply) => {
          this.#pulse.keepalive(walEnd, reply);
          this.#wake();
        },
        data: (lsn) => {
          this.#pulse.data(lsn);
          if (this.#plugin.queue.bytes > settings.queueBytes) this.#plugin.pause();
          this.#wake();
        },
      },
      (error) => this.#fail(error),
    );
    this.#pulse = new Pulse(this.#from, this.#plugin, (error) => this.#fail(error));
    this.#assembler = new Assembler({
      queue: this.#plugin.queue,
      relations: parts.relations,
      spool: parts.spool,
      migration: settings.migration,
      direction: settings.direction,
      from: this.#from,
      maxBatchBytes: settings.maxBatchBytes,
      consumed: () => {
        if (this.#plugin.paused && this.#plugin.queue.bytes < settings.queueBytes / 2) this.#plugin.resume();
      },
      quiet: (endLsn) => this.#pulse.quiet(endLsn),
    });
  }

  /** Resolves when the server has started to send. */
  async start(): Promise<void> {
    this.#signal.throwIfAborted();
    this.#signal.addEventListener('abort', this.#onAbort, { once: true });
    try {
      await this.#parts.spool.clear();
      await this.#subscribe();
    } catch (error) {
      this.#closed = true;
      this.#signal.removeEventListener('abort', this.#onAbort);
      await this.#plugin.close(CLOSE_MS);
      await this.#service.destroy().catch(() => undefined);
      throw error;
    }
    this.#pollTimer = setInterval(() => void this.#poll(), this.#settings.pollIntervalMs);
    this.#pulse.start();
  }

  get queued(): number {
    return this.#plugin.queue.bytes + this.#assembler.bytes;
  }

  get lastReceivedMs(): number | null {
    return this.#plugin.lastReceivedMs;
  }

  get received(): Position {
    return formatLsn(this.#pulse.received);
  }

  ack(durable: Position): void {
    try {
      this.#pulse.ack(parseLsn(durable));
    } catch (error) {
      this.#fail(error);
    }
    this.#wake();
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

  async #close(): Promise<void> {
    this.#closed = true;
    this.#wake();
    if (this.#pollTimer !== null) clearInterval(this.#pollTimer);
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#pulse.stop();
    await this.#plugin.close(CLOSE_MS);
    await this.#service.destroy().catch(() => undefined);
    await this.#parts.spool[Symbol.asyncDispose]();
  }

  #subscribe(): Promise<void> {
    return new Promise((resolve, reject) => {
      let started = false;
      this.#signal.addEventListener('abort', () => reject(this.#signal.reason), { once: true });
      const failed = (error: unknown): void => {
        if (this.#closed) return;
        void this.#parts
          .explain(error)
          .then((explained) => (started ? this.#fail(explained) : reject(explained)));
      };
      this.#service.on('start', () => {
        started = true;
        resolve();
      });
      // The same error also rejects the subscription; without a listener it would end the process.
      this.#service.on('error', () => undefined);
      this.#service
        .subscribe(
          this.#plugin as Parameters<LogicalReplicationService['subscribe']>[0],
          this.#settings.slot,
          formatLsn(this.#from),
        )
        .then(() => failed(new VerdigrisError('SOURCE_LOST', 'The source ended the stream.')), failed);
    });
  }

  async #next(): Promise<ChangeBatch | null> {
    // What is queued is decoded without waiting for anything: first the rest of the process gets its turn, above all the sink's answer, so that
    // it has its next group as soon as it is free.
    if (!this.#plugin.queue.empty) await turn();
    for (;;) {
      if (this.#closed) return null;
      if (this.#error !== null) throw this.#error;
      this.#woken = false;
      const batch = await this.#assemble();
      if (batch !== null) return this.#handOut(batch);
      const wait = this.#idle();
      if (typeof wait !== 'number') return this.#handOut(wait);
      await this.#sleep(wait);
    }
  }

  async #assemble(): Promise<ChangeBatch | null> {
    try {
      return await this.#assembler.next();
    } catch (error) {
      // Closing takes the spool away under a reader that nobody waits for any more.
      if (this.#closed) return null;
      throw translate(error, 'source');
    }
  }

  #handOut(batch: ChangeBatch): ChangeBatch {
    this.#pulse.handOut(batch);
    if (batch.idle) this.#lastIdleMs = performance.now();
    return batch;
  }

  /** An idle batch, or the time to wait for one. */
  #idle(): ChangeBatch | number {
    const position = this.#pulse.idlePosition(this.#assembler.open);
    // Whatever can change this wakes the iterator.
    if (position === null) return NOTHING_MS;
    const due = this.#lastIdleMs + this.#settings.idleIntervalMs - performance.now();
    return this.#pulse.asked || due <= 0 ? idleBatch(formatLsn(position)) : due;
  }

  async #poll(): Promise<void> {
    if (this.#polling || this.#closed || this.#error !== null) return;
    this.#polling = true;
    try {
      await this.#parts.poll();
      this.#pollFailures = 0;
    } catch (error) {
      const fatal = error instanceof VerdigrisError && error.directive === 'fatal';
      this.#pollFailures++;
      if (fatal || this.#pollFailures >= POLL_FAILURES) this.#fail(error);
      else this.#parts.log.warn({ failures: this.#pollFailures }, 'the state of the slot could not be read');
    } finally {
      this.#polling = false;
    }
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

  /** Until something happens; at once when it happened since the iterator last looked. */
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
