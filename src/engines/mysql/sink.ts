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
import type { Link } from './connect.ts';
import { Applier } from './sink-applier.ts';
import { ChunkSessions, openChunk } from './sink-chunk.ts';
import { deferIndexes, finishDeferred } from './sink-finish.ts';
import { Layouts } from './sink-layout.ts';
import { Ghosts, guarded, openSinkLink, sinkError } from './sink-session.ts';
import {
  checkpointStatement,
  defineRanges,
  readCheckpoint,
  readHoles,
  readRanges,
  retireStream,
  writeFirstCheckpoint,
  waitingPlace,
  writeHoles,
  type SinkStream,
} from './sink-storage.ts';
import { prepareWaiting } from './sink-waiting.ts';
import { registerSession } from './sessions.ts';
import { prepareState } from './state-tables.ts';

/** Writes groups, chunks and state to one database under one term of the lease. Every commit is as durable as the server's own are. */
export class MysqlSink implements Sink {
  readonly #stream: SinkStream;
  readonly #layouts: Layouts;
  readonly #ghosts = new Ghosts();
  readonly #chunks: ChunkSessions;
  #link: Link | null = null;
  #applier: Applier | null = null;
  /** A transaction that came in parts is open, and builds on this position. */
  #open: Position | null = null;
  /** The connection was lost and nobody has asked for the checkpoint since. */
  #unsure = false;
  #committed: Position | null = null;
  #fallbacks = 0;

  constructor(stream: SinkStream) {
    this.#stream = stream;
    this.#layouts = new Layouts(waitingPlace(stream));
    this.#chunks = new ChunkSessions(stream, this.#ghosts);
  }

  get fallbacks(): number {
    return this.#fallbacks;
  }

  async prepare(tables: readonly TargetTable[]): Promise<void> {
    this.#layouts.register(tables);
    const link = await this.#connected();
    const { env, options } = this.#stream;
    await this.#attempt(async () => {
      await prepareState(link, env.stateSchema);
      await registerSession(link, { ...env, term: options.term });
      for (const { target, waiting } of this.#layouts.merged) await prepareWaiting(link, target, waiting);
    });
  }

  async checkpoint(): Promise<Position | null> {
    if (this.#link?.lost === true || this.#unsure) await this.#drop();
    const link = await this.#connected();
    return await this.#attempt(async () => {
      if (this.#open !== null) await this.#rollback(link);
      await this.#ghosts.end(link);
      // Asked when the stream is opened anew: an operator may have mended the tables since.
      this.#layouts.forget();
      for (const { target, waiting } of this.#layouts.merged) await prepareWaiting(link, target, waiting);
      this.#committed = await readCheckpoint(link, this.#stream);
      this.#unsure = false;
      return this.#committed;
    });
  }

  async begin(start: Position): Promise<void> {
    const link = await this.#ready();
    await this.#attempt(async () => {
      let written = false;
      await guarded(link, this.#stream, async () => {
        written = await writeFirstCheckpoint(link, this.#stream, start);
      });
      if (!written)
        throw new VerdigrisError(
          'STATE_CONFLICT',
          `The stream ${this.#stream.env.migration} (${this.#stream.options.direction}) has a checkpoint already.`,
        );
      this.#committed = start;
    });
  }

  async apply(group: SinkGroup): Promise<Position | null> {
    const link = await this.#ready();
    const applier = this.#applier as Applier;
    const first = this.#open === null;
    const context = {
      previous: group.previous,
      ...(group.end === null ? {} : { position: group.end }),
      term: this.#stream.options.term,
    };
    if (!first && this.#open !== group.previous)
      throw new VerdigrisError(
        'INTERNAL',
        'A part was applied on top of a transaction that builds on another checkpoint.',
        {
          context,
        },
      );
    await this.#stream.env.failpoints.hit('sink.before-group');
    try {
      if (first) {
        await link.run('START TRANSACTION');
        await this.#guard(link, { ...group, end: group.end });
      }
      await applier.apply(group.runs);
      await writeHoles(link, this.#stream, group.holes);
      if (!first && group.end !== null) await this.#guard(link, group);
      if (group.end === null) {
        this.#open = group.previous;
        return this.#committed;
      }
      await this.#stream.env.failpoints.hit('sink.before-commit');
      await link.run('COMMIT');
      this.#open = null;
      this.#committed = group.end;
    } catch (error) {
      await this.#afterFailure(link);
      throw sinkError(error, context);
    }
    await this.#stream.env.failpoints.hit('sink.after-commit');
    return group.end;
  }

  /** Fails on the server when the lease or the checkpoint is not ours. */
  async #guard(link: Link, group: SinkGroup): Promise<void> {
    const { affected } = await link.run(checkpointStatement(this.#stream, group));
    if (affected !== 1)
      throw new VerdigrisError('STATE_FORMAT', 'The checkpoint of this stream is gone from the sink.');
  }

  async flush(): Promise<Position> {
    await this.#ready();
    if (this.#committed === null)
      throw new VerdigrisError('INTERNAL', 'There is no checkpoint to flush yet.');
    return this.#committed;
  }

  async abandon(): Promise<void> {
    const link = this.#link;
    if (link === null || this.#open === null) return;
    if (link.lost) await this.#drop();
    else await this.#attempt(() => this.#rollback(link));
  }

  async prepareCopy(tables: readonly TargetTable[]): Promise<void> {
    const link = await this.#ready();
    this.#layouts.register(tables);
    await this.#attempt(() => deferIndexes(link, this.#stream, tables));
    this.#layouts.forget();
  }

  async defineRanges(unit: string, boundaries: readonly Cell[], upto?: Position): Promise<void> {
    const link = await this.#ready();
    await this.#attempt(() =>
      guarded(link, this.#stream, () =>
        defineRanges(link, this.#stream, { unit, boundaries, upto: upto ?? null }),
      ),
    );
  }

  async ranges(): Promise<readonly RangeState[]> {
    const link = await this.#ready();
    return await this.#attempt(async () => {
      await this.#ghosts.end(link);
      return await readRanges(link, this.#stream);
    });
  }

  async holes(): Promise<readonly Hole[]> {
    const link = await this.#ready();
    return await this.#attempt(() => readHoles(link, this.#stream));
  }

  openChunk(target: ChunkTarget, signal: AbortSignal): Promise<ChunkWriter> {
    return openChunk({
      stream: this.#stream,
      sessions: this.#chunks,
      layouts: this.#layouts,
      onFallback: this.#countFallback,
      target,
      signal,
    });
  }

  async finishCopy(
    tables: readonly TargetTable[],
    progress: (step: FinishStep) => void,
    signal: AbortSignal,
  ): Promise<void> {
    using _ = this.#layouts.building();
    try {
      await finishDeferred(this.#stream, tables, progress, signal);
    } catch (error) {
      signal.throwIfAborted();
      throw sinkError(error);
    }
  }

  async retire(): Promise<void> {
    await this.abandon();
    const link = await this.#connected();
    await this.#attempt(() => retireStream(link, this.#stream));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#chunks[Symbol.asyncDispose]();
    await this.#drop();
  }

  readonly #countFallback = (tables: readonly string[]): void => {
    this.#fallbacks += 1;
    this.#stream.env.log.debug({ tables: tables.length }, 'exact fallback on a duplicate key');
  };

  /** The connection, while nothing is unsure about what stands on the server. */
  #ready(): Promise<Link> {
    if (this.#unsure || this.#link?.lost === true) {
      this.#unsure = true;
      return Promise.reject(
        new VerdigrisError(
          'SINK_LOST',
          'The connection to the sink was lost; its checkpoint has to be read again.',
        ),
      );
    }
    return this.#connected();
  }

  async #connected(): Promise<Link> {
    if (this.#link !== null && !this.#link.lost) return this.#link;
    const link = await openSinkLink(this.#stream, 'apply');
    this.#link = link;
    this.#applier = new Applier(link, { layouts: this.#layouts, onFallback: this.#countFallback });
    return link;
  }

  async #drop(): Promise<void> {
    const link = this.#link;
    this.#link = null;
    this.#applier = null;
    this.#open = null;
    if (link?.lost === true) this.#ghosts.add(link);
    await link?.[Symbol.asyncDispose]();
  }

  async #rollback(link: Link): Promise<void> {
    await link.run('ROLLBACK');
    this.#open = null;
  }

  async #afterFailure(link: Link): Promise<void> {
    this.#open = null;
    if (!link.lost) await link.run('ROLLBACK').catch(() => link.destroy());
    if (link.lost) this.#unsure = true;
  }

  async #attempt<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (this.#link?.lost === true) this.#unsure = true;
      throw sinkError(error);
    }
  }
}
