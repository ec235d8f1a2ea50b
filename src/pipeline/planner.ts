import type { RowRun } from '../core/change.ts';
import { VerdigrisError } from '../core/errors.ts';
import type { Reject, TablePlan } from '../core/plan.ts';
import {
  isWhole,
  UNCHANGED,
  keyText,
  showTable,
  tableId,
  type Cell,
  type Relation,
  type Tuple,
} from '../core/table.ts';
import type { HoleSet } from './holes.ts';

/** Runs plans over blue rows and keeps the holes: rows that are not on green and what becomes of their later changes. */
export class Planner {
  readonly #plans: ReadonlyMap<string, TablePlan>;
  readonly #holes: HoleSet;
  /** Rejected rows seen so far, for the counters. */
  rejects = 0;

  constructor(plans: readonly TablePlan[], holes: HoleSet) {
    this.#plans = new Map(plans.map((plan) => [tableId(plan.from.table), plan]));
    this.#holes = holes;
  }

  planOf(relation: Relation): TablePlan {
    const plan = this.#plans.get(tableId(relation.table));
    if (plan === undefined) {
      throw new VerdigrisError('INTERNAL', `No plan for ${showTable(relation.table)}.`);
    }
    return plan;
  }

  knows(relation: Relation): boolean {
    return this.#plans.has(tableId(relation.table));
  }

  /** Blue rows in, green rows out, in order. */
  plan(run: RowRun): readonly RowRun[] {
    const plan = this.planOf(run.relation);
    if (run.op === 'truncate' || !this.#holes.any(run.relation)) return this.#run(plan, run);
    const runs: RowRun[] = [];
    for (const part of this.#aroundHoles(run)) runs.push(...this.#run(plan, part));
    return runs;
  }

  #run(plan: TablePlan, run: RowRun): readonly RowRun[] {
    const output = plan.run(run);
    if (output.rejects.length > 0) {
      const again = changedAgain(run, output.rejects);
      if (again !== null) {
        // A later change of a rejected row in the same run meets a hole; the plan could not know that.
        const length = run.op === 'delete' ? run.before.length : run.after.length;
        return [...this.#run(plan, slice(run, 0, again + 1)), ...this.plan(slice(run, again + 1, length))];
      }
    }
    for (const reject of output.rejects) {
      const row = run.after[reject.row] ?? run.before[reject.row];
      if (row === undefined || row === null)
        throw new VerdigrisError('INTERNAL', 'A plan rejected a row that it was not given.');
      if (run.relation.key.length === 0) {
        throw new VerdigrisError(
          'MAPPING_VALUE',
          `A row of ${showTable(run.relation.table)} does not fit the mapping (${reject.column}: ${reject.reason}); the table has no key by which it could be set aside.`,
        );
      }
      this.rejects += 1;
      const kind = reject.kind === 'value' ? 'rejected' : 'incomplete';
      const { column, reason } = reject;
      const stale = reject.stays === true ? { stale: changedColumns(run, reject.row) } : {};
      this.#holes.open(run.relation, row, { kind, column, reason, ...stale });
    }
    return output.runs;
  }

  /**
   * Splits a run where it meets holes. A change to a hole never reaches green as it is: a whole image arrives as an
   * insert and closes the hole, a delete closes it, anything else leaves it. Where green still has the row as it once was, a
   * change arrives as one of everything that changed since then, and a delete as what it is.
   */
  *#aroundHoles(run: RowRun): Generator<RowRun> {
    const relation = run.relation;
    let start = 0;
    const length = run.op === 'delete' ? run.before.length : run.after.length;
    for (let i = 0; i < length; i++) {
      const after = run.op === 'delete' ? null : (run.after[i] as Tuple);
      const before = run.before[i] ?? null;
      const old = before ?? (after as Tuple);
      if (!this.#holes.has(relation, keyText(relation, old))) {
        // A repair makes holes of keys that blue has no row for: a row that moves to such a key brings itself along.
        if (before !== null && after !== null) this.#holes.close(relation, after);
        continue;
      }
      if (i > start) yield slice(run, start, i);
      start = i + 1;
      const stale = this.#holes.stale(relation, keyText(relation, old));
      if (stale !== undefined) {
        this.#holes.close(relation, old);
        yield after === null ? slice(run, i, i + 1) : sinceStale(run, i, stale);
        continue;
      }
      const hole = this.#holes.incomplete(relation).length > 0;
      this.#holes.close(relation, old);
      if (after === null) continue;
      const whole = filled(after, before);
      if (isWhole(whole)) {
        this.#holes.close(relation, after);
        yield { relation, op: 'insert', after: [whole], before: [null] };
      } else {
        this.#holes.open(relation, after, {
          kind: 'incomplete',
          column: '',
          reason: hole
            ? 'the row was changed again without its whole image'
            : 'the log did not bring the whole row',
        });
      }
    }
    if (start < length) yield start === 0 ? run : slice(run, start, length);
  }
}

/** Columns (indexes) that an update changes; all but the key where the log brings no old row. */
function changedColumns(run: RowRun, row: number): number[] {
  const after = run.after[row] as Tuple;
  const before = run.before[row] ?? null;
  const { key } = run.relation;
  const same = (cell: Cell, index: number): boolean =>
    cell === UNCHANGED || (before === null ? key.includes(index) : before[index] === cell);
  return after.flatMap((cell, index) => (same(cell, index) ? [] : [index]));
}

/** The new row, with what the log left out from the old one where that brings it. */
const filled = (after: Tuple, before: Tuple | null): Tuple =>
  before === null || !after.includes(UNCHANGED)
    ? after
    : after.map((cell, index): Cell => (cell === UNCHANGED ? (before[index] as Cell) : cell));

/** An update of everything that changed since green's row was right: of those columns the old values are not known. */
function sinceStale(run: RowRun, row: number, stale: readonly number[]): RowRun {
  const { relation } = run;
  const before = run.before[row] ?? null;
  const after = filled(run.after[row] as Tuple, before);
  if (stale.some((index) => after[index] === UNCHANGED))
    throw new VerdigrisError(
      'INTERNAL',
      `A row of ${showTable(relation.table)} that is out of date came without values that changed before.`,
    );
  const old = before ?? after.map((cell, index): Cell => (relation.key.includes(index) ? cell : UNCHANGED));
  const known = old.map((cell, index): Cell => {
    return stale.includes(index) && !relation.key.includes(index) ? UNCHANGED : cell;
  });
  return { relation, op: 'update', after: [after], before: [known] };
}

/** Index of the first rejected row that the run changes again, or null. */
function changedAgain(run: RowRun, rejects: readonly Reject[]): number | null {
  if (run.op !== 'update' || run.relation.key.length === 0) return null;
  const first = new Map<string, number>();
  for (const reject of rejects) {
    const key = keyText(run.relation, run.after[reject.row] as Tuple);
    if (!first.has(key)) first.set(key, reject.row);
  }
  for (let i = 0; i < run.after.length; i++) {
    const at = first.get(keyText(run.relation, run.before[i] ?? (run.after[i] as Tuple)));
    if (at !== undefined && at < i) return at;
  }
  return null;
}

const slice = (run: RowRun, from: number, to: number): RowRun => ({
  ...run,
  after: run.op === 'delete' ? [] : run.after.slice(from, to),
  before: run.before.slice(from, to),
});
