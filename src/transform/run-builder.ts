import type { Operation, RowRun } from '../core/change.ts';
import type { Cell, Relation, Tuple } from '../core/table.ts';

/** Rows of one green table in order, neighbours of one operation together. */
export class RunBuilder {
  readonly #relation: Relation;
  readonly #runs: RowRun[] = [];
  #op: Operation | null = null;
  #columns: readonly number[] | undefined;
  #after: Tuple[] = [];
  #before: (Tuple | null)[] = [];
  #parents = new Set<string>();

  constructor(relation: Relation) {
    this.#relation = relation;
  }

  add(op: Operation, after: Tuple | null, before: Tuple | null, columns?: readonly number[]): void {
    if (this.#op !== op || this.#columns !== columns) this.#start(op, columns);
    if (after !== null) this.#after.push(after);
    this.#before.push(before);
  }

  /** One parent at most once per run: a run holds the children of all its parents side by side. */
  replace(prefix: Tuple, children: readonly Cell[][], columns?: readonly number[]): void {
    let parent = '';
    for (const index of this.#relation.key) {
      const cell = prefix[index];
      if (typeof cell === 'string') parent += `${cell.length}:${cell}`;
      else if (typeof cell !== 'symbol') parent += `${String(cell)};`;
    }
    if (this.#op !== 'replace' || this.#parents.has(parent)) this.#start('replace', columns);
    this.#parents.add(parent);
    this.#before.push(prefix);
    for (const child of children) this.#after.push(child);
  }

  truncate(): void {
    this.#start('truncate', undefined);
  }

  finish(into: RowRun[]): void {
    this.#flush();
    for (const run of this.#runs) into.push(run);
  }

  #start(op: Operation, columns: readonly number[] | undefined): void {
    this.#flush();
    this.#op = op;
    this.#columns = columns;
  }

  #flush(): void {
    if (this.#op === null) return;
    this.#runs.push({
      relation: this.#relation,
      op: this.#op,
      after: this.#after,
      before: this.#before,
      ...(this.#columns === undefined ? {} : { columns: this.#columns }),
    });
    this.#op = null;
    this.#after = [];
    this.#before = [];
    this.#parents = new Set();
  }
}
