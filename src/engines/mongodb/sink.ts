import type { MongoClient } from 'mongodb';
import type { SessionEnv, StreamOptions } from '../../core/engine.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { TargetTable } from '../../core/plan.ts';
import type { Position } from '../../core/position.ts';
import type {
  ChunkTarget,
  ChunkWriter,
  FinishStep,
  Hole,
  RangeState,
  Sink,
  SinkGroup,
} from '../../core/sink.ts';
import type { Cell } from '../../core/table.ts';
import { serverVersion } from './catalog.ts';
import type { MongoConfig } from './config.ts';
import { appName, connect } from './connect.ts';
import { SERVER_CODE, codeOfError, translate } from './errors.ts';
import { endOlderTerms } from './lease.ts';
import { openChunk } from './sink-chunk.ts';
import { buildIndexes, deferIndexes } from './sink-finish.ts';
import { GroupCommitter } from './sink-group.ts';
import { holdLease } from './state.ts';
import { defineRanges, readHoles, readRanges } from './sink-storage.ts';
import { SinkStream } from './sink-stream.ts';
import { dropWaiting, prepareWaiting } from './sink-waiting.ts';
import {
  crcOf,
  dropStateIfEmpty,
  forgetSide,
  noteSide,
  positionOf,
  prepareState,
  streamId,
  transactAgain,
  untilOf,
  type CheckpointDocument,
} from './state-database.ts';

/** Makes the sink of one stream. Does no I/O; the first call connects. */
export const createSink = (parts: {
  readonly config: MongoConfig;
  readonly env: SessionEnv;
  readonly options: StreamOptions;
}): Sink => new MongoSink(parts);

/** From this version on a command can say that an empty timestamp is data. */
const KEEPS_TIMESTAMPS = [8, 1] as const;

/** Writes groups, chunks and state to one replica set under one term of the lease. Every commit is on a majority when it returns. */
class MongoSink implements Sink {
  readonly #config: MongoConfig;
  readonly #env: SessionEnv;
  readonly #options: StreamOptions;
  #stream: SinkStream | null = null;
  #committed: Position | null = null;
  readonly #committer = new GroupCommitter();

  constructor(parts: { config: MongoConfig; env: SessionEnv; options: StreamOptions }) {
    this.#config = parts.config;
    this.#env = parts.env;
    this.#options = parts.options;
  }

  get fallbacks(): number {
    return this.#stream?.fallbacks ?? 0;
  }

  prepare(tables: readonly TargetTable[]): Promise<void> {
    return this.#with(async ({ db, id }) => {
      await prepareState(db);
      await prepareWaiting(db, id, tables);
      await noteSide(db, this.#env.migration, this.#env.side);
    });
  }

  /**
   * Claims the checkpoint for this term, by a write: a transaction of an older term, or of ours whose outcome is not known, either was
   * committed before and is seen here, or fails.
   */
  checkpoint(): Promise<Position | null> {
    return this.#with(async (stream) => {
      await this.#committer.abandon().catch(() => undefined);
      const { client, db, id, term } = stream;
      await endOlderTerms(client, this.#env.migration, term);
      const checkpoints = db.collection<CheckpointDocument>('checkpoint');
      const found = await transactAgain(client, async (session) => {
        // Whoever has no right to write may still look; its groups are refused.
        if (!(await holdLease(db, session, this.#env.migration, term)))
          return checkpoints.findOne({ _id: id }, { session });
        return checkpoints.findOneAndUpdate(
          { _id: id, term: { $lte: term } },
          { $set: { term }, $inc: { touched: 1 } },
          { session, returnDocument: 'after' },
        );
      });
      if (found === null) {
        this.#committed = null;
        return null;
      }
      this.#committer.restart(found.dirty, untilOf(found));
      this.#committed = positionOf(found);
      return this.#committed;
    });
  }

  begin(start: Position): Promise<void> {
    return this.#with(async (stream) => {
      const { client, db, id, term } = stream;
      try {
        await transactAgain(client, async (session) => {
          await stream.holdLease(session);
          await db
            .collection<CheckpointDocument>('checkpoint')
            .insertOne(
              { _id: id, term, position: start, crc: crcOf(id, start), dirty: false, touched: 0 },
              { session },
            );
        });
      } catch (error) {
        if (codeOfError(error) !== SERVER_CODE.duplicateKey) throw error;
        throw new VerdigrisError('STATE_CONFLICT', `The stream ${id} has a checkpoint already.`);
      }
      this.#committed = start;
    });
  }

  async apply(group: SinkGroup): Promise<Position | null> {
    const { failpoints } = this.#env;
    await failpoints.hit('sink.before-group');
    await this.#with((stream) => this.#committer.apply(stream, group));
    const { end } = group;
    if (end === null) return this.#committed;
    this.#committed = end;
    await failpoints.hit('sink.after-commit');
    return end;
  }

  flush(): Promise<Position> {
    if (this.#committed === null)
      throw new VerdigrisError('INTERNAL', 'There is no checkpoint to flush yet.');
    return Promise.resolve(this.#committed);
  }

  abandon(): Promise<void> {
    return this.#committer.abandon();
  }

  prepareCopy(tables: readonly TargetTable[]): Promise<void> {
    return this.#with((stream) => deferIndexes(stream, tables));
  }

  defineRanges(unit: string, boundaries: readonly Cell[], upto?: Position): Promise<void> {
    return this.#with((stream) =>
      transactAgain(stream.client, async (session) => {
        await stream.holdLease(session);
        await defineRanges(stream.db, session, {
          stream: stream.id,
          unit,
          boundaries,
          upto: upto ?? null,
        });
      }),
    );
  }

  ranges(): Promise<readonly RangeState[]> {
    return this.#with(({ db, id }) => readRanges(db, id));
  }

  holes(): Promise<readonly Hole[]> {
    return this.#with(({ db, id }) => readHoles(db, id));
  }

  openChunk(target: ChunkTarget, signal: AbortSignal): Promise<ChunkWriter> {
    return this.#with((stream) => openChunk(stream, target, signal));
  }

  finishCopy(
    tables: readonly TargetTable[],
    progress: (step: FinishStep) => void,
    signal: AbortSignal,
  ): Promise<void> {
    return this.#with((stream) => buildIndexes(stream, tables, progress, signal));
  }

  retire(): Promise<void> {
    return this.#with(async ({ db, id }) => {
      await db.collection<CheckpointDocument>('checkpoint').deleteOne({ _id: id });
      for (const name of ['ranges', 'written', 'holes', 'deferred'] as const)
        await db.collection(name).deleteMany({ stream: id });
      await dropWaiting(db, id);
      await forgetSide(db, this.#env.migration);
      await dropStateIfEmpty(db);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const stream = this.#stream;
    this.#stream = null;
    await this.#committer.abandon().catch(() => undefined);
    await stream?.client.close();
  }

  async #with<T>(work: (stream: SinkStream) => Promise<T>): Promise<T> {
    try {
      return await work((this.#stream ??= await this.#connect()));
    } catch (error) {
      throw translate(error, 'sink');
    }
  }

  async #connect(): Promise<SinkStream> {
    const { migration, stateSchema } = this.#env;
    const { direction, term } = this.#options;
    const client: MongoClient = await connect(this.#config, { appName: appName(migration, direction, term) });
    const [major = 0, minor = 0] = (await serverVersion(client)).split('.').map(Number);
    const keepTimestamps =
      major > KEEPS_TIMESTAMPS[0] || (major === KEEPS_TIMESTAMPS[0] && minor >= KEEPS_TIMESTAMPS[1]);
    return new SinkStream({
      client,
      db: client.db(stateSchema),
      migration,
      id: streamId(migration, direction),
      term,
      keepTimestamps,
      log: this.#env.log,
    });
  }
}
