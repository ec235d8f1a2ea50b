import type { RowRun } from '../core/change.ts';
import { VerdigrisError } from '../core/errors.ts';
import type { PlanOutput, Reject, TablePlan, TargetTable } from '../core/plan.ts';
import { showTable, UNCHANGED, type Cell, type Relation, type Tuple } from '../core/table.ts';
import type { Condition } from './condition.ts';
import { buildersFor, mark, rollback, runsOf, type RunBuilder } from './run-builder.ts';
import { rowProblem, RowProblem, type TargetProgram } from './target-program.ts';

export interface PlanOptions {
  readonly from: Relation;
  readonly when: Condition | null;
  readonly targets: readonly TargetProgram[];
  readonly passthrough: TablePlan['passthrough'];
}

/** The compiled mapping of one blue table. */
export class CompiledPlan implements TablePlan {
  readonly from: Relation;
  readonly to: readonly TargetTable[];
  readonly passthrough: TablePlan['passthrough'];
  readonly inputs: readonly number[];
  readonly targets: readonly TargetProgram[];
  readonly when: Condition | null;
  /** Rows are the same tuples on both sides. */
  readonly #sameLayout: boolean;
  /** Some green table has only some of the rows. */
  readonly #conditional: boolean;

  constructor({ from, when, targets, passthrough }: PlanOptions) {
    this.from = from;
    this.to = targets.map((target) => target.table);
    this.when = when;
    this.targets = targets;
    this.passthrough = passthrough;
    const conditions = [when, ...targets.map((target) => target.emitWhen)].flatMap(
      (one) => one?.inputs ?? [],
    );
    this.inputs = [...new Set([...targets.flatMap((target) => target.inputs), ...conditions])].sort(
      (a, b) => a - b,
    );
    this.#conditional = when !== null || targets.some((target) => target.emitWhen !== null);
    const width = from.columns.length;
    this.#sameLayout =
      passthrough !== null &&
      targets[0]?.relation.columns.length === width &&
      passthrough.from.length === width &&
      passthrough.from.every((index, i) => index === i && passthrough.columns[i] === i);
  }

  run(run: RowRun): PlanOutput {
    switch (run.op) {
      case 'insert':
        return this.#insert(run);
      case 'update':
        return this.#update(run);
      case 'delete':
        return this.#delete(run);
      case 'truncate':
        return this.#truncate();
      case 'put':
      case 'replace':
        throw new VerdigrisError('INTERNAL', `A source sent ${run.op} for ${showTable(this.from.table)}.`);
    }
  }

  #insert(run: RowRun): PlanOutput {
    const { after } = run;
    if (this.#sameLayout && !after.some((tuple) => this.#hasGaps(tuple))) return this.#asIs(run);
    const rejects: Reject[] = [];
    const builders = buildersFor(this.targets);
    const single = this.targets.length === 1 && this.when === null ? this.targets[0] : undefined;
    const simple =
      single !== undefined &&
      single.emitWhen === null &&
      (single.role === 'whole' || single.role === 'owner');
    for (let i = 0; i < after.length; i++) {
      const tuple = after[i] as Tuple;
      mark(builders);
      try {
        if (simple) {
          (builders[0] as RunBuilder).add(
            'insert',
            single.whole(tuple, this.#hasGaps(tuple)),
            null,
            single.columns,
          );
        } else {
          this.#arrive(tuple, builders);
        }
      } catch (error) {
        rollback(builders);
        rejects.push(this.#reject(error, i));
      }
    }
    return { runs: runsOf(builders), rejects };
  }

  #asIs(run: RowRun): PlanOutput {
    const { op, after, before } = run;
    const { relation } = this.targets[0] as TargetProgram;
    return { runs: [{ relation, op, after, before }], rejects: [] };
  }

  #arrive(tuple: Tuple, builders: readonly RunBuilder[]): void {
    if (!this.#emits(this.when, 'when', tuple)) return;
    const gaps = this.#hasGaps(tuple);
    for (let index = 0; index < this.targets.length; index++) {
      const target = this.targets[index] as TargetProgram;
      if (this.#emits(target.emitWhen, 'emit_when', tuple))
        appear(builders[index] as RunBuilder, target, tuple, gaps);
    }
  }

  #update(run: RowRun): PlanOutput {
    const { after, before } = run;
    if (this.#sameLayout && before.every((tuple) => tuple === null)) return this.#asIs(run);
    const rejects: Reject[] = [];
    const builders = buildersFor(this.targets);
    for (let i = 0; i < after.length; i++) {
      const now = after[i] as Tuple;
      const old = before[i] ?? null;
      mark(builders);
      try {
        this.#change(now, old, builders);
      } catch (error) {
        rollback(builders);
        rejects.push(this.#reject(error, i));
        this.#leave(this.#oldOf(old, now), builders);
      }
    }
    return { runs: runsOf(builders), rejects };
  }

  #change(after: Tuple, before: Tuple | null, builders: readonly RunBuilder[]): void {
    const gaps = this.#hasGaps(after);
    const view = gaps && before !== null ? filled(after, before) : after;
    const old = this.#conditional || before !== null ? this.#oldOf(before, view) : view;
    const was = this.#emitted(this.when, 'when', old);
    const is = this.#emits(this.when, 'when', view);
    for (let index = 0; index < this.targets.length; index++) {
      const target = this.targets[index] as TargetProgram;
      const builder = builders[index] as RunBuilder;
      const before_ = was && this.#emitted(target.emitWhen, 'emit_when', old);
      const after_ = is && this.#emits(target.emitWhen, 'emit_when', view);
      if (before_ && after_) stay(builder, target, { after, view, old, hadBefore: before !== null, gaps });
      else if (after_) appear(builder, target, view, gaps);
      else if (before_) this.#disappear(builder, target, old);
    }
  }

  #delete(run: RowRun): PlanOutput {
    const { before } = run;
    if (this.#sameLayout) return this.#asIs(run);
    const builders = buildersFor(this.targets);
    for (const old of before) {
      if (old === null)
        throw new VerdigrisError(
          'INTERNAL',
          `A delete of ${showTable(this.from.table)} came without the old row.`,
        );
      this.#leave(old, builders);
    }
    return { runs: runsOf(builders), rejects: [] };
  }

  /** Removes a row from every green table it was on. */
  #leave(old: Tuple, builders: readonly RunBuilder[]): void {
    if (!this.#emitted(this.when, 'when', old)) return;
    for (let index = 0; index < this.targets.length; index++) {
      const target = this.targets[index] as TargetProgram;
      if (!this.#emitted(target.emitWhen, 'emit_when', old)) continue;
      try {
        this.#disappear(builders[index] as RunBuilder, target, old);
      } catch (error) {
        // A key that the mapping does not take was never on green.
        if (!(error instanceof RowProblem) || error.kind !== 'value') throw error;
      }
    }
  }

  #disappear(builder: RunBuilder, target: TargetProgram, old: Tuple): void {
    try {
      disappear(builder, target, old);
    } catch (error) {
      if (error instanceof RowProblem && error.kind === 'incomplete') throw this.#needsOldRows(error.column);
      throw error;
    }
  }

  #truncate(): PlanOutput {
    const merged = this.targets.find((target) => target.role === 'owner' || target.role === 'part');
    if (merged !== undefined) {
      throw new VerdigrisError(
        'SCHEMA_UNSUPPORTED',
        `${showTable(this.from.table)} was truncated, and ${showTable(merged.relation.table)} also holds rows of other tables.`,
        {
          remedy:
            'Copy the tables that are merged again; use DELETE instead of TRUNCATE while they are replicated.',
          context: { table: showTable(this.from.table), target: showTable(merged.relation.table) },
        },
      );
    }
    const builders = buildersFor(this.targets);
    for (const builder of builders) builder.truncate();
    return { runs: runsOf(builders), rejects: [] };
  }

  #hasGaps(tuple: Tuple): boolean {
    for (const index of this.inputs) if (tuple[index] === UNCHANGED) return true;
    return false;
  }

  /** The old image: what came of it, or, where nothing came, the key (which then did not move). */
  #oldOf(before: Tuple | null, after: Tuple): Tuple {
    if (before !== null) return before;
    const old: Cell[] = this.from.columns.map(() => UNCHANGED);
    for (const index of this.from.key) old[index] = after[index] as Cell;
    return old;
  }

  /** @throws RowProblem */
  #emits(condition: Condition | null, name: string, tuple: Tuple): boolean {
    if (condition === null) return true;
    for (const index of condition.inputs) {
      if (tuple[index] === UNCHANGED)
        throw new RowProblem('incomplete', name, 'the log did not bring every cell it reads', 'reject');
    }
    try {
      return condition.test(tuple);
    } catch (error) {
      throw rowProblem(error, name, 'fail');
    }
  }

  /** As {@link #emits}, of an old image; what it needs must be there. */
  #emitted(condition: Condition | null, name: string, old: Tuple): boolean {
    if (condition === null) return true;
    for (const index of condition.inputs) if (old[index] === UNCHANGED) throw this.#needsOldRows(name);
    try {
      return this.#emits(condition, name, old);
    } catch (error) {
      // A row on which the condition fails was never taken.
      if (error instanceof RowProblem) return false;
      throw error;
    }
  }

  #needsOldRows(column: string): VerdigrisError {
    return new VerdigrisError(
      'SCHEMA_UNSUPPORTED',
      `The log of ${showTable(this.from.table)} does not bring the old values that ${column} of the mapping needs.`,
      {
        remedy: 'Make the table log whole old rows, then copy it again.',
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
      `A row of ${showTable(this.from.table)} does not fit the mapping: ${column} ${reason}.`,
      {
        context: { table: showTable(this.from.table), key, column, reason, row },
      },
    );
  }
}

const filled = (after: Tuple, before: Tuple): Tuple =>
  after.map((cell, index) => (cell === UNCHANGED ? (before[index] as Cell) : cell));

/** The row comes to be on a green table. @throws RowProblem */
function appear(builder: RunBuilder, target: TargetProgram, tuple: Tuple, gaps: boolean): void {
  const { columns } = target;
  if (target.role === 'explode') builder.replace(target.key(tuple), target.children(tuple, gaps), columns);
  else builder.add(target.role === 'part' ? 'put' : 'insert', target.whole(tuple, gaps), null, columns);
}

/** The row leaves a green table. @throws RowProblem */
function disappear(builder: RunBuilder, target: TargetProgram, old: Tuple): void {
  if (target.role === 'explode') builder.replace(target.key(old), [], target.columns);
  else if (target.role === 'part') builder.add('put', target.gone(old), null, target.columns);
  else builder.add('delete', null, target.old(old));
}

interface Images {
  /** The new row as it came. */
  readonly after: Tuple;
  /** The new row with gaps filled from the old one. */
  readonly view: Tuple;
  readonly old: Tuple;
  readonly hadBefore: boolean;
  readonly gaps: boolean;
}

/** The row was on a green table and stays there. Where nothing of it changes, nothing is written. @throws RowProblem */
function stay(builder: RunBuilder, target: TargetProgram, images: Images): void {
  const { after, view, old, hadBefore, gaps } = images;
  const keyed = target.relation.key.length > 0;
  const moved = keyed && hadBefore && !target.sameKey(old, view);
  if (moved && target.role !== 'whole') {
    // A merged or exploded row has no one place that could be moved: it leaves the old key and comes to the new one.
    disappear(builder, target, old);
    appear(builder, target, view, gaps);
    return;
  }
  if (target.role === 'explode') {
    if (!sameInputs(target, images, target.keyInputs)) appear(builder, target, view, gaps);
    return;
  }
  if (hadBefore && sameInputs(target, images)) return;
  const row = target.changed(after, view, gaps) ?? (moved ? target.key(view) : null);
  if (row === null) return;
  if (target.role === 'part') builder.add('put', row, null);
  else builder.add('update', row, moved || !keyed ? target.old(old) : null);
}

/** What it reads, but for `except`, is the same in both images, or was left as it was. */
function sameInputs(
  target: TargetProgram,
  { after, old, view, hadBefore }: Images,
  except: readonly number[] = [],
): boolean {
  for (const input of target.inputs) {
    if (after[input] === UNCHANGED || except.includes(input)) continue;
    if (!hadBefore || old[input] === UNCHANGED || old[input] !== view[input]) return false;
  }
  return true;
}
