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
  /** Of the open run. */
  readonly #parents = new Set<string>();
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
    let run = this.#open;
    if (run?.op !== op || run.columns !== columns) run = this.#start(op, columns);
    if (after !== null) run.after.push(after);
    run.before.push(before);
  }

  /** One parent at most once per run: a run holds the children of all its parents side by side. */
  replace(prefix: Tuple, children: readonly Cell[][], columns?: readonly number[]): void {
    let parent = '';
    for (const index of this.#relation.key) {
      const cell = prefix[index];
      if (typeof cell === 'string') parent += `${cell.length}:${cell}`;
      else if (typeof cell !== 'symbol') parent += `${String(cell)};`;
    }
    let run = this.#open;
    if (run?.op !== 'replace' || this.#parents.has(parent)) run = this.#start('replace', columns);
    this.#parents.add(parent);
    run.before.push(prefix);
    for (const child of children) run.after.push(child);
  }

  truncate(): void {
    this.#start('truncate', undefined);
  }

  finish(into: RowRun[]): void {
    for (const run of this.#runs) into.push(run);
  }

  #start(op: Operation, columns: readonly number[] | undefined): GrowingRun {
    if (this.#parents.size > 0) this.#parents.clear();
    const run: GrowingRun = {
      relation: this.#relation,
      op,
      after: [],
      before: [],
      ...(columns === undefined ? {} : { columns }),
    };
    this.#runs.push(run);
    this.#open = run;
    return run;
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
