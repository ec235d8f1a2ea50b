import type { RowRun } from '../core/change.ts';
import { VerdigrisError } from '../core/errors.ts';
import type { PlanOutput, Reject, TablePlan, TargetTable } from '../core/plan.ts';
import { showTable, UNCHANGED, type Cell, type Relation, type Tuple } from '../core/table.ts';
import type { BackTarget } from './back-target.ts';
import { RunBuilder } from './run-builder.ts';
import { RowProblem } from './target-program.ts';

/** What a row does to the blue tables, gathered before any of it counts. */
type Emit = (builders: readonly RunBuilder[]) => void;

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
    const builders = this.targets.map((target) => new RunBuilder(target.relation));
    const rejects: Reject[] = [];
    switch (run.op) {
      case 'insert':
        for (const [row, tuple] of run.after.entries()) {
          this.#each({ row, builders, rejects, emits: () => this.#arrive(tuple), after: null, old: null });
        }
        break;
      case 'update':
        for (const [row, tuple] of run.after.entries()) {
          const before = run.before[row] ?? null;
          const emits = (): Emit[] => this.#change(tuple, before);
          const old = before ?? this.#keyOnly(tuple);
          this.#each({ row, builders, rejects, emits, after: tuple, old });
        }
        break;
      case 'delete':
        for (const old of run.before) {
          if (old === null)
            throw new VerdigrisError(
              'INTERNAL',
              `A delete of ${showTable(this.from.table)} came without the old row.`,
            );
          for (const emit of this.#leave(old)) emit(builders);
        }
        break;
      case 'truncate':
        this.#truncate(builders);
        break;
      case 'put':
      case 'replace':
        throw new VerdigrisError('INTERNAL', `A source sent ${run.op} for ${showTable(this.from.table)}.`);
    }
    const runs: RowRun[] = [];
    for (const builder of builders) builder.finish(runs);
    return { runs, rejects };
  }

  /** A row that does not fit is on no blue table and what it was there goes, or that stays as it was. */
  #each({ row, builders, rejects, emits, after, old }: Attempt): void {
    try {
      for (const emit of emits()) emit(builders);
    } catch (error) {
      const reject = this.#reject(error, row);
      const kept = reject.kind === 'value' && after !== null && old !== null ? this.#keep(after, old) : null;
      rejects.push(kept === null ? reject : { ...reject, stays: true });
      for (const emit of kept ?? (old === null ? [] : this.#leave(old))) emit(builders);
    }
  }

  /** What stays of a row that does not fit moves with its key; null when it cannot stay. */
  #keep(after: Tuple, old: Tuple): Emit[] | null {
    if (!this.#keeps) return null;
    const emits: Emit[] = [];
    for (const [index, target] of this.targets.entries()) {
      const { relation, role } = target;
      try {
        if (relation.key.length > 0 && target.sameKey(old, after)) continue;
        // What a part, or a row that is written as a whole, has at the old key is not known here.
        if (relation.key.length === 0 || role === 'part' || role === 'replace') return null;
        const row = target.key(after);
        const before = target.old(old);
        emits.push((builders) => builderAt(builders, index).add('update', row, before));
      } catch (error) {
        if (error instanceof RowProblem) return null;
        throw error;
      }
    }
    return emits;
  }

  #arrive(tuple: Tuple): Emit[] {
    return this.targets.flatMap((target, index) => {
      this.#require(target.presenceInputs, tuple);
      target.agree(tuple);
      return target.present(tuple) ? [appear(index, target, tuple)] : [];
    });
  }

  #change(after: Tuple, before: Tuple | null): Emit[] {
    const old = before ?? this.#keyOnly(after);
    const view = after.includes(UNCHANGED)
      ? after.map((cell, index) => (cell === UNCHANGED ? (old[index] as Cell) : cell))
      : after;
    const changed = new Array<boolean>(after.length);
    for (let index = 0; index < after.length; index++)
      changed[index] = after[index] !== UNCHANGED && old[index] !== after[index];
    const images: Images = { view, old, hadBefore: before !== null, changed };
    return this.targets.flatMap((target, index): Emit[] => {
      this.#require(target.presenceInputs, view);
      target.agree(view);
      const was = this.#was(target, old);
      const is = target.present(view);
      if (was && is) return stay(index, target, images);
      if (is) return [appear(index, target, view)];
      return was ? [disappear(index, target, old)] : [];
    });
  }

  /** Removes a row from every blue table it was on. */
  #leave(old: Tuple): Emit[] {
    return this.targets.flatMap((target, index): Emit[] => {
      if (!this.#was(target, old)) return [];
      try {
        return [disappear(index, target, old)];
      } catch (error) {
        if (!(error instanceof RowProblem)) throw error;
        if (error.kind === 'incomplete') throw this.#needsOldRows(error.column);
        // A key that does not fit was never on blue.
        return [];
      }
    });
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
  readonly emits: () => Emit[];
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

const builderAt = (builders: readonly RunBuilder[], index: number): RunBuilder =>
  builders[index] as RunBuilder;

/** @throws RowProblem */
function appear(index: number, target: BackTarget, tuple: Tuple): Emit {
  const row = target.whole(tuple);
  if (target.role === 'replace') {
    const key = target.key(tuple);
    return (builders) => builderAt(builders, index).replace(key, [row], target.columns);
  }
  const op = target.role === 'part' ? 'put' : 'insert';
  return (builders) => builderAt(builders, index).add(op, row, null, target.columns);
}

/** @throws RowProblem */
function disappear(index: number, target: BackTarget, old: Tuple): Emit {
  if (target.role === 'replace') {
    const key = target.key(old);
    return (builders) => builderAt(builders, index).replace(key, [], target.columns);
  }
  if (target.role === 'part') {
    const row = target.gone(old);
    return (builders) => builderAt(builders, index).add('put', row, null, target.columns);
  }
  const row = target.old(old);
  return (builders) => builderAt(builders, index).add('delete', null, row);
}

/** The row was on blue and stays there. @throws RowProblem */
function stay(index: number, target: BackTarget, { view, old, hadBefore, changed }: Images): Emit[] {
  const keyed = target.relation.key.length > 0;
  const moved = keyed && hadBefore && !target.sameKey(old, view);
  const rewritten = target.changed(view, old, changed);
  if (target.role === 'replace' || (moved && target.role === 'part')) {
    if (!moved && rewritten === null) return [];
    return [...(moved ? [disappear(index, target, old)] : []), appear(index, target, view)];
  }
  const row = rewritten ?? (moved ? target.key(view) : null);
  if (row === null) return [];
  const op = target.role === 'part' ? 'put' : 'update';
  const before = moved || !keyed ? target.old(old) : null;
  return [(builders) => builderAt(builders, index).add(op, row, before)];
}
