import type { RowRun } from '../../../src/core/change.ts';
import type { TargetTable } from '../../../src/core/plan.ts';
import {
  keyText,
  tableId,
  UNCHANGED,
  type Cell,
  type Relation,
  type Tuple,
} from '../../../src/core/table.ts';
import { Fold } from '../../../src/pipeline/fold.ts';
import { jsonElements } from '../../../src/transform/json-text.ts';

/**
 * A sink in memory, of the strictest kind: an insert finds nothing, an update or delete hits one row. Folds as the pipeline does, lets parts
 * of merged rows wait for their owner, and keeps the elements of arrays as the core's contract says.
 */
export class StrictSink {
  readonly #targets: ReadonlyMap<string, TargetTable>;
  readonly #tables = new Map<string, Map<string, Cell[]>>();
  readonly #waiting = new Map<string, Map<string, Cell[]>>();

  constructor(targets: readonly TargetTable[]) {
    this.#targets = new Map(targets.map((target) => [tableId(target.relation.table), target]));
  }

  rows(relation: Relation): Map<string, Cell[]> {
    return of(this.#tables, relation);
  }

  /** Rows in one order, for comparison. */
  content(): Record<string, Record<string, Tuple>> {
    const all: Record<string, Record<string, Tuple>> = {};
    for (const [id, target] of this.#targets) {
      if (target.elements !== undefined) continue;
      const rows = [...of(this.#tables, target.relation)].sort(([a], [b]) => (a < b ? -1 : 1));
      if (rows.length > 0) all[id] = Object.fromEntries(rows);
    }
    return all;
  }

  /** One transaction. */
  apply(runs: readonly RowRun[]): void {
    const fold = new Fold();
    const touched = new Map<TargetTable, Map<string, Tuple>>();
    for (const run of runs) fold.add(run);
    const folded = fold.take();
    for (const target of this.#targets.values())
      if (target.elements !== undefined) for (const run of folded) this.#take(target, run, touched);
    for (const run of folded) this.#run(run);
    for (const [target, parents] of touched)
      for (const parent of parents.values()) this.#rebuild(target, parent);
  }

  #target(relation: Relation): TargetTable {
    const target = this.#targets.get(tableId(relation.table));
    if (target === undefined) throw new Error(`${relation.table.name} is no target`);
    return target;
  }

  #run(run: RowRun): void {
    const { relation } = run;
    const { merge } = this.#target(relation);
    const rows = of(this.#tables, relation);
    const waiting = of(this.#waiting, relation);
    const key = (row: Tuple): string => keyText(relation, row);
    const absent = new Map(
      (merge?.parts ?? []).flatMap((part) =>
        part.columns.map((column, i) => [column, part.absent[i] as Cell] as const),
      ),
    );
    const isAbsent = (row: Tuple): boolean => [...absent].every(([column, cell]) => row[column] === cell);
    const leave = (at: string, row: Cell[]): void => {
      if (waiting.has(at)) throw new Error(`parts wait at ${at} in ${relation.table.name}, where a row is`);
      waiting.set(at, row);
    };
    switch (run.op) {
      case 'insert':
        for (const row of run.after) {
          if (rows.has(key(row))) throw new Error(`insert finds ${key(row)} in ${relation.table.name}`);
          const kept = waiting.get(key(row));
          waiting.delete(key(row));
          const made = relation.columns.map((column, i): Cell => {
            const cell = row[i] as Cell;
            const full = absent.has(i) ? ((kept === undefined ? absent.get(i) : kept[i]) as Cell) : cell;
            if (full !== UNCHANGED) return full;
            return column.hasDefault ? '(default)' : null;
          });
          this.#checkNulls(relation, made);
          rows.set(key(row), made);
        }
        return;
      case 'update': {
        const arriving: Cell[][] = [];
        const moved = run.after.map((row, i) => {
          const at = key(run.before[i] ?? row);
          const old = rows.get(at);
          if (old === undefined) throw new Error(`update misses ${at} in ${relation.table.name}`);
          rows.delete(at);
          const now = row.map((cell, column): Cell => (cell === UNCHANGED ? (old[column] as Cell) : cell));
          if (merge === null || key(now) === at) return now;
          if (!isAbsent(old)) leave(at, old);
          arriving.push(now);
          return now;
        });
        for (const row of arriving) {
          const kept = waiting.get(key(row));
          waiting.delete(key(row));
          for (const [column, cell] of absent)
            row[column] = kept === undefined ? cell : (kept[column] as Cell);
        }
        for (const row of moved) {
          if (rows.has(key(row))) throw new Error(`update meets ${key(row)} in ${relation.table.name}`);
          this.#checkNulls(relation, row);
          rows.set(key(row), row);
        }
        return;
      }
      case 'delete':
        for (const row of run.before as readonly Tuple[]) {
          const old = rows.get(key(row));
          if (old === undefined) throw new Error(`delete misses ${key(row)} in ${relation.table.name}`);
          rows.delete(key(row));
          if (merge !== null && !isAbsent(old)) leave(key(row), old);
        }
        return;
      case 'put':
        for (const row of run.after) {
          const there = rows.get(key(row));
          const old = there ?? waiting.get(key(row)) ?? relation.columns.map((_, i) => absent.get(i) ?? null);
          const now = row.map((cell, column): Cell => (cell === UNCHANGED ? (old[column] as Cell) : cell));
          if (there !== undefined) {
            this.#checkNulls(relation, now);
            rows.set(key(row), now);
          } else if (isAbsent(now)) waiting.delete(key(row));
          else waiting.set(key(row), now);
        }
        return;
      case 'replace': {
        const prefix = (row: Tuple): string =>
          relation.key
            .flatMap((i) => ((run.before[0] as Tuple)[i] === UNCHANGED ? [] : [String(row[i])]))
            .join();
        const parents = new Set((run.before as readonly Tuple[]).map(prefix));
        for (const [at, row] of rows) if (parents.has(prefix(row))) rows.delete(at);
        for (const row of run.after)
          rows.set(
            key(row),
            row.map((cell) => (cell === UNCHANGED ? '(default)' : cell)),
          );
        return;
      }
      case 'truncate':
        rows.clear();
        return;
    }
  }

  #checkNulls(relation: Relation, row: Tuple): void {
    const wrong = relation.columns.find((column, i) => row[i] === null && !column.nullable);
    if (wrong !== undefined) throw new Error(`${relation.table.name}.${wrong.name} is null`);
  }

  #take(target: TargetTable, run: RowRun, touched: Map<TargetTable, Map<string, Tuple>>): void {
    const { of: parent, array, ordinal } = target.elements as NonNullable<TargetTable['elements']>;
    const own = tableId(run.relation.table) === tableId(target.relation.table);
    if (!own && (tableId(run.relation.table) !== tableId(parent.table) || run.op === 'put')) return;
    const parents = touched.get(target) ?? new Map<string, Tuple>();
    touched.set(target, parents);
    const elements = of(this.#tables, target.relation);
    const keyOfRow = (row: Tuple): Tuple =>
      own ? row.slice(0, ordinal) : parent.key.map((i) => row[i] as Cell);
    const text = (row: Tuple): string => keyText(parent, inParent(parent, keyOfRow(row)));
    const moved = (i: number): boolean => {
      const before = run.before[i] ?? null;
      return before !== null && text(before) !== text(run.after[i] as Tuple);
    };
    const rows =
      own || run.op !== 'update'
        ? [...run.after, ...run.before]
        : run.after.flatMap((row, i) => (moved(i) ? [row, run.before[i] ?? null] : []));
    for (const row of rows) {
      if (row === null) continue;
      const cells = keyOfRow(row);
      const at = text(row);
      if (parents.has(at)) continue;
      parents.set(at, cells);
      if ([...elements.values()].some((one) => cells.every((cell, i) => one[i] === cell))) continue;
      const there = of(this.#tables, parent).get(at);
      const json = there?.[array];
      const list = typeof json === 'string' ? (jsonElements(json) ?? []) : [];
      for (const [i, element] of list.entries()) {
        const made = [...cells, String(i + 1), element];
        elements.set(keyText(target.relation, made), made);
      }
    }
  }

  #rebuild(target: TargetTable, cells: Tuple): void {
    const { of: parent, array, ordinal, element } = target.elements as NonNullable<TargetTable['elements']>;
    const row = of(this.#tables, parent).get(keyText(parent, inParent(parent, cells)));
    if (row === undefined) return;
    const own = [...of(this.#tables, target.relation).values()]
      .filter((one) => cells.every((cell, i) => one[i] === cell))
      .sort((a, b) => Number(a[ordinal]) - Number(b[ordinal]));
    row[array] = `[${own.map((one) => String(one[element])).join(', ')}]`;
    if (own.some((one, i) => one[ordinal] !== String(i + 1))) return;
    for (const one of own) of(this.#tables, target.relation).delete(keyText(target.relation, one));
  }
}

function inParent(parent: Relation, cells: Tuple): Tuple {
  const row: Cell[] = parent.columns.map(() => UNCHANGED);
  for (const [i, index] of parent.key.entries()) row[index] = cells[i] as Cell;
  return row;
}

function of(map: Map<string, Map<string, Cell[]>>, relation: Relation): Map<string, Cell[]> {
  const id = tableId(relation.table);
  const found = map.get(id) ?? new Map<string, Cell[]>();
  map.set(id, found);
  return found;
}
