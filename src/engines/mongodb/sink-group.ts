import type { ClientSession } from 'mongodb';
import { VerdigrisError } from '../../core/errors.ts';
import type { Position } from '../../core/position.ts';
import type { SinkGroup } from '../../core/sink.ts';
import { tableId } from '../../core/table.ts';
import { DocumentDelta } from './document.ts';
import { SERVER_CODE, codeOfError, hasLabel } from './errors.ts';
import { applyRuns } from './sink-apply.ts';
import { KeyTaken, UniqueClash } from './sink-write.ts';
import { makeRoom } from './sink-chunk.ts';
import type { SinkStream } from './sink-stream.ts';
import { beginTransaction, commit, crcOf, transact, type CheckpointDocument } from './state-database.ts';

/**
 * A source transaction in parts is one transaction here up to so many bytes and so long: the server keeps an open transaction in its cache,
 * and ends it after a minute (transactionLifetimeLimitSeconds).
 */
const MOST_OPEN_BYTES = 64 * 2 ** 20;
const LONGEST_OPEN_MS = 30_000;

const MOST_REFUSED = 5;

/** A source transaction of which the end has not come. */
interface OpenParts {
  readonly previous: Position;
  /** Null: it did not fit, what came is committed, and the checkpoint says so. */
  session: ClientSession | null;
  bytes: number;
  readonly since: number;
}

/**
 * Commits groups. A source transaction that is too large for one transaction of this server is committed in pieces behind a checkpoint that says
 * `dirty`: after a crash it comes again from there, is met leniently (what is there already counts as done, the last change of each
 * document wins), and nobody may rely on the sink before its end, since no checkpoint covers it.
 */
export class GroupCommitter {
  #open: OpenParts | null = null;
  /** The checkpoint was found dirty: lenient up to the end of the first group. */
  #dirty = false;
  /** Tables whose unique indexes refused an order in a transaction in parts, which then had to come again. */
  readonly #exact = new Set<string>();

  /** A transaction in parts did not fit into the server's cache: it comes again, and each part is then committed. */
  #pieces = false;
  /** Times in a row that the smallest thing there is to commit did not fit. */
  #refused = 0;

  /** What the checkpoint says after a connect. */
  restart(dirty: boolean): void {
    this.#dirty = dirty;
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
    this.#dirty = false;
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

  async #whole(stream: SinkStream, group: SinkGroup): Promise<void> {
    const exact = new Set<string>();
    for (;;) {
      try {
        await transact(stream.client, (session) => this.#write(stream, session, group, exact, 'end'));
        this.#refused = 0;
        return;
      } catch (error) {
        if (isTooLarge(error)) throw this.#tooLarge();
        if (error instanceof KeyTaken) throw await vacated(stream, error);
        if (!(error instanceof UniqueClash)) throw error;
        if (!stream.tryExactly(exact, error)) throw error.conflict;
      }
    }
  }

  async #part(stream: SinkStream, group: SinkGroup): Promise<void> {
    const { end, previous } = group;
    const inPieces = this.#pieces;
    try {
      const open = (this.#open ??= begin(stream, previous));
      open.bytes += sizeOf(group);
      const spills =
        inPieces || open.bytes > MOST_OPEN_BYTES || performance.now() - open.since > LONGEST_OPEN_MS;
      const checkpoint = end !== null ? 'end' : spills ? 'dirty' : 'hold';
      if (open.session === null) {
        await transact(stream.client, (session) =>
          this.#write(stream, session, group, this.#exact, checkpoint),
        );
      } else {
        await this.#write(stream, open.session, group, this.#exact, checkpoint);
        if (checkpoint !== 'hold') {
          const { session } = open;
          open.session = null;
          try {
            await commit(stream.client, session);
          } finally {
            await session.endSession();
          }
        }
      }
      if (inPieces) this.#refused = 0;
      if (end !== null) this.#open = null;
    } catch (error) {
      const alone = inPieces || this.#open?.session === null;
      await this.abandon().catch(() => undefined);
      if (isTooLarge(error)) {
        this.#pieces = true;
        if (alone) throw this.#tooLarge();
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

  /** Something that cannot be cut any smaller: the cache may be full of what others do, but not for ever. */
  #tooLarge(): VerdigrisError {
    this.#refused += 1;
    if (this.#refused < MOST_REFUSED)
      return new VerdigrisError(
        'SINK_TRANSIENT',
        'A transaction does not fit into the cache of the sink now.',
      );
    this.#refused = 0;
    return new VerdigrisError(
      'SINK_FAILED',
      `The cache of the sink is too small: it refused a transaction ${MOST_REFUSED} times (code 388).`,
      { remedy: 'Give the server more memory (storage.wiredTiger.engineConfig.cacheSizeGB); then resume.' },
    );
  }

  async #write(
    stream: SinkStream,
    session: ClientSession,
    group: SinkGroup,
    exact: ReadonlySet<string>,
    checkpoint: 'end' | 'dirty' | 'hold',
  ): Promise<void> {
    const { previous, end } = group;
    const set =
      checkpoint === 'end' && end !== null
        ? { position: end as string, crc: crcOf(stream.id, end), dirty: false }
        : checkpoint === 'dirty'
          ? { dirty: true }
          : {};
    const { matchedCount } = await stream.db
      .collection<CheckpointDocument>('checkpoint')
      .updateOne(
        { _id: stream.id, term: stream.term, position: previous },
        { $inc: { touched: 1 }, ...(Object.keys(set).length === 0 ? {} : { $set: set }) },
        { session },
      );
    if (matchedCount !== 1) throw stream.fenced();
    await applyRuns(group.runs, { ...stream.applying(session), lenient: this.#dirty, exact });
    await stream.writeHoles(session, group.holes);
  }
}

const begin = ({ client }: SinkStream, previous: Position): OpenParts => ({
  previous,
  session: beginTransaction(client),
  bytes: 0,
  since: performance.now(),
});

/** What becomes of a change that came to a key which is taken: again, where a range that is being copied gives it up. */
const vacated = async (stream: SinkStream, taken: KeyTaken): Promise<VerdigrisError> =>
  (await makeRoom(stream, taken))
    ? new VerdigrisError('SINK_TRANSIENT', 'A range that is being copied held the _id of another document.')
    : taken.conflict;

const isTooLarge = (error: unknown): boolean =>
  (error instanceof VerdigrisError ? error.context['serverCode'] : codeOfError(error)) ===
  SERVER_CODE.transactionTooLargeForCache;

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
    for (const row of after) {
      for (const cell of row) {
        if (cell instanceof Uint8Array) bytes += cell.byteLength;
        else if (cell instanceof DocumentDelta) {
          bytes += (cell.base?.length ?? 0) + cell.diffs.reduce((sum, diff) => sum + diff.length, 0);
        }
      }
    }
  }
  return bytes;
}
