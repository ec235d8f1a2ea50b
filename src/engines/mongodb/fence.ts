import type { MongoClient } from 'mongodb';
import type { SessionEnv } from '../../core/engine.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { FenceState, WriteFence } from '../../core/fence.ts';
import type { Position } from '../../core/position.ts';
import type { TableName } from '../../core/table.ts';
import { clusterId, outcomesKnown, writtenAt } from './cluster.ts';
import { translate, type Where } from './errors.ts';
import type { FenceProver } from './fence-proof.ts';
import { formatPosition } from './position.ts';
import { resumeExpiry } from './sink-finish.ts';
import { prepareState } from './state-database.ts';
import { endWriters, openWriters, setWriteBlock } from './write-block.ts';

interface FenceDocument {
  /** The migration. */
  readonly _id: string;
  readonly state: FenceState['state'];
  readonly epoch: number;
  /** The record says open, and the server may still block: whoever reads it finishes that. */
  readonly opening: boolean;
  readonly touched: number;
}

/** Bound of one administrative command that is given none. */
const ACT_MS = 30_000;

export interface FenceParts {
  readonly client: MongoClient;
  readonly env: SessionEnv;
  readonly tables: readonly TableName[];
  readonly where: Where;
  readonly prover: FenceProver;
}

/**
 * The fence is the server's own block of user writes (`setUserWriteBlockMode`), which holds for the whole replica set or cluster and for every user without
 * the right to pass it; ours has it. The record is a document on the same set. The record goes first: whoever finds it raised can
 * lower it, and who raised the block without the record lowers the block again.
 */
export class MongoFence implements WriteFence {
  readonly #parts: FenceParts;

  constructor(parts: FenceParts) {
    this.#parts = parts;
  }

  prepare(): Promise<void> {
    return this.#guarded(async () => {
      await prepareState(this.#db);
      await this.#records.updateOne(
        { _id: this.#id },
        { $setOnInsert: { state: 'open', epoch: 0, opening: false, touched: 0 } },
        { upsert: true },
      );
      await this.#parts.prover.prepare();
    });
  }

  raise(epoch: number, timeoutMs: number): Promise<Position> {
    return this.#guarded(async () => {
      await this.#finishOpening();
      await this.#refuseOthers();
      const raised = await this.#records.updateOne(
        {
          _id: this.#id,
          $or: [
            { state: 'open', epoch: { $lte: epoch } },
            { state: 'raised', epoch },
          ],
        },
        { $set: { state: 'raised', epoch, opening: false }, $inc: { touched: 1 } },
        { upsert: false },
      );
      if (raised.matchedCount !== 1) {
        throw this.#phase(await this.state(), epoch);
      }
      try {
        await this.#block(true, timeoutMs);
      } catch (error) {
        await this.#toOpen({ state: 'raised', epoch });
        throw error;
      }
      return this.#barrier(epoch);
    });
  }

  prove(): Promise<void> {
    return this.#guarded(() => this.#parts.prover.prove());
  }

  blockers(): Promise<readonly string[]> {
    return this.#guarded(async () => (await openWriters(this.#parts.client)).map(({ text }) => text));
  }

  kill(olderThanMs: number): Promise<number> {
    return this.#guarded(async () => {
      const { client } = this.#parts;
      const late = (await openWriters(client)).filter(({ openMs }) => openMs > olderThanMs);
      await endWriters(client, late);
      return late.length;
    });
  }

  seal(epoch: number): Promise<boolean> {
    return this.#guarded(async () => {
      const { matchedCount } = await this.#records.updateOne(
        { _id: this.#id, state: 'raised', epoch },
        { $set: { state: 'sealed' }, $inc: { touched: 1 } },
      );
      return matchedCount === 1;
    });
  }

  lower(epoch: number): Promise<boolean> {
    return this.#guarded(() => this.#toOpen({ state: 'raised', epoch }));
  }

  open(epoch: number): Promise<void> {
    return this.#guarded(async () => {
      const { client, env, tables } = this.#parts;
      const { matchedCount } = await this.#records.updateOne(
        { _id: this.#id, $or: [{ state: 'open' }, { epoch: { $lte: epoch } }] },
        { $set: { state: 'open', epoch, opening: true }, $inc: { touched: 1 } },
      );
      if (matchedCount !== 1) throw this.#phase(await this.state(), epoch);
      await resumeExpiry(client, env.stateSchema, tables);
      await this.#finishOpening();
    });
  }

  state(): Promise<FenceState> {
    return this.#guarded(async () => {
      await this.#finishOpening();
      const found = await this.#records.findOne({ _id: this.#id });
      return found === null ? { state: 'open', epoch: 0 } : { state: found.state, epoch: found.epoch };
    });
  }

  retire(): Promise<void> {
    return this.#guarded(async () => {
      const found = await this.#records.findOne({ _id: this.#id });
      if (found !== null && (found.state !== 'open' || found.opening)) await this.#block(false, ACT_MS);
      await this.#records.deleteOne({ _id: this.#id });
      await this.#parts.prover.retire();
    });
  }

  get #id(): string {
    return this.#parts.env.migration;
  }

  get #db() {
    return this.#parts.client.db(this.#parts.env.stateSchema);
  }

  get #records() {
    return this.#db.collection<FenceDocument>('fence');
  }

  #phase({ state, epoch: found }: FenceState, epoch: number): VerdigrisError {
    return new VerdigrisError(
      'CUTOVER_PHASE',
      `The fence is ${state} with epoch ${found}; epoch ${epoch} does not fit.`,
      {
        context: { state, epoch: found, wanted: epoch },
      },
    );
  }

  /** The record, then the block: who dies in between leaves `opening`, which the next reader finishes. */
  async #toOpen(from: { readonly state: 'raised'; readonly epoch: number }): Promise<boolean> {
    const { matchedCount } = await this.#records.updateOne(
      { _id: this.#id, ...from },
      { $set: { state: 'open', opening: true }, $inc: { touched: 1 } },
    );
    if (matchedCount !== 1) return false;
    await this.#finishOpening();
    return true;
  }

  async #finishOpening(): Promise<void> {
    const found = await this.#records.findOne({ _id: this.#id, opening: true });
    if (found === null) return;
    await this.#block(false, ACT_MS);
    await this.#records.updateOne(
      { _id: this.#id, opening: true, touched: found.touched },
      { $set: { opening: false } },
    );
  }

  /** A write after the block: everything that any user has written is in the log before it. */
  async #barrier(epoch: number): Promise<Position> {
    const { client } = this.#parts;
    await outcomesKnown(client);
    const reply = await this.#db.command({
      update: 'fence',
      updates: [{ q: { _id: this.#id, state: 'raised', epoch }, u: { $inc: { touched: 1 } } }],
      writeConcern: { w: 'majority', j: true },
    });
    if (Number(reply['n']) !== 1) {
      // Somebody lowered it while we were on our way, or stood still: the block must not stay.
      const now = await this.#records.findOne({ _id: this.#id });
      if (now?.state === 'open') await this.#block(false, ACT_MS);
      throw new VerdigrisError('STATE_CONFLICT', 'The fence was lowered by somebody else while it went up.');
    }
    return formatPosition({
      time: await writtenAt(client, reply),
      set: await clusterId(client),
      token: null,
    });
  }

  #block(global: boolean, timeoutMs: number): Promise<void> {
    return setWriteBlock(this.#parts.client, global, timeoutMs);
  }

  /** The block is one for the whole set: two migrations would open it for each other. */
  async #refuseOthers(): Promise<void> {
    const other = await this.#records.findOne({ _id: { $ne: this.#id }, state: { $ne: 'open' } });
    if (other === null) return;
    throw new VerdigrisError(
      'STATE_CONFLICT',
      `The migration ${other._id} has fenced this replica set or cluster, and there is one fence for all of it.`,
      { remedy: 'Finish or abort that migration first.' },
    );
  }

  async #guarded<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw translate(error, this.#parts.where, { fence: this.#id });
    }
  }
}
