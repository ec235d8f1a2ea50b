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
import { tableId, type Cell } from '../../core/table.ts';
import type { PostgresConfig } from './config.ts';
import { translate } from './errors.ts';
import { Applier } from './sink-applier.ts';
import {
  checkpointStatement,
  firstCheckpoint,
  holeStatements,
  partGuard,
  readCheckpoint,
} from './sink-checkpoint.ts';
import { ChunkSessions, openChunk } from './sink-chunk.ts';
import { deferIndexes } from './sink-defer.ts';
import { Durability } from './sink-durability.ts';
import { dropStale } from './sink-elements.ts';
import { finishDeferred, type FinishOptions } from './sink-finish.ts';
import { Layouts, type SinkLayout } from './sink-layout.ts';
import {
  Ghosts,
  openWire,
  plain,
  signature,
  sinkError,
  transact,
  unguardedBegin,
  type SinkStream,
} from './sink-session.ts';
import {
  defineRanges,
  dropHalves,
  ensureHalves,
  readHoles,
  readRanges,
  retireStream,
} from './sink-storage.ts';
import type { Wire } from './sink-wire.ts';
import { halvesTable, prepareState } from './state-tables.ts';

/** Makes the sink of one stream. Does no I/O; the first call connects. */
export function createSink(stream: {
  readonly config: PostgresConfig;
  readonly env: SessionEnv;
  readonly options: StreamOptions;
}): PostgresSink {
  return new PostgresSink(stream);
}

/** Writes groups, chunks and state to one PostgreSQL database under one term of the lease. */
export class PostgresSink implements Sink {
  readonly #stream: SinkStream;
  readonly #layouts = new Layouts();
  readonly #durability: Durability;
  readonly #ghosts: Ghosts;
  readonly #chunks: ChunkSessions;
  #wire: Wire | null = null;
  #applier: Applier | null = null;
  /** A transaction that came in parts is open, and builds on this position. */
  #open: Position | null = null;
  /** The connection was lost and nobody has asked for the checkpoint since. */
  #unsure = false;
  #fallbacks = 0;
  /** Tables whose statistics were gathered while others were still copied. */
  readonly #analyzed = new Set<string>();

  constructor(stream: SinkStream) {
    this.#stream = stream;
    this.#durability = new Durability(stream.config.session.synchronous_commit === 'on');
    this.#ghosts = new Ghosts(stream.env.migration);
    this.#chunks = new ChunkSessions(stream, this.#ghosts);
  }

  /** Groups (or parts) that needed the exact fallback, since the start. */
  get fallbacks(): number {
    return this.#fallbacks;
  }

  async prepare(tables: readonly TargetTable[]): Promise<void> {
    const wire = await this.#connected();
    await this.#guarded(() => prepareState(wire, this.#stream.env.stateSchema));
    this.#layouts.register(tables);
    await this.#guarded(() => ensureHalves(wire, this.#stream, tables));
  }

  /** Connects again after a loss. What it returns has been flushed by this call. */
  async checkpoint(): Promise<Position | null> {
    if (this.#wire?.lost === true || this.#unsure) await this.#drop();
    const wire = await this.#connected();
    return await this.#guarded(async () => {
      if (this.#open !== null) await this.#rollback(wire);
      await this.#ghosts.end(wire);
      await this.#force(wire);
      // Asked when the stream is opened anew: an operator may have mended the tables since.
      this.#forgetLayouts(wire);
      const position = await readCheckpoint(wire, this.#stream);
      if (position !== null) await this.#dropStale(wire);
      this.#durability.restart(position);
      this.#unsure = false;
      return position;
    });
  }

  async begin(start: Position): Promise<void> {
    const wire = await this.#ready();
    const outcomes = await transact(wire, this.#stream, [
      plain('SET LOCAL synchronous_commit = on'),
      firstCheckpoint(this.#stream, start),
    ]);
    if (outcomes[1]?.rows.length !== 1) {
      throw new VerdigrisError(
        'STATE_CONFLICT',
        `The stream ${this.#stream.env.migration} (${this.#stream.options.direction}) has a checkpoint already.`,
      );
    }
    this.#durability.restart(start);
  }

  async apply(group: SinkGroup): Promise<Position | null> {
    const wire = await this.#ready();
    const applier = this.#applier as Applier;
    const first = this.#open === null;
    const { end } = group;
    const context = {
      previous: group.previous,
      ...(end === null ? {} : { position: end }),
      term: this.#stream.options.term,
    };
    if (!first && this.#open !== group.previous) {
      throw new VerdigrisError(
        'INTERNAL',
        'A part was applied on top of a transaction that builds on another checkpoint.',
        { context },
      );
    }
    const force = this.#durability.due;
    const look = !force && this.#durability.lookDue;
    const wait = plain('SET LOCAL synchronous_commit = on');
    const guard =
      end === null || !first
        ? partGuard(this.#stream, group)
        : checkpointStatement(this.#stream, group, true);
    const open = first ? [...unguardedBegin(this.#stream), guard] : [];
    const close =
      end === null
        ? []
        : [
            ...(first ? [] : [checkpointStatement(this.#stream, group, false)]),
            ...(force ? [wait] : []),
            plain('COMMIT'),
            ...(look ? [Durability.look] : []),
          ];
    await this.#stream.env.failpoints.hit('sink.before-group');
    try {
      const outcomes = await applier.apply(group.runs, {
        open,
        also: holeStatements(this.#stream, group.holes),
        close,
        context,
      });
      this.#open = end === null ? group.previous : null;
      if (end !== null) {
        if (force) this.#durability.hard(end);
        else this.#durability.soft(end, look ? outcomes.at(-1) : undefined);
      }
    } catch (error) {
      this.#afterFailure(wire, applier);
      throw error;
    }
    if (end !== null) await this.#stream.env.failpoints.hit('sink.after-commit');
    return this.#durability.durable;
  }

  async flush(): Promise<Position> {
    const wire = await this.#ready();
    const { committed, durable } = this.#durability;
    if (committed === null) throw new VerdigrisError('INTERNAL', 'There is no checkpoint to flush yet.');
    if (committed !== durable && this.#open === null) {
      await this.#guarded(() => this.#force(wire));
      this.#durability.hard(committed);
    }
    return this.#durability.durable ?? committed;
  }

  /** From here on every commit is waited for. Called before the fence; what was committed before is flushed. */
  async harden(): Promise<void> {
    const wire = await this.#ready();
    this.#durability.harden();
    this.#chunks.harden();
    if (this.#open === null) {
      await this.#guarded(() => wire.one('SET synchronous_commit = on'));
      await this.flush();
    }
  }

  async abandon(): Promise<void> {
    const wire = this.#wire;
    if (wire === null || this.#open === null) return;
    if (wire.lost) await this.#drop();
    else await this.#guarded(() => this.#rollback(wire));
  }

  async prepareCopy(tables: readonly TargetTable[]): Promise<void> {
    const wire = await this.#ready();
    this.#layouts.register(tables);
    await this.#guarded(() => deferIndexes(wire, this.#stream, tables));
    this.#forgetLayouts(wire);
  }

  async defineRanges(unit: string, boundaries: readonly Cell[], upto?: Position): Promise<void> {
    const wire = await this.#ready();
    const ranges = { unit, boundaries, upto: upto ?? null };
    await this.#guarded(() => defineRanges(wire, this.#stream, ranges));
  }

  async ranges(): Promise<readonly RangeState[]> {
    const wire = await this.#ready();
    return await this.#guarded(async () => {
      await this.#ghosts.end(wire);
      return await readRanges(wire, this.#stream);
    });
  }

  async holes(): Promise<readonly Hole[]> {
    const wire = await this.#ready();
    return await this.#guarded(() => readHoles(wire, this.#stream));
  }

  openChunk(target: ChunkTarget, signal: AbortSignal): Promise<ChunkWriter> {
    this.#layouts.registerNew(target.tables);
    return openChunk({
      stream: this.#stream,
      sessions: this.#chunks,
      layouts: this.#layouts,
      storage: this.#storage,
      onFallback: this.#countFallback,
      target,
      signal,
    });
  }

  async finishTables(tables: readonly TargetTable[], signal: AbortSignal): Promise<void> {
    await this.#finish(tables, () => undefined, signal, { early: true });
    for (const { relation } of tables) this.#analyzed.add(tableId(relation.table));
  }

  finishCopy(
    tables: readonly TargetTable[],
    progress: (step: FinishStep) => void,
    signal: AbortSignal,
  ): Promise<void> {
    return this.#finish(tables, progress, signal, { analyzed: this.#analyzed });
  }

  async #finish(
    tables: readonly TargetTable[],
    progress: (step: FinishStep) => void,
    signal: AbortSignal,
    options: FinishOptions,
  ): Promise<void> {
    try {
      await finishDeferred(this.#stream, tables, progress, signal, options);
    } finally {
      if (this.#wire !== null && !this.#wire.lost) this.#forgetLayouts(this.#wire);
    }
  }

  async retire(): Promise<void> {
    await this.abandon();
    const wire = await this.#connected();
    await this.#guarded(async () => {
      await dropHalves(wire, this.#stream);
      await retireStream(wire, this.#stream);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#chunks[Symbol.asyncDispose]();
    await this.#drop();
  }

  /** What is kept of arrays is only true as long as nobody but this stream writes them. */
  async #dropStale(wire: Wire): Promise<void> {
    for (const { relation, parent } of this.#layouts.elements) {
      const applier = this.#applier as Applier;
      const places = [await applier.place({ relation }), await applier.place({ relation: parent })] as const;
      await transact(wire, this.#stream, [dropStale(...places)]);
    }
  }

  readonly #storage = (layout: SinkLayout): string =>
    halvesTable(
      this.#stream.env.stateSchema,
      { migration: this.#stream.env.migration, direction: this.#stream.options.direction },
      layout.table,
    );

  readonly #countFallback = (tables: readonly string[]): void => {
    this.#fallbacks += 1;
    this.#stream.env.log.debug({ tables: tables.length }, 'exact fallback on a constraint error');
  };

  /** The connection, while nothing is unsure about what stands on the server. */
  #ready(): Promise<Wire> {
    if (this.#unsure || this.#wire?.lost === true) {
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

  async #connected(): Promise<Wire> {
    if (this.#wire !== null && !this.#wire.lost) return this.#wire;
    const wire = await openWire(this.#stream, 'apply', this.#durability.synchronous);
    this.#wire = wire;
    this.#applier = new Applier(wire, {
      layouts: this.#layouts,
      storage: this.#storage,
      replica: this.#stream.config.session.session_replication_role === 'replica',
      onFallback: this.#countFallback,
    });
    return wire;
  }

  async #drop(): Promise<void> {
    const wire = this.#wire;
    this.#wire = null;
    this.#applier = null;
    this.#open = null;
    if (wire?.lost === true) this.#ghosts.add(wire);
    await wire?.[Symbol.asyncDispose]();
  }

  async #rollback(wire: Wire): Promise<void> {
    await wire.one('ROLLBACK');
    this.#open = null;
    this.#applier?.reset();
  }

  /**
   * A commit that is waited for hardens every earlier one. It needs a record in the log before it: a transaction that has only a
   * transaction id is committed without a flush, whatever synchronous_commit says (RecordTransactionCommit, seen with 18).
   */
  async #force(wire: Wire): Promise<void> {
    await wire.run([
      plain('BEGIN'),
      plain('SET LOCAL synchronous_commit = on'),
      plain(`SELECT ${signature(this.#stream)}`),
      plain('COMMIT'),
    ]);
  }

  #afterFailure(wire: Wire, applier: Applier): void {
    if (wire.lost) {
      this.#unsure = true;
      this.#open = null;
    } else if (!wire.inTransaction) {
      this.#open = null;
      applier.reset();
    }
  }

  /** Layouts changed under us: plans and what is known about foreign keys are stale. */
  #forgetLayouts(wire: Wire): void {
    this.#layouts.forget();
    wire.forgetPlans();
  }

  async #guarded<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (this.#wire?.lost === true) this.#unsure = true;
      throw error instanceof VerdigrisError
        ? error
        : error instanceof Error && 'index' in error
          ? sinkError(error, 0)
          : translate(error, 'sink');
    }
  }
}
