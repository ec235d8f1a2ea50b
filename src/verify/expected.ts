import type { TablePlan, TargetTable } from '../core/plan.ts';
import type { RowRun } from '../core/change.ts';
import { UNCHANGED, keyText, tableId, type Cell, type Tuple } from '../core/table.ts';

/** Rows of one green table by key; where it has none, by content with a count. */
export class RowSet {
  readonly #target: TargetTable;
  readonly #columns: readonly number[];
  readonly #canonical: readonly (((cell: Cell) => Cell) | null)[];
  readonly rows = new Map<string, Tuple>();
  readonly counts = new Map<string, number>();
  /** How many rows came in. */
  size = 0;

  constructor(
    target: TargetTable,
    columns: readonly number[],
    canonical: readonly (((cell: Cell) => Cell) | null)[],
  ) {
    this.#target = target;
    this.#columns = columns;
    this.#canonical = canonical;
  }

  add(row: Tuple): void {
    this.size += 1;
    const { relation } = this.#target;
    if (relation.key.length > 0) {
      this.rows.set(keyText(relation, row), row);
      return;
    }
    const text = JSON.stringify(
      this.#columns.map((index) => {
        const cell = row[index] as Cell;
        return this.#canonical[index]?.(cell) ?? cell;
      }),
    );
    this.rows.set(text, row);
    this.counts.set(text, (this.counts.get(text) ?? 0) + 1);
  }

  /** Another part of a merged row, where the owner's is there. */
  put(row: Tuple): void {
    const key = keyText(this.#target.relation, row);
    const owner = this.rows.get(key);
    if (owner === undefined) return;
    this.rows.set(
      key,
      owner.map((cell, index): Cell => (row[index] === UNCHANGED ? cell : (row[index] as Cell))),
    );
  }
}

/** What green should hold for these blue rows: one plan's output for one target. */
export function expect(plan: TablePlan, target: TargetTable, rows: readonly Tuple[], into: RowSet): void {
  const output = plan.run({ relation: plan.from, op: 'insert', after: rows, before: rows.map(() => null) });
  const mine = (run: RowRun): boolean => tableId(run.relation.table) === tableId(target.relation.table);
  for (const run of output.runs) {
    if (!mine(run)) continue;
    if (run.op === 'put') for (const row of run.after) into.put(row);
    else for (const row of run.after) into.add(absent(target, row));
  }
}

/** An owner's row before any part has come: the parts' columns at their absent values. */
function absent(target: TargetTable, row: Tuple): Tuple {
  if (target.merge === null) return row;
  const full = [...row];
  for (const part of target.merge.parts)
    part.columns.forEach((column, index) => (full[column] = part.absent[index] as Cell));
  return full;
}
