import type { RowRun } from '../core/change.ts';
import { tableId, type Relation, type Tuple } from '../core/table.ts';

/** What of a row tells which row it is, to whoever asks what changed. */
export interface Identified {
  readonly id: string;
  /** Cells by which it can be read again; empty where it cannot. */
  readonly key: Tuple;
}

/** Null: the row does not say. Then the table counts as changed as a whole. */
export type Identify = (row: Tuple) => Identified | null;

/** Rows remembered over all tables; past that the older half is forgotten, and who asks for it is told so. */
const MOST_KEYS = 500_000;

interface Noted {
  readonly key: Tuple;
  readonly at: number;
}

interface Table {
  readonly identify: Identify;
  /** In the order of their last change. */
  readonly keys: Map<string, Noted>;
  /** Nothing is known about changes up to here. */
  unknownUpTo: number;
}

/**
 * Which rows of green the stream has changed, and in which order. A row is noted when its change is decided, so before it is
 * committed: whoever drains a mark that was written after a look at {@link now} has every later change in {@link since}.
 */
export class ChangedKeys {
  readonly #tables = new Map<string, Table>();
  readonly #most: number;
  #now = 1;
  #size = 0;
  #on = false;

  constructor(
    tables: readonly { readonly relation: Relation; readonly identify: Identify }[],
    most = MOST_KEYS,
  ) {
    this.#most = most;
    for (const { relation, identify } of tables) {
      this.#tables.set(tableId(relation.table), { identify, keys: new Map(), unknownUpTo: 0 });
    }
  }

  /** Begins to note; nothing is known about what came before. */
  start(): void {
    if (this.#on) return;
    this.#on = true;
    for (const table of this.#tables.values()) table.unknownUpTo = this.#now;
    this.#now += 1;
  }

  get now(): number {
    return this.#now;
  }

  get size(): number {
    return this.#size;
  }

  note(runs: readonly RowRun[]): void {
    if (!this.#on) return;
    this.#now += 1;
    for (const run of runs) {
      const table = this.#tables.get(tableId(run.relation.table));
      if (table === undefined) continue;
      if (run.op === 'truncate') this.#whole(table);
      for (const row of run.after) this.#row(table, row);
      for (const row of run.before) if (row !== null) this.#row(table, row);
    }
    if (this.#size > this.#most) this.#forgetHalf();
  }

  /** Rows of a table changed after `seen`, a former {@link now}; null when that is not known. */
  since(relation: Relation, seen: number): ReadonlyMap<string, Tuple> | null {
    const table = this.#tables.get(tableId(relation.table));
    if (!this.#on || table === undefined || table.unknownUpTo > seen) return null;
    const found = new Map<string, Tuple>();
    for (const [id, { key, at }] of table.keys) if (at > seen) found.set(id, key);
    return found;
  }

  /** Nobody will ask for what changed up to `seen` any more. */
  forget(seen: number): void {
    for (const table of this.#tables.values()) {
      for (const [id, { at }] of table.keys) {
        if (at > seen) break;
        table.keys.delete(id);
        this.#size -= 1;
      }
      table.unknownUpTo = Math.max(table.unknownUpTo, Math.min(seen, this.#now));
    }
  }

  #row(table: Table, row: Tuple): void {
    const found = table.identify(row);
    if (found === null) {
      this.#whole(table);
      return;
    }
    // Deleted first, so that the map stays in the order of the last change.
    if (!table.keys.delete(found.id)) this.#size += 1;
    table.keys.set(found.id, { key: found.key, at: this.#now });
  }

  #whole(table: Table): void {
    this.#size -= table.keys.size;
    table.keys.clear();
    table.unknownUpTo = this.#now;
  }

  #forgetHalf(): void {
    const half = Math.floor(this.#most / 2);
    for (const table of [...this.#tables.values()].sort((a, b) => b.keys.size - a.keys.size)) {
      for (const [id, { at }] of table.keys) {
        if (this.#size <= half) return;
        table.keys.delete(id);
        table.unknownUpTo = at;
        this.#size -= 1;
      }
    }
  }
}
