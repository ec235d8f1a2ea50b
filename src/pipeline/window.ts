import type { ChangeRun, RowRun } from '../core/change.ts';
import type { KeyRange, Visibility } from '../core/snapshot.ts';
import { keyText, tableId, type Relation, type Tuple, rowOf } from '../core/table.ts';
import type { CopyUnit } from './copy-unit.ts';

interface HeldRun {
  readonly relation: Relation;
  readonly op: RowRun['op'];
  readonly after: Tuple[];
  readonly before: (Tuple | null)[];
  readonly transactions: string[];
}

/**
 * An open range: while its rows are read in a snapshot, the pump puts changes to its keys in here, with the transaction they
 * belong to. At the close those that the snapshot does not see are applied on top of the rows.
 */
export class Window {
  readonly unit: CopyUnit;
  /** The range, or null for single keys. */
  readonly ordinal: number | null;
  readonly range: KeyRange;
  /** Comes back through the stream after everything the snapshot sees. */
  readonly label: string;
  readonly #abort = new AbortController();
  readonly #keys: ReadonlyMap<string, ReadonlySet<string>> | null;
  #held: HeldRun[] = [];
  #bytes = 0;
  readonly #gone = Promise.withResolvers<undefined>();
  /** The pump has passed the mark. */
  marked = false;

  constructor(options: { unit: CopyUnit; ordinal: number | null; range: KeyRange; label: string }) {
    this.unit = options.unit;
    this.ordinal = options.ordinal;
    this.range = options.range;
    this.label = options.label;
    this.#keys = 'keys' in options.range ? keySets(options.unit, options.range.keys) : null;
  }

  /** Aborted when the window is cancelled; the reason is the error. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get cancelled(): boolean {
    return this.#abort.signal.aborted;
  }

  /** Resolves when the sink transaction of the window has ended, either way. */
  get gone(): Promise<undefined> {
    return this.#gone.promise;
  }

  /** Called by whoever held the sink transaction. */
  released(): void {
    this.#gone.resolve(undefined);
  }

  get bytes(): number {
    return this.#bytes;
  }

  holdsKey(relation: Relation, key: string): boolean {
    return this.#keys?.get(tableId(relation.table))?.has(key) ?? false;
  }

  /** Keeps one row of a run. `bytes` is its share of the batch. */
  hold(run: ChangeRun | RowRun, index: number, transaction: string, bytes: number): void {
    this.#bytes += bytes;
    let last = this.#held.at(-1);
    if (last === undefined || last.relation !== run.relation || last.op !== run.op) {
      last = { relation: run.relation, op: run.op, after: [], before: [], transactions: [] };
      this.#held.push(last);
    }
    if (run.op !== 'delete') last.after.push(run.after[index] as Tuple);
    last.before.push(run.before[index] ?? null);
    last.transactions.push(transaction);
  }

  /** The held changes that the snapshot does not see, in source order. */
  missing(visibility: Visibility): RowRun[] {
    const runs: RowRun[] = [];
    for (const held of this.#held) {
      const keep = held.transactions.map((transaction) => !visibility.sees(transaction));
      if (!keep.includes(true)) continue;
      runs.push({
        relation: held.relation,
        op: held.op,
        after: held.after.filter((_, index) => keep[index]),
        before: held.before.filter((_, index) => keep[index]),
      });
    }
    return runs;
  }

  cancel(reason: Error): void {
    this.#held = [];
    this.#bytes = 0;
    this.#abort.abort(reason);
  }
}

const keySets = (unit: CopyUnit, keys: readonly Tuple[]): Map<string, Set<string>> =>
  new Map(
    unit.relations.map((relation) => [
      tableId(relation.table),
      new Set(keys.map((key) => keyText(relation, rowOf(relation, key)))),
    ]),
  );
