import type { RowRun } from '../../core/change.ts';
import { asVerdigrisError, VerdigrisError } from '../../core/errors.ts';
import type { TargetTable } from '../../core/plan.ts';
import type { Position } from '../../core/position.ts';
import type { ChunkTarget, ChunkWriter, HoleChanges } from '../../core/sink.ts';
import { showTable, type Tuple } from '../../core/table.ts';
import type { Link } from './connect.ts';
import { Applier } from './sink-applier.ts';
import { isAsPlanned, loadRows } from './sink-bulk.ts';
import type { Layouts } from './sink-layout.ts';
import { beginGuarded, openSinkLink, sinkError, type Ghosts } from './sink-session.ts';
import { doneStatement, writeHoles, type SinkStream } from './sink-storage.ts';

/** Connections of chunks that are between two chunks. */
export class ChunkSessions implements AsyncDisposable {
  readonly #stream: SinkStream;
  readonly #ghosts: Ghosts;
  readonly #idle: Link[] = [];
  readonly #busy = new Set<Link>();
  /** The server takes LOAD DATA LOCAL, as far as we know. */
  bulk = true;
  #closed = false;

  constructor(stream: SinkStream, ghosts: Ghosts) {
    this.#stream = stream;
    this.#ghosts = ghosts;
  }

  async take(): Promise<Link> {
    let link = this.#idle.pop();
    while (link?.lost === true) link = this.#idle.pop();
    link ??= await openSinkLink(this.#stream, 'chunk');
    this.#busy.add(link);
    await this.#ghosts.end(link);
    return link;
  }

  /** Back from a chunk; only a session outside of a transaction is kept. */
  async give(link: Link): Promise<void> {
    this.#busy.delete(link);
    if (link.lost) this.#ghosts.add(link);
    if (this.#closed || link.lost) await link[Symbol.asyncDispose]();
    else this.#idle.push(link);
  }

  /** Ends everything; a chunk that is still open fails and is rolled back. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const link of this.#busy) link.destroy();
    await Promise.all(this.#idle.splice(0).map((link) => link[Symbol.asyncDispose]()));
  }
}

export interface ChunkOptions {
  readonly stream: SinkStream;
  readonly sessions: ChunkSessions;
  readonly layouts: Layouts;
  readonly onFallback: (tables: readonly string[]) => void;
  readonly target: ChunkTarget;
  readonly signal: AbortSignal;
}

/** Opens the transaction of one range. @throws VerdigrisError SINK_FENCED when the lease is not ours */
export async function openChunk(options: ChunkOptions): Promise<ChunkWriter> {
  const { stream, sessions, layouts, onFallback, signal } = options;
  signal.throwIfAborted();
  const link = await sessions.take().catch((error: unknown) => {
    throw sinkError(error);
  });
  try {
    await beginGuarded(link, stream);
    return new MysqlChunkWriter(options, link, new Applier(link, { layouts, onFallback }));
  } catch (failure) {
    if (!link.lost) await link.run('ROLLBACK').catch(() => link.destroy());
    await sessions.give(link);
    throw sinkError(failure);
  }
}

class MysqlChunkWriter implements ChunkWriter {
  readonly #options: ChunkOptions;
  readonly #link: Link;
  readonly #applier: Applier;
  /**
   * Rows of a re-read of keys, written at close: by then the pump stands between two groups, so nobody waits for a unique value that
   * this transaction holds.
   */
  readonly #late: RowRun[] = [];
  readonly #onAbort: () => void;
  /** Tables that have unique indexes beside their keys: their rows wait for the close as well. */
  #rows = 0;
  #state: 'open' | 'failed' | 'closed' = 'open';
  #failure: VerdigrisError | null = null;

  constructor(options: ChunkOptions, link: Link, applier: Applier) {
    this.#options = options;
    this.#link = link;
    this.#applier = applier;
    this.#onAbort = () => {
      if (this.#state === 'open') this.#link.destroy();
    };
    options.signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  raw(
    target: TargetTable,
    columns: readonly number[],
    bytes: AsyncIterable<Uint8Array>,
  ): Promise<number | null> {
    return this.#attempt(async () => {
      const { sessions, layouts, stream } = this.#options;
      const layout = await layouts.of(this.#link, target.relation);
      if (!sessions.bulk || layout.otherUnique || layout.waiting !== null) return null;
      if (!isAsPlanned(layout, target.relation, columns)) return null;
      const loaded = await loadRows(this.#link, layout, columns, bytes);
      if (typeof loaded !== 'string') {
        this.#rows += loaded.rows;
        return loaded.rows;
      }
      const table = showTable(target.relation.table);
      if (loaded === 'inexact')
        stream.env.log.info(
          { table, range: this.#options.target.ordinal },
          'range is written row by row: LOAD DATA would change it',
        );
      else if (sessions.bulk) {
        sessions.bulk = false;
        stream.env.log.warn(
          {},
          'LOAD DATA LOCAL is not allowed on this server (local_infile), so the copy takes longer',
        );
      }
      return null;
    });
  }

  write(run: RowRun): Promise<void> {
    return this.#attempt(async () => {
      this.#rows += run.after.length;
      const layout = await this.#options.layouts.of(this.#link, run.relation);
      if (this.#options.target.ordinal === null || layout.otherUnique) this.#late.push(run);
      else await this.#applier.apply([run]);
    });
  }

  async close(held: readonly RowRun[], holes: HoleChanges, upto: Position, bytes: number): Promise<void> {
    await this.#attempt(async () => {
      const { stream, target } = this.#options;
      for (const run of this.#late) {
        // A row that is read again may stand there in another version.
        if (target.ordinal === null && run.op === 'insert') await this.#applier.apply([keysOf(run)], false);
        await this.#applier.apply([run], false);
      }
      await this.#applier.apply(held, false);
      await writeHoles(this.#link, stream, holes);
      if (target.ordinal !== null)
        await this.#link.run(
          doneStatement(stream, {
            unit: target.unit,
            ordinal: target.ordinal,
            upto,
            rows: this.#rows,
            bytes,
          }),
        );
      await stream.env.failpoints.hit('sink.before-chunk-close');
      await this.#link.run('COMMIT');
    });
    await this.#end('closed', true);
  }

  async cancel(): Promise<void> {
    if (this.#state === 'closed') return;
    await this.#end('closed', false);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cancel();
  }

  async #attempt<T>(work: () => Promise<T>): Promise<T> {
    if (this.#state !== 'open')
      throw new VerdigrisError('INTERNAL', 'A chunk was used after it had failed or ended.', {
        cause: this.#failure,
      });
    try {
      return await work();
    } catch (raw) {
      const context = { unit: this.#options.target.unit, range: this.#options.target.ordinal };
      const error = this.#options.signal.aborted
        ? asVerdigrisError(this.#options.signal.reason)
        : sinkError(raw, context);
      this.#failure = error;
      await this.#end('failed', false);
      throw error;
    }
  }

  /** Gives the connection back; rolls back what is not committed. */
  async #end(state: 'failed' | 'closed', committed: boolean): Promise<void> {
    const before = this.#state;
    this.#state = state;
    this.#options.signal.removeEventListener('abort', this.#onAbort);
    if (before !== 'open') return;
    if (!committed && !this.#link.lost) await this.#link.run('ROLLBACK').catch(() => this.#link.destroy());
    await this.#options.sessions.give(this.#link);
  }
}

const keysOf = (run: RowRun): RowRun => ({
  relation: run.relation,
  op: 'delete',
  after: [],
  before: run.after as readonly Tuple[],
});
