import type { Operation, RowRun } from '../core/change.ts';
import type { Cell, Relation, Tuple } from '../core/table.ts';

interface GrowingRun extends RowRun {
  readonly after: Tuple[];
  readonly before: (Tuple | null)[];
}

/**
 * Rows of one green table in order, neighbours of one operation together. What came since the last {@link mark} can be taken back: a
 * row that the mapping refuses is on no green table.
 */
export class RunBuilder {
  readonly #relation: Relation;
  readonly #runs: GrowingRun[] = [];
  /** The last of them, when it may grow. */
  #open: GrowingRun | null = null;
  /** Of the open run, when it replaces. */
  #parents: Set<string> | null = null;
  #marked: GrowingRun | null = null;
  #markedRuns = 0;
  #markedAfter = 0;
  #markedBefore = 0;

  constructor(relation: Relation) {
    this.#relation = relation;
  }

  mark(): void {
    const open = this.#open;
    this.#marked = open;
    this.#markedRuns = this.#runs.length;
    this.#markedAfter = open?.after.length ?? 0;
    this.#markedBefore = open?.before.length ?? 0;
  }

  /** Takes back what came since the mark. */
  rollback(): void {
    const marked = this.#marked;
    this.#runs.length = this.#markedRuns;
    this.#open = marked;
    if (marked === null) return;
    marked.after.length = this.#markedAfter;
    marked.before.length = this.#markedBefore;
    // Which parents are left in it is not known, and none may be in it twice: the next one gets a run of its own.
    if (marked.op === 'replace') this.#open = null;
  }

  add(op: Operation, after: Tuple | null, before: Tuple | null, columns?: readonly number[]): void {
    const run = this.#open;
    if (run?.op !== op || run.columns !== columns) {
      this.#start(op, after === null ? [] : [after], [before], columns);
      return;
    }
    if (after !== null) run.after.push(after);
    run.before.push(before);
  }

  /** One parent at most once per run: a run holds the children of all its parents side by side. */
  replace(prefix: Tuple, children: Cell[][], columns?: readonly number[]): void {
    let parent = '';
    for (const index of this.#relation.key) {
      const cell = prefix[index];
      if (typeof cell === 'string') parent += `${cell.length}:${cell}`;
      else if (typeof cell !== 'symbol') parent += `${String(cell)};`;
    }
    const run = this.#open;
    const parents = this.#parents;
    if (run?.op !== 'replace' || parents === null || parents.has(parent)) {
      this.#start('replace', children, [prefix], columns);
      this.#parents = new Set<string>().add(parent);
      return;
    }
    parents.add(parent);
    run.before.push(prefix);
    for (const child of children) run.after.push(child);
  }

  truncate(): void {
    this.#start('truncate', [], [], undefined);
  }

  finish(into: RowRun[]): void {
    for (const run of this.#runs) into.push(run);
  }

  /** With its first row: a list that begins with one takes a tenth of the memory of one that gets it, and many runs have no other. */
  #start(
    op: Operation,
    after: Tuple[],
    before: (Tuple | null)[],
    columns: readonly number[] | undefined,
  ): void {
    const relation = this.#relation;
    const run: GrowingRun =
      columns === undefined ? { relation, op, after, before } : { relation, op, after, before, columns };
    this.#parents = null;
    this.#runs.push(run);
    this.#open = run;
  }
}

export const buildersFor = (targets: readonly { readonly relation: Relation }[]): readonly RunBuilder[] =>
  targets.map((target) => new RunBuilder(target.relation));

/** Before a row: {@link RunBuilder.mark} of all. */
export function mark(builders: readonly RunBuilder[]): void {
  for (let index = 0; index < builders.length; index++) (builders[index] as RunBuilder).mark();
}

/** The row is on none of them. */
export function rollback(builders: readonly RunBuilder[]): void {
  for (const builder of builders) builder.rollback();
}

export function runsOf(builders: readonly RunBuilder[]): readonly RowRun[] {
  const runs: RowRun[] = [];
  for (const builder of builders) builder.finish(runs);
  return runs;
}
