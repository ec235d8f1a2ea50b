import { setImmediate as turn } from 'node:timers/promises';
import { LogicalReplicationService } from 'pg-logical-replication';
import type pg from 'pg';
import { idleBatch, type ChangeBatch } from '../../core/change.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { Logger } from '../../core/log.ts';
import type { Position } from '../../core/position.ts';
import type { ChangeStream } from '../../core/source.ts';
import { translate } from './errors.ts';
import { FrameQueue } from './plugin-frames.ts';
import { PgoutputTakeover } from './plugin.ts';
import { formatLsn, parseLsn } from './position.ts';
import type { QueryClient } from './source-client.ts';
import type { Spool } from './spool.ts';
import { Assembler } from './stream-assembler.ts';
import { Backlog } from './stream-backlog.ts';
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
  /** Bytes of log behind which a backlog is left to the walsender. */
  readonly restBytes: number;
}

export interface StreamParts {
  readonly clientConfig: pg.ClientConfig;
  /** Connection for a backlog; null when there is none to speak of. */
  readonly backlogConfig: pg.ClientConfig | null;
  readonly queries: QueryClient;
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
  readonly #queue = new FrameQueue();
  readonly #plugin: PgoutputTakeover;
  #backlog: Backlog | null = null;
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
      this.#queue,
      {
        // A keepalive may make an idle batch possible, and one that asks makes it due.
        keepalive: (walEnd, reply) => {
          this.#pulse.keepalive(walEnd, reply);
          this.#wake();
        },
        data: (lsn) => {
          this.#pulse.data(lsn);
          this.#queued(this.#plugin);
        },
      },
      (error) => this.#fail(error),
    );
    this.#pulse = new Pulse(this.#from, this.#plugin, (error) => this.#fail(error));
    this.#assembler = new Assembler({
      queue: this.#queue,
      relations: parts.relations,
      spool: parts.spool,
      migration: settings.migration,
      direction: settings.direction,
      from: this.#from,
      maxBatchBytes: settings.maxBatchBytes,
      consumed: () => {
        const reader = this.#backlog ?? this.#plugin;
        if (reader.paused && this.#queue.bytes < settings.queueBytes / 2) reader.resume();
      },
      quiet: (endLsn) => this.#pulse.quiet(endLsn),
    });
  }

  /** Resolves when the server has started to send, or is about to read a backlog. */
  async start(): Promise<void> {
    this.#signal.throwIfAborted();
    this.#signal.addEventListener('abort', this.#onAbort, { once: true });
    try {
      await this.#parts.spool.clear();
      this.#backlog = await this.#openBacklog();
      this.#signal.throwIfAborted();
      if (this.#backlog === null) await this.#subscribe(this.#from);
      else void this.#catchUp(this.#backlog);
    } catch (error) {
      this.#closed = true;
      this.#signal.removeEventListener('abort', this.#onAbort);
      await Promise.all([this.#backlog?.close(CLOSE_MS), this.#plugin.close(CLOSE_MS)]);
      await this.#service.destroy().catch(() => undefined);
      throw error;
    }
    this.#pollTimer = setInterval(() => void this.#poll(), this.#settings.pollIntervalMs);
  }

  get queued(): number {
    return this.#queue.bytes + this.#assembler.bytes;
  }

  get lastReceivedMs(): number | null {
    return (this.#backlog ?? this.#plugin).lastReceivedMs;
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
    await Promise.all([this.#backlog?.close(CLOSE_MS), this.#plugin.close(CLOSE_MS)]);
    await this.#service.destroy().catch(() => undefined);
    await this.#parts.spool[Symbol.asyncDispose]();
  }

  async #openBacklog(): Promise<Backlog | null> {
    const { backlogConfig, queries, log } = this.#parts;
    if (backlogConfig === null) return null;
    const { slot, publication, restBytes } = this.#settings;
    return await Backlog.open(this.#from, {
      slot,
      publication,
      restBytes,
      clientConfig: backlogConfig,
      queue: this.#queue,
      queries,
      log,
      data: () => {
        if (this.#backlog !== null) this.#queued(this.#backlog);
      },
      reached: (lsn) => {
        this.#pulse.data(lsn);
        this.#pulse.quiet(lsn);
        this.#wake();
      },
      durable: () => this.#pulse.durable,
      signal: this.#signal,
      failed: (error) => this.#fail(error),
    });
  }

  /** Reads the backlog to its end and goes on with the slot from there. */
  async #catchUp(backlog: Backlog): Promise<void> {
    try {
      const reached = await backlog.run();
      await backlog.close(CLOSE_MS);
      if (this.#closed) return;
      this.#backlog = null;
      await this.#subscribe(reached);
    } catch (error) {
      if (!this.#closed) this.#fail(await this.#parts.explain(error));
    }
  }

  #queued(reader: { pause(): void }): void {
    if (this.#queue.bytes > this.#settings.queueBytes) reader.pause();
    this.#wake();
  }

  /** Resolves when the server has started to send. */
  #subscribe(from: bigint): Promise<void> {
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
        if (!this.#closed) this.#pulse.start();
        resolve();
      });
      // The same error also rejects the subscription; without a listener it would end the process.
      this.#service.on('error', () => undefined);
      this.#service
        .subscribe(
          this.#plugin as Parameters<LogicalReplicationService['subscribe']>[0],
          this.#settings.slot,
          formatLsn(from),
        )
        .then(() => failed(new VerdigrisError('SOURCE_LOST', 'The source ended the stream.')), failed);
    });
  }

  async #next(): Promise<ChangeBatch | null> {
    // What is queued is decoded without waiting for anything: first the rest of the process gets its turn, above all the sink's answer, so that
    // it has its next group as soon as it is free.
    if (!this.#queue.empty) await turn();
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
