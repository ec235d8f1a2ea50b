import type { ClientSession, Db, Document, MongoClient } from 'mongodb';
import type { SessionEnv } from '../../core/engine.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { PHASES, type JournalEvent, type Phase, type RunRecord, type StateStore } from '../../core/state.ts';
import { SERVER_CODE, codeOfError, translate } from './errors.ts';
import { endOlderTerms } from './lease.ts';
import { rangesOf } from './sink-storage.ts';
import {
  dropStateIfEmpty,
  hasState,
  prepareState,
  transactAgain,
  streamId,
  type CheckpointDocument,
  type LeaseDocument,
} from './state-database.ts';

interface RunDocument {
  readonly _id: string;
  readonly phase: string;
  readonly epoch: number;
  readonly activeSide: string;
  readonly planHash: string;
  /** JSON: names in it may have dots. */
  readonly detail: string;
  readonly revision: number;
}

interface EventDocument {
  readonly _id: string;
  readonly run: string;
  readonly sequence: number;
  readonly at: Date;
  readonly event: string;
  readonly detail: string;
}

/** Runs, leases and the journal, in our database of one side. */
export class MongoStateStore implements StateStore {
  readonly #client: MongoClient;
  readonly #db: Db;

  constructor(client: MongoClient, env: SessionEnv) {
    this.#client = client;
    this.#db = client.db(env.stateSchema);
  }

  prepare(): Promise<void> {
    return this.#guarded(() => prepareState(this.#db));
  }

  acquire(
    id: string,
    holder: string,
    options: { readonly ttlMs: number; readonly takeover: boolean },
  ): Promise<number> {
    return this.#guarded(async () => {
      const leases = this.#db.collection<LeaseDocument>('lease');
      const expires = { $add: ['$$NOW', options.ttlMs] };
      for (;;) {
        const free = { $or: [{ $lte: ['$expires', '$$NOW'] }, { $eq: ['$holder', { $literal: holder }] }] };
        const takable = options.takeover ? { _id: id } : { _id: id, $expr: free };
        // A killed engine leaves its transactions open, and they may have written the lease: taking it would wait a minute for them.
        const found = await leases.findOne(takable);
        if (found !== null) await endOlderTerms(this.#client, id, found.term + 1, true);
        const taken = await leases.findOneAndUpdate(
          takable,
          [
            {
              $set: {
                term: { $add: ['$term', 1] },
                holder: { $literal: holder },
                ttl: options.ttlMs,
                expires,
              },
            },
          ],
          { returnDocument: 'after' },
        );
        if (taken !== null) {
          await this.#takeOver(id, taken.term);
          return taken.term;
        }
        const known = await leases.findOne({ _id: id });
        if (known !== null) {
          throw new VerdigrisError('STATE_LEASE_HELD', `Migration ${id} is run by ${known.holder}.`, {
            context: { holder: known.holder, term: known.term },
          });
        }
        try {
          await leases.insertOne({ _id: id, term: 0, holder, ttl: options.ttlMs, expires: new Date(0) });
        } catch (error) {
          if (codeOfError(error) !== SERVER_CODE.duplicateKey) throw error;
        }
      }
    });
  }

  /** From here on nothing of an older term can be committed: neither what is under way nor what a frozen engine sends later. */
  async #takeOver(id: string, term: number): Promise<void> {
    await endOlderTerms(this.#client, id, term);
    const streams = ['forward', 'reverse'].map((direction) => streamId(id, direction));
    await this.#db
      .collection<CheckpointDocument>('checkpoint')
      .updateMany({ _id: { $in: streams }, term: { $lt: term } }, { $set: { term }, $inc: { touched: 1 } });
    await rangesOf(this.#db).updateMany(
      { stream: { $in: streams }, attempt: { $ne: null } },
      { $set: { attempt: null }, $inc: { writes: 1 } },
    );
  }

  renew(id: string, term: number): Promise<boolean> {
    return this.#guarded(async () => {
      const { matchedCount } = await this.#db
        .collection<LeaseDocument>('lease')
        .updateOne({ _id: id, term }, [{ $set: { expires: { $add: ['$$NOW', '$ttl'] } } }]);
      return matchedCount === 1;
    });
  }

  async release(id: string, term: number): Promise<void> {
    await this.#guarded(() =>
      this.#db
        .collection<LeaseDocument>('lease')
        .updateOne({ _id: id, term }, { $set: { expires: new Date(0) } }),
    );
  }

  load(id: string): Promise<RunRecord | null> {
    return this.#guarded(async () => {
      const found = await this.#db.collection<RunDocument>('run').findOne({ _id: id });
      return found === null ? null : recordOf(found);
    });
  }

  save(next: RunRecord, term: number): Promise<RunRecord> {
    const { id, detail, revision: before, ...rest } = next;
    const revision = before + 1;
    const conflict = (): VerdigrisError =>
      new VerdigrisError(
        'STATE_CONFLICT',
        `The record of ${id} is not at revision ${before} under term ${term}.`,
        {
          context: { revision: before, term },
        },
      );
    return this.#guarded(() =>
      transactAgain(this.#client, async (session) => {
        if (!(await holdLease(this.#db, session, id, term))) throw conflict();
        const runs = this.#db.collection<RunDocument>('run');
        const document = { ...rest, detail: JSON.stringify(detail), revision };
        if (before === 0) {
          if ((await runs.findOne({ _id: id }, { session })) !== null) throw conflict();
          await runs.insertOne({ _id: id, ...document }, { session });
        } else {
          const { matchedCount } = await runs.updateOne(
            { _id: id, revision: before },
            { $set: document },
            { session },
          );
          if (matchedCount !== 1) throw conflict();
        }
        return { ...next, revision };
      }),
    );
  }

  async note(id: string, event: string, detail: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#guarded(async () => {
      const counted = await this.#db
        .collection<{ _id: string; last: number }>('sequence')
        .findOneAndUpdate({ _id: id }, { $inc: { last: 1 } }, { upsert: true, returnDocument: 'after' });
      const sequence = counted?.last ?? 1;
      await this.#db.collection<EventDocument>('journal').updateOne(
        { _id: `${id}/${sequence}` },
        [
          {
            $set: {
              run: { $literal: id },
              sequence,
              at: '$$NOW',
              event: { $literal: event },
              detail: { $literal: JSON.stringify(detail) },
            },
          },
        ],
        { upsert: true },
      );
    });
  }

  events(id: string, after: number, limit: number): Promise<readonly JournalEvent[]> {
    return this.#guarded(async () => {
      const found = await this.#db
        .collection<EventDocument>('journal')
        .find({ run: id, sequence: { $gt: after } })
        .sort({ sequence: 1 })
        .limit(limit)
        .toArray();
      return found.map(({ sequence, at, event, detail }) => ({
        sequence,
        at: at.toISOString(),
        event,
        detail: JSON.parse(detail) as Record<string, unknown>,
      }));
    });
  }

  async retire(id: string): Promise<void> {
    await this.#guarded(async () => {
      if (!(await hasState(this.#db))) return;
      const db = this.#db;
      await db.collection<Document & { _id: string }>('run').deleteOne({ _id: id });
      await db.collection<Document & { _id: string }>('lease').deleteOne({ _id: id });
      await db.collection<Document & { _id: string }>('sequence').deleteOne({ _id: id });
      await db.collection('journal').deleteMany({ run: id });
      for (const name of ['verify_round', 'verify_table', 'verify_difference'] as const)
        await db.collection(name).deleteMany({ run: id });
      await dropStateIfEmpty(db);
    });
  }

  async #guarded<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw translate(error, 'state', { database: this.#db.databaseName });
    }
  }
}

/**
 * Whether the lease is still of this term. Written, not only read: a takeover and the transaction this is called in must meet, and the later
 * of the two then sees the other.
 */
export async function holdLease(db: Db, session: ClientSession, id: string, term: number): Promise<boolean> {
  const { matchedCount } = await db
    .collection<LeaseDocument & { held: number }>('lease')
    .updateOne({ _id: id, term }, { $inc: { held: 1 } }, { session });
  return matchedCount === 1;
}

function recordOf({ _id, phase, activeSide, detail, epoch, planHash, revision }: RunDocument): RunRecord {
  if (!(PHASES as readonly string[]).includes(phase) || (activeSide !== 'blue' && activeSide !== 'green')) {
    throw new VerdigrisError(
      'STATE_FORMAT',
      `The record of ${_id} holds a phase or side that this version does not know.`,
      { context: { phase, activeSide } },
    );
  }
  return {
    id: _id,
    phase: phase as Phase,
    epoch,
    activeSide,
    planHash,
    detail: JSON.parse(detail) as Record<string, unknown>,
    revision,
  };
}
