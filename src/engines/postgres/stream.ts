import { LogicalReplicationService } from 'pg-logical-replication';
import type pg from 'pg';
import type { ChangeBatch } from '../../core/change.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { Logger } from '../../core/log.ts';
import type { Position } from '../../core/position.ts';
import type { ChangeStream } from '../../core/source.ts';
import { Decoder } from './decoder.ts';
import { translate } from './errors.ts';
import type { Message, RelationMessage, RowMessage } from './decoder-messages.ts';
import { PgoutputTakeover } from './plugin.ts';
import { formatLsn, parseLsn } from './position.ts';
import { MARK_PREFIX, markLabel } from './source-mark.ts';
import type { Spool, SpoolReader } from './spool.ts';
import { BatchBuilder, idleBatch } from './stream-batch.ts';
import { Pulse } from './stream-pulse.ts';
import type { RelationMap } from './stream-relations.ts';

export interface StreamSettings {
  readonly migration: string;
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
  readonly #decoder = new Decoder();
  readonly #builder = new BatchBuilder();
  readonly #from: bigint;
  readonly #pulse: Pulse;
  #ready: ChangeBatch[] = [];
  /** What has to happen before decoding goes on. */
  #work: (() => Promise<void>) | null = null;
  /** The in-progress transaction whose block is being received. */
  #block: number | null = null;
  #replay: { readonly reader: SpoolReader; readonly xid: number; readonly endLsn: bigint } | null = null;
  /** The transaction was already applied before this stream began. */
  #skipping = false;
  #lastIdleMs = performance.now();
  #pollFailures = 0;
  #polling = false;
  #error: unknown = null;
  #closed = false;
  #closing: Promise<void> | null = null;
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
    return this.#plugin.queue.bytes + this.#builder.bytes;
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
    for (;;) {
      if (this.#closed) return null;
      if (this.#error !== null) throw this.#error;
      const batch = this.#ready.shift() ?? (this.#work === null ? this.#consume() : null);
      if (batch !== null) return this.#handOut(batch);
      if (this.#work !== null) {
        const work = this.#work;
        this.#work = null;
        try {
          await work();
        } catch (error) {
          throw translate(error, 'source');
        }
        continue;
      }
      const wait = this.#idle();
      if (typeof wait !== 'number') return this.#handOut(wait);
      await this.#sleep(wait);
    }
  }

  #handOut(batch: ChangeBatch): ChangeBatch {
    this.#pulse.handOut(batch);
    if (batch.idle) this.#lastIdleMs = performance.now();
    return batch;
  }

  /** Decodes what is queued until a batch is full or nothing is left. */
  #consume(): ChangeBatch | null {
    const { maxBatchBytes } = this.#settings;
    const builder = this.#builder;
    const queue = this.#plugin.queue;
    for (;;) {
      const replay = this.#replay;
      if (replay !== null) {
        if (!replay.reader.next()) {
          this.#work = () => this.#continueReplay();
          return null;
        }
        const { buffer, start, end } = replay.reader;
        builder.count(end - start);
        this.#apply(this.#decoder.decode(buffer, start, end));
      } else {
        if (!queue.next()) {
          this.#plugin.resume();
          return builder.takeWhole();
        }
        if (this.#plugin.paused && queue.bytes < this.#settings.queueBytes / 2) this.#plugin.resume();
        this.#receive(queue.buffer, queue.start, queue.end);
      }
      if (this.#work !== null) return null;
      if (builder.bytes >= maxBatchBytes) {
        const batch = builder.takeWhole() ?? builder.takePart();
        if (batch !== null) return batch;
      }
    }
  }

  #receive(buffer: Buffer, start: number, end: number): void {
    if (this.#block !== null && buffer[start] !== 0x45) {
      this.#spoolMessage(this.#block, buffer, start, end);
      return;
    }
    const message = this.#decoder.decode(buffer, start, end);
    if (message.kind === 'begin') this.#begin(message.xid, message.commitLsn, message.commitMs);
    this.#builder.count(end - start);
    if (message.kind !== 'begin') this.#apply(message);
  }

  #begin(xid: number, commitLsn: bigint, commitMs: number): void {
    if (this.#builder.inTransaction) protocol('a transaction inside a transaction');
    // Commit records before our position were applied already; a slot restored from disk may be older than what it was told.
    this.#skipping = commitLsn < this.#from;
    this.#builder.begin(String(xid), commitLsn, commitMs);
  }

  #commit(endLsn: bigint): void {
    if (!this.#builder.inTransaction) protocol('a commit outside of a transaction');
    this.#skipping = false;
    if (!this.#builder.commit(endLsn)) this.#pulse.quiet(endLsn);
  }

  #apply(message: Message): void {
    switch (message.kind) {
      case 'insert':
      case 'update':
      case 'delete':
        return this.#row(message);
      case 'truncate':
        if (this.#skipping) return;
        for (const relation of message.relations) {
          if (!this.#builder.truncate(this.#parts.relations.of(relation)))
            protocol('a truncate outside of a transaction');
        }
        return;
      case 'commit':
        return this.#commit(message.endLsn);
      case 'relation':
        return this.#announced(message);
      case 'message': {
        if (message.prefix !== MARK_PREFIX || !message.transactional || this.#skipping) return;
        const label = markLabel(this.#settings.migration, message.content);
        if (label !== null) this.#builder.mark(label);
        return;
      }
      case 'streamStart': {
        const { xid } = message;
        if (this.#builder.inTransaction) protocol('a block of another transaction inside a transaction');
        this.#block = xid;
        this.#work = () => this.#parts.spool.block(xid);
        return;
      }
      case 'streamStop': {
        if (this.#block === null) protocol('the end of a block that did not begin');
        this.#block = null;
        return;
      }
      case 'streamAbort': {
        const { xid, subXid } = message;
        this.#work = () => this.#parts.spool.abort(xid, subXid);
        return;
      }
      case 'streamCommit': {
        const { xid, commitLsn, endLsn, commitMs } = message;
        this.#begin(xid, commitLsn, commitMs);
        this.#work = async () => {
          this.#replay = { reader: await this.#parts.spool.read(xid), xid, endLsn };
          this.#decoder.inStream = true;
        };
        return;
      }
      case 'begin':
        return protocol('a transaction inside a streamed one');
      case 'origin':
      case 'type':
        return;
    }
  }

  #row(row: RowMessage): void {
    if (this.#skipping) return;
    if (!this.#builder.add(this.#parts.relations.of(row.relation), row))
      protocol('a row outside of a transaction');
  }

  #announced(message: RelationMessage): void {
    const { relations } = this.#parts;
    if (relations.repeats(message)) return;
    this.#work = async () => {
      const { relation, change } = await relations.reconcile(message);
      if (change === null) return;
      // The batch before ends here, whole transactions apart from the part of the open one.
      const whole = this.#builder.takeWhole();
      if (whole !== null) this.#ready.push(whole);
      const part = this.#builder.takePart();
      if (part !== null) this.#ready.push(part);
      this.#builder.schemaChange(change);
      if (relation === null) this.#ready.push(this.#builder.takeSchemaChange());
    };
  }

  /** Inside a block every message starts with the id of its (sub)transaction, except Origin, which says nothing we use. */
  #spoolMessage(xid: number, buffer: Buffer, start: number, end: number): void {
    if (buffer[start] === 0x4f) return;
    if (end - start < 5) protocol('a message in a block that is cut off');
    const { spool } = this.#parts;
    if (spool.append(xid, buffer.readUInt32BE(start + 1), buffer.subarray(start, end))) {
      this.#work = () => spool.flush(xid);
    }
  }

  async #continueReplay(): Promise<void> {
    const replay = this.#replay;
    if (replay === null || (await replay.reader.fill())) return;
    this.#replay = null;
    this.#decoder.inStream = false;
    this.#commit(replay.endLsn);
    await this.#parts.spool.drop(replay.xid);
  }

  /** An idle batch, or the time to wait for one. */
  #idle(): ChangeBatch | number {
    const position = this.#pulse.idlePosition(this.#open());
    // Whatever can change this wakes the iterator.
    if (position === null) return NOTHING_MS;
    const due = this.#lastIdleMs + this.#settings.idleIntervalMs - performance.now();
    return this.#pulse.asked || due <= 0 ? idleBatch(position) : due;
  }

  /** Bytes were received that have not been handed out. */
  #open(): boolean {
    return (
      !this.#plugin.queue.empty ||
      this.#builder.inTransaction ||
      this.#builder.hasWhole ||
      this.#ready.length > 0 ||
      this.#work !== null ||
      this.#block !== null ||
      this.#replay !== null ||
      this.#parts.spool.open > 0
    );
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
    this.#wakeup?.();
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
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

function protocol(what: string): never {
  throw new VerdigrisError('SOURCE_PROTOCOL', `The source sent ${what}.`);
}
