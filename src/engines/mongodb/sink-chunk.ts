import { randomUUID } from 'node:crypto';
import type { ClientSession } from 'mongodb';
import type { RowRun } from '../../core/change.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { TargetTable } from '../../core/plan.ts';
import type { Position } from '../../core/position.ts';
import type { ChunkTarget, ChunkWriter, HoleChanges } from '../../core/sink.ts';
import { showTable, type TableName } from '../../core/table.ts';
import { asBuffer, fieldOf, rawNull, type Raw } from './bson.ts';
import { DOCUMENT } from './document.ts';
import { idFilter } from './key.ts';
import { readRange } from './range-read.ts';
import { applyRuns, UniqueClash } from './sink-apply.ts';
import { rangeId, rangesOf } from './sink-storage.ts';
import type { SinkStream } from './sink-stream.ts';
import { transact, transactAgain } from './state-database.ts';
import { deleteStatement } from './update.ts';
import { documentsOf, write } from './wire.ts';

/** Rows of one transaction. Its entry in the log holds them all, and a secondary applies it as one. */
const MOST_BYTES = 8 * 2 ** 20;
const MOST_ROWS = 10_000;

/**
 * Writes one range. Its rows do not fit into one transaction of this server, so they are written in several, each of which names the attempt
 * it belongs to: an attempt that somebody else took over writes nothing more. Rows of an attempt that did not end stand on the sink
 * until the next one, which takes them off first.
 *
 * Single keys (holes) are few: their rows wait here and are written by the transaction that closes.
 */
export async function openChunk(
  stream: SinkStream,
  target: ChunkTarget,
  signal: AbortSignal,
): Promise<ChunkWriter> {
  const attempt = randomUUID();
  if (target.ordinal !== null) {
    await stream.guarded(() => begin(stream, target, target.ordinal as number, attempt, signal));
  }
  return new MongoChunkWriter(stream, target, attempt, signal);
}

async function begin(
  stream: SinkStream,
  { unit, range, tables }: ChunkTarget,
  ordinal: number,
  attempt: string,
  signal: AbortSignal,
): Promise<void> {
  const _id = rangeId(stream.id, unit, ordinal);
  const before = await transactAgain(stream.client, async (session) => {
    await stream.holdLease(session);
    return rangesOf(stream.db).findOneAndUpdate(
      { _id, upto: null },
      { $set: { attempt, dirty: true }, $inc: { writes: 1 } },
      { session, returnDocument: 'before' },
    );
  });
  if (before === null) {
    throw new VerdigrisError('SINK_LOST', `Range ${ordinal} of ${unit} is no longer open on the sink.`, {
      context: { unit, ordinal },
    });
  }
  if (!before.dirty) return;
  for (const { relation } of tables) {
    const left = readRange(stream.client, relation, range, { idsOnly: true, signal, where: 'sink' });
    for await (const { batch } of left.batches) {
      const statements = [...documentsOf(batch)].map((document) => deleteStatement(idFilter(idOf(document))));
      if (statements.length > 0)
        await inAttempt(stream, _id, attempt, async (session) => {
          await write(
            stream.client.db(relation.table.schema),
            { kind: 'delete', collection: relation.table.name, statements, keepTimestamps: false },
            session,
          );
        });
    }
  }
}

const idOf = (document: Buffer): Raw => fieldOf(document, '_id') ?? rawNull;

/** One transaction of an attempt. @throws VerdigrisError SINK_LOST when the range is somebody else's by now */
async function inAttempt(
  stream: SinkStream,
  _id: string,
  attempt: string,
  work: (session: ClientSession) => Promise<void>,
): Promise<void> {
  await transactAgain(stream.client, async (session) => {
    const { matchedCount } = await rangesOf(stream.db).updateOne(
      { _id, attempt, upto: null },
      { $inc: { writes: 1 } },
      { session },
    );
    if (matchedCount !== 1) throw new VerdigrisError('SINK_FENCED', 'The range is copied by another engine.');
    await work(session);
  });
}

class MongoChunkWriter implements ChunkWriter {
  readonly #stream: SinkStream;
  readonly #target: ChunkTarget;
  readonly #attempt: string;
  readonly #signal: AbortSignal;
  /** Of a re-read of keys. */
  readonly #waiting: RowRun[] = [];
  #rows = 0;
  #failure: Error | null = null;
  #ended = false;

  constructor(stream: SinkStream, target: ChunkTarget, attempt: string, signal: AbortSignal) {
    this.#stream = stream;
    this.#target = target;
    this.#attempt = attempt;
    this.#signal = signal;
  }

  raw(target: TargetTable, _columns: readonly number[], pieces: AsyncIterable<Uint8Array>): Promise<number> {
    return this.#step(async () => {
      let rows = 0;
      let documents: Buffer[] = [];
      let bytes = 0;
      const flush = async (): Promise<void> => {
        const full = documents;
        documents = [];
        bytes = 0;
        rows += full.length;
        await this.#insert(target.relation.table, full);
      };
      for await (const piece of pieces) {
        for (const document of documentsOf(asBuffer(piece))) {
          if (documents.length >= MOST_ROWS || (bytes > 0 && bytes + document.length > MOST_BYTES))
            await flush();
          documents.push(document);
          bytes += document.length;
        }
      }
      await flush();
      this.#rows += rows;
      return rows;
    });
  }

  write(run: RowRun): Promise<void> {
    return this.#step(async () => {
      if (this.#target.ordinal === null) {
        this.#waiting.push(run);
        this.#rows += run.after.length;
        return;
      }
      const documents = run.after.map((row) => asBuffer(row[DOCUMENT] as Uint8Array));
      await this.#insert(run.relation.table, documents);
      this.#rows += documents.length;
    });
  }

  close(held: readonly RowRun[], holes: HoleChanges, upto: Position, bytes: number): Promise<void> {
    return this.#step(async () => {
      const exact = new Set<string>();
      for (;;) {
        try {
          await this.#finish([...this.#waiting, ...held], { holes, upto, bytes, exact });
          break;
        } catch (error) {
          // Before the unique indexes are built there is nothing that could refuse an order; single keys come later too.
          if (!(error instanceof UniqueClash)) throw error;
          if (!this.#stream.tryExactly(exact, error)) throw error.conflict;
        }
      }
      this.#ended = true;
    });
  }

  cancel(): Promise<void> {
    this.#ended = true;
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.cancel();
  }

  async #finish(
    runs: readonly RowRun[],
    end: { holes: HoleChanges; upto: Position; bytes: number; exact: ReadonlySet<string> },
  ): Promise<void> {
    const stream = this.#stream;
    const { unit, ordinal } = this.#target;
    await transact(stream.client, async (session) => {
      await stream.holdCheckpoint(session);
      await applyRuns(runs, { ...stream.applying(session), lenient: false, exact: end.exact });
      await stream.writeHoles(session, end.holes);
      if (ordinal === null) return;
      const { matchedCount } = await rangesOf(stream.db).updateOne(
        { _id: rangeId(stream.id, unit, ordinal), attempt: this.#attempt, upto: null },
        { $set: { upto: end.upto, rows: this.#rows, bytes: end.bytes, attempt: null, dirty: false } },
        { session },
      );
      if (matchedCount !== 1)
        throw new VerdigrisError('SINK_FENCED', 'The range is copied by another engine.');
    });
  }

  async #insert(table: TableName, documents: readonly Buffer[]): Promise<void> {
    if (documents.length === 0) return;
    const stream = this.#stream;
    this.#signal.throwIfAborted();
    const id = rangeId(stream.id, this.#target.unit, this.#target.ordinal as number);
    await inAttempt(stream, id, this.#attempt, async (session) => {
      const { n, error } = await write(
        stream.client.db(table.schema),
        {
          kind: 'insert',
          collection: table.name,
          statements: documents,
          keepTimestamps: stream.keepTimestamps,
        },
        session,
      );
      if (error === null && n === documents.length) return;
      throw new VerdigrisError('SINK_CONFLICT', `A document of a range of ${showTable(table)} was refused.`, {
        context: { table: showTable(table), serverCode: error?.code, index: error?.keys },
      });
    });
  }

  /** After a step that failed nothing works any more. */
  async #step<T>(work: () => Promise<T>): Promise<T> {
    if (this.#failure !== null) throw this.#failure;
    if (this.#ended) throw new VerdigrisError('INTERNAL', 'The chunk has ended.');
    this.#signal.throwIfAborted();
    try {
      return await this.#stream.guarded(work);
    } catch (error) {
      this.#failure = error as Error;
      throw error;
    }
  }
}
