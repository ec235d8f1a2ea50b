import type {
  ChangeBatch,
  ChangeRun,
  MarkSeen,
  Operation,
  SchemaChange,
  SourceTransaction,
} from '../../core/change.ts';
import type { Position } from '../../core/position.ts';
import type { Relation, Tuple } from '../../core/table.ts';

interface OpenRun {
  readonly relation: Relation;
  readonly op: Operation;
  readonly after: Tuple[];
  readonly before: (Tuple | null)[];
  readonly transaction: number[];
}

/** Collects rows to a batch: neighbours of one table and one operation share a run; order within a table is kept. */
export class BatchBuilder {
  readonly #runs: ChangeRun[] = [];
  /** The last run of each table. */
  readonly #last = new Map<Relation, OpenRun>();
  readonly #transactions: SourceTransaction[] = [];
  readonly #marks: MarkSeen[] = [];
  readonly #schemaChanges: SchemaChange[] = [];
  bytes = 0;

  get empty(): boolean {
    return this.#transactions.length === 0 && this.#marks.length === 0 && this.#schemaChanges.length === 0;
  }

  /** Begins a transaction (or a part of one); rows that are added belong to it. */
  begin(transaction: SourceTransaction): void {
    this.#transactions.push(transaction);
  }

  row(relation: Relation, op: Operation, after: Tuple | null, before: Tuple | null): void {
    let run = this.#last.get(relation);
    if (run === undefined || run.op !== op) {
      run = { relation, op, after: [], before: [], transaction: [] };
      this.#last.set(relation, run);
      this.#runs.push(run);
    }
    if (after !== null) run.after.push(after);
    run.before.push(before);
    run.transaction.push(this.#transactions.length - 1);
  }

  /** Puts what another builder has collected behind what is here. */
  append(other: BatchBuilder): void {
    const shift = this.#transactions.length;
    this.#transactions.push(...other.#transactions);
    this.#marks.push(...other.#marks);
    this.bytes += other.bytes;
    for (const { relation, op, after, before, transaction } of other.#runs) {
      let run = this.#last.get(relation);
      if (run === undefined || run.op !== op) {
        run = { relation, op, after: [], before: [], transaction: [] };
        this.#last.set(relation, run);
        this.#runs.push(run);
      }
      for (const row of after) run.after.push(row);
      for (const row of before) run.before.push(row);
      for (const index of transaction) run.transaction.push(index + shift);
    }
  }

  mark(mark: MarkSeen): void {
    this.#marks.push(mark);
  }

  schemaChange(change: SchemaChange): void {
    this.#schemaChanges.push(change);
  }

  finish(end: Position | null): ChangeBatch {
    const commits = this.#transactions.map((transaction) => transaction.commitMs);
    return {
      runs: this.#runs,
      end,
      transactions: this.#transactions,
      oldestCommitMs: commits.length === 0 ? null : Math.min(...commits),
      bytes: this.bytes,
      marks: this.#marks,
      schemaChanges: this.#schemaChanges,
      idle: false,
    };
  }
}
