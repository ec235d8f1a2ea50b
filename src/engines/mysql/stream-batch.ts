import {
  EMPTY_BATCH,
  type ChangeBatch,
  type MarkSeen,
  type SchemaChange,
  type SourceTransaction,
} from '../../core/change.ts';
import type { Position } from '../../core/position.ts';
import type { Relation, Tuple } from '../../core/table.ts';

type Op = 'insert' | 'update' | 'delete' | 'truncate';

/** A run that grows. */
interface GrowingRun {
  readonly relation: Relation;
  readonly op: Op;
  readonly after: Tuple[];
  readonly before: (Tuple | null)[];
  readonly transaction: number[];
  /** Serial of the last transaction that added a row, and how many rows there were before it. */
  serial: number;
  mark: number;
}

interface OpenTransaction {
  readonly commitMs: number;
  readonly serial: number;
  marks: string[];
  rows: number;
  bytes: number;
  parted: boolean;
}

/**
 * Gathers rows into runs that span transactions. Per table only the newest run is open, so the order inside a table is kept. What the
 * transaction that is still being received brought can be cut off again, or thrown away.
 */
export class BatchBuilder {
  /** Bytes received for what is gathered. */
  bytes = 0;
  #runs: GrowingRun[] = [];
  #open = new Map<Relation, GrowingRun>();
  #transactions: SourceTransaction[] = [];
  #marks: MarkSeen[] = [];
  #current: OpenTransaction | null = null;
  #serial = 0;

  get inTransaction(): boolean {
    return this.#current !== null;
  }

  /** Rows or parts of the open transaction are there. */
  get hasRows(): boolean {
    return this.#current !== null && (this.#current.rows > 0 || this.#current.parted);
  }

  get hasWhole(): boolean {
    return this.#transactions.length > 0;
  }

  begin(commitMs: number): void {
    this.#current = { commitMs, serial: ++this.#serial, marks: [], rows: 0, bytes: 0, parted: false };
  }

  count(bytes: number): void {
    if (this.#current === null) return;
    this.bytes += bytes;
    this.#current.bytes += bytes;
  }

  /** Adds a row to the open transaction. */
  add(relation: Relation, op: Op, before: Tuple | null, after: Tuple | null): void {
    const current = this.#current;
    if (current === null) return;
    let run = this.#open.get(relation);
    if (run === undefined || run.op !== op || op === 'truncate') {
      run = { relation, op, after: [], before: [], transaction: [], serial: current.serial, mark: 0 };
      this.#runs.push(run);
      this.#open.set(relation, run);
    } else if (run.serial !== current.serial) {
      run.serial = current.serial;
      run.mark = run.transaction.length;
    }
    if (op !== 'truncate') {
      if (after !== null) run.after.push(after);
      run.before.push(before);
    }
    run.transaction.push(this.#transactions.length);
    current.rows += 1;
  }

  mark(label: string): void {
    this.#current?.marks.push(label);
  }

  /** Forgets the open transaction: it was rolled back, or it is our own. Not after a part of it was handed out. */
  drop(): void {
    const current = this.#current;
    if (current === null) return;
    this.#cut(current.serial);
    this.bytes -= current.bytes;
    this.#open = new Map(this.#runs.map((run) => [run.relation, run]));
    current.rows = 0;
    current.bytes = 0;
  }

  /** Ends the transaction; false when there was nothing of ours in it, and it is forgotten. */
  commit(id: string, end: Position): boolean {
    const current = this.#current;
    if (current === null) return false;
    this.#current = null;
    if (current.rows === 0 && current.marks.length === 0 && !current.parted) {
      this.bytes -= current.bytes;
      return false;
    }
    this.#transactions.push({ id, end, commitMs: current.commitMs });
    for (const label of current.marks) this.#marks.push({ label, position: end });
    return true;
  }

  /** The whole transactions gathered, or null. What the open transaction brought stays. */
  takeWhole(): ChangeBatch | null {
    const last = this.#transactions.at(-1);
    if (last === undefined) return null;
    const current = this.#current;
    const left = current === null ? [] : this.#cut(current.serial);
    const batch: ChangeBatch = {
      runs: this.#runs,
      end: last.end,
      transactions: this.#transactions,
      oldestCommitMs: this.#transactions.reduce(
        (oldest, { commitMs }) => Math.min(oldest, commitMs),
        Infinity,
      ),
      bytes: this.bytes - (current?.bytes ?? 0),
      marks: this.#marks,
      schemaChanges: [],
      idle: false,
    };
    this.#reset(left, current?.bytes ?? 0);
    return batch;
  }

  /** What there is of the open transaction, as a part of it, or null. Legal when no whole transaction is gathered. */
  takePart(id: string, end: Position): ChangeBatch | null {
    const current = this.#current;
    if (current === null || this.#runs.length === 0) return null;
    const batch: ChangeBatch = {
      runs: this.#runs,
      end: null,
      transactions: [{ id, end, commitMs: current.commitMs }],
      oldestCommitMs: current.commitMs,
      bytes: this.bytes,
      marks: [],
      schemaChanges: [],
      idle: false,
    };
    current.parted = true;
    current.bytes = 0;
    this.#reset([], 0);
    return batch;
  }

  #reset(runs: GrowingRun[], bytes: number): void {
    this.#runs = runs;
    this.#open = new Map(runs.map((run) => [run.relation, run]));
    this.#transactions = [];
    this.#marks = [];
    this.bytes = bytes;
  }

  /** Takes the rows of the transaction out of the runs; their index becomes 0. */
  #cut(serial: number): GrowingRun[] {
    const kept: GrowingRun[] = [];
    const left: GrowingRun[] = [];
    for (const run of this.#runs) {
      if (run.serial !== serial) {
        kept.push(run);
        continue;
      }
      const { mark } = run;
      const rows = run.transaction.length - mark;
      left.push({
        relation: run.relation,
        op: run.op,
        after: run.after.splice(mark),
        before: run.before.splice(mark),
        transaction: new Array<number>(rows).fill(0),
        serial,
        mark: 0,
      });
      run.transaction.length = mark;
      if (mark > 0) kept.push(run);
    }
    this.#runs = kept;
    return left;
  }
}

/** A change of layout alone; rows after it cannot be read. */
export const changeBatch = (change: SchemaChange, end: Position | null): ChangeBatch => ({
  ...EMPTY_BATCH,
  end,
  schemaChanges: [change],
});
