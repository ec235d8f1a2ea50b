import type { ClientSession } from 'mongodb';
import { VerdigrisError } from '../../core/errors.ts';
import type { Position } from '../../core/position.ts';
import type { SinkGroup } from '../../core/sink.ts';
import { tableId } from '../../core/table.ts';
import { hasLabel } from './errors.ts';
import { positions } from './position.ts';
import { applyRuns, sizesOn } from './sink-apply.ts';
import { makeRoom } from './sink-attempt.ts';
import { Budget, Cutter, TooMuch, isTooLarge, meter, sizeOfRow } from './sink-cut.ts';
import type { SinkStream } from './sink-stream.ts';
import { KeyTaken, UniqueClash } from './sink-write.ts';
import { beginTransaction, commit, crcOf, transact, type CheckpointDocument } from './state-database.ts';

/**
 * A source transaction in parts is one transaction here up to so many bytes and so long: the server keeps an open transaction in its cache,
 * and ends it after a minute (transactionLifetimeLimitSeconds).
 */
const MOST_OPEN_BYTES = 64 * 2 ** 20;
const LONGEST_OPEN_MS = 30_000;

/** A source transaction of which the end has not come. */
interface OpenParts {
  readonly previous: Position;
  /** Null: it does not fit, what came is committed, and the checkpoint says so. */
  session: ClientSession | null;
  bytes: number;
  readonly since: number;
}

/** A group that is committed in pieces, and what the checkpoint says with the last of them. */
interface Pieces {
  readonly group: SinkGroup;
  readonly checkpoint: 'end' | 'dirty';
}

/**
 * Commits groups. What is too large for one transaction of this server is committed in pieces behind a checkpoint that says `dirty`: after a
 * crash it comes again from there, is met leniently (what is there already counts as done, the last change of each document wins), and
 * nobody may rely on the sink before its end, since no checkpoint covers it.
 */
export class GroupCommitter {
  #open: OpenParts | null = null;
  /** The checkpoint was found dirty: lenient up to the end of the first group, or to {@link #until} where that is later. */
  #dirty = false;
  /** The end of a group of whole transactions that was committed in pieces: the next start cuts them into other groups. */
  #until: Position | null = null;
  /** Tables whose unique indexes refused an order in a transaction in parts, which then had to come again. */
  readonly #exact = new Set<string>();

  /** A transaction in parts did not fit into the server's cache: it comes again, and each part is then committed. */
  #pieces = false;

  /** What the checkpoint says after a connect. */
  restart(dirty: boolean, until: Position | null): void {
    this.#dirty = dirty;
    this.#until = dirty ? until : null;
  }

  async apply(stream: SinkStream, group: SinkGroup): Promise<void> {
    const { previous, end } = group;
    if (this.#open !== null && this.#open.previous !== previous) {
      throw new VerdigrisError(
        'INTERNAL',
        'A part was applied on top of a transaction that builds on another checkpoint.',
      );
    }
    if (end === null || this.#open !== null) await this.#part(stream, group);
    else await this.#whole(stream, group);
    if (end === null) return;
    this.#dirty = !this.#isOver(end);
    if (!this.#dirty) this.#until = null;
    this.#pieces = false;
    this.#exact.clear();
  }

  async abandon(): Promise<void> {
    const open = this.#open;
    this.#open = null;
    if (open === null) return;
    if (open.session === null) this.#dirty = true;
    else await give(open.session);
  }

  /** Behind that position the sink is as it was before pieces were committed. */
  #isOver(end: Position): boolean {
    return this.#until === null || positions.covers(end, this.#until);
  }

  async #whole(stream: SinkStream, group: SinkGroup): Promise<void> {
    const exact = new Set<string>();
    for (;;) {
      try {
        await transact(stream.client, (session) =>
          this.#write(stream, session, group, {
            ...{ exact, checkpoint: 'end', lenient: this.#dirty },
            spend: meter(MOST_OPEN_BYTES),
          }),
        );
        return;
      } catch (error) {
        if (isTooLarge(error)) return this.#cut(stream, { group, checkpoint: 'end' });
        await again(stream, exact, error);
      }
    }
  }

  async #part(stream: SinkStream, group: SinkGroup): Promise<void> {
    const { end, previous } = group;
    const open = (this.#open ??= this.#begin(stream, previous));
    try {
      if (open.session === null) await this.#piece(stream, group);
      else await this.#hold(stream, group, open, open.session);
      if (end !== null) this.#open = null;
    } catch (error) {
      await this.abandon().catch(() => undefined);
      if (isTooLarge(error)) {
        this.#pieces = true;
        throw new VerdigrisError(
          'SINK_LOST',
          'A large transaction does not fit into the cache of the sink; it is sent again and committed in pieces.',
        );
      }
      if (hasLabel(error, 'TransientTransactionError'))
        throw new VerdigrisError(
          'SINK_LOST',
          'A large transaction was given up by the sink; its parts are sent again.',
        );
      if (error instanceof KeyTaken) throw await vacated(stream, error);
      if (!(error instanceof UniqueClash)) throw error;
      // The parts before it are gone: it comes again, and its tables are then put together first.
      if (this.#exact.has(tableId(error.table))) throw error.conflict;
      stream.tryExactly(this.#exact, error);
      throw new VerdigrisError('SINK_TRANSIENT', 'A large transaction is applied again in another order.');
    }
  }

  #begin({ client }: SinkStream, previous: Position): OpenParts {
    const session = this.#pieces ? null : beginTransaction(client);
    return { previous, session, bytes: 0, since: performance.now() };
  }

  /** A part of a source transaction, in the transaction that is open for it. */
  async #hold(stream: SinkStream, group: SinkGroup, open: OpenParts, session: ClientSession): Promise<void> {
    open.bytes += sizeOf(group);
    const spills = open.bytes > MOST_OPEN_BYTES || performance.now() - open.since > LONGEST_OPEN_MS;
    const checkpoint = group.end !== null ? 'end' : spills ? 'dirty' : 'hold';
    const spend = (bytes: number): void => {
      open.bytes += bytes;
      if (open.bytes > 2 * MOST_OPEN_BYTES) throw new TooMuch('more than a transaction may write');
    };
    await this.#write(stream, session, group, {
      exact: this.#exact,
      checkpoint,
      lenient: this.#dirty,
      spend,
    });
    if (checkpoint === 'hold') return;
    open.session = null;
    try {
      await commit(stream.client, session);
    } finally {
      await session.endSession();
    }
  }

  /** A part of a source transaction of which others were committed. */
  async #piece(stream: SinkStream, group: SinkGroup): Promise<void> {
    const checkpoint = group.end === null ? 'dirty' : 'end';
    const at = {
      exact: this.#exact,
      checkpoint,
      lenient: this.#dirty,
      spend: meter(MOST_OPEN_BYTES),
    } as const;
    try {
      await transact(stream.client, (session) => this.#write(stream, session, group, at));
    } catch (error) {
      if (!isTooLarge(error)) throw error;
      await this.#cut(stream, { group, checkpoint });
    }
  }

  /** Rows of a group that did not fit, in transactions as small as they have to be. Its holes come with the last. */
  async #cut(stream: SinkStream, pieces: Pieces): Promise<void> {
    const { end } = pieces.group;
    try {
      await this.#inPieces(stream, pieces);
    } catch (error) {
      // Some of it may be there.
      this.#dirty = true;
      if (end !== null && this.#isOver(end)) this.#until = end;
      throw error;
    }
  }

  async #inPieces(stream: SinkStream, { group, checkpoint }: Pieces): Promise<void> {
    const cutter = new Cutter(group.runs, sizesOn(stream.reading()));
    const budget = new Budget();
    const exact = new Set<string>();
    const lenient = this.#dirty;
    const until = group.end;
    for (;;) {
      const runs = await cutter.next(budget.bytes);
      const piece = runs === null ? { ...group, runs: [] } : { ...group, runs, holes: NO_HOLES };
      try {
        await transact(stream.client, (session) =>
          this.#write(stream, session, piece, {
            ...{ exact, lenient, until },
            checkpoint: runs === null ? checkpoint : 'dirty',
          }),
        );
      } catch (error) {
        if (isTooLarge(error)) await budget.shrink();
        else await again(stream, exact, error);
        continue;
      }
      if (runs === null) return;
      cutter.advance();
      budget.fits();
    }
  }

  async #write(stream: SinkStream, session: ClientSession, group: SinkGroup, at: Written): Promise<void> {
    const { previous, end } = group;
    const { exact, lenient, spend } = at;
    const { matchedCount } = await stream.db
      .collection<CheckpointDocument>('checkpoint')
      .updateOne(
        { _id: stream.id, term: stream.term, position: previous },
        { $inc: { touched: 1 }, ...this.#said(stream, at, end) },
        { session },
      );
    if (matchedCount !== 1) throw stream.fenced();
    const options = { ...stream.applying(session), lenient, exact };
    await applyRuns(group.runs, spend === undefined ? options : { ...options, spend });
    await stream.writeHoles(session, group.holes);
  }

  /** What becomes of the checkpoint. */
  #said({ id }: SinkStream, { checkpoint, until }: Written, end: Position | null): object {
    if (checkpoint === 'hold') return {};
    if (checkpoint === 'end' && end !== null) {
      const over = this.#isOver(end);
      return {
        $set: {
          ...{ position: end as string, crc: crcOf(id, end), dirty: !over },
          until: over ? null : this.#until,
        },
      };
    }
    // An earlier one that is later stays.
    const later = until !== undefined && until !== null && this.#isOver(until);
    return { $set: { dirty: true, ...(later ? { until } : {}) } };
  }
}

/** How a group, or a piece of one, is written. */
interface Written {
  readonly exact: ReadonlySet<string>;
  readonly checkpoint: 'end' | 'dirty' | 'hold';
  readonly lenient: boolean;
  /** See {@link import('./sink-write.ts').ApplyOptions.spend}. */
  readonly spend?: (bytes: number) => void;
  /** The end of the group of which this is a piece. */
  readonly until?: Position | null;
}

const NO_HOLES: SinkGroup['holes'] = { opened: [], closed: [] };

/** A transaction that failed: to be tried again where this resolves. @throws what stands in its way */
async function again(stream: SinkStream, exact: Set<string>, error: unknown): Promise<void> {
  if (error instanceof KeyTaken) throw await vacated(stream, error);
  if (!(error instanceof UniqueClash)) throw error;
  if (!stream.tryExactly(exact, error)) throw error.conflict;
}

/** What becomes of a change that came to a key which is taken: again, where a range that is being copied gives it up. */
const vacated = async (stream: SinkStream, taken: KeyTaken): Promise<VerdigrisError> =>
  (await makeRoom(stream, taken))
    ? new VerdigrisError('SINK_TRANSIENT', 'A range that is being copied held the _id of another document.')
    : taken.conflict;

async function give(session: ClientSession): Promise<void> {
  try {
    if (session.inTransaction()) await session.abortTransaction();
  } finally {
    await session.endSession();
  }
}

function sizeOf({ runs }: SinkGroup): number {
  let bytes = 0;
  for (const { after, before } of runs) {
    bytes += before.length * 64;
    for (const row of after) bytes += sizeOfRow(row);
  }
  return bytes;
}
