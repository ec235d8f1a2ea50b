import { SYSTEM_CLOCK } from '../core/clock.ts';
import type { RowRun } from '../core/change.ts';
import type { Session } from '../core/engine.ts';
import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';
import { NO_FAILPOINTS } from '../core/failpoint.ts';
import type { Logger } from '../core/log.ts';
import type { TablePlan } from '../core/plan.ts';
import { showTable, UNCHANGED, type Cell, type Relation, type Tuple } from '../core/table.ts';
import { compile } from '../orchestrator/compiled.ts';
import { connectSide, readSchemaFile } from './connect.ts';
import type { LoadedConfig } from './load.ts';
import { withPlaces } from './mapping-issues.ts';
import { loadModules } from './modules.ts';
import { nearest } from './nearest.ts';

export interface TransformTestOptions {
  /** Blue table as it is shown, `schema.name`. */
  readonly table: string;
  readonly rows: number;
  /** Condition in the words of the engine. */
  readonly where?: string;
}

type Shown = Record<string, unknown>;

export interface TransformTestReport {
  readonly table: string;
  readonly rows: readonly {
    readonly before: Shown;
    readonly after: readonly { readonly table: string; readonly row: Shown }[];
    readonly rejects: readonly { readonly column: string; readonly reason: string }[];
  }[];
}

/**
 * Runs real rows of blue through the mapping. Writes nothing. The report holds values of rows: it is for the terminal of
 * whoever asked, never for a log.
 */
export async function tryTransform(
  loaded: LoadedConfig,
  log: Logger,
  options: TransformTestOptions,
): Promise<TransformTestReport> {
  const surroundings = { log, clock: SYSTEM_CLOCK, failpoints: NO_FAILPOINTS };
  const modules = await loadModules(loaded.config.tables, loaded.file);
  const schemaSql = await readSchemaFile(loaded);
  await using blue = await connectSide(loaded, 'blue', surroundings);
  await using green = await connectSide(loaded, 'green', surroundings);
  const { plans } = await compile({
    spec: loaded.config.tables,
    modules,
    blue: blue.catalog,
    green: green.catalog,
    schemaSql,
    back: null,
  }).catch((error: unknown) => {
    throw withPlaces(error, loaded);
  });
  const plan = plans.find(
    ({ from }) =>
      showTable(from.table) === options.table || `${from.table.schema}.${from.table.name}` === options.table,
  );
  if (!plan) {
    const known = plans.map(({ from }) => showTable(from.table));
    const meant = nearest(options.table, known);
    throw new VerdigrisError(
      'USAGE',
      `${options.table} does not take part${meant === null ? '' : `; nearest: ${meant}`}`,
    );
  }
  const rows = await sampleRows(blue, plan.from, options);
  return { table: showTable(plan.from.table), rows: rows.map((row) => transformed(plan, row)) };
}

async function sampleRows(
  blue: Session,
  relation: Relation,
  { rows, where }: TransformTestOptions,
): Promise<readonly Tuple[]> {
  if (blue.sample) return await blue.sample(relation, { rows, ...(where === undefined ? {} : { where }) });
  if (where !== undefined) throw new VerdigrisError('USAGE', 'this engine cannot choose rows by --where');
  const found: Tuple[] = [];
  for await (const part of blue.digester.read(relation, { lower: null, upper: null })) {
    found.push(...part.slice(0, rows - found.length));
    if (found.length >= rows) break;
  }
  return found;
}

function transformed(plan: TablePlan, row: Tuple): TransformTestReport['rows'][number] {
  const before = shownRow(plan.from, row);
  try {
    // Row by row, so that each result can be told from the others.
    const { runs, rejects } = plan.run({ relation: plan.from, op: 'insert', after: [row], before: [null] });
    return {
      before,
      after: runs.flatMap(shownRun),
      rejects: rejects.map(({ column, reason }) => ({ column, reason })),
    };
  } catch (error) {
    const { code, message } = asVerdigrisError(error);
    if (code !== 'MAPPING_VALUE') throw error;
    return { before, after: [], rejects: [{ column: '(stops the stream)', reason: message }] };
  }
}

const shownRun = (run: RowRun): { table: string; row: Shown }[] =>
  run.after.map((row) => ({
    table: showTable(run.relation.table),
    row: shownRow(run.relation, row, run.columns),
  }));

function shownRow(relation: Relation, row: Tuple, present?: readonly number[]): Shown {
  const indexes = present ?? relation.columns.map((_, index) => index);
  return Object.fromEntries(
    indexes
      .filter((index) => row[index] !== UNCHANGED && row[index] !== undefined)
      .map((index) => [relation.columns[index]?.name ?? '', shownCell(row[index] as Cell)]),
  );
}

function shownCell(cell: Cell): unknown {
  if (cell instanceof Uint8Array) return `\\x${Buffer.from(cell).toString('hex')}`;
  return typeof cell === 'bigint' || typeof cell === 'symbol' ? cell.toString() : cell;
}
