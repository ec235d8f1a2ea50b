import type { ClientSession, Document, MongoClient } from 'mongodb';
import type { ChangeBatch } from '../../core/change.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { Position } from '../../core/position.ts';
import type { ChangeStream } from '../../core/source.ts';
import { fieldOf, textOf } from './bson.ts';
import { translate } from './errors.ts';
import { EventReader } from './event.ts';
import { formatPosition, timestampOf, type Place } from './position.ts';
import type { Assembler } from './stream-assembler.ts';
import { documentsOf, rawCursor, type RawReply } from './wire.ts';

/** How long the server waits for events before it answers without any; then the position moves on. */
const AWAIT_MS = 500;
/** Events of one reply; of large documents its 16 MB come first. */
const MOST_EVENTS = 2_000;
/** The same while it is not known whether more of the last cluster time comes. */
const UNCERTAIN_MS = 1;
/** The same behind a router. Each shard waits as long before it tells how far it is, and the stream is as far as the slowest. */
const SHARDED_AWAIT_MS = 100;
const SHARDED_UNCERTAIN_MS = 20;

export interface StreamParts {
  /** Its own: closed with the stream, whatever it waits for. */
  readonly client: MongoClient;
  readonly from: Place;
  readonly assembler: Assembler;
  /** Which events the server sends. */
  readonly match: Document;
  /** The server is the router of a sharded cluster. */
  readonly sharded: boolean;
  /** Ask for documents as they were before and after a change, where their collection keeps them. */
  readonly images: boolean;
  readonly signal: AbortSignal;
  readonly onAck: (durable: Position) => void;
}

/** What is received ahead of the consumer; one reply more may be on its way. */
const MOST_QUEUED = 2 * 2 ** 20;

/** A change stream over the whole replica set or cluster, in batches of whole transactions. */
export class MongoChangeStream implements ChangeStream {
  readonly #parts: StreamParts;
  readonly #reader = new EventReader();
  readonly #session: ClientSession;
  readonly #first: RawReply;
  #waiting: ChangeBatch[] = [];
  #queued = 0;
  /** Something arrived, or nothing more will. */
  #arrived = Promise.withResolvers<undefined>();
  /** The consumer took something. */
  #taken = Promise.withResolvers<undefined>();
  #failure: Error | null = null;
  #received: Position;
  #lastReceived: number | null = null;
  #closed = false;

  private constructor(parts: StreamParts, session: ClientSession, first: RawReply) {
    this.#parts = parts;
    this.#session = session;
    this.#received = formatPosition(parts.from);
    this.#first = first;
  }

  /** @throws VerdigrisError SOURCE_* */
  static async open(parts: StreamParts): Promise<MongoChangeStream> {
    const { client, from, match, images, signal } = parts;
    signal.throwIfAborted();
    const session = client.startSession({ causalConsistency: false });
    try {
      const first = await rawCursor(
        client.db('admin'),
        {
          aggregate: 1,
          pipeline: [
            {
              $changeStream: {
                allChangesForCluster: true,
                showExpandedEvents: true,
                // The update as the log has it: which fields keep their place and which go to the end. The description that
                // applications get does not tell.
                showRawUpdateDescription: true,
                ...(images
                  ? { fullDocument: 'whenAvailable', fullDocumentBeforeChange: 'whenAvailable' }
                  : {}),
                ...(from.token === null
                  ? { startAtOperationTime: timestampOf(from.time) }
                  : { resumeAfter: { _data: from.token } }),
              },
            },
            { $match: match },
            // Last, as the server demands: events of more than 16 MB come in parts.
            { $changeStreamSplitLargeEvent: {} },
          ],
          cursor: {},
        },
        { session },
      );
      return new MongoChangeStream(parts, session, first);
    } catch (error) {
      await session.endSession();
      throw translate(error, 'source');
    }
  }

  get queued(): number {
    return this.#queued;
  }

  get lastReceivedMs(): number | null {
    return this.#lastReceived;
  }

  get received(): Position {
    return this.#received;
  }

  /** Nothing to tell the server: the log is kept by size and age, whoever reads it. */
  ack(durable: Position): void {
    this.#parts.onAck(durable);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ChangeBatch> {
    const { signal } = this.#parts;
    const abort = (): void => this.#end(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    void this.#receive();
    try {
      for (;;) {
        signal.throwIfAborted();
        const batch = this.#waiting.shift();
        if (batch === undefined) {
          if (this.#failure !== null) throw this.#failure;
          if (this.#closed) return;
          await this.#arrived.promise;
          continue;
        }
        this.#queued -= batch.bytes;
        this.#taken.resolve(undefined);
        yield batch;
      }
    } finally {
      signal.removeEventListener('abort', abort);
      await this[Symbol.asyncDispose]();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#taken.resolve(undefined);
    this.#arrived.resolve(undefined);
    await this.#parts.client.close();
  }

  /** Receives until the stream is closed; waits while too much is queued. Never rejects. */
  async #receive(): Promise<void> {
    const { assembler } = this.#parts;
    try {
      for (let reply = this.#first; ;) {
        this.#take(reply);
        for (const batch of assembler.take()) this.#push(batch);
        while (this.#queued > MOST_QUEUED && !this.#closed) {
          this.#taken = Promise.withResolvers<undefined>();
          await this.#taken.promise;
        }
        if (this.#closed) return;
        reply = await this.#more(reply, this.#patience());
      }
    } catch (error) {
      if (!this.#closed) this.#end(translate(error, 'source'));
    }
  }

  #patience(): number {
    const { assembler, sharded } = this.#parts;
    if (assembler.uncertain) return sharded ? SHARDED_UNCERTAIN_MS : UNCERTAIN_MS;
    return sharded ? SHARDED_AWAIT_MS : AWAIT_MS;
  }

  #push(batch: ChangeBatch): void {
    // Of positions alone only the last one counts.
    if (batch.idle && this.#waiting.at(-1)?.idle === true) this.#waiting.pop();
    this.#waiting.push(batch);
    this.#queued += batch.bytes;
    if (batch.end !== null) this.#received = batch.end;
    this.#wake();
  }

  #end(error: Error): void {
    this.#failure ??= error;
    this.#wake();
  }

  #wake(): void {
    this.#arrived.resolve(undefined);
    this.#arrived = Promise.withResolvers<undefined>();
  }

  #more(reply: RawReply, awaitMs: number): Promise<RawReply> {
    if (reply.id === 0n)
      return Promise.reject(new VerdigrisError('SOURCE_LOST', 'The server closed the stream of changes.'));
    return rawCursor(
      this.#parts.client.db('admin'),
      { getMore: reply.id, collection: '$cmd.aggregate', maxTimeMS: awaitMs, batchSize: MOST_EVENTS },
      { session: this.#session },
    );
  }

  #take(reply: RawReply): void {
    const { assembler } = this.#parts;
    this.#lastReceived = performance.now();
    const documents = documentsOf(reply.batch);
    const any = documents.length > 0;
    const events = documents.map((one) => this.#reader.read(one)).filter((event) => event !== null);
    const { token: last = '', time: open = 0n } = events.at(-1) ?? {};
    let before = true;
    for (const event of events) {
      if (before && event.time === open) {
        before = false;
        assembler.complete(open);
      }
      assembler.add(event);
    }
    const resume = reply.cursor.get('postBatchResumeToken');
    const data = resume === undefined ? null : fieldOf(resume.bytes, '_data');
    const token = data === null ? '' : textOf(data);
    // A token between the parts of one event would have the rest sent without its beginning.
    if (token !== '' && !this.#reader.partial) {
      if (!any) assembler.drained(token);
      else if (token !== last) assembler.advance(token);
    }
    assembler.settle();
  }
}
