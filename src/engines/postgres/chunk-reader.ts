import type pg from 'pg';
import { VerdigrisError } from '../../core/errors.ts';
import type { ChunkReader, KeyRange, Visibility } from '../../core/snapshot.ts';
import { tableId, type Relation, type Tuple } from '../../core/table.ts';
import { selectRange, type TableAccess } from './chunk-reader-sql.ts';
import { binaryAlike } from './copy-binary.ts';
import { CopyOut } from './copy-out.ts';
import { parseCopyText } from './copy-text.ts';
import { translate, type Where } from './errors.ts';

/**
 * Streams `COPY (query) TO STDOUT`. Leaving the loop early leaves the connection in the middle of the protocol: `broken` is
 * called and the connection must be closed.
 * @throws VerdigrisError by SQLSTATE; the signal's reason
 */
export async function* copyOut(
  client: pg.Client,
  query: string,
  options: {
    readonly where: Where;
    readonly broken: () => void;
    readonly signal?: AbortSignal;
    readonly table?: string;
    readonly binary?: boolean;
  },
): AsyncGenerator<Uint8Array> {
  options.signal?.throwIfAborted();
  const stream = client.query(
    new CopyOut(`COPY (${query}) TO STDOUT (FORMAT ${options.binary === true ? 'binary' : 'text'})`),
  );
  const abort = (): void => stream.fail(options.signal?.reason);
  options.signal?.addEventListener('abort', abort, { once: true });
  let ended = false;
  try {
    yield* stream;
    ended = true;
  } catch (error) {
    if (options.signal?.aborted === true) throw options.signal.reason;
    throw translate(error, options.where, options.table === undefined ? {} : { table: options.table });
  } finally {
    options.signal?.removeEventListener('abort', abort);
    if (!ended) options.broken();
  }
}

export interface ReaderParts {
  readonly client: pg.Client;
  readonly visibility: Visibility;
  readonly range: KeyRange;
  readonly access: ReadonlyMap<string, TableAccess>;
  readonly markers: ReadonlyMap<string, string>;
  readonly signal: AbortSignal;
  /** Gives the connection back. */
  readonly release: (broken: boolean) => void;
}

/** Reads ranges of some tables inside one transaction that {@link import('./snapshot.ts').createSnapshotSource} began. */
export class PostgresChunkReader implements ChunkReader {
  readonly visibility: Visibility;
  /** Rewrite markers of the tables, by `tableId`, as the snapshot sees them. */
  readonly markers: ReadonlyMap<string, string>;
  readonly #parts: ReaderParts;
  #broken = false;
  #closed = false;

  constructor(parts: ReaderParts) {
    this.visibility = parts.visibility;
    this.markers = parts.markers;
    this.#parts = parts;
  }

  raw(relation: Relation, columns: readonly number[], alike: boolean): AsyncIterable<Uint8Array> {
    return this.#read(relation, columns, alike && binaryAlike(relation, columns));
  }

  #read(relation: Relation, columns: readonly number[], binary: boolean): AsyncIterable<Uint8Array> {
    if (this.#closed || this.#broken) throw new VerdigrisError('INTERNAL', 'The chunk reader is closed.');
    const { client, signal, range } = this.#parts;
    return copyOut(client, selectRange(relation, this.#access(relation), { columns, range }), {
      where: 'source',
      signal,
      table: `${relation.table.schema}.${relation.table.name}`,
      binary,
      broken: () => {
        this.#broken = true;
      },
    });
  }

  async *rows(relation: Relation): AsyncGenerator<readonly Tuple[]> {
    const columns = relation.columns.map((_, index) => index);
    try {
      yield* parseCopyText(this.#read(relation, columns, false), { columns: columns.length });
    } catch (error) {
      throw translate(error, 'source');
    }
  }

  /** Ends the transaction and gives the connection back. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (!this.#broken) await this.#parts.client.query('COMMIT').catch(() => (this.#broken = true));
    this.#parts.release(this.#broken);
  }

  #access(relation: Relation): TableAccess {
    const access = this.#parts.access.get(tableId(relation.table));
    if (access === undefined)
      throw new VerdigrisError('INTERNAL', 'The chunk was not opened for this table.');
    return access;
  }
}
