import type { RowRun } from '../core/change.ts';
import { VerdigrisError } from '../core/errors.ts';
import type { PlanOutput, Reject, TablePlan, TargetTable } from '../core/plan.ts';
import { showTable, UNCHANGED, type Cell, type Relation, type Tuple } from '../core/table.ts';
import type { BackTarget } from './back-target.ts';
import { buildersFor, mark, rollback, runsOf, type RunBuilder } from './run-builder.ts';
import { RowProblem } from './target-program.ts';

/** The way back of one green table. */
export class BackPlan implements TablePlan {
  readonly from: Relation;
  readonly to: readonly TargetTable[];
  /** Never: ranges are compared or read again by their rows, which must fit. */
  readonly passthrough = null;
  readonly inputs: readonly number[];
  readonly targets: readonly BackTarget[];
  /** An update that does not fit leaves blue's row as it was; what was changed then is written once the row fits. */
  readonly #keeps: boolean;

  constructor(from: Relation, targets: readonly BackTarget[], misfits: 'remove' | 'keep' = 'remove') {
    this.from = from;
    // Where the old row says whether blue has one, the image before the rejected one would have to be known; and a value that the log
    // leaves out could not be written later.
    const known = from.identity === 'full' || !from.columns.some((column) => column.mayBeUnchanged);
    this.#keeps =
      misfits === 'keep' && known && targets.every((target) => target.presenceInputs.length === 0);
    this.targets = targets;
    this.to = targets.map((target) => target.table);
    this.inputs = [...new Set(targets.flatMap((target) => target.inputs))].sort((a, b) => a - b);
  }

  /** @throws VerdigrisError SCHEMA_UNSUPPORTED for a truncate that blue cannot follow, and where the log leaves out what is needed */
  run(run: RowRun): PlanOutput {
    const builders = buildersFor(this.targets);
    const rejects: Reject[] = [];
    switch (run.op) {
      case 'insert':
        for (const [row, tuple] of run.after.entries()) {
          const write = (): void => this.#arrive(tuple, builders);
          this.#each({ row, builders, rejects, write, after: null, old: null });
        }
        break;
      case 'update':
        for (const [row, tuple] of run.after.entries()) {
          const before = run.before[row] ?? null;
          const write = (): void => this.#change(tuple, before, builders);
          const old = before ?? this.#keyOnly(tuple);
          this.#each({ row, builders, rejects, write, after: tuple, old });
        }
        break;
      case 'delete':
        for (const old of run.before) {
          if (old === null)
            throw new VerdigrisError(
              'INTERNAL',
              `A delete of ${showTable(this.from.table)} came without the old row.`,
            );
          this.#leave(old, builders);
        }
        break;
      case 'truncate':
        this.#truncate(builders);
        break;
      case 'put':
      case 'replace':
        throw new VerdigrisError('INTERNAL', `A source sent ${run.op} for ${showTable(this.from.table)}.`);
    }
    return { runs: runsOf(builders), rejects };
  }

  /** A row that does not fit is on no blue table and what it was there goes, or that stays as it was. */
  #each({ row, builders, rejects, write, after, old }: Attempt): void {
    mark(builders);
    try {
      write();
    } catch (error) {
      rollback(builders);
      const reject = this.#reject(error, row);
      if (reject.kind === 'value' && after !== null && old !== null && this.#keep(after, old, builders)) {
        rejects.push({ ...reject, stays: true });
        return;
      }
      rollback(builders);
      rejects.push(reject);
      if (old !== null) this.#leave(old, builders);
    }
  }

  /** What stays of a row that does not fit moves with its key; false when it cannot stay. */
  #keep(after: Tuple, old: Tuple, builders: readonly RunBuilder[]): boolean {
    if (!this.#keeps) return false;
    for (const [index, target] of this.targets.entries()) {
      const { relation, role } = target;
      try {
        if (relation.key.length > 0 && target.sameKey(old, after)) continue;
        // What a part, or a row that is written as a whole, has at the old key is not known here.
        if (relation.key.length === 0 || role === 'part' || role === 'replace') return false;
        (builders[index] as RunBuilder).add('update', target.key(after), target.old(old));
      } catch (error) {
        if (error instanceof RowProblem) return false;
        throw error;
      }
    }
    return true;
  }

  #arrive(tuple: Tuple, builders: readonly RunBuilder[]): void {
    for (const [index, target] of this.targets.entries()) {
      this.#require(target.presenceInputs, tuple);
      target.agree(tuple);
      if (target.present(tuple)) appear(builders[index] as RunBuilder, target, tuple);
    }
  }

  #change(after: Tuple, before: Tuple | null, builders: readonly RunBuilder[]): void {
    const old = before ?? this.#keyOnly(after);
    const view = after.includes(UNCHANGED)
      ? after.map((cell, index) => (cell === UNCHANGED ? (old[index] as Cell) : cell))
      : after;
    const changed = new Array<boolean>(after.length);
    for (let index = 0; index < after.length; index++)
      changed[index] = after[index] !== UNCHANGED && old[index] !== after[index];
    const images: Images = { view, old, hadBefore: before !== null, changed };
    for (const [index, target] of this.targets.entries()) {
      const builder = builders[index] as RunBuilder;
      this.#require(target.presenceInputs, view);
      target.agree(view);
      const was = this.#was(target, old);
      const is = target.present(view);
      if (was && is) stay(builder, target, images);
      else if (is) appear(builder, target, view);
      else if (was) disappear(builder, target, old);
    }
  }

  /** Removes a row from every blue table it was on. */
  #leave(old: Tuple, builders: readonly RunBuilder[]): void {
    for (const [index, target] of this.targets.entries()) {
      if (!this.#was(target, old)) continue;
      try {
        disappear(builders[index] as RunBuilder, target, old);
      } catch (error) {
        if (!(error instanceof RowProblem)) throw error;
        if (error.kind === 'incomplete') throw this.#needsOldRows(error.column);
        // A key that does not fit was never on blue.
      }
    }
  }

  #was(target: BackTarget, old: Tuple): boolean {
    const missing = target.presenceInputs.find((index) => old[index] === UNCHANGED);
    if (missing !== undefined) throw this.#needsOldRows(this.from.columns[missing]?.name ?? '');
    return target.present(old);
  }

  #require(inputs: readonly number[], tuple: Tuple): void {
    const missing = inputs.find((index) => tuple[index] === UNCHANGED);
    if (missing === undefined) return;
    const column = this.from.columns[missing]?.name ?? '';
    throw new RowProblem('incomplete', column, 'the log did not bring every cell it needs', 'reject');
  }

  /** Where no old image came the key did not move. */
  #keyOnly(after: Tuple): Tuple {
    const { key } = this.from;
    return after.map((cell, index) => (key.includes(index) ? cell : UNCHANGED));
  }

  #truncate(builders: readonly RunBuilder[]): void {
    const bound = this.targets.find(
      (target) =>
        target.role !== 'row' || target.table.merge !== null || target.conditional || target.hasArrays,
    );
    if (bound !== undefined) {
      throw new VerdigrisError(
        'SCHEMA_UNSUPPORTED',
        `${showTable(this.from.table)} was truncated, and ${showTable((bound.table.elements?.of ?? bound.relation).table)} on blue also holds what is not from there.`,
        {
          remedy:
            'Use DELETE instead of TRUNCATE while the way back is kept; blue can no longer follow from here on.',
          context: {
            table: showTable(this.from.table),
            target: showTable((bound.table.elements?.of ?? bound.relation).table),
          },
        },
      );
    }
    for (const builder of builders) builder.truncate();
  }

  #needsOldRows(column: string): VerdigrisError {
    return new VerdigrisError(
      'SCHEMA_UNSUPPORTED',
      `The log of ${showTable(this.from.table)} does not bring the old values that the way back of ${column} needs.`,
      {
        remedy: 'Make the table log whole old rows before it is opened for writes.',
        context: { table: showTable(this.from.table), column },
      },
    );
  }

  #reject(error: unknown, row: number): Reject {
    if (!(error instanceof RowProblem)) throw error;
    const { kind, column, reason } = error;
    if (kind === 'incomplete' || error.policy === 'reject') return { row, kind, column, reason };
    const key = this.from.key.map((index) => this.from.columns[index]?.name);
    throw new VerdigrisError(
      'MAPPING_VALUE',
      `A row of ${showTable(this.from.table)} does not fit blue: ${column} ${reason}.`,
      { context: { table: showTable(this.from.table), key, column, reason, row } },
    );
  }
}

interface Attempt {
  readonly row: number;
  readonly builders: readonly RunBuilder[];
  readonly rejects: Reject[];
  /** Puts what the row does to the blue tables into the builders. @throws RowProblem, some of it written */
  readonly write: () => void;
  /** Of an update. */
  readonly after: Tuple | null;
  readonly old: Tuple | null;
}

interface Images {
  /** The new row with gaps filled from the old one. */
  readonly view: Tuple;
  readonly old: Tuple;
  readonly hadBefore: boolean;
  /** Per column of green: its value is another one, or may be. */
  readonly changed: readonly boolean[];
}

/** @throws RowProblem */
function appear(builder: RunBuilder, target: BackTarget, tuple: Tuple): void {
  const { role, columns } = target;
  const row = target.whole(tuple);
  if (role === 'replace') builder.replace(target.key(tuple), [row], columns);
  else builder.add(role === 'part' ? 'put' : 'insert', row, null, columns);
}

/** @throws RowProblem */
function disappear(builder: RunBuilder, target: BackTarget, old: Tuple): void {
  const { role, columns } = target;
  if (role === 'replace') builder.replace(target.key(old), [], columns);
  else if (role === 'part') builder.add('put', target.gone(old), null, columns);
  else builder.add('delete', null, target.old(old));
}

/** The row was on blue and stays there. @throws RowProblem */
function stay(builder: RunBuilder, target: BackTarget, { view, old, hadBefore, changed }: Images): void {
  const keyed = target.relation.key.length > 0;
  const moved = keyed && hadBefore && !target.sameKey(old, view);
  const rewritten = target.changed(view, old, changed);
  if (target.role === 'replace' || (moved && target.role === 'part')) {
    if (!moved && rewritten === null) return;
    if (moved) disappear(builder, target, old);
    appear(builder, target, view);
    return;
  }
  const row = rewritten ?? (moved ? target.key(view) : null);
  if (row === null) return;
  builder.add(target.role === 'part' ? 'put' : 'update', row, moved || !keyed ? target.old(old) : null);
}
