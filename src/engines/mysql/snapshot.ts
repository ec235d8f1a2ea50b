import { VerdigrisError } from '../../core/errors.ts';
import type { ChunkReader, ChunkRequest, KeyRange, SnapshotSource, Visibility } from '../../core/snapshot.ts';
import { showTable, tableId, type Cell, type Relation, type Tuple } from '../../core/table.ts';
import type { WithLink } from './catalog.ts';
import { readLayout, relationOf } from './catalog-layout.ts';
import type { Link } from './connect.ts';
import { translate } from './errors.ts';
import type { Pool } from './pool.ts';
import { bulkRows } from './snapshot-bulk.ts';
import { accessOf, rangeCondition, readRow, selectList, type TableAccess } from './snapshot-range.ts';
import { bucketKeys, comparatorOf, firstKeyColumn, readSize, splitKeys } from './snapshot-split.ts';
import { ident, qualified } from './sql.ts';
import { takeSnapshot } from './visibility.ts';

export interface SnapshotParts {
  readonly withLink: WithLink;
  /** Connections that hold a snapshot. */
  readonly copy: Pool;
}

/** How long writers of a table without a key may be held up while its snapshot is taken. */
const LOCK_SECONDS = 5;

export function createSnapshotSource(parts: SnapshotParts): SnapshotSource {
  return new MysqlSnapshotSource(parts);
}

class MysqlSnapshotSource implements SnapshotSource {
  readonly #parts: SnapshotParts;
  /** Collations of first key columns, known once a table was split or opened; unknown ones are the server's to compare. */
  readonly #collations = new Map<string, string | null>();

  constructor(parts: SnapshotParts) {
    this.#parts = parts;
  }

  estimate(relation: Relation): Promise<{ readonly rows: number; readonly bytes: number }> {
    return this.#guarded(relation, (link) => readSize(link, relation));
  }

  async split(relation: Relation, rows: number): Promise<readonly Cell[]> {
    if (relation.key.length === 0) return [];
    return await this.#guarded(relation, async (link) =>
      splitKeys(link, await this.#access(link, relation), rows),
    );
  }

  comparator(relation: Relation): ((left: Cell, right: Cell) => number) | null {
    return comparatorOf(relation, this.#collations.get(tableId(relation.table)) ?? null);
  }

  async bucket(
    relation: Relation,
    boundaries: readonly Cell[],
    values: readonly Cell[],
  ): Promise<readonly number[]> {
    return await this.#guarded(relation, async (link) =>
      bucketKeys(link, await this.#access(link, relation), boundaries, values),
    );
  }

  async visibility(): Promise<Visibility> {
    try {
      return await this.#parts.withLink(async (link) => {
        const visibility = await takeSnapshot(link, false);
        await link.run('COMMIT');
        return visibility;
      });
    } catch (error) {
      throw translate(error, 'source');
    }
  }

  async open(request: ChunkRequest, signal: AbortSignal): Promise<ChunkReader> {
    signal.throwIfAborted();
    const link = await this.#parts.copy.acquire().catch((error: unknown) => {
      throw translate(error, 'source');
    });
    try {
      const visibility = await this.#snapshot(link, request.relations);
      const accesses = new Map<string, TableAccess>();
      for (const relation of request.relations) {
        // The first look at the table keeps its layout as it is until the end of the transaction.
        await link.rows(`SELECT 1 FROM ${qualified(relation.table)} LIMIT 1`);
        accesses.set(tableId(relation.table), await this.#access(link, relation));
      }
      return new MysqlChunkReader({
        link,
        pool: this.#parts.copy,
        visibility,
        range: request.range,
        accesses,
        signal,
      });
    } catch (error) {
      const broken =
        link.lost ||
        !(await link.run('ROLLBACK').then(
          () => true,
          () => false,
        ));
      this.#parts.copy.release(link, broken);
      throw translate(error, 'source', { tables: request.relations.map(({ table }) => showTable(table)) });
    }
  }

  /**
   * Takes the snapshot. Of a table without a key nothing can be applied as state, so what it sees must be known exactly: its writers
   * wait for the moment between the look at the executed set and the snapshot.
   */
  async #snapshot(link: Link, relations: readonly Relation[]): Promise<Visibility> {
    const keyless = relations.filter((relation) => relation.key.length === 0);
    if (link.flavour === 'mariadb' || keyless.length === 0) return await takeSnapshot(link, false);
    return await this.#parts.withLink(async (locker) => {
      await locker.run(`SET SESSION lock_wait_timeout = ${LOCK_SECONDS}`);
      try {
        await locker.run(`LOCK TABLES ${keyless.map(({ table }) => `${qualified(table)} READ`).join(', ')}`);
        return await takeSnapshot(link, true);
      } finally {
        if (!locker.lost) {
          await locker.run('UNLOCK TABLES');
          await locker.run('SET SESSION lock_wait_timeout = DEFAULT');
        }
      }
    });
  }

  /** @throws VerdigrisError SCHEMA_CHANGED */
  async #access(link: Link, relation: Relation): Promise<TableAccess> {
    const layout = await readLayout(link, relation.table);
    if (relationOf(layout, 'source').version !== relation.version)
      throw new VerdigrisError(
        'SCHEMA_CHANGED',
        `${showTable(relation.table)}: its layout changed while it is being copied.`,
      );
    this.#collations.set(tableId(relation.table), firstKeyColumn(relation, layout)?.collation ?? null);
    return accessOf(relation, layout);
  }

  async #guarded<T>(relation: Relation, work: (link: Link) => Promise<T>): Promise<T> {
    try {
      return await this.#parts.withLink(work);
    } catch (error) {
      throw translate(error, 'source', { table: showTable(relation.table) });
    }
  }
}

class MysqlChunkReader implements ChunkReader {
  readonly visibility: Visibility;
  readonly #link: Link;
  readonly #pool: Pool;
  readonly #range: KeyRange;
  readonly #accesses: ReadonlyMap<string, TableAccess>;
  readonly #signal: AbortSignal;
  readonly #onAbort: () => void;
  #released = false;

  constructor(parts: {
    readonly link: Link;
    readonly pool: Pool;
    readonly visibility: Visibility;
    readonly range: KeyRange;
    readonly accesses: ReadonlyMap<string, TableAccess>;
    readonly signal: AbortSignal;
  }) {
    this.visibility = parts.visibility;
    this.#link = parts.link;
    this.#pool = parts.pool;
    this.#range = parts.range;
    this.#accesses = parts.accesses;
    this.#signal = parts.signal;
    this.#onAbort = () => this.#link.destroy();
    parts.signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  raw(relation: Relation, columns: readonly number[]): AsyncGenerator<Uint8Array> {
    const access = this.#access(relation);
    return this.#guarded(relation, bulkRows(this.#link, access, columns, this.#range));
  }

  rows(relation: Relation): AsyncGenerator<readonly Tuple[]> {
    const access = this.#access(relation);
    const sql = `SELECT ${selectList(access)} FROM ${access.from} WHERE ${rangeCondition(access, this.#range)}`;
    const read = async function* (link: Link): AsyncGenerator<readonly Tuple[]> {
      for await (const rows of link.stream(sql)) yield rows.map((row) => readRow(access, row));
    };
    return this.#guarded(relation, read(this.#link));
  }

  #access(relation: Relation): TableAccess {
    const access = this.#accesses.get(tableId(relation.table));
    if (access === undefined)
      throw new VerdigrisError('INTERNAL', 'A chunk was asked for a table that it does not hold.');
    return access;
  }

  async *#guarded<T>(relation: Relation, pieces: AsyncGenerator<T>): AsyncGenerator<T> {
    try {
      yield* pieces;
    } catch (error) {
      this.#signal.throwIfAborted();
      throw translate(error, 'source', { table: showTable(relation.table) });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    this.#signal.removeEventListener('abort', this.#onAbort);
    const broken =
      this.#link.lost ||
      !(await this.#link.run('COMMIT').then(
        () => true,
        () => false,
      ));
    this.#pool.release(this.#link, broken);
  }
}

export const orderBy = (access: TableAccess): string =>
  access.relation.key.length === 0
    ? ''
    : ` ORDER BY ${access.relation.key.map((index) => ident(access.relation.columns[index]?.name ?? '')).join(', ')}`;
