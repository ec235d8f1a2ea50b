import type { RowRun } from '../core/change.ts';
import { UNCHANGED, showTable, tableId, type Cell, type Relation, type Tuple } from '../core/table.ts';
import type { StoredDifference } from '../core/verification.ts';
import { subjectColumns, subjectOf, type Subject } from './subject.ts';
import type { VerifyTable } from './verify-table.ts';

/** What has to be taken off green and read again from blue so that differences go. */
export interface RepairPlan {
  readonly removals: readonly RowRun[];
  readonly missing: readonly { readonly relation: Relation; readonly keys: readonly Tuple[] }[];
  /** To look at afterwards. */
  readonly subjects: ReadonlyMap<VerifyTable, ReadonlyMap<string, Subject>>;
}

/** Why rows of a table cannot be repaired one by one, or null. */
export function unrepairable(table: VerifyTable, tables: readonly VerifyTable[]): string | null {
  for (const one of reached(table, tables)) {
    if (subjectColumns(one).length > 0) continue;
    const name = showTable(one.target.relation.table);
    return one.target.relation.key.length === 0
      ? `${name} has no key`
      : `the key of ${name} does not say which row of blue it came from`;
  }
  return null;
}

/** The table and all that are fed by the same rows of blue: taking a row off green means all that it made there. */
function reached(table: VerifyTable, tables: readonly VerifyTable[]): readonly VerifyTable[] {
  const found = new Set([table]);
  for (const one of found) {
    const sources = new Set(one.plans.map((plan) => tableId(plan.from.table)));
    for (const other of tables)
      if (other.plans.some((plan) => sources.has(tableId(plan.from.table)))) found.add(other);
  }
  return [...found];
}

/** @param differences only of tables for which {@link unrepairable} is null */
export function planRepair(
  tables: readonly VerifyTable[],
  differences: readonly StoredDifference[],
): RepairPlan {
  const plan = new Planned(tables);
  const byName = new Map(tables.map((table) => [showTable(table.target.relation.table), table]));
  for (const { table: name, key } of differences) {
    const table = byName.get(name);
    if (table === undefined) continue;
    const { columns } = table.target.relation;
    plan.add(
      table,
      subjectColumns(table).map((column): Cell => key[columns[column]?.name ?? ''] ?? null),
    );
  }
  return plan;
}

class Planned implements RepairPlan {
  readonly #tables: readonly VerifyTable[];
  readonly #subjects = new Map<VerifyTable, Map<string, Subject>>();
  readonly #missing = new Map<string, { relation: Relation; keys: Tuple[]; ids: Set<string> }>();

  constructor(tables: readonly VerifyTable[]) {
    this.#tables = tables;
  }

  /** A subject of green, the rows of blue that make it, and what else those make. */
  add(table: VerifyTable, key: Tuple): void {
    const columns = subjectColumns(table);
    const subject = subjectOf(table)(sparse(table, columns, key));
    const known = this.#subjects.get(table) ?? new Map<string, Subject>();
    this.#subjects.set(table, known);
    if (subject === null || known.has(subject.id)) return;
    known.set(subject.id, { id: subject.id, key });
    table.plans.forEach((plan, index) => {
      const link = table.links?.[index] ?? [];
      this.#blue(
        plan.from,
        link.map((column) => key[columns.indexOf(column)] as Cell),
      );
    });
  }

  #blue(relation: Relation, key: Tuple): void {
    const id = tableId(relation.table);
    const known = this.#missing.get(id) ?? { relation, keys: [], ids: new Set<string>() };
    this.#missing.set(id, known);
    const text = JSON.stringify(key);
    if (known.ids.has(text)) return;
    known.ids.add(text);
    known.keys.push(key);
    for (const table of this.#tables) {
      table.plans.forEach((plan, index) => {
        if (tableId(plan.from.table) !== id) return;
        const link = table.links?.[index] ?? [];
        this.add(
          table,
          subjectColumns(table).map((column) => key[link.indexOf(column)] as Cell),
        );
      });
    }
  }

  get missing(): RepairPlan['missing'] {
    return [...this.#missing.values()];
  }

  get subjects(): RepairPlan['subjects'] {
    return this.#subjects;
  }

  get removals(): readonly RowRun[] {
    return [...this.#subjects].flatMap(([table, subjects]) => {
      const { relation, merge } = table.target;
      const columns = subjectColumns(table);
      const rows = [...subjects.values()].map(({ key }) => sparse(table, columns, key));
      const removal: RowRun = { relation, op: 'replace', after: [], before: rows };
      // What a part left behind, waiting for the owner, may be what is wrong.
      const parts = (merge?.parts ?? []).map((part): RowRun => {
        const after = rows.map((row) => {
          const put = [...row];
          part.columns.forEach((column, index) => (put[column] = part.absent[index] as Cell));
          return put;
        });
        return { relation, op: 'put', after, before: after.map(() => null) };
      });
      return [removal, ...parts];
    });
  }
}

/** A green row of which only these cells are known. */
function sparse(table: VerifyTable, columns: readonly number[], cells: Tuple): Tuple {
  const row: Cell[] = table.target.relation.columns.map(() => UNCHANGED);
  columns.forEach((column, index) => {
    row[column] = cells[index] as Cell;
  });
  return row;
}
