import type { Digester } from '../core/digest.ts';
import type { TablePlan, TargetTable } from '../core/plan.ts';
import type { KeyRange } from '../core/snapshot.ts';
import { UNCHANGED, tableId, type Cell, type Tuple } from '../core/table.ts';
import { rowId, subjectColumns, type Subject } from './subject.ts';
import type { VerifyTable } from './verify-table.ts';

export interface Sides {
  readonly blue: Digester;
  readonly green: Digester;
}

/** A range of blue's and green's first key column, or subjects by their keys. */
export type Where =
  | { readonly lower: Cell | null; readonly upper: Cell | null }
  | { readonly subjects: readonly Subject[] };

/** More rows than may be held. */
export class Oversize extends Error {}

export const WHOLE = { lower: null, upper: null } as const;

function blueRange(table: VerifyTable, plan: number, where: Where): KeyRange {
  if (!('subjects' in where)) return where;
  const columns = subjectColumns(table);
  const link = table.links?.[plan] ?? [];
  const places = link.map((column) => columns.indexOf(column));
  return { keys: where.subjects.map(({ key }) => places.map((place) => key[place] as Cell)) };
}

function greenRange(table: VerifyTable, where: Where): KeyRange {
  if (!('subjects' in where)) return where;
  const { key } = table.target.relation;
  const on = subjectColumns(table).map((column) => key.indexOf(column));
  return { keys: where.subjects.map((subject) => subject.key), on };
}

/** What green holds. */
export const foundRows = (sides: Sides, table: VerifyTable, where: Where): AsyncIterable<readonly Tuple[]> =>
  sides.green.read(table.target.relation, greenRange(table, where));

/**
 * What green should hold: what the plans make of blue's rows. The parts of a merged row are put together here, so of merged
 * tables all accepted rows of `where` are held.
 * @throws Oversize when that would be more than `most`
 */
export async function* expectedRows(
  sides: Sides,
  table: VerifyTable,
  where: Where,
  hold: { readonly most: number; readonly accept: (id: string) => boolean },
): AsyncGenerator<readonly Tuple[]> {
  if (table.target.merge === null) {
    for (const [index, plan] of table.plans.entries()) {
      for await (const rows of sides.blue.read(plan.from, blueRange(table, index, where))) {
        yield planned(plan, table.target, rows).map((one) => one.row);
      }
    }
    return;
  }
  const merged = new Map<string, Tuple>();
  for (const [index, plan] of table.plans.entries()) {
    for await (const rows of sides.blue.read(plan.from, blueRange(table, index, where))) {
      for (const { row, part } of planned(plan, table.target, rows)) {
        const id = rowId(table, row);
        if (!hold.accept(id)) continue;
        if (part) {
          const owner = merged.get(id);
          if (owner !== undefined)
            merged.set(
              id,
              owner.map((cell, at): Cell => (row[at] === UNCHANGED ? cell : (row[at] as Cell))),
            );
        } else merged.set(id, absent(table.target, row));
      }
      if (merged.size > hold.most) throw new Oversize();
    }
  }
  yield [...merged.values()];
}

function planned(
  plan: TablePlan,
  target: TargetTable,
  rows: readonly Tuple[],
): { row: Tuple; part: boolean }[] {
  const output = plan.run({ relation: plan.from, op: 'insert', after: rows, before: rows.map(() => null) });
  const mine = output.runs.filter((run) => tableId(run.relation.table) === tableId(target.relation.table));
  return mine.flatMap((run) => run.after.map((row) => ({ row, part: run.op === 'put' })));
}

/** An owner's row before any part has come: the parts' columns at their absent values. */
function absent(target: TargetTable, row: Tuple): Tuple {
  const full = [...row];
  for (const part of target.merge?.parts ?? []) {
    part.columns.forEach((column, index) => (full[column] = part.absent[index] as Cell));
  }
  return full;
}
