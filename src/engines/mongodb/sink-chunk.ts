import { randomUUID } from 'node:crypto';
import type { ClientSession } from 'mongodb';
import type { RowRun } from '../../core/change.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { TargetTable } from '../../core/plan.ts';
import type { Position } from '../../core/position.ts';
import type { ChunkTarget, ChunkWriter, HoleChanges } from '../../core/sink.ts';
import { showTable, tableId, type TableName } from '../../core/table.ts';
import { asBuffer, rawNull } from './bson.ts';
import { SERVER_CODE, TOO_LARGE } from './errors.ts';
import { shapeOf } from './shape.ts';
import { applyRuns, sizesOn } from './sink-apply.ts';
import { RangeTaken, begin, inAttempt, takeOff } from './sink-attempt.ts';
import { Budget, Cutter, MOST_BYTES, isTooLarge, meter } from './sink-cut.ts';
import { Packed } from './sink-packed.ts';
import { rangeId, rangesOf } from './sink-storage.ts';
import type { SinkStream } from './sink-stream.ts';
import { KeyTaken, UniqueClash } from './sink-write.ts';
import { forgetWritten, noteWritten } from './sink-written.ts';
import { transact, transactAgain } from './state-database.ts';
import { spansOf, write } from './wire.ts';

/** Rows of one transaction, of at most {@link MOST_BYTES}. */
const MOST_ROWS = 10_000;
/** Of rows that cannot be written before the range closes. */
const MOST_WAITING = 64 * 2 ** 20;
const MOST_CLASHES = 3;
/** Bytes of whole documents that held changes to a merge write together with what closes the range. */
const MOST_CLOSING = 32 * 2 ** 20;

/**
 * Writes one range. Its rows do not fit into one transaction of this server, so they are written in several, each of which names the attempt
 * it belongs to: an attempt that somebody else took over writes nothing more. Only the last of them closes the range: a range of few rows
 * is one transaction. Rows of an attempt that was killed stand on the sink until the next one, which takes them off first.
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

class MongoChunkWriter implements ChunkWriter {
  readonly #stream: SinkStream;
  readonly #target: ChunkTarget;
  readonly #attempt: string;
  readonly #signal: AbortSignal;
  /** Tables in which its rows do not stand in its range. */
  readonly #scattered: ReadonlySet<string>;
  /** Of a re-read of keys. */
  readonly #keys: RowRun[] = [];
  /** Documents that wait for a full transaction, or for the one that closes. */
  #waiting = new Map<string, Packed>();
  #waitingRows = 0;
  #waitingBytes = 0;
  #rows = 0;
  /** Some rows are on the sink. */
  #written = false;
  /** A row came to a key that is another one's until the changes before the mark are applied: rows wait for the end. */
  #waits = false;
  readonly #budget = new Budget();
  #failure: Error | null = null;
  #ended = false;

  constructor(stream: SinkStream, target: ChunkTarget, attempt: string, signal: AbortSignal) {
    this.#stream = stream;
    this.#target = target;
    this.#attempt = attempt;
    this.#signal = signal;
    this.#scattered = new Set(
      target.tables
        .filter(({ scattered }) => scattered === true)
        .map(({ relation }) => tableId(relation.table)),
    );
  }

  raw(target: TargetTable, _columns: readonly number[], pieces: AsyncIterable<Uint8Array>): Promise<number> {
    return this.#step(async () => {
      const before = this.#rows;
      for await (const piece of pieces) {
        const batch = asBuffer(piece);
        const spans = spansOf(batch);
        for (let i = 0; i < spans.length; i += 2) {
          const from = spans[i] as number;
          const to = spans[i + 1] as number;
          if (this.#isFull(to - from)) await this.#flush();
          this.#add(target.relation.table, batch, from, to);
        }
      }
      return this.#rows - before;
    });
  }

  write(run: RowRun): Promise<void> {
    return this.#step(async () => {
      if (this.#target.ordinal === null) {
        this.#keys.push(run);
        this.#rows += run.after.length;
        return;
      }
      if (run.op === 'put') return this.#put(run);
      for (const row of run.after) {
        const document = asBuffer(row[shapeOf(run.relation).document] as Uint8Array);
        if (this.#isFull(document.length)) await this.#flush();
        this.#add(run.relation.table, document, 0, document.length);
      }
    });
  }

  close(held: readonly RowRun[], holes: HoleChanges, upto: Position, bytes: number): Promise<void> {
    return this.#step(async () => {
      const exact = new Set<string>();
      let left = held;
      for (;;) {
        try {
          await this.#finish(left, { holes, upto, bytes, exact });
          break;
        } catch (error) {
          if (isTooLarge(error) && left.length > 0 && this.#target.ordinal !== null && !this.#waits) {
            await this.#inPieces(left);
            left = [];
            continue;
          }
          if (error instanceof KeyTaken) throw await this.#clash(error);
          if (!(error instanceof UniqueClash)) throw error;
          if (!this.#stream.tryExactly(exact, error)) throw error.conflict;
        }
      }
      this.#ended = true;
    });
  }

  /** Takes off what was written, unless somebody else has the range by now. */
  async cancel(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    const { ordinal, unit } = this.#target;
    if (ordinal === null || !this.#written) return;
    const stream = this.#stream;
    const never = new AbortController().signal;
    try {
      await stream.guarded(() =>
        takeOff(stream, this.#target, rangeId(stream.id, unit, ordinal), this.#attempt, never),
      );
    } catch (error) {
      // The next attempt at the range takes them off first.
      stream.log.info(
        { reason: (error as Error).message },
        'rows of a cancelled range stay until it is copied again',
      );
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.cancel();
  }

  async #finish(
    held: readonly RowRun[],
    end: { holes: HoleChanges; upto: Position; bytes: number; exact: ReadonlySet<string> },
  ): Promise<void> {
    const stream = this.#stream;
    const { unit, ordinal } = this.#target;
    await transact(stream.client, async (session) => {
      await stream.holdCheckpoint(session);
      for (const packed of this.#waiting.values()) await this.#insert(session, packed);
      // Keys without a range can only be written together.
      const spend = ordinal === null ? () => undefined : meter(MOST_CLOSING);
      const applying = { ...stream.applying(session), spend };
      // Over what stands there: a repair may ask for a key that was not taken off.
      await applyRuns(this.#keys, { ...applying, lenient: true, exact: end.exact });
      await applyRuns(held, { ...applying, lenient: false, exact: end.exact });
      await stream.writeHoles(session, end.holes);
      if (ordinal === null) return;
      if (this.#written && this.#scattered.size > 0)
        await forgetWritten(stream, session, rangeId(stream.id, unit, ordinal));
      const { matchedCount } = await rangesOf(stream.db).updateOne(
        { _id: rangeId(stream.id, unit, ordinal), attempt: this.#attempt, upto: null },
        { $set: { upto: end.upto, rows: this.#rows, bytes: end.bytes, attempt: null, dirty: false } },
        { session },
      );
      if (matchedCount !== 1) throw new RangeTaken();
    });
  }

  /** Rows of parts come behind those of their owner, which have to stand there. */
  async #put(run: RowRun): Promise<void> {
    await this.#inPieces([run]);
    this.#rows += run.after.length;
  }

  /** Runs in transactions of their own, behind the rows that wait: each as large as what it writes on the sink allows. */
  async #inPieces(runs: readonly RowRun[]): Promise<void> {
    const stream = this.#stream;
    if (this.#waitingRows > 0) await this.#flush();
    const range = rangeId(stream.id, this.#target.unit, this.#target.ordinal as number);
    const cutter = new Cutter(runs, sizesOn(stream.reading()));
    const exact = new Set<string>();
    for (;;) {
      this.#signal.throwIfAborted();
      const piece = await cutter.next(this.#budget.bytes);
      if (piece === null) return;
      try {
        await inAttempt(stream, range, this.#attempt, (session) =>
          applyRuns(piece, { ...stream.applying(session), lenient: false, exact }),
        );
      } catch (error) {
        if (isTooLarge(error)) await this.#budget.shrink();
        // Indexes stand aside while a collection is copied: this one was there before.
        else if (!(error instanceof UniqueClash)) throw error;
        else if (!stream.tryExactly(exact, error)) throw error.conflict;
        continue;
      }
      this.#written = true;
      this.#budget.fits();
      cutter.advance();
    }
  }

  /** @param next bytes of the next document */
  #isFull(next: number): boolean {
    if (this.#waitingRows === 0) return false;
    if (this.#waits) return this.#waitingBytes + next > MOST_WAITING;
    return this.#waitingRows >= MOST_ROWS || this.#waitingBytes + next > MOST_BYTES;
  }

  /** A document that stands in `bytes`. */
  #add(table: TableName, bytes: Buffer, from: number, to: number): void {
    const id = tableId(table);
    let packed = this.#waiting.get(id);
    if (packed === undefined) this.#waiting.set(id, (packed = new Packed(table)));
    packed.add(bytes, from, to);
    this.#waitingRows += 1;
    this.#waitingBytes += to - from;
    this.#rows += 1;
  }

  async #flush(): Promise<void> {
    const stream = this.#stream;
    this.#signal.throwIfAborted();
    const range = rangeId(stream.id, this.#target.unit, this.#target.ordinal as number);
    try {
      await inAttempt(stream, range, this.#attempt, async (session) => {
        for (const packed of this.#waiting.values()) {
          const { table } = packed;
          await this.#insert(session, packed);
          if (this.#scattered.has(tableId(table)))
            await noteWritten(stream, session, { range, table, ids: packed.ids() });
        }
      });
    } catch (error) {
      if (!(error instanceof KeyTaken)) throw error;
      if (this.#waits) throw await this.#clash(error);
      this.#waits = true;
      return;
    }
    this.#written = true;
    this.#waiting = new Map();
    this.#waitingRows = 0;
    this.#waitingBytes = 0;
  }

  /**
   * A key that another document of the sink has, though the changes before the mark are applied: it may be on its way by one of the changes that
   * were held. Then the next snapshot knows. Told apart by the number of times.
   */
  async #clash({ conflict, table }: KeyTaken): Promise<VerdigrisError> {
    const { ordinal, unit } = this.#target;
    if (ordinal === null || !this.#scattered.has(tableId(table))) return conflict;
    const _id = rangeId(this.#stream.id, unit, ordinal);
    const found = await rangesOf(this.#stream.db).findOneAndUpdate(
      { _id },
      { $inc: { clashes: 1 } },
      { returnDocument: 'after' },
    );
    if ((found?.clashes ?? MOST_CLASHES) >= MOST_CLASHES) return conflict;
    return new VerdigrisError('SINK_TRANSIENT', 'A document of the range came to the _id of another one.');
  }

  async #insert(session: ClientSession, packed: Packed): Promise<void> {
    const { client, keepTimestamps } = this.#stream;
    const { table, count } = packed;
    const statements = packed.pieces();
    const command = { kind: 'insert', collection: table.name, statements, keepTimestamps } as const;
    const { n, error } = await write(client.db(table.schema), command, session);
    if (error === null && n === count) return;
    const context = { table: showTable(table), serverCode: error?.code, index: error?.keys };
    if (error?.code === SERVER_CODE.duplicateKey && this.#scattered.has(tableId(table)))
      throw new KeyTaken(table, rawNull, context);
    if (error !== null && TOO_LARGE.has(error.code))
      throw new VerdigrisError(
        'SINK_TRANSIENT',
        'A part of a range does not fit into the cache of the sink now.',
        {
          context,
        },
      );
    throw new VerdigrisError('SINK_CONFLICT', `A document of a range of ${showTable(table)} was refused.`, {
      context,
    });
  }

  /** Somebody else has the range: another engine, or a change of ours that needed the place. */
  async #lost(taken: RangeTaken): Promise<VerdigrisError> {
    const stream = this.#stream;
    const { unit, ordinal } = this.#target;
    if (this.#scattered.size === 0 || ordinal === null) return taken;
    const open = { _id: rangeId(stream.id, unit, ordinal), upto: null };
    if ((await rangesOf(stream.db).findOne(open)) === null) return taken;
    await transactAgain(stream.client, (session) => stream.holdLease(session));
    return new VerdigrisError('SINK_TRANSIENT', 'Documents of the range stood in the way of a change.');
  }

  /** After a step that failed nothing works any more. */
  async #step<T>(work: () => Promise<T>): Promise<T> {
    if (this.#failure !== null) throw this.#failure;
    if (this.#ended) throw new VerdigrisError('INTERNAL', 'The chunk has ended.');
    try {
      this.#signal.throwIfAborted();
      return await this.#stream.guarded(() =>
        work().catch(async (error: unknown) => {
          throw error instanceof RangeTaken ? await this.#lost(error) : error;
        }),
      );
    } catch (error) {
      this.#failure = error as Error;
      if (this.#signal.aborted) throw this.#signal.reason;
      throw error;
    }
  }
}
