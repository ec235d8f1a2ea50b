import { asVerdigrisError, VerdigrisError } from '../../core/errors.ts';
import type { TargetTable } from '../../core/plan.ts';
import type { FinishStep } from '../../core/sink.ts';
import { showTable, tableId, type TableName } from '../../core/table.ts';
import { connect } from './connect.ts';
import { translate } from './errors.ts';
import { familyOf, type DeferredDetail, type DeferredKind } from './sink-defer.ts';
import { openWire, plain, transact, type SinkStream } from './sink-session.ts';
import { sqlState, type Wire } from './sink-wire.ts';
import { ident, literal, qualified } from './sql.ts';
import { stateTable } from './state-tables.ts';

/**
 * From this size on an index is built CONCURRENTLY: a plain build stops the pump for its whole time (it locks out writes), and
 * meanwhile the source keeps its log. Below it a plain build takes seconds and is half the work.
 */
const CONCURRENT_ABOVE_BYTES = 2 ** 30;

/** Builds that run at the same time; each may use parallel workers of the server. */
const BUILDERS = 2;

/** A lock that somebody holds for long is asked for again; what was built in between stays. */
const LOCK_TRIES = 10;

interface Item {
  readonly table: TableName;
  readonly kind: DeferredKind;
  readonly name: string;
  readonly definition: string;
  readonly detail: DeferredDetail;
}

export interface FinishOptions {
  readonly concurrentAbove?: number;
  /** Only what belongs to these tables alone: no foreign keys, and nothing of other tables. */
  readonly early?: boolean;
  /** Ids of tables that have statistics already. */
  readonly analyzed?: ReadonlySet<string>;
}

/** Builds what was deferred, validates it, gathers statistics. Finds what an earlier, interrupted call has done. */
export async function finishDeferred(
  stream: SinkStream,
  tables: readonly TargetTable[],
  progress: (step: FinishStep) => void,
  signal: AbortSignal,
  options: FinishOptions = {},
): Promise<void> {
  signal.throwIfAborted();
  const { concurrentAbove = CONCURRENT_ABOVE_BYTES, early = false, analyzed } = options;
  const finish = await Finish.open(stream, progress, concurrentAbove);
  const stop = (): void => void finish.kill();
  signal.addEventListener('abort', stop, { once: true });
  try {
    const unknown = tables.filter(({ relation }) => analyzed?.has(tableId(relation.table)) !== true);
    await finish.run({ built: early ? tables : null, analyzed: unknown }, signal);
  } catch (error) {
    throw signal.aborted ? asVerdigrisError(signal.reason) : error;
  } finally {
    signal.removeEventListener('abort', stop);
    await finish.close();
  }
}

class Finish {
  readonly #stream: SinkStream;
  readonly #wires: readonly Wire[];
  readonly #progress: (step: FinishStep) => void;
  readonly #concurrentAbove: number;
  #done = 0;
  #total = 0;

  private constructor(
    stream: SinkStream,
    wires: readonly Wire[],
    progress: (step: FinishStep) => void,
    concurrentAbove: number,
  ) {
    this.#stream = stream;
    this.#wires = wires;
    this.#progress = progress;
    this.#concurrentAbove = concurrentAbove;
  }

  static async open(
    stream: SinkStream,
    progress: (step: FinishStep) => void,
    concurrentAbove: number,
  ): Promise<Finish> {
    const wires: Wire[] = [];
    try {
      for (let index = 0; index < BUILDERS; index += 1) wires.push(await openWire(stream, 'finish', true));
    } catch (error) {
      await Promise.all(wires.map((wire) => wire[Symbol.asyncDispose]()));
      throw error;
    }
    return new Finish(stream, wires, progress, concurrentAbove);
  }

  /** @param tables whose objects are built (null: of all, foreign keys too), and which get statistics */
  async run(
    tables: { readonly built: readonly TargetTable[] | null; readonly analyzed: readonly TargetTable[] },
    signal: AbortSignal,
  ): Promise<void> {
    const first = this.#wires[0] as Wire;
    const items = await this.#pending(first, tables.built);
    this.#total = items.length + tables.analyzed.length;
    const indexes = items.filter((item) => item.kind !== 'foreign key');
    const keys = items.filter((item) => item.kind === 'foreign key');
    // An index of a partitioned table is valid once all of its partitions' are attached: parents as empty shells, then the
    // leaves, then the shells are filled from the bottom.
    const shells = indexes
      .filter((item) => item.detail.partitioned)
      .sort((a, b) => a.detail.level - b.detail.level);
    for (const item of shells) await this.#build(first, item, signal);
    await this.#parallel(
      indexes.filter((item) => !item.detail.partitioned),
      signal,
      (wire, item) => this.#build(wire, item, signal),
    );
    const attached = indexes
      .filter((item) => item.detail.parent !== null)
      .sort((a, b) => b.detail.level - a.detail.level);
    for (const item of attached) await this.#locked(item, () => this.#attach(first, item));
    for (const item of indexes) await this.#mark(first, item, item.kind === 'index' ? 'index' : 'constraint');
    for (const item of keys) {
      signal.throwIfAborted();
      await this.#locked(item, () => this.#foreignKey(first, item));
      await this.#mark(first, item, 'constraint');
    }
    await this.#parallel(tables.analyzed, signal, async (wire, { relation }) => {
      await this.#locked({ table: relation.table, name: 'statistics' }, () =>
        wire.one(`ANALYZE ${qualified(relation.table)}`),
      );
      this.#report({ table: relation.table, kind: 'statistics', name: relation.table.name });
    });
  }

  /** Ends the sessions in the middle of a build; the server cancels it. */
  async kill(): Promise<void> {
    const pids = this.#wires.map(
      (wire) => (wire.client as unknown as { readonly processID: number }).processID,
    );
    const client = await connect(this.#stream.config, { applicationName: 'verdigris:cancel' }).catch(
      () => null,
    );
    if (client === null) return;
    await client
      .query('SELECT pg_catalog.pg_terminate_backend(p) FROM unnest($1::int[]) p', [`{${pids.join(',')}}`])
      .catch(() => undefined);
    await client.end();
  }

  async close(): Promise<void> {
    await Promise.all(this.#wires.map((wire) => wire[Symbol.asyncDispose]()));
  }

  async #pending(wire: Wire, only: readonly TargetTable[] | null): Promise<readonly Item[]> {
    const { rows } = await wire.one(
      `SELECT table_schema, table_name, kind, name, definition, detail FROM ${stateTable(this.#stream.env.stateSchema, 'deferred')}
       WHERE id = $1 AND direction = $2 AND NOT done ORDER BY ordinal`,
      [this.#stream.env.migration, this.#stream.options.direction],
    );
    const items = rows.map((row) => ({
      table: { schema: row[0] as string, name: row[1] as string },
      kind: row[2] as DeferredKind,
      name: row[3] as string,
      definition: row[4] as string,
      detail: JSON.parse(row[5] as string) as DeferredDetail,
    }));
    if (only === null) return items;
    const families = await wire.all(only.map(({ relation }) => familyOf(relation.table)));
    const members = new Set(
      families.flatMap((family) =>
        family.rows.map((row) => tableId({ schema: row[1] as string, name: row[2] as string })),
      ),
    );
    return items.filter((item) => item.kind !== 'foreign key' && members.has(tableId(item.table)));
  }

  async #parallel<T>(
    items: readonly T[],
    signal: AbortSignal,
    work: (wire: Wire, item: T) => Promise<void>,
  ): Promise<void> {
    const queue = [...items];
    const failures: unknown[] = [];
    const builder = async (wire: Wire): Promise<void> => {
      for (let item = queue.shift(); item !== undefined && failures.length === 0; item = queue.shift()) {
        try {
          signal.throwIfAborted();
          await work(wire, item);
        } catch (error) {
          failures.push(error);
        }
      }
    };
    await Promise.all(this.#wires.map(builder));
    if (failures.length > 0) throw failures[0];
  }

  async #build(wire: Wire, item: Item, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await this.#locked(item, async () => {
      if (item.kind === 'exclusion') await this.#exclusion(wire, item);
      else await this.#index(wire, item);
      if (item.kind === 'unique') await this.#constraint(wire, item);
    });
  }

  async #index(wire: Wire, item: Item): Promise<void> {
    const name = { schema: item.table.schema, name: item.name };
    const found = await wire.one(
      `SELECT i.indisvalid::int::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`,
      [name.schema, name.name],
    );
    if (found.rows[0]?.[0] === '1' || (found.rows.length > 0 && item.detail.partitioned)) return;
    // What an interrupted CONCURRENTLY left behind: no query uses it, every write pays for it.
    if (found.rows.length > 0) await wire.one(`DROP INDEX ${qualified(name)}`);
    const size = await wire.one('SELECT pg_catalog.pg_relation_size($1::regclass)::text', [
      qualified(item.table),
    ]);
    const large =
      !item.detail.partitioned && BigInt(size.rows[0]?.[0] ?? '0') > BigInt(this.#concurrentAbove);
    await wire.one(`SET default_tablespace = ${literal(item.detail.tablespace ?? '')}`);
    if (item.detail.partitioned && item.kind === 'unique') return;
    if (large) {
      await transact(wire, this.#stream, []);
      await wire.one(item.definition.replace(/^CREATE (UNIQUE )?INDEX /, 'CREATE $1INDEX CONCURRENTLY '));
    } else {
      await transact(wire, this.#stream, [plain(item.definition)]);
    }
  }

  /** A unique constraint around the index that stands there; of a partitioned table: a shell of its own. */
  async #constraint(wire: Wire, item: Item): Promise<void> {
    if (await this.#hasConstraint(wire, item)) return;
    const text = item.detail.partitioned
      ? `ALTER TABLE ONLY ${qualified(item.table)} ADD CONSTRAINT ${ident(item.name)} ${item.definition}`
      : `ALTER TABLE ${qualified(item.table)} ADD CONSTRAINT ${ident(item.name)} UNIQUE USING INDEX ${ident(item.name)}${item.detail.deferral}`;
    await transact(wire, this.#stream, [plain(text)]);
  }

  async #exclusion(wire: Wire, item: Item): Promise<void> {
    if (await this.#hasConstraint(wire, item)) return;
    await transact(wire, this.#stream, [
      plain(`SET LOCAL default_tablespace = ${literal(item.detail.tablespace ?? '')}`),
      plain(`ALTER TABLE ${qualified(item.table)} ADD CONSTRAINT ${ident(item.name)} ${item.definition}`),
    ]);
  }

  async #attach(wire: Wire, item: Item): Promise<void> {
    const index = qualified({ schema: item.table.schema, name: item.name });
    const known = await wire.one('SELECT 1 FROM pg_catalog.pg_inherits WHERE inhrelid = $1::regclass', [
      index,
    ]);
    if (known.rows.length > 0) return;
    await transact(wire, this.#stream, [
      plain(`ALTER INDEX ${item.detail.parent} ATTACH PARTITION ${index}`),
    ]);
  }

  async #foreignKey(wire: Wire, item: Item): Promise<void> {
    const table = qualified(item.table);
    const add = `ALTER TABLE ${table} ADD CONSTRAINT ${ident(item.name)} ${item.definition}`;
    // NOT VALID takes its locks for a moment, VALIDATE scans under a lock that lets writes through.
    const split = item.detail.validate && !item.detail.partitioned;
    if (!(await this.#hasConstraint(wire, item)))
      await transact(wire, this.#stream, [plain(split ? `${add} NOT VALID` : add)]);
    if (split)
      await transact(wire, this.#stream, [
        plain(`ALTER TABLE ${table} VALIDATE CONSTRAINT ${ident(item.name)}`),
      ]);
  }

  async #hasConstraint(wire: Wire, item: Item): Promise<boolean> {
    const { rows } = await wire.one(
      'SELECT 1 FROM pg_catalog.pg_constraint WHERE conrelid = $1::regclass AND conname = $2',
      [qualified(item.table), item.name],
    );
    return rows.length > 0;
  }

  async #mark(wire: Wire, item: Item, kind: FinishStep['kind']): Promise<void> {
    await transact(wire, this.#stream, [
      plain(
        `UPDATE ${stateTable(this.#stream.env.stateSchema, 'deferred')} SET done = true
         WHERE id = $1 AND direction = $2 AND table_schema = $3 AND table_name = $4 AND kind = $5 AND name = $6`,
        [
          this.#stream.env.migration,
          this.#stream.options.direction,
          item.table.schema,
          item.table.name,
          item.kind,
          item.name,
        ],
      ),
    ]);
    this.#report({ table: item.table, kind, name: item.name });
  }

  #report(step: Pick<FinishStep, 'table' | 'kind' | 'name'>): void {
    this.#done += 1;
    this.#progress({ ...step, done: this.#done, total: this.#total });
  }

  /** Tries again while a lock cannot be had, and names table and object in what goes wrong. */
  async #locked<T>(item: Pick<Item, 'table' | 'name'>, work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await work();
      } catch (raw) {
        const context = { table: showTable(item.table), constraint: item.name };
        const error = raw instanceof VerdigrisError ? raw : translate(raw, 'sink', context);
        const state = error.context['sqlstate'] ?? sqlState(raw);
        if ((state === '55P03' || state === '40P01') && attempt < LOCK_TRIES) continue;
        throw new VerdigrisError(error.code, `${item.name} of ${showTable(item.table)}: ${error.message}`, {
          context: { ...error.context, ...context },
        });
      }
    }
  }
}
