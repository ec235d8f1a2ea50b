import type { RowRun } from '../../core/change.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { showTable, type Tuple } from '../../core/table.ts';
import { translate } from './errors.ts';
import { execute, type ProgramFailure } from './sink-execute.ts';
import type { Place, SinkLayout } from './sink-layout.ts';
import { isCopy, stepsFor, type Work } from './sink-program.ts';
import type { LateStep } from './sink-late-unique.ts';
import type { FlushStep } from './sink-shadow.ts';
import { columnList, insertStep, single, typeOf, WRONG_COUNT, type Step } from './sink-statements.ts';
import { cellText } from './sink-text.ts';
import { qualified } from './sql.ts';
import { BatchFailure, sqlState, type Statement, type Wire } from './sink-wire.ts';

/** Statements sent together while looking for the row that fails. */
const PROBES = 200;

interface Found {
  readonly error: unknown;
  readonly key: Readonly<Record<string, string | null>> | null;
  readonly column: string | null;
}

/**
 * Names the row for the operator: does the part again up to the statement that failed, then that statement row by row, and
 * rolls back. Only ever called on the way to an error that stops the stream, so its cost does not matter.
 */
export async function locate(
  wire: Wire,
  failure: ProgramFailure,
  context: Readonly<Record<string, unknown>>,
  whole: boolean,
): Promise<VerdigrisError> {
  const { work } = failure;
  const layout = work === null ? null : isCopy(work) ? work.copy.place.layout : (work.place?.layout ?? null);
  if (work === null || layout === null)
    return describe(null, { error: failure.error, key: null, column: null }, context);
  let found: Found = { error: failure.error, key: null, column: null };
  try {
    await wire.one(whole ? 'BEGIN' : 'SAVEPOINT verdigris_look');
    found = (await search(wire, failure, work, layout)) ?? found;
  } catch (error) {
    if (wire.lost) return translate(error, 'sink', context);
  } finally {
    if (!wire.lost)
      await wire.one(whole ? 'ROLLBACK' : 'ROLLBACK TO SAVEPOINT verdigris_look').catch(() => undefined);
  }
  return describe(layout, found, context);
}

async function search(
  wire: Wire,
  failure: ProgramFailure,
  work: Work,
  layout: SinkLayout,
): Promise<Found | null> {
  await wire.one('SAVEPOINT verdigris_redo');
  await execute(wire, failure.before);
  if (!isCopy(work) && 'late' in work) return await searchLate(wire, work as LateStep, layout);
  if (!isCopy(work) && 'flush' in work) return await searchFlush(wire, work as FlushStep);
  const run = isCopy(work) ? work.copy.run : work.run;
  if (run === null) return null;
  const rows = Math.max(run.after.length, run.op === 'replace' ? 0 : run.before.length);
  const state = sqlState(failure.error);
  const hit = await firstFailing(wire, rows, (row) => rowSteps(work, layout, run, row, state));
  if (hit === null) return null;
  const tuple =
    run.op === 'delete' || run.op === 'update'
      ? (run.before[hit.row] ?? run.after[hit.row])
      : run.after[hit.row];
  const key = keyCells(layout, (tuple ?? run.after[hit.row]) as Tuple);
  if (!state.startsWith('22') || state === WRONG_COUNT) return { error: hit.error, key, column: null };
  await wire.one('ROLLBACK TO SAVEPOINT verdigris_redo');
  return { error: hit.error, key, column: await badColumn(wire, layout, run, hit.row) };
}

function rowSteps(
  work: Work,
  layout: SinkLayout,
  run: RowRun,
  row: number,
  state: string,
): readonly Statement[] {
  if (isCopy(work)) return [insertStep(work.copy.place, single(work.copy.run, row), work.copy.columns)];
  const place = work.place as Place;
  const one = single(run, row);
  if (state === WRONG_COUNT && run.op === 'update' && layout.key.length > 0) {
    // Key changes one by one would mean something else than all at once: only look whether the old row is there.
    const tuple = (run.before[row] ?? run.after[row]) as Tuple;
    const where = layout.key.map(
      (column, index) => `${layout.columns[column]?.sql} = $${index + 1}::text::${typeOf(layout, column)}`,
    );
    return [
      {
        text:
          'SELECT pg_catalog.width_bucket(0::float8, 0::float8, (count(*) = 1)::int::float8, 1) ' +
          `FROM (SELECT 1 FROM ${place.sql} WHERE ${where.join(' AND ')}) AS r`,
        values: layout.key.map((column) => cellText(tuple[column])),
      },
    ];
  }
  return [...stepsFor(place, one)].filter((found): found is Step => !isCopy(found));
}

/** Sends the rows one by one, many at a time; the server stops at the first that fails. */
async function firstFailing(
  wire: Wire,
  rows: number,
  steps: (row: number) => readonly Statement[],
): Promise<{ row: number; error: unknown } | null> {
  for (let from = 0; from < rows; from += PROBES) {
    const owners: number[] = [];
    const statements: Statement[] = [];
    for (let row = from; row < Math.min(rows, from + PROBES); row += 1) {
      for (const statement of steps(row)) {
        statements.push(statement);
        owners.push(row);
      }
    }
    try {
      await wire.run(statements);
    } catch (failure) {
      if (!(failure instanceof BatchFailure)) throw failure;
      return { row: owners[failure.index] as number, error: failure.error };
    }
  }
  return null;
}

async function searchLate(wire: Wire, step: LateStep, layout: SinkLayout): Promise<Found> {
  const { rows } = await wire.one(step.late.find.text, step.late.find.values);
  const error = {
    code: '23505',
    constraint: step.late.constraint,
    message: '',
    table: layout.table.name,
    schema: layout.table.schema,
  };
  return { error, key: namedKey(layout, rows[0] ?? []), column: null };
}

async function searchFlush(wire: Wire, step: FlushStep): Promise<Found | null> {
  const { real, shadow } = step.flush;
  const { layout } = real;
  const keys = layout.key
    .map((column) => `pg_catalog.format('%s', ${layout.columns[column]?.sql})`)
    .join(', ');
  const { rows } = await wire.one(`SELECT ctid::text, ${keys} FROM ${shadow.sql}`);
  const columns = columnList(layout, layout.writable);
  await wire.one('SET CONSTRAINTS ALL IMMEDIATE');
  const hit = await firstFailing(wire, rows.length, (row) => [
    {
      text: `INSERT INTO ${real.sql} (${columns}) OVERRIDING SYSTEM VALUE SELECT ${columns} FROM ${shadow.sql} WHERE ctid = $1::tid`,
      values: [(rows[row] as readonly string[])[0] as string],
    },
  ]);
  if (hit === null) return null;
  const cells = (rows[hit.row] as readonly (string | null)[]).slice(1);
  return { error: hit.error, key: namedKey(layout, cells), column: null };
}

const namedKey = (layout: SinkLayout, cells: readonly (string | null)[]): Record<string, string | null> =>
  Object.fromEntries(
    layout.key.map((column, index) => [layout.relation.columns[column]?.name ?? '', cells[index] ?? null]),
  );

/** Which column of a row the server refuses: assigns them one by one to a table of the same layout. */
async function badColumn(wire: Wire, layout: SinkLayout, run: RowRun, row: number): Promise<string | null> {
  const tuple = run.after[row] ?? run.before[row];
  if (tuple === undefined || tuple === null) return null;
  const columns = run.columns ?? layout.writable;
  await wire.one(
    `CREATE TEMP TABLE verdigris_probe AS SELECT ${columnList(layout, layout.writable)} FROM ${qualified(layout.table)} WITH NO DATA`,
  );
  for (const column of columns) {
    const cell = tuple[column];
    if (layout.columns[column]?.generated === true || cell === undefined || typeof cell === 'symbol')
      continue;
    const name = layout.columns[column]?.sql;
    try {
      await wire.one(
        `INSERT INTO pg_temp.verdigris_probe (${name}) SELECT $1::text::${typeOf(layout, column)}`,
        [cellText(cell)],
      );
    } catch (error) {
      if (wire.lost) throw error;
      return layout.relation.columns[column]?.name ?? null;
    }
  }
  return null;
}

const keyCells = (layout: SinkLayout, tuple: Tuple): Record<string, string | null> =>
  Object.fromEntries(
    layout.key.map((column) => {
      const cell = tuple[column];
      return [layout.relation.columns[column]?.name ?? '', typeof cell === 'symbol' ? null : cellText(cell)];
    }),
  );

function describe(
  layout: SinkLayout | null,
  found: Found,
  context: Readonly<Record<string, unknown>>,
): VerdigrisError {
  const facts = {
    ...context,
    ...(layout === null
      ? {}
      : {
          table: showTable(layout.table),
          keyColumns: layout.key.map((column) => layout.relation.columns[column]?.name ?? ''),
        }),
    ...(found.key === null ? {} : { key: found.key }),
    ...(found.column === null ? {} : { column: found.column }),
  };
  const where = layout === null ? 'the sink' : showTable(layout.table);
  if (sqlState(found.error) === WRONG_COUNT) {
    return new VerdigrisError(
      'SINK_CONFLICT',
      `A row that a change needs is not there, or is there more than once, in ${where}.`,
      {
        context: facts,
      },
    );
  }
  const translated = translate(found.error, 'sink', facts);
  const code = sqlState(found.error).startsWith('23') ? 'SINK_CONFLICT' : 'SINK_FAILED';
  const column = found.column === null ? '' : `, column ${found.column}`;
  return new VerdigrisError(code, `A change does not fit into ${where}${column}: ${translated.message}.`, {
    context: translated.context,
  });
}
