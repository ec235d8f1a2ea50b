import { PassThrough } from 'node:stream';
import type { RowRun } from '../../core/change.ts';
import { asVerdigrisError, VerdigrisError } from '../../core/errors.ts';
import type { TargetTable } from '../../core/plan.ts';
import type { Position } from '../../core/position.ts';
import type { ChunkTarget, ChunkWriter, HoleChanges } from '../../core/sink.ts';
import { showTable, tableId, type TableName } from '../../core/table.ts';
import { binaryAlike } from './copy-binary.ts';
import { translate } from './errors.ts';
import { Applier } from './sink-applier.ts';
import { holeStatements } from './sink-checkpoint.ts';
import { copyChunks, execute } from './sink-execute.ts';
import type { Layouts, Place, SinkLayout } from './sink-layout.ts';
import { stepsFor } from './sink-program.ts';
import { beginStatements, type Ghosts, openWire, plain, sinkError, type SinkStream } from './sink-session.ts';
import { createTwin } from './sink-shadow.ts';
import { dropStage, hasLiveUnique, stagePlace, unstageSteps } from './sink-stage.ts';
import { columnList } from './sink-statements.ts';
import { BatchFailure, type Wire } from './sink-wire.ts';
import { stateTable } from './state-tables.ts';

/** Connections of chunks that are between two chunks. Opening one costs some 10 ms; the caller bounds how many are in use. */
export class ChunkSessions implements AsyncDisposable {
  readonly #stream: SinkStream;
  readonly #idle: Wire[] = [];
  readonly #busy = new Set<Wire>();
  readonly #ghosts: Ghosts;
  #durable: boolean;
  #closed = false;

  constructor(stream: SinkStream, ghosts: Ghosts) {
    this.#stream = stream;
    this.#ghosts = ghosts;
    this.#durable = stream.config.session.synchronous_commit === 'on';
  }

  get durable(): boolean {
    return this.#durable;
  }

  harden(): void {
    this.#durable = true;
  }

  async take(): Promise<Wire> {
    let wire = this.#idle.pop();
    while (wire?.lost === true) wire = this.#idle.pop();
    wire ??= await openWire(this.#stream, 'chunk', this.#durable);
    this.#busy.add(wire);
    try {
      await this.#ghosts.end(wire);
    } catch (error) {
      await this.give(wire);
      throw error;
    }
    return wire;
  }

  /** Back from a chunk; only an idle session outside a transaction is kept. */
  async give(wire: Wire): Promise<void> {
    this.#busy.delete(wire);
    if (wire.lost) this.#ghosts.add(wire);
    if (this.#closed || wire.lost || wire.inTransaction) await wire[Symbol.asyncDispose]();
    else this.#idle.push(wire);
  }

  /** Ends everything; a chunk that is still open fails and is rolled back. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const wire of this.#busy) wire.destroy();
    await Promise.all(this.#idle.splice(0).map((wire) => wire[Symbol.asyncDispose]()));
  }
}

export interface ChunkOptions {
  readonly stream: SinkStream;
  readonly sessions: ChunkSessions;
  readonly layouts: Layouts;
  readonly storage: (layout: SinkLayout) => string;
  readonly onFallback: (tables: readonly string[]) => void;
  readonly target: ChunkTarget;
  readonly signal: AbortSignal;
}

/** Opens the transaction of one range. @throws VerdigrisError SINK_FENCED when the lease is not ours */
export async function openChunk(options: ChunkOptions): Promise<ChunkWriter> {
  const { stream, sessions, layouts, storage, onFallback, target, signal } = options;
  signal.throwIfAborted();
  const wire = await sessions.take().catch((error: unknown) => {
    throw sinkError(error, 0);
  });
  const begin = beginStatements(stream);
  try {
    await wire.run([...begin, plain(`SET LOCAL synchronous_commit = ${sessions.durable ? 'on' : 'off'}`)]);
    const applier = new Applier(wire, {
      layouts,
      storage,
      replica: stream.config.session.session_replication_role === 'replica',
      onFallback,
    });
    // Now, because the connection cannot be asked while a COPY is open on it.
    const places = new Map<string, Place>();
    for (const { relation } of target.tables)
      places.set(tableId(relation.table), await applier.place({ relation }));
    const staged = target.ordinal === null || (await hasLiveUnique(wire, target.tables));
    return new PostgresChunkWriter(options, wire, { applier, places, staged });
  } catch (failure) {
    const error = sinkError(failure, begin.length);
    if (!wire.lost) await wire.one('ROLLBACK').catch(() => undefined);
    await sessions.give(wire);
    throw error;
  }
}

/** A COPY that is open across several calls of write. */
interface OpenCopy {
  readonly shape: string;
  readonly input: PassThrough;
  readonly done: Promise<number>;
}

class PostgresChunkWriter implements ChunkWriter {
  readonly #options: ChunkOptions;
  readonly #wire: Wire;
  readonly #applier: Applier;
  readonly #places: ReadonlyMap<string, Place>;
  /**
   * Rows go to a temporary table first and into the real one at close: a re-read of keys, or a copy under live unique indexes. Else
   * this transaction would hold unique values that the pump's next group waits for, while this one waits for the pump.
   */
  readonly #staged: boolean;
  readonly #stages = new Map<string, { readonly real: Place; readonly stage: Place }>();
  /** Rows of staged chunks that are not plain inserts: applied at close. */
  readonly #late: RowRun[] = [];
  readonly #onAbort: () => void;
  #copy: OpenCopy | null = null;
  /** Of the COPY that runs, for errors: the server does not always say. */
  #copied: TableName | null = null;
  #rows = 0;
  #state: 'open' | 'failed' | 'closed' = 'open';
  #failure: VerdigrisError | null = null;

  constructor(
    options: ChunkOptions,
    wire: Wire,
    parts: {
      readonly applier: Applier;
      readonly places: ReadonlyMap<string, Place>;
      readonly staged: boolean;
    },
  ) {
    this.#options = options;
    this.#wire = wire;
    this.#applier = parts.applier;
    this.#places = parts.places;
    this.#staged = parts.staged;
    this.#onAbort = () => {
      if (this.#state === 'open') this.#wire.destroy();
    };
    options.signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  raw(
    target: TargetTable,
    columns: readonly number[],
    bytes: AsyncIterable<Uint8Array>,
    alike: boolean,
  ): Promise<number> {
    return this.#attempt(async () => {
      await this.#endCopy();
      const place = await this.#destination({ relation: target.relation });
      const format = alike && binaryAlike(target.relation, columns) ? 'binary' : 'text';
      const text = `COPY ${place.sql} (${columnList(place.layout, columns)}) FROM STDIN (FORMAT ${format})`;
      this.#copied = target.relation.table;
      const rows = await this.#wire.copy(text, bytes, this.#options.signal);
      this.#copied = null;
      this.#rows += rows;
      return rows;
    });
  }

  write(run: RowRun): Promise<void> {
    return this.#attempt(async () => {
      // A table that nobody has looked up yet is looked up on this connection: not while a COPY is open on it.
      if (this.#options.layouts.known(run.relation) === undefined) await this.#endCopy();
      const place = this.#place(run);
      if (this.#options.layouts.related(run.relation.table).length > 0) {
        // Arrays are folded where whole groups are applied.
        this.#late.push(run);
        return;
      }
      if (run.op === 'insert' && place.layout.merge === null) {
        await this.#writeCopy(run);
        return;
      }
      await this.#endCopy();
      if (this.#staged) {
        this.#late.push(run);
        return;
      }
      this.#rows += run.after.length;
      await execute(this.#wire, [...stepsFor(place, run)]);
    });
  }

  async close(held: readonly RowRun[], holes: HoleChanges, upto: Position, bytes: number): Promise<void> {
    await this.#attempt(async () => {
      await this.#endCopy();
      const { stream, target } = this.#options;
      for (const { real, stage } of this.#stages.values()) {
        await execute(this.#wire, unstageSteps(real, stage, target.ordinal === null));
        await this.#wire.one(dropStage(stage));
      }
      const context = { unit: target.unit, range: target.ordinal, upto, term: stream.options.term };
      const envelope = { open: [], context };
      // Two parts, as for a transaction that comes in parts: a row the chunk re-read may be changed by what was held.
      if (this.#late.length > 0) {
        for (const run of this.#late) this.#rows += run.after.length;
        await this.#applier.apply(this.#late, { ...envelope, also: [], close: [] });
      }
      const done = target.ordinal === null ? [] : [this.#doneStatement(target.ordinal, upto, bytes)];
      await this.#options.stream.env.failpoints.hit('sink.before-chunk-close');
      await this.#applier.apply(held, {
        ...envelope,
        also: holeStatements(stream, holes),
        close: [...done, plain('COMMIT')],
      });
    });
    await this.#end('closed');
  }

  async cancel(): Promise<void> {
    if (this.#state === 'closed') return;
    await this.#end('closed');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cancel();
  }

  /** Fails on the server when the range is done already: the same division as in the guard. */
  #doneStatement(ordinal: number, upto: Position, bytes: number): ReturnType<typeof plain> {
    const { stream, target } = this.#options;
    return plain(
      `WITH u AS (UPDATE ${stateTable(stream.env.stateSchema, 'ranges')} SET upto = $5, rows = $6::bigint, bytes = $7::bigint
         WHERE id = $1 AND direction = $2 AND unit = $3 AND ordinal = $4::integer AND upto IS NULL RETURNING 1)
       SELECT 1 / count(*) FROM u`,
      [
        stream.env.migration,
        stream.options.direction,
        target.unit,
        String(ordinal),
        upto,
        String(this.#rows),
        String(bytes),
      ],
    );
  }

  /** Known from the start: while a COPY is open the server cannot be asked. */
  #place(run: Pick<RowRun, 'relation'>): Place {
    const place = this.#places.get(tableId(run.relation.table));
    if (place === undefined)
      throw new VerdigrisError('INTERNAL', 'A chunk brings rows of a table it was not opened for.');
    return place;
  }

  /** Where plain rows of a table go. */
  async #destination(run: Pick<RowRun, 'relation'>): Promise<Place> {
    const real = this.#place(run);
    if (!this.#staged) return real;
    const id = tableId(real.layout.table);
    const known = this.#stages.get(id);
    if (known !== undefined) return known.stage;
    const stage = stagePlace(real, this.#stages.size);
    await this.#wire.run(createTwin(real, stage));
    this.#stages.set(id, { real, stage });
    return stage;
  }

  async #writeCopy(run: RowRun): Promise<void> {
    const { layout } = this.#place(run);
    const columns = (run.columns ?? layout.writable).filter(
      (column) => layout.columns[column]?.generated !== true,
    );
    const shape = `${tableId(layout.table)} ${columns.join()}`;
    if (this.#copy?.shape !== shape) {
      await this.#endCopy();
      const place = await this.#destination(run);
      const input = new PassThrough({ highWaterMark: 1024 * 1024 });
      this.#copied = layout.table;
      const done = this.#wire.copy(`COPY ${place.sql} (${columnList(layout, columns)}) FROM STDIN`, input);
      // Looked at in #endCopy; until then a failure shows as a write that does not go on.
      done.catch(() => undefined);
      this.#copy = { shape, input, done };
    }
    const { input, done } = this.#copy;
    for (const chunk of copyChunks(run, columns)) {
      if (!input.write(chunk)) {
        await Promise.race([new Promise((resolve) => input.once('drain', resolve)), done]);
      }
    }
  }

  async #endCopy(): Promise<void> {
    const copy = this.#copy;
    if (copy === null) return;
    this.#copy = null;
    copy.input.end();
    this.#rows += await copy.done;
    this.#copied = null;
  }

  async #attempt<T>(work: () => Promise<T>): Promise<T> {
    if (this.#state !== 'open') {
      throw new VerdigrisError('INTERNAL', 'A chunk was used after it had failed or ended.', {
        cause: this.#failure,
      });
    }
    try {
      return await work();
    } catch (raw) {
      const context = {
        unit: this.#options.target.unit,
        range: this.#options.target.ordinal,
        ...(this.#copied === null ? {} : { table: showTable(this.#copied) }),
      };
      const failure = raw instanceof BatchFailure ? raw.error : raw;
      const error = this.#options.signal.aborted
        ? asVerdigrisError(this.#options.signal.reason)
        : failure instanceof VerdigrisError
          ? failure
          : translate(failure, 'sink', context);
      this.#failure = error;
      await this.#end('failed');
      throw error;
    }
  }

  /** Gives the connection back; rolls back when the transaction is still there. */
  async #end(state: 'failed' | 'closed'): Promise<void> {
    const before = this.#state;
    this.#state = state;
    this.#options.signal.removeEventListener('abort', this.#onAbort);
    if (before !== 'open') return;
    if (this.#copy !== null) {
      // A COPY that is not ended can only be given up with its connection.
      this.#copy.input.destroy();
      await this.#copy.done.catch(() => undefined);
      this.#copy = null;
    }
    if (!this.#wire.lost && this.#wire.inTransaction)
      await this.#wire.one('ROLLBACK').catch(() => this.#wire.destroy());
    await this.#options.sessions.give(this.#wire);
  }
}
