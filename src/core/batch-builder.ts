import {
  EMPTY_BATCH,
  type ChangeBatch,
  type MarkSeen,
  type SchemaChange,
  type SourceTransaction,
} from './change.ts';
import type { Position } from './position.ts';
import type { Relation, Tuple } from './table.ts';

type RowOp = 'insert' | 'update' | 'delete';

/** A run that grows. */
interface GrowingRun {
  readonly relation: Relation;
  readonly op: RowOp | 'truncate';
  readonly after: Tuple[];
  readonly before: (Tuple | null)[];
  readonly transaction: number[];
  /** Serial of the last transaction that added a row, and how many rows there were before it. */
  serial: number;
  mark: number;
}

interface OpenTransaction {
  readonly id: string;
  readonly commitMs: number;
  readonly serial: number;
  marks: string[];
  rows: number;
  bytes: number;
  /** Parts of it were handed out. */
  parted: boolean;
}

/** A whole transaction. The text of its position is made when somebody asks for it. */
class Ended implements SourceTransaction {
  readonly id: string;
  readonly commitMs: number;
  readonly #endOf: () => Position;
  #end: Position | null = null;

  constructor(id: string, commitMs: number, endOf: () => Position) {
    this.id = id;
    this.commitMs = commitMs;
    this.#endOf = endOf;
  }

  get end(): Position {
    this.#end ??= this.#endOf();
    return this.#end;
  }
}

/**
 * Gathers the rows of a log that brings one transaction after the other into runs that span transactions. Per table only the newest run is
 * open, so the order inside a table is kept. The rows of the transaction that is still being received can be cut off again, because a batch
 * holds whole transactions or a part of one, or thrown away.
 */
export class BatchBuilder {
  /** Bytes received for what is gathered. */
  bytes = 0;
  #runs: GrowingRun[] = [];
  #open = new Map<Relation, GrowingRun>();
  #transactions: SourceTransaction[] = [];
  #marks: MarkSeen[] = [];
  #schemaChanges: SchemaChange[] = [];
  #current: OpenTransaction | null = null;
  #serial = 0;

  get inTransaction(): boolean {
    return this.#current !== null;
  }

  /** Rows of the open transaction are here, or parts of it were handed out. */
  get hasRows(): boolean {
    return this.#current !== null && (this.#current.rows > 0 || this.#current.parted);
  }

  get hasWhole(): boolean {
    return this.#transactions.length > 0;
  }

  begin(id: string, commitMs: number): void {
    this.#current = { id, commitMs, serial: ++this.#serial, marks: [], rows: 0, bytes: 0, parted: false };
  }

  /** Counts received bytes to the open transaction. */
  count(bytes: number): void {
    if (this.#current === null) return;
    this.bytes += bytes;
    this.#current.bytes += bytes;
  }

  /** Adds a row to the open transaction; false when there is none. */
  add(relation: Relation, op: RowOp, before: Tuple | null, after: Tuple | null): boolean {
    const current = this.#current;
    if (current === null) return false;
    const transaction = this.#transactions.length;
    current.rows++;
    const run = this.#open.get(relation);
    if (run === undefined || run.op !== op) {
      const { serial } = current;
      // A list that begins with a row takes a tenth of the memory of one that gets it, and many runs have no other.
      const rows = { after: after === null ? [] : [after], before: [before], transaction: [transaction] };
      this.#start({ relation, op, ...rows, serial, mark: 0 });
      return true;
    }
    if (run.serial !== current.serial) {
      run.serial = current.serial;
      run.mark = run.transaction.length;
    }
    if (after !== null) run.after.push(after);
    run.before.push(before);
    run.transaction.push(transaction);
    return true;
  }

  /** Each truncate is a run of its own. */
  truncate(relation: Relation): boolean {
    const current = this.#current;
    if (current === null) return false;
    const transaction = [this.#transactions.length];
    const { serial } = current;
    this.#start({ relation, op: 'truncate', after: [], before: [], transaction, serial, mark: 0 });
    current.rows++;
    return true;
  }

  #start(run: GrowingRun): void {
    this.#runs.push(run);
    this.#open.set(run.relation, run);
  }

  mark(label: string): void {
    this.#current?.marks.push(label);
  }

  /** The batch must hold nothing else yet: a change of layout takes effect before the runs. */
  schemaChange(change: SchemaChange): void {
    this.#schemaChanges.push(change);
  }

  /** Forgets what the open transaction brought: it was rolled back, or it is our own. Not after a part of it was handed out. */
  drop(): void {
    const current = this.#current;
    if (current === null) return;
    this.#cut(current.serial);
    this.bytes -= current.bytes;
    this.#open = new Map(this.#runs.map((run) => [run.relation, run]));
    current.rows = 0;
    current.bytes = 0;
  }

  /**
   * Ends the transaction; false when there was nothing of ours in it, and it is forgotten.
   * @param endOf where it ends; asked for when somebody wants to know, which of most transactions nobody does
   */
  commit(endOf: () => Position): boolean {
    const current = this.#current;
    if (current === null) return false;
    this.#current = null;
    if (current.rows === 0 && current.marks.length === 0 && !current.parted) {
      this.bytes -= current.bytes;
      return false;
    }
    const ended = new Ended(current.id, current.commitMs, endOf);
    this.#transactions.push(ended);
    for (const label of current.marks) this.#marks.push({ label, position: ended.end });
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
      schemaChanges: this.#schemaChanges,
      idle: false,
    };
    this.#reset(left, current?.bytes ?? 0);
    return batch;
  }

  /**
   * What there is of the open transaction, as a part of it, or null. Legal when no whole transaction is gathered.
   * @param endOf a position after everything that committed before it; asked for only when there is a part
   */
  takePart(endOf: () => Position): ChangeBatch | null {
    const current = this.#current;
    if (current === null || this.#runs.length === 0) return null;
    const batch: ChangeBatch = {
      runs: this.#runs,
      end: null,
      transactions: [{ id: current.id, end: endOf(), commitMs: current.commitMs }],
      oldestCommitMs: current.commitMs,
      bytes: this.bytes,
      marks: [],
      schemaChanges: this.#schemaChanges,
      idle: false,
    };
    current.parted = true;
    current.bytes = 0;
    this.#reset([], 0);
    return batch;
  }

  /** The change of layout alone, inside the open transaction: rows after it cannot be read. */
  takeSchemaChange(): ChangeBatch {
    const schemaChanges = this.#schemaChanges;
    this.#schemaChanges = [];
    return { ...EMPTY_BATCH, end: null, schemaChanges };
  }

  #reset(runs: GrowingRun[], bytes: number): void {
    this.#runs = runs;
    this.#open = new Map(runs.map((run) => [run.relation, run]));
    this.#transactions = [];
    this.#marks = [];
    this.#schemaChanges = [];
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
