import type { ClientSession, Document, MongoClient } from 'mongodb';
import type { ChangeBatch } from '../../core/change.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { Position } from '../../core/position.ts';
import type { ChangeStream } from '../../core/source.ts';
import { fieldOf, textOf } from './bson.ts';
import { translate } from './errors.ts';
import { EventReader } from './event.ts';
import { formatPosition, timestampOf, type Place } from './position.ts';
import { Assembler } from './stream-assembler.ts';
import { documentsOf, rawCursor, type RawReply } from './wire.ts';

/** How long the server waits for events before it answers without any; then the position moves on. */
const AWAIT_MS = 500;
/** The same while it is not known whether a transaction has ended. */
const UNCERTAIN_MS = 1;

export interface StreamParts {
  /** Its own: closed with the stream, whatever it waits for. */
  readonly client: MongoClient;
  readonly from: Place;
  readonly assembler: Assembler;
  /** Which events the server sends. */
  readonly match: Document;
  readonly signal: AbortSignal;
  readonly onAck: (durable: Position) => void;
}

/** A change stream over the whole replica set, in batches of whole transactions. */
export class MongoChangeStream implements ChangeStream {
  readonly #parts: StreamParts;
  readonly #reader = new EventReader();
  #session: ClientSession | null = null;
  #next: Promise<RawReply> | null = null;
  #waiting: ChangeBatch[] = [];
  #received: Position;
  #lastReceived: number | null = null;
  #closed = false;

  private constructor(parts: StreamParts, session: ClientSession, first: RawReply) {
    this.#parts = parts;
    this.#session = session;
    this.#received = formatPosition(parts.from);
    this.#next = Promise.resolve(first);
  }

  /** @throws VerdigrisError SOURCE_* */
  static async open(parts: StreamParts): Promise<MongoChangeStream> {
    const { client, from, match } = parts;
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
    return this.#waiting.reduce((sum, batch) => sum + batch.bytes, 0);
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
    const { signal, assembler } = this.#parts;
    try {
      for (;;) {
        signal.throwIfAborted();
        const reply = await this.#reply();
        this.#take(reply);
        // Asked for before this reply is worked on: the server gathers the next one meanwhile.
        this.#next = this.#more(reply, assembler.uncertain ? UNCERTAIN_MS : AWAIT_MS);
        this.#waiting.push(...assembler.take());
        for (let batch = this.#waiting.shift(); batch !== undefined; batch = this.#waiting.shift()) {
          if (batch.end !== null) this.#received = batch.end;
          yield batch;
        }
      }
    } catch (error) {
      signal.throwIfAborted();
      if (this.#closed) return;
      throw translate(error, 'source');
    } finally {
      await this[Symbol.asyncDispose]();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#next?.catch(() => undefined);
    await this.#parts.client.close();
  }

  async #reply(): Promise<RawReply> {
    const next = this.#next;
    if (next === null) throw new VerdigrisError('SOURCE_LOST', 'The stream of changes ended.');
    const { signal } = this.#parts;
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const abort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    try {
      return await Promise.race([next, aborted]);
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  #more(reply: RawReply, awaitMs: number): Promise<RawReply> {
    if (reply.id === 0n)
      return Promise.reject(new VerdigrisError('SOURCE_LOST', 'The server closed the stream of changes.'));
    const more = rawCursor(
      this.#parts.client.db('admin'),
      { getMore: reply.id, collection: '$cmd.aggregate', maxTimeMS: awaitMs },
      this.#session === null ? {} : { session: this.#session },
    );
    more.catch(() => undefined);
    return more;
  }

  #take(reply: RawReply): void {
    const { assembler } = this.#parts;
    this.#lastReceived = performance.now();
    let last = '';
    let any = false;
    for (const document of documentsOf(reply.batch)) {
      any = true;
      const event = this.#reader.read(document);
      if (event === null) continue;
      last = event.token;
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
