import type { RowRun } from '../core/change.ts';
import { VerdigrisError } from '../core/errors.ts';
import {
  UNCHANGED,
  isDelta,
  isWhole,
  keyText,
  showTable,
  type Cell,
  type Relation,
  type Tuple,
} from '../core/table.ts';

/** What a group does to one row, whatever number of changes it took. */
interface Net {
  /** The row as it was addressed before the group; null when the group inserted it. */
  readonly origin: Tuple | null;
  readonly originKey: string | null;
  /** The key it has now; null when it was deleted. */
  currentKey: string | null;
  image: Tuple;
}

/**
 * Folds the changes of a group to at most one change per row and sorts rows of one shape (operation and set of columns present)
 * into runs. Rows are followed by identity, not by key: a chain of key changes or a swap becomes one change per row. That needs
 * keys which are unique at every moment; a deferrable key is refused before the start.
 *
 * Tables whose key is absent or not `exact` are not folded: their rows stay in source order.
 */
export class Fold {
  readonly #tables = new Map<Relation, TableFold>();
  #added = 0;
  #rows = 0;

  /** Rows that were added since the last {@link take}. */
  get added(): number {
    return this.#added;
  }

  /** Rows that are left of them: what {@link take} would give. */
  get rows(): number {
    return this.#rows;
  }

  add(run: RowRun): void {
    let table = this.#tables.get(run.relation);
    if (table === undefined) {
      table = foldable(run.relation) ? new KeyedFold(run.relation) : new OrderedFold(run.relation);
      this.#tables.set(run.relation, table);
    }
    this.#added += rowsOf(run);
    const before = table.rows;
    table.add(run);
    this.#rows += table.rows - before;
  }

  /** The folded runs, table by table; empties the fold. */
  take(): RowRun[] {
    const runs: RowRun[] = [];
    for (const table of this.#tables.values()) table.emit(runs);
    this.#tables.clear();
    this.#added = 0;
    this.#rows = 0;
    return runs;
  }
}

const NO_ROWS: readonly Tuple[] = [];

const rowsOf = (run: RowRun): number => (run.op === 'delete' ? run.before.length : run.after.length);

interface TableFold {
  /** Rows it holds. */
  readonly rows: number;
  add(run: RowRun): void;
  emit(runs: RowRun[]): void;
}

const foldable = (relation: Relation): boolean =>
  relation.key.length > 0 && relation.key.every((index) => relation.columns[index]?.exact === true);

class KeyedFold implements TableFold {
  readonly #relation: Relation;
  /** Runs before the last barrier (truncate), and their rows. */
  #closed: RowRun[] = [];
  #closedRows = 0;
  /** Rows that exist now, by current key. */
  #live = new Map<string, Net>();
  #deleted: Net[] = [];
  #puts = new Map<string, Tuple>();
  #replaced = new Map<string, { readonly prefix: Tuple; children: readonly Tuple[] }>();
  #children = 0;

  constructor(relation: Relation) {
    this.#relation = relation;
  }

  get rows(): number {
    const { size } = this.#replaced;
    return (
      this.#closedRows + this.#live.size + this.#deleted.length + this.#puts.size + size + this.#children
    );
  }

  add(run: RowRun): void {
    const { after, before } = run;
    switch (run.op) {
      case 'insert':
        for (const row of after) this.#arrive(keyText(this.#relation, row), newNet(null, null, row));
        return;
      case 'update':
        for (let i = 0; i < after.length; i++) this.#update(after[i] as Tuple, before[i] ?? null);
        return;
      case 'delete':
        for (const row of before) this.#delete(row as Tuple);
        return;
      case 'put':
        for (const row of after) {
          const key = keyText(this.#relation, row);
          const known = this.#puts.get(key);
          this.#puts.set(key, known === undefined ? row : merge(known, row));
        }
        return;
      case 'replace':
        this.#replace(run);
        return;
      case 'truncate':
        this.#closedRows = this.rows;
        this.#close();
        this.#closed.push({ relation: this.#relation, op: 'truncate', after: [], before: [] });
        return;
    }
  }

  emit(runs: RowRun[]): void {
    this.#close();
    runs.push(...this.#closed);
    this.#closed = [];
    this.#closedRows = 0;
  }

  #update(row: Tuple, before: Tuple | null): void {
    const key = keyText(this.#relation, row);
    const old = before === null ? key : keyText(this.#relation, before);
    const known = this.#live.get(old);
    if (old === key) {
      if (known === undefined) this.#live.set(key, newNet(before ?? row, key, row));
      else known.image = merge(known.image, row);
      return;
    }
    let net: Net;
    if (known === undefined) net = newNet(before, old, row);
    else {
      this.#leave(old, known);
      net = known;
      net.image = merge(net.image, row);
    }
    this.#arrive(key, net);
  }

  #delete(row: Tuple): void {
    const key = keyText(this.#relation, row);
    const known = this.#live.get(key);
    if (known === undefined) {
      this.#deleted.push(newNet(row, key, row));
      return;
    }
    this.#leave(key, known);
    if (known.origin !== null) this.#deleted.push(known);
  }

  #arrive(key: string, net: Net): void {
    if (this.#live.has(key)) {
      throw new VerdigrisError(
        'SINK_CONFLICT',
        `Two rows of ${showTable(this.#relation.table)} have the same key at the same time.`,
        {
          remedy: 'The key of the source table must be unique at every moment: it may not be deferrable.',
        },
      );
    }
    net.currentKey = key;
    this.#live.set(key, net);
  }

  #leave(key: string, net: Net): void {
    this.#live.delete(key);
    net.currentKey = null;
  }

  #replace(run: RowRun): void {
    const prefix = run.before.find((row) => row !== null);
    if (prefix === undefined || prefix === null) return;
    const columns = this.#relation.key.filter((index) => prefix[index] !== UNCHANGED);
    for (const row of run.before) {
      if (row === null) continue;
      const parent = prefixText(columns, row);
      this.#children -= this.#replaced.get(parent)?.children.length ?? 0;
      this.#replaced.set(parent, { prefix: row, children: NO_ROWS });
    }
    const { after } = run;
    let from = 0;
    while (from < after.length) {
      const parent = prefixText(columns, after[from] as Tuple);
      let to = from + 1;
      while (to < after.length && prefixText(columns, after[to] as Tuple) === parent) to += 1;
      // Those of one parent stand side by side as a rule. An array that grows by one keeps room for sixteen.
      const children = after.slice(from, to);
      from = to;
      const known = this.#replaced.get(parent);
      if (known === undefined) continue;
      known.children = known.children.length === 0 ? children : [...known.children, ...children];
      this.#children += children.length;
    }
  }

  #close(): void {
    const relation = this.#relation;
    const runs = this.#closed;
    const deleted = this.#deleted.map((net) => net.origin);
    if (deleted.length > 0) runs.push({ relation, op: 'delete', after: [], before: deleted });

    const moves = new Moves(relation);
    const updates = new Shapes(relation, 'update');
    const inserts = new Shapes(relation, 'insert');
    for (const net of this.#live.values()) {
      if (net.originKey === null) inserts.add(net.image, null);
      else if (net.originKey === net.currentKey) updates.add(net.image, null);
      else moves.add(net.image, net.origin);
    }
    moves.emit(runs);
    updates.emit(runs);
    inserts.emit(runs);

    const puts = new Shapes(relation, 'put');
    for (const row of this.#puts.values()) puts.add(row, null);
    puts.emit(runs);

    if (this.#replaced.size > 0) {
      // In their full length from the start: lists that grow are copied again and again.
      const children = new Array<Tuple>(this.#children);
      const prefixes = new Array<Tuple>(this.#replaced.size);
      let child = 0;
      let parent = 0;
      for (const group of this.#replaced.values()) {
        prefixes[parent++] = group.prefix;
        for (const row of group.children) children[child++] = row;
      }
      const columns = children.length > 0 ? presentColumns(relation, children[0] as Tuple) : [];
      runs.push({ relation, op: 'replace', after: children, before: prefixes, columns });
    }
    this.#live.clear();
    this.#deleted = [];
    this.#puts.clear();
    this.#replaced.clear();
    this.#children = 0;
  }
}

/** The same for a parent and its children. One column, as most have, is its own text. */
function prefixText(columns: readonly number[], row: Tuple): string {
  if (columns.length === 1) return String(row[columns[0] as number]);
  let text = '';
  for (const index of columns) text += `${String(row[index])}\u0000`;
  return text;
}

/** Keeps rows in source order; only neighbours of one operation and shape share a run, and only where no key could meet twice. */
class OrderedFold implements TableFold {
  readonly #relation: Relation;
  readonly #runs: RowRun[] = [];
  rows = 0;

  constructor(relation: Relation) {
    this.#relation = relation;
  }

  add(run: RowRun): void {
    this.rows += rowsOf(run);
    if (run.op === 'truncate' || run.op === 'replace' || run.op === 'delete') {
      if (this.#relation.key.length === 0 || run.op !== 'delete') this.#runs.push(run);
      else for (const row of run.before) this.#runs.push({ ...run, before: [row] });
      return;
    }
    // Inserts never meet each other under a key; updates may, and one statement would apply only one of them.
    const together = run.op === 'insert' || this.#relation.key.length === 0;
    let shapes = new Shapes(this.#relation, run.op);
    for (let i = 0; i < run.after.length; i++) {
      shapes.add(run.after[i] as Tuple, this.#before(run, i));
      if (!together) {
        shapes.emit(this.#runs);
        shapes = new Shapes(this.#relation, run.op);
      }
    }
    shapes.emit(this.#runs);
  }

  /** Without a key the old image addresses the row; with one it is only kept when the key text moved. */
  #before(run: RowRun, index: number): Tuple | null {
    const before = run.before[index] ?? null;
    if (before === null || this.#relation.key.length === 0) return before;
    return keyText(this.#relation, before) === keyText(this.#relation, run.after[index] as Tuple)
      ? null
      : before;
  }

  emit(runs: RowRun[]): void {
    runs.push(...this.#runs.splice(0));
    this.rows = 0;
  }
}

/**
 * Key changes of a group. One run whatever their shapes, because a key may move to where another one leaves: they mean what they
 * say only when all move at the same time.
 */
class Moves {
  readonly #relation: Relation;
  readonly #shapes = new Set<string>();
  readonly #after: Tuple[] = [];
  readonly #before: (Tuple | null)[] = [];

  constructor(relation: Relation) {
    this.#relation = relation;
  }

  add(after: Tuple, before: Tuple | null): void {
    this.#shapes.add(shapeOf(after));
    this.#after.push(after);
    this.#before.push(before);
  }

  emit(runs: RowRun[]): void {
    const first = this.#after[0];
    if (first === undefined) return;
    const run: RowRun = { relation: this.#relation, op: 'update', after: this.#after, before: this.#before };
    runs.push(this.#shapes.size === 1 ? { ...run, columns: presentColumns(this.#relation, first) } : run);
  }
}

/** Sorts rows of one operation by the set of columns that are present, in order of first appearance. */
export class Shapes {
  readonly #relation: Relation;
  readonly #op: RowRun['op'];
  readonly #shapes = new Map<string, { columns: number[]; after: Tuple[]; before: (Tuple | null)[] }>();

  constructor(relation: Relation, op: RowRun['op']) {
    this.#relation = relation;
    this.#op = op;
  }

  add(after: Tuple, before: Tuple | null): void {
    const shape = shapeOf(after);
    let group = this.#shapes.get(shape);
    if (group === undefined) {
      group = { columns: presentColumns(this.#relation, after), after: [], before: [] };
      this.#shapes.set(shape, group);
    }
    group.after.push(after);
    group.before.push(before);
  }

  emit(runs: RowRun[]): void {
    for (const { columns, after, before } of this.#shapes.values()) {
      runs.push({ relation: this.#relation, op: this.#op, after, before, columns });
    }
  }
}

function shapeOf(row: Tuple): string {
  let shape = '';
  for (let i = 0; i < row.length; i++) if (row[i] === UNCHANGED) shape += `${i},`;
  return shape;
}

const presentColumns = (relation: Relation, row: Tuple): number[] => {
  const columns: number[] = [];
  for (let i = 0; i < relation.columns.length; i++) {
    if (row[i] !== UNCHANGED && relation.columns[i]?.generated !== true) columns.push(i);
  }
  return columns;
};

const newNet = (origin: Tuple | null, key: string | null, image: Tuple): Net => ({
  origin,
  originKey: key,
  currentKey: key,
  image,
});

/** The later image on top of the earlier one: an UNCHANGED cell keeps what the earlier image had, a delta follows it. */
function merge(earlier: Tuple, later: Tuple): Tuple {
  if (isWhole(later)) return later;
  return later.map((cell, index): Cell => {
    const before = earlier[index] as Cell;
    if (cell === UNCHANGED) return before;
    return isDelta(cell) && before !== UNCHANGED ? cell.after(before) : cell;
  });
}
