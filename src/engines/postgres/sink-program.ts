import { VerdigrisError } from '../../core/errors.ts';
import type { RowRun } from '../../core/change.ts';
import { showTable, UNCHANGED, type Cell, type Tuple } from '../../core/table.ts';
import type { Place, SinkLayout } from './sink-layout.ts';
import { ownerDeleteSteps, ownerInsertSteps, ownerMoveSteps, putSteps } from './sink-merge.ts';
import { keyOrder } from './sink-order.ts';
import {
  deleteStep,
  housekeeping,
  imageStep,
  insertStep,
  moveStep,
  prefixStep,
  slice,
  takeStep,
  truncateStep,
  updateSteps,
  type Step,
} from './sink-statements.ts';
import { rowBytes } from './sink-text.ts';

/**
 * Largest statement. One statement of 500,000 rows loses against cut ones (parsing of the literals does not overlap with their
 * sending); below some thousand rows the fixed cost of a statement shows.
 */
const MAX_ROWS = 5_000;
const MAX_BYTES = 2 * 1024 * 1024;

/** From this many bytes on an insert of one run goes as COPY: measured break-even including its two round trips. */
export const COPY_BYTES = 256 * 1024;

/** Rows to be written by COPY into a place. */
export interface CopyStep {
  readonly copy: { readonly place: Place; readonly run: RowRun; readonly columns: readonly number[] };
}

export type Work = Step | CopyStep;
export const isCopy = (work: Work): work is CopyStep => 'copy' in work;

/** The statements that do what a run says, to the table or to its shadow. */
export function* stepsFor(place: Place, run: RowRun): Generator<Work> {
  for (const part of shapes(place.layout, run)) yield* shaped(place, part, part.columns as readonly number[]);
}

function* shaped(place: Place, run: RowRun, columns: readonly number[]): Generator<Work> {
  const { layout } = place;
  const written = columns.filter((column) => layout.columns[column]?.generated !== true);
  switch (run.op) {
    case 'truncate':
      yield truncateStep(place, run);
      if (place.waiting !== null) yield housekeeping(`DELETE FROM ${place.waiting}`);
      return;
    case 'insert':
      if (layout.merge !== null) {
        for (const part of cut(run, 'after')) yield* ownerInsertSteps(place, part, written);
        return;
      }
      yield* insertWork(place, run, written);
      return;
    case 'delete':
      if (layout.key.length === 0) {
        for (let row = 0; row < run.before.length; row += 1) yield imageStep(place, run, row, null);
        return;
      }
      for (const part of cut(inKeyOrder(run, 'before'), 'before')) {
        if (layout.merge !== null) yield* ownerDeleteSteps(place, part);
        else yield deleteStep(place, part, part.before as readonly Tuple[]);
      }
      return;
    case 'update':
      yield* updateWork(place, run, written);
      return;
    case 'put':
      if (layout.merge === null) {
        throw new VerdigrisError(
          'INTERNAL',
          `Table ${showTable(layout.table)} is not merged, but a part of a row came for it.`,
        );
      }
      for (const part of cut(inUpdateOrder(layout, run, written), 'after'))
        yield* putSteps(place, part, written);
      return;
    case 'replace':
      yield prefixStep(place, run);
      if (run.after.length > 0)
        yield* insertWork(place, { ...run, op: 'insert', before: run.after.map(() => null) }, written);
      return;
  }
}

function* insertWork(place: Place, run: RowRun, columns: readonly number[]): Generator<Work> {
  if (run.after.length === 0) return;
  if (bytesReach(COPY_BYTES, run.after)) {
    yield { copy: { place, run, columns } };
    return;
  }
  for (const part of cut(run, 'after')) yield insertStep(place, part, columns);
}

function bytesReach(limit: number, rows: readonly Tuple[]): boolean {
  let bytes = 0;
  for (let row = 0; row < rows.length && bytes < limit; row += 1) bytes += rowBytes(rows[row] as Tuple);
  return bytes >= limit;
}

function* updateWork(place: Place, run: RowRun, columns: readonly number[]): Generator<Work> {
  const { layout } = place;
  if (layout.key.length === 0) {
    for (let row = 0; row < run.after.length; row += 1) yield imageStep(place, run, row, columns);
    return;
  }
  const moved: number[] = [];
  const stayed: number[] = [];
  run.after.forEach((_, row) => (keyMoved(layout, run, row) ? moved : stayed).push(row));
  if (moved.length > 0) {
    // Never cut: the rows of one statement move at the same time.
    const own = pick(run, moved);
    const set = [...new Set([...layout.key, ...columns])]
      .filter((column) => own.after.some((row) => row[column] !== UNCHANGED))
      .sort((a, b) => a - b);
    if (layout.merge === null) yield moveStep(place, own, set);
    else yield* ownerMoveSteps(place, own, set);
  }
  if (stayed.length === 0) return;
  const rest = moved.length === 0 ? run : pick(run, stayed);
  const set = columns.filter((column) => !layout.key.includes(column));
  for (const part of cut(inUpdateOrder(layout, rest, set), 'after')) yield* updateSteps(place, part, set);
}

/** Compared as text: a key that is written differently but equal (1.0, 1.00) has to be written as well. */
export function keyMoved(layout: SinkLayout, run: RowRun, row: number): boolean {
  const before = run.before[row];
  if (before === null || before === undefined) return false;
  const after = run.after[row] as Tuple;
  return layout.key.some(
    (column) => before[column] !== UNCHANGED && String(before[column]) !== String(after[column]),
  );
}

/** Every key that a run touches, old and new. */
export function touchedKeys(layout: SinkLayout, run: RowRun): readonly Tuple[] {
  if (run.op === 'insert' || run.op === 'put') return run.after;
  if (run.op === 'delete') return run.before as readonly Tuple[];
  if (run.op === 'update') {
    const moved = run.after.flatMap((_, row) =>
      keyMoved(layout, run, row) ? [run.before[row] as Tuple] : [],
    );
    return moved.length === 0 ? run.after : [...run.after, ...moved];
  }
  return [];
}

/**
 * The same for a table in the exact fallback: touched rows move to the shadow first, where no constraint stands, and everything
 * happens there.
 */
export function* shadowSteps(real: Place, shadow: Place, run: RowRun): Generator<Work> {
  if (run.op === 'truncate') yield truncateStep(real, run);
  if (run.op === 'replace') yield prefixStep(real, run);
  const keys = touchedKeys(real.layout, run);
  for (let at = 0; at < keys.length; at += MAX_ROWS)
    yield takeStep(real, shadow, keys.slice(at, at + MAX_ROWS));
  yield* stepsFor(shadow, run);
}

const pick = (run: RowRun, rows: readonly number[]): RowRun => ({
  ...run,
  after: run.after.length === 0 ? run.after : rows.map((row) => run.after[row] as Tuple),
  before: rows.map((row) => run.before[row] ?? null),
});

/** The rows of a run as they are found on the server. */
function inKeyOrder(run: RowRun, side: 'after' | 'before'): RowRun {
  const order = keyOrder(run.relation, run[side] as readonly Tuple[]);
  return order === null ? run : pick(run, order);
}

/** The same where the order makes no difference: a value that one row gives up may be taken by another. */
const inUpdateOrder = (layout: SinkLayout, run: RowRun, set: readonly number[]): RowRun =>
  set.some((column) => layout.compared.has(column) && !layout.key.includes(column))
    ? run
    : inKeyOrder(run, 'after');

/** Cuts a run into statements of bounded size, by the bytes of one side of it. */
function* cut(run: RowRun, side: 'after' | 'before'): Generator<RowRun> {
  const sized = run[side] as readonly Tuple[];
  let from = 0;
  let bytes = 0;
  for (let row = 0; row < sized.length; row += 1) {
    bytes += rowBytes(sized[row] as Tuple);
    if (bytes >= MAX_BYTES || row - from + 1 >= MAX_ROWS) {
      yield slice(run, from, row + 1);
      from = row + 1;
      bytes = 0;
    }
  }
  if (from === 0 && sized.length > 0) yield run;
  else if (from < sized.length) yield slice(run, from, sized.length);
}

const MOVED = 'moved';

/**
 * Runs from the fold have one shape and say which. Others may mix rows with and without unchanged cells: one statement per
 * shape, never the shape of the first row for all.
 */
function shapes(layout: SinkLayout, run: RowRun): readonly RowRun[] {
  if (run.columns !== undefined) return [run];
  if (run.op !== 'update' && run.op !== 'put') return [{ ...run, columns: layout.writable }];
  const byShape = new Map<string, { columns: readonly number[]; rows: number[] }>();
  const keyed = run.op === 'update' && layout.key.length > 0;
  run.after.forEach((tuple, row) => {
    const present = layout.writable.filter((column) => (tuple[column] as Cell) !== UNCHANGED);
    // Key changes stay together, whatever their shapes: a key may move to where another one leaves.
    const moved = keyed && keyMoved(layout, run, row);
    const columns = moved ? layout.writable : present;
    const shape = moved ? MOVED : columns.join();
    const found = byShape.get(shape);
    if (found === undefined) byShape.set(shape, { columns, rows: [row] });
    else found.rows.push(row);
  });
  const first = [...byShape].sort(([a], [b]) => Number(b === MOVED) - Number(a === MOVED));
  return first.map(([, { columns, rows }]) => ({
    ...(rows.length === run.after.length ? run : pick(run, rows)),
    columns,
  }));
}
