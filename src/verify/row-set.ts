import type { Tuple } from '../core/table.ts';
import { rowId } from './subject.ts';
import type { VerifyTable } from './verify-table.ts';

/** Rows of one green table by key; where it has none, by content with a count. */
export class RowSet {
  readonly #table: VerifyTable;
  readonly rows = new Map<string, Tuple>();
  readonly counts = new Map<string, number>();

  constructor(table: VerifyTable) {
    this.#table = table;
  }

  add(row: Tuple): void {
    const id = rowId(this.#table, row);
    this.rows.set(id, row);
    this.counts.set(id, (this.counts.get(id) ?? 0) + 1);
  }
}
