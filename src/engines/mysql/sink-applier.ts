import type { RowRun } from '../../core/change.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { showTable, UNCHANGED, type Cell, type Tuple } from '../../core/table.ts';
import type { Link } from './connect.ts';
import { errnoOf, ERRNO, translate } from './errors.ts';
import {
  atKeys,
  cellSql,
  imageCondition,
  pieces,
  type Layouts,
  type SinkColumn,
  type SinkLayout,
} from './sink-layout.ts';
import { keepParts, putParts, takeParts, withAbsent } from './sink-merge.ts';
import { insertRows, noWarnings, overwriting, refusedRow } from './sink-rows.ts';

export interface ApplierOptions {
  readonly layouts: Layouts;
  readonly onFallback: (tables: readonly string[]) => void;
}

/**
 * Applies folded runs inside the open transaction of a connection. Every statement's answer is read before the next one is sent, so
 * a wrong number of rows stops the transaction before its COMMIT exists.
 */
export class Applier {
  readonly #link: Link;
  readonly #options: ApplierOptions;
  /** What is tried may violate a constraint on the way, and is done otherwise then. */
  #tentative = false;

  constructor(link: Link, options: ApplierOptions) {
    this.#link = link;
    this.#options = options;
  }

  /**
   * @param strict a delete or update hits exactly its rows; not so for changes on top of a chunk that may hold them already
   * @throws VerdigrisError SINK_CONFLICT with the table
   */
  async apply(runs: readonly RowRun[], strict = true): Promise<void> {
    for (let at = 0; at < runs.length;) {
      const { relation } = runs[at] as RowRun;
      let end = at + 1;
      while (end < runs.length && (runs[end] as RowRun).relation === relation) end += 1;
      const layout = await this.#options.layouts.of(this.#link, relation);
      await this.#table(layout, runs.slice(at, end), strict);
      at = end;
    }
  }

  async #table(layout: SinkLayout, runs: readonly RowRun[], strict: boolean): Promise<void> {
    const exactKey =
      layout.key.length > 0 && layout.key.every((index) => layout.relation.columns[index]?.exact === true);
    // Only there can the order inside a group matter to a constraint.
    const careful = strict && layout.otherUnique && exactKey && runs.some((run) => run.op !== 'delete');
    try {
      if (careful) await this.#link.run('SAVEPOINT verdigris_table');
      try {
        this.#tentative = careful;
        for (const run of runs) await this.#run(layout, run, strict);
      } catch (error) {
        this.#tentative = false;
        if (!careful || errnoOf(error) !== ERRNO.DUPLICATE_ENTRY) throw error;
        await this.#link.run('ROLLBACK TO SAVEPOINT verdigris_table');
        this.#options.onFallback([showTable(layout.table)]);
        await this.#rewriteAll(layout, runs);
      } finally {
        this.#tentative = false;
      }
      if (careful) await this.#link.run('RELEASE SAVEPOINT verdigris_table');
    } catch (error) {
      if (error instanceof VerdigrisError) throw withTable(error, layout);
      throw translate(error, 'sink').code === 'SINK_CONFLICT'
        ? refusedRow(error, layout, undefined)
        : withTable(translate(error, 'sink', { table: showTable(layout.table) }), layout);
    }
  }

  async #run(layout: SinkLayout, run: RowRun, strict: boolean): Promise<void> {
    switch (run.op) {
      case 'truncate':
        // TRUNCATE would commit the transaction that it is a part of.
        await this.#link.run(`DELETE FROM ${layout.sql}`);
        return;
      case 'delete':
        await this.#delete(layout, run.before as readonly Tuple[], strict);
        return;
      case 'insert':
        if (strict || layout.key.length === 0) await this.insert(layout, run);
        else await this.#put(layout, run, run.columns ?? layout.writable);
        return;
      case 'update': {
        // Without a key only the old image names a row: what is written as state would leave the old row beside the new one.
        if (layout.key.length === 0) return await this.#update(layout, run);
        const columns = this.#complete(layout, run);
        if (!strict && columns !== null) await this.#put(layout, run, columns);
        else await this.#update(layout, run);
        return;
      }
      case 'replace':
        await this.#replace(layout, run);
        return;
      case 'put':
        if (layout.waiting === null)
          throw new VerdigrisError('INTERNAL', 'A part of a row came for a table that is not merged.');
        await putParts(this.#link, layout, run, { tentative: this.#tentative });
        return;
    }
  }

  /** One statement per half a megabyte. @throws the driver's error for a duplicate */
  async insert(layout: SinkLayout, run: Pick<RowRun, 'after' | 'columns'>): Promise<void> {
    const columns = (run.columns ?? layout.writable).filter(
      (column) => layout.columns[column]?.generated !== true,
    );
    await this.#insertRows(layout, columns, run.after);
  }

  /** New rows; a row of a merged table takes what waits for it. */
  async #insertRows(layout: SinkLayout, columns: readonly number[], rows: readonly Tuple[]): Promise<void> {
    const options = { tentative: this.#tentative };
    const { waiting } = layout;
    if (waiting === null) return await insertRows(this.#link, layout, columns, rows, options);
    const all = [...new Set([...columns, ...waiting.absent.keys()])];
    const fresh = rows.map((row) => withAbsent(row, waiting));
    await insertRows(this.#link, layout, all, fresh, options);
    await takeParts(this.#link, layout, rows, options);
  }

  async #delete(layout: SinkLayout, rows: readonly Tuple[], strict: boolean): Promise<void> {
    if (layout.key.length === 0) {
      for (const row of rows) {
        const { affected } = await this.#link.run(
          `DELETE FROM ${layout.sql} WHERE ${imageCondition(layout, row)} LIMIT 1`,
        );
        if (strict && affected !== 1) throw miss(layout, 'delete', 1, affected);
      }
      return;
    }
    if (layout.waiting !== null) await keepParts(this.#link, layout, rows);
    for (const keys of pieces(rows, layout.keysAtOnce)) {
      const { affected } = await this.#link.run(`DELETE ${layout.sql} FROM ${atKeys(layout, keys)}`);
      if (strict && affected !== keys.length) throw miss(layout, 'delete', keys.length, affected);
    }
  }

  async #update(layout: SinkLayout, run: RowRun): Promise<void> {
    if (layout.key.length === 0) {
      for (let index = 0; index < run.after.length; index += 1) {
        const set = this.#assignments(layout, run.after[index] as Tuple);
        const where = imageCondition(layout, run.before[index] as Tuple);
        const outcome = await this.#link.run(`UPDATE ${layout.sql} SET ${set} WHERE ${where} LIMIT 1`);
        if (outcome.affected !== 1) throw miss(layout, 'update', 1, outcome.affected);
        await noWarnings(this.#link, outcome, layout, () => run.after[index]);
      }
      return;
    }
    const columns = run.columns?.filter((column) => layout.columns[column]?.generated !== true);
    const moves = run.before.some((row) => row !== null && movesKey(layout, row));
    const complete =
      columns !== undefined &&
      layout.columns.every((column, index) => !column.required || columns.includes(index)) &&
      layout.key.every((index) => columns.includes(index));
    const moved =
      moves &&
      run.before.some((row, index) => row !== null && keyChanged(layout, row, run.after[index] as Tuple));
    if (moved || !complete || layout.otherUnique) {
      await this.#rewrite(
        layout,
        run.after.map((after, index) => ({ old: run.before[index] ?? after, after })),
      );
      return;
    }
    // Found first, so that what follows changes rows and never makes one.
    for (const keys of pieces(run.after, layout.keysAtOnce)) {
      const found = Number(await this.#link.value(`SELECT count(*) FROM ${atKeys(layout, keys)} FOR UPDATE`));
      if (found !== keys.length) throw miss(layout, 'update', keys.length, found);
    }
    const set = columns.filter((column) => !layout.key.includes(column));
    if (set.length === 0) return;
    const tail = overwriting(this.#link, layout, set);
    await insertRows(this.#link, layout, columns, run.after, { tail, tentative: this.#tentative });
  }

  /** The columns of an update that could stand in an insert: all that an insert must name, the key included. Null: it could not. */
  #complete(layout: SinkLayout, run: RowRun): readonly number[] | null {
    const first = run.after[0];
    const present =
      run.columns ??
      (first === undefined
        ? []
        : layout.writable.filter((column) => first[column] !== UNCHANGED && first[column] !== undefined));
    if (
      run.columns === undefined &&
      run.after.some((row) => present.some((column) => row[column] === UNCHANGED))
    )
      return null;
    const columns = present.filter((column) => layout.columns[column]?.generated !== true);
    const whole =
      layout.columns.every((column, index) => !column.required || columns.includes(index)) &&
      layout.key.every((index) => columns.includes(index));
    return whole ? columns : null;
  }

  /** Rows as state: whatever stands under their old and new keys goes. */
  async #put(layout: SinkLayout, run: RowRun, columns: readonly number[]): Promise<void> {
    const all = layout.writable.every((column) => columns.includes(column));
    const moved = run.before.filter(
      (row, index) => row !== null && keyChanged(layout, row, run.after[index] as Tuple),
    ) as readonly Tuple[];
    if (!all && run.op === 'update') {
      await this.#update(layout, run);
      return;
    }
    await this.#delete(layout, [...moved, ...run.after], false);
    await this.insert(layout, { after: run.after, columns });
  }

  #assignments(layout: SinkLayout, row: Tuple): string {
    return layout.writable
      .filter((column) => row[column] !== UNCHANGED && row[column] !== undefined)
      .map(
        (column) => `${(layout.columns[column] as SinkColumn).sql} = ${cellSql(layout, column, row[column])}`,
      )
      .join(',');
  }

  /** Rows by their old keys, taken off and written anew: whatever keys and unique values they exchange, only the end counts. */
  async #rewrite(
    layout: SinkLayout,
    changes: readonly { readonly old: Tuple; readonly after: Tuple }[],
  ): Promise<void> {
    const stored = await this.#read(
      layout,
      changes.map(({ old }) => old),
    );
    await this.#delete(
      layout,
      changes.map(({ old }) => old),
      true,
    );
    const rows = changes.map(({ after }, index) => overlay(layout, stored[index] as Tuple, after));
    await this.#insertRows(layout, layout.writable, rows);
  }

  /**
   * Everything that the runs do to a table between two truncates as one rewrite: all touched rows go, then the final images come. The
   * final state is valid if it is on the other side, whatever the way there.
   */
  async #rewriteAll(layout: SinkLayout, runs: readonly RowRun[]): Promise<void> {
    let gone: Tuple[] = [];
    let changes: { readonly old: Tuple; readonly after: Tuple }[] = [];
    let inserts: RowRun[] = [];
    const flush = async (): Promise<void> => {
      const stored = await this.#read(
        layout,
        changes.map(({ old }) => old),
      );
      await this.#delete(layout, [...gone, ...changes.map(({ old }) => old)], true);
      const rows = changes.map(({ after }, index) => overlay(layout, stored[index] as Tuple, after));
      await this.#insertRows(layout, layout.writable, rows);
      for (const run of inserts) await this.insert(layout, run);
      [gone, changes, inserts] = [[], [], []];
    };
    for (const run of runs) {
      if (run.op === 'delete') gone.push(...(run.before as readonly Tuple[]));
      else if (run.op === 'update')
        changes.push(...run.after.map((after, index) => ({ old: run.before[index] ?? after, after })));
      else if (run.op === 'insert') inserts.push(run);
      else {
        await flush();
        if (run.op === 'put') await this.#rewriteParts(layout, run);
        else await this.#run(layout, run, true);
      }
    }
    await flush();
  }

  /** As above for rows of a part: the owner's rows go, all parts wait, and the owner's rows take them. */
  async #rewriteParts(layout: SinkLayout, run: RowRun): Promise<void> {
    const there: Tuple[] = [];
    for (const keys of pieces(run.after, layout.keysAtOnce))
      there.push(...(await this.#rowsAt(layout, keys)));
    await this.#delete(layout, there, true);
    await putParts(this.#link, layout, run, { tentative: this.#tentative });
    await this.#insertRows(layout, layout.writable, there);
  }

  /** Whole rows in the order of their keys, locked. */
  async #read(layout: SinkLayout, keys: readonly Tuple[]): Promise<readonly Tuple[]> {
    const rows: Tuple[] = [];
    for (const piece of pieces(keys, layout.keysAtOnce)) {
      const there = await this.#rowsAt(layout, piece);
      if (there.length !== piece.length) throw miss(layout, 'update', piece.length, there.length);
      const found = new Map(there.map((row) => [keyOf(layout, row), row]));
      // A key that is equal and not the same (case, padding) comes alone.
      for (const key of piece)
        rows.push(
          found.get(keyOf(layout, key)) ?? (piece.length === 1 ? there[0] : undefined) ?? lost(layout),
        );
    }
    return rows;
  }

  /** The rows that stand at these keys, locked. */
  async #rowsAt(layout: SinkLayout, keys: readonly Tuple[]): Promise<readonly Tuple[]> {
    const select = layout.columns.map(({ codec }) => codec.select).join(',');
    const answers = await this.#link.raw(`SELECT ${select} FROM ${atKeys(layout, keys)} FOR UPDATE`);
    return answers.map((answer) =>
      answer.map((cell, index): Cell =>
        cell === null ? null : (layout.columns[index] as SinkColumn).codec.read(cell),
      ),
    );
  }

  async #replace(layout: SinkLayout, run: RowRun): Promise<void> {
    const parents = run.before.filter((row) => row !== null);
    const [one] = parents;
    // The columns that are set say what is replaced: the children of a parent, or (a repair) single rows.
    const prefix = layout.key.filter((column) => one?.[column] !== UNCHANGED && one?.[column] !== undefined);
    if (one !== undefined && prefix.length === 0)
      throw new VerdigrisError('INTERNAL', 'Rows were to be replaced, and nothing says which.');
    for (const keys of pieces(parents, layout.keysAtOnce))
      await this.#link.run(`DELETE ${layout.sql} FROM ${atKeys(layout, keys, prefix)}`);
    await this.insert(layout, run);
  }
}

const movesKey = (layout: SinkLayout, before: Tuple): boolean =>
  layout.key.every((index) => before[index] !== UNCHANGED);

const keyChanged = (layout: SinkLayout, before: Tuple, after: Tuple): boolean =>
  layout.key.some((index) => before[index] !== UNCHANGED && before[index] !== after[index]);

const keyOf = (layout: SinkLayout, row: Tuple): string =>
  layout.key.map((index) => `${String(row[index])}\u0000`).join('');

const overlay = (layout: SinkLayout, stored: Tuple, after: Tuple): Tuple =>
  layout.columns.map((_, index): Cell =>
    after[index] === UNCHANGED || after[index] === undefined ? (stored[index] as Cell) : after[index],
  );

const miss = (layout: SinkLayout, what: string, wanted: number, found: number): VerdigrisError =>
  new VerdigrisError('SINK_CONFLICT', `A ${what} of ${wanted} rows found ${found} of them on the sink.`, {
    context: { table: showTable(layout.table), expected: wanted, found },
  });

const lost = (layout: SinkLayout): never => {
  throw miss(layout, 'update', 1, 0);
};

function withTable(error: VerdigrisError, layout: SinkLayout): VerdigrisError {
  const table = showTable(layout.table);
  if (error.message.includes(table)) return error;
  return new VerdigrisError(error.code, `${table}: ${error.message}`, {
    context: { ...error.context, table },
    remedy: error.remedy,
    directive: error.directive,
  });
}
