import type { RowRun } from '../core/change.ts';
import type { Position } from '../core/position.ts';
import { Fold } from './fold.ts';

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

  get rows(): number {
    return this.#fold.rows;
  }

  add(runs: readonly RowRun[]): void {
    for (const run of runs) {
      this.#fold.add(run);
      if (run.op === 'truncate') this.changes += 1;
    }
  }

  /** Nothing that green would have to be told. */
  get empty(): boolean {
    return this.#fold.rows === 0 && this.changes === 0;
  }

  take(): RowRun[] {
    return this.#fold.take();
  }
}
