import { showTable, type Relation } from '../core/table.ts';
import type { CompiledPlan } from './table-plan.ts';
import type { TargetProgram } from './target-program.ts';

/** One blue table that feeds one green table, seen from green: rows of `green` are read, rows of blue are to be written. */
export interface Feed {
  readonly plan: CompiledPlan;
  readonly target: TargetProgram;
  /** Blue as a source: the space of the forward programs' inputs. */
  readonly blue: Relation;
  /** Green as a source: the space of the rows that are read. */
  readonly green: Relation;
  /** Index in green as a sink → index in `green`; -1 where the log of green does not carry it. */
  readonly read: readonly number[];
  /** The green table for people. */
  readonly name: string;
}

export const feedOf = (plan: CompiledPlan, target: TargetProgram, green: Relation): Feed => ({
  plan,
  target,
  blue: plan.from,
  green,
  read: indexesByName(target.relation, green),
  name: showTable(green.table),
});

/** For each column of the one relation the index of its namesake in the other, or -1. */
export function indexesByName(from: Relation, to: Relation): number[] {
  const byName = new Map(to.columns.map((column, index) => [column.name, index]));
  return from.columns.map((column) => byName.get(column.name) ?? -1);
}
