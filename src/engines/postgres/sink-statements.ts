import { VerdigrisError } from '../../core/errors.ts';
import type { RowRun } from '../../core/change.ts';
import { showTable, UNCHANGED, type Cell, type Tuple, type Column, type Kind } from '../../core/table.ts';
import type { Place, SinkLayout } from './sink-layout.ts';
import { binaryArray, binaryForm, textArrayBytes } from './sink-binary.ts';
import { cellText } from './sink-text.ts';
import type { Param } from './sink-messages.ts';
import type { Statement } from './sink-wire.ts';

/** SQLSTATE of width_bucket with equal bounds: how a statement says on the server that it hit a wrong number of rows. */
export const WRONG_COUNT = '2201G';

/** A statement of a group and the rows it carries, so that the one that fails can be named. */
export interface Step extends Statement {
  /** null: housekeeping. */
  readonly run: RowRun | null;
  /** The table it writes. */
  readonly place: Place | null;
  /** Raises {@link WRONG_COUNT} when it does not hit exactly its rows. */
  readonly strict: boolean;
}

/** Raises {@link WRONG_COUNT} unless the condition holds. */
export const wrongCountUnless = (condition: string): string =>
  `pg_catalog.width_bucket(0::float8, 0::float8, (${condition})::int::float8, 1)`;

/**
 * Wraps a statement so that a wrong number of rows fails on the server: statements are pipelined with COMMIT, and a count
 * that the client reads comes too late. width_bucket raises an SQLSTATE that nothing else in apply raises. Costs about
 * 0.1 µs a row. Data-modifying CTEs must be on the top level, hence `ctes`.
 */
const counted = (dml: string, expected: string, ctes = ''): string =>
  `WITH ${ctes}r AS (${dml} RETURNING 1) ` +
  `SELECT ${wrongCountUnless(`count(*) = ${expected}::bigint`)} FROM r`;

/** Collects the parameters of one statement as arrays over the same rows: of the column's type, or text[] where its values need that. */
class Arrays {
  readonly values: Param[] = [];
  readonly #types: string[] = [];

  /** Adds one column of `rows` and returns how the statement refers to it, cast to `type`. */
  add(rows: readonly Tuple[], column: number, type: string): string {
    const name = `u.c${this.values.length}`;
    const form = binaryForm(type);
    const own = form === undefined ? null : binaryArray(rows, column, form);
    this.values.push(own ?? textArrayBytes(rows, column));
    this.#types.push(own === null ? 'text' : type);
    return own === null ? `${name}::${type}` : name;
  }

  get from(): string {
    const parameters = this.#types.map((type, index) => `$${index + 1}::${type}[]`).join(', ');
    return `unnest(${parameters}) AS u(${this.#types.map((_, index) => `c${index}`).join(', ')})`;
  }

  /** Adds a scalar; call after all columns. */
  scalar(value: string): string {
    this.values.push(value);
    return `$${this.values.length}`;
  }
}

const join = (
  layout: SinkLayout,
  columns: readonly number[],
  source: (column: number) => string,
  alias = 'g',
): string =>
  columns.map((column) => `${alias}.${layout.columns[column]?.sql} = ${source(column)}`).join(' AND ');

const list = (layout: SinkLayout, columns: readonly number[], alias = ''): string =>
  columns.map((column) => `${alias}${layout.columns[column]?.sql}`).join(', ');

/** INSERT of the given columns. No count is needed: every row is inserted or the statement fails. */
export function insertStep(place: Place, run: RowRun, columns: readonly number[]): Step {
  const { layout } = place;
  const arrays = new Arrays();
  const select = columns.map((column) => arrays.add(run.after, column, typeOf(layout, column)));
  return {
    text: `INSERT INTO ${place.sql} (${list(layout, columns)}) OVERRIDING SYSTEM VALUE SELECT ${select.join(', ')} FROM ${arrays.from}`,
    values: arrays.values,
    run,
    place,
    strict: false,
  };
}

/** DELETE by key; `strict`: exactly the rows of the run. */
export function deleteStep(place: Place, run: RowRun, keys: readonly Tuple[], strict = true): Step {
  const { layout } = place;
  const arrays = new Arrays();
  const where = join(layout, layout.key, (column) => arrays.add(keys, column, typeOf(layout, column)));
  const dml = `DELETE FROM ${place.sql} AS g USING ${arrays.from} WHERE ${where}`;
  if (!strict) return { text: dml, values: arrays.values, run, place, strict };
  return {
    text: counted(dml, arrays.scalar(String(keys.length))),
    values: arrays.values,
    run,
    place,
    strict,
  };
}

/** UPDATE of rows whose key did not move. `set` has no key column. */
export function updateSteps(place: Place, run: RowRun, set: readonly number[], strict = true): Step[] {
  const { layout } = place;
  const settable = set.filter((column) => place.shadow || layout.columns[column]?.identityAlways !== true);
  const steps: Step[] = [];
  const arrays = new Arrays();
  const where = join(layout, layout.key, (column) => arrays.add(run.after, column, typeOf(layout, column)));
  const assign = settable.map(
    (column) => `${layout.columns[column]?.sql} = ${arrays.add(run.after, column, typeOf(layout, column))}`,
  );
  if (assign.length > 0) {
    const dml = `UPDATE ${place.sql} AS g SET ${assign.join(', ')} FROM ${arrays.from} WHERE ${where}`;
    const text = strict ? counted(dml, arrays.scalar(String(run.after.length))) : dml;
    steps.push({ text, values: arrays.values, run, place, strict });
  } else if (strict) {
    // Nothing to set (only the key is known): the rows must be there all the same.
    const found = `SELECT 1 FROM ${place.sql} AS g JOIN ${arrays.from} ON ${where}`;
    const text =
      `SELECT ${wrongCountUnless(`count(*) = ${arrays.scalar(String(run.after.length))}::bigint`)} ` +
      `FROM (${found}) AS r`;
    steps.push({ text, values: arrays.values, run, place, strict });
  }
  const identity = set.filter((column) => !settable.includes(column));
  if (identity.length > 0) steps.push(identityStep(place, run, identity));
  return steps;
}

/** A GENERATED ALWAYS identity column that is not the key: cannot be SET, so rows where it differs are written anew. */
function identityStep(place: Place, run: RowRun, identity: readonly number[]): Step {
  const { layout } = place;
  const arrays = new Arrays();
  const where = join(layout, layout.key, (column) => arrays.add(run.after, column, typeOf(layout, column)));
  const values = identity.map((column) => arrays.add(run.after, column, typeOf(layout, column)));
  const differs = identity
    .map((column, index) => `g.${layout.columns[column]?.sql} IS DISTINCT FROM ${values[index]}`)
    .join(' OR ');
  const returning = layout.writable.map((column) => {
    const index = identity.indexOf(column);
    return `${index < 0 ? `g.${layout.columns[column]?.sql}` : values[index]} AS n${column}`;
  });
  return {
    text:
      `WITH d AS (DELETE FROM ${place.sql} AS g USING ${arrays.from} WHERE ${where} AND (${differs}) RETURNING ${returning.join(', ')}) ` +
      `INSERT INTO ${place.sql} (${list(layout, layout.writable)}) OVERRIDING SYSTEM VALUE ` +
      `SELECT ${layout.writable.map((column) => `n${column}`).join(', ')} FROM d`,
    values: arrays.values,
    run,
    place,
    strict: false,
  };
}

/**
 * Key changes of a group as one statement: all old keys are found before any row moves, so swaps and chains mean what they
 * say (where the server checks uniqueness row by row they fail, and the exact fallback runs the same statement on the shadow).
 * `fixed` columns are set to one SQL value in all rows.
 */
export function moveStep(
  place: Place,
  run: RowRun,
  set: readonly number[],
  fixed: ReadonlyMap<number, string> = new Map(),
): Step {
  const { layout } = place;
  const before = run.before as readonly Tuple[];
  const arrays = new Arrays();
  const where = join(layout, layout.key, (column) => arrays.add(before, column, typeOf(layout, column)));
  const values = new Map([
    ...set.map((column) => [column, movedValue(layout, run, column, arrays)] as const),
    ...fixed,
  ]);
  const written = [...values.keys()];
  const identity = !place.shadow && written.some((column) => layout.columns[column]?.identityAlways === true);
  if (!identity) {
    const assign = written.map((column) => `${layout.columns[column]?.sql} = ${values.get(column)}`);
    const dml = `UPDATE ${place.sql} AS g SET ${assign.join(', ')} FROM ${arrays.from} WHERE ${where}`;
    return {
      text: counted(dml, arrays.scalar(String(run.after.length))),
      values: arrays.values,
      run,
      place,
      strict: true,
    };
  }
  const returning = layout.writable.map(
    (column) => `${values.get(column) ?? `g.${layout.columns[column]?.sql}`} AS n${column}`,
  );
  const ctes = `d AS (DELETE FROM ${place.sql} AS g USING ${arrays.from} WHERE ${where} RETURNING ${returning.join(', ')}), `;
  const dml =
    `INSERT INTO ${place.sql} (${list(layout, layout.writable)}) OVERRIDING SYSTEM VALUE ` +
    `SELECT ${layout.writable.map((column) => `n${column}`).join(', ')} FROM d`;
  return {
    text: counted(dml, arrays.scalar(String(run.after.length)), ctes),
    values: arrays.values,
    run,
    place,
    strict: true,
  };
}

/** The new value of a column; rows that did not bring it keep their own. */
function movedValue(layout: SinkLayout, run: RowRun, column: number, arrays: Arrays): string {
  const type = typeOf(layout, column);
  if (!run.after.some((row) => row[column] === UNCHANGED)) return arrays.add(run.after, column, type);
  const known = run.after.map((row): Tuple => [row[column] !== UNCHANGED]);
  const cells = run.after.map((row): Tuple => [row[column] === UNCHANGED ? null : (row[column] as Cell)]);
  return `CASE WHEN ${arrays.add(known, 0, 'boolean')} THEN ${arrays.add(cells, 0, type)} ELSE g.${layout.columns[column]?.sql} END`;
}

const SCALAR: ReadonlySet<Kind> = new Set([
  'integer',
  'boolean',
  'uuid',
  'date',
  'timestamp',
  'timestamptz',
  'text',
  'bytes',
]);

/** The type has an equality, and it is that of its text. */
const comparable = (column: Column | undefined): boolean => column?.exact === true && SCALAR.has(column.kind);

/**
 * One row of a table without a key, found by its whole old image: exactly one of possibly many equal rows. Values whose equality
 * is not that of their text are compared as the text the server prints (json has no equality, -0 equals 0, NaN differs nowhere).
 */
export function imageStep(place: Place, run: RowRun, row: number, set: readonly number[] | null): Step {
  const { layout } = place;
  const image = run.before[row];
  if (image === null || image === undefined) {
    throw new VerdigrisError(
      'INTERNAL',
      `A change to ${showTable(layout.table)} (no key) came without its old image.`,
    );
  }
  const values: (string | null)[] = [];
  const param = (cell: Cell): string => `$${values.push(cellText(cell))}::text`;
  const where = layout.writable.flatMap((column) => {
    const cell = image[column] as Cell;
    if (cell === UNCHANGED) return [];
    const name = `f.${layout.columns[column]?.sql}`;
    const value = param(cell);
    // Where equal values have equal text, plain equality says the same: it is many times cheaper in the scan, and may use an index.
    if (cell !== null && comparable(run.relation.columns[column])) {
      // The sub-select is computed once; input functions of dates are not constant to the planner.
      return [`${name} = (SELECT ${value}::${typeOf(layout, column)})`];
    }
    return [
      // Not IS NULL: that is true too for a composite value whose fields are all null.
      `(${name} IS NOT DISTINCT FROM NULL) = (${value} IS NULL) AND ` +
        `pg_catalog.format('%s', ${name}) = pg_catalog.format('%s', ${value}::${fullType(layout, column)})`,
    ];
  });
  const target = `g.ctid = (SELECT f.ctid FROM ${place.sql} AS f WHERE ${where.length === 0 ? 'true' : where.join(' AND ')} LIMIT 1)`;
  const one = "'1'";
  if (set === null) {
    return {
      text: counted(`DELETE FROM ${place.sql} AS g WHERE ${target}`, one),
      values,
      run: single(run, row),
      place,
      strict: true,
    };
  }
  const after = run.after[row] as Tuple;
  const assign = set.map(
    (column) => `${layout.columns[column]?.sql} = ${param(after[column] as Cell)}::${typeOf(layout, column)}`,
  );
  const dml = `UPDATE ${place.sql} AS g SET ${assign.join(', ')} WHERE ${target}`;
  return { text: counted(dml, one), values, run: single(run, row), place, strict: true };
}

/** Removes the children of the parents in `before`. */
export function prefixStep(place: Place, run: RowRun): Step {
  const { layout } = place;
  const arrays = new Arrays();
  const first = run.before[0];
  // A repair removes rows by the part of the key that it knows.
  const columns =
    layout.prefix > 0
      ? layout.key.slice(0, layout.prefix)
      : layout.key.filter((column) => first?.[column] !== UNCHANGED);
  if (columns.length === 0) throw new VerdigrisError('INTERNAL', 'Rows are replaced by a key of no columns.');
  const where = join(layout, columns, (column) =>
    arrays.add(run.before as readonly Tuple[], column, typeOf(layout, column)),
  );
  return {
    text: `DELETE FROM ${place.sql} AS g USING ${arrays.from} WHERE ${where}`,
    values: arrays.values,
    run: null,
    place,
    strict: false,
  };
}

/** TRUNCATE would refuse a table that a foreign key points to, even where the other table is truncated next. */
export function truncateStep(place: Place, run: RowRun): Step {
  const { layout } = place;
  const text = layout.referenced || place.shadow ? `DELETE FROM ${place.sql}` : `TRUNCATE ${place.sql}`;
  return { text, values: [], run, place, strict: false };
}

export const housekeeping = (text: string, values: readonly Param[] = []): Step => ({
  text,
  values,
  run: null,
  place: null,
  strict: false,
});

/** Moves the rows with these keys from the table to its shadow; rows that are there already stay. */
export function takeStep(real: Place, shadow: Place, keys: readonly Tuple[]): Step {
  const { layout } = real;
  const arrays = new Arrays();
  const where = join(layout, layout.key, (column) => arrays.add(keys, column, typeOf(layout, column)));
  return {
    text:
      `WITH d AS (DELETE FROM ${real.sql} AS g USING ${arrays.from} WHERE ${where} RETURNING ${list(layout, layout.writable, 'g.')}) ` +
      `INSERT INTO ${shadow.sql} (${list(layout, layout.writable)}) SELECT ${list(layout, layout.writable)} FROM d`,
    values: arrays.values,
    run: null,
    place: shadow,
    strict: false,
  };
}

export const typeOf = (layout: SinkLayout, column: number): string =>
  (layout.columns[column] as { base: string }).base;
const fullType = (layout: SinkLayout, column: number): string =>
  (layout.columns[column] as { full: string }).full;
export const columnList = list;
export const keyJoin = join;
export { Arrays };

/** The run with only that row. */
export const single = (run: RowRun, row: number): RowRun => slice(run, row, row + 1);

/** Rows `from` (included) to `to` of a run of one row per entry. */
export function slice(run: RowRun, from: number, to: number): RowRun {
  return {
    ...run,
    after: run.after.length === 0 ? run.after : run.after.slice(from, to),
    before: run.before.slice(from, to),
  };
}
