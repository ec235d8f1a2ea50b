import type { RowRun } from '../core/change.ts';
import type { Position } from '../core/position.ts';
import { Fold } from './fold.ts';

/** How many times as much as it holds a group may take where changes fold into each other. */
const FOLDED = 4;

/** Batches that become one sink transaction. Filled while the group before it commits. */
export class Group {
  readonly #fold = new Fold();
  end: Position | null = null;
  bytes = 0;
  /** Batches in it, for the lag. */
  batches = 0;
  transactions = 0;
  changes = 0;
  newestCommitMs: number | null = null;
  readonly marks: string[] = [];

  /**
   * Nothing more fits: what it holds is a transaction of the sink as large as it may be. Of changes that fold into rows it already
   * holds it takes more, but not without end: what is read has to reach the sink.
   * @param bounds of one transaction of the sink
   */
  full(bounds: { readonly groupRows: number; readonly groupBytes: number }): boolean {
    const { rows, added } = this.#fold;
    const held = added === 0 ? 1 : rows / added;
    return (
      rows >= bounds.groupRows ||
      this.bytes * held >= bounds.groupBytes ||
      added >= FOLDED * bounds.groupRows ||
      this.bytes >= FOLDED * bounds.groupBytes
    );
  }

  add(runs: readonly RowRun[]): void {
    for (const run of runs) {
      this.#fold.add(run);
      if (run.op === 'truncate') this.changes += 1;
    }
  }

  /** Nothing that green would have to be told. */
  get empty(): boolean {
    return this.#fold.added === 0 && this.changes === 0;
  }

  take(): RowRun[] {
    return this.#fold.take();
  }
}
