import type { TargetTable } from '../core/plan.ts';
import type { Column, Relation } from '../core/table.ts';
import { canonicalOf, type Canonical } from './canonical.ts';
import type { CompiledPlan } from './table-plan.ts';
import { typeOf } from './type-word.ts';

/**
 * What of a green table can be compared with blue. The rows expected on green are what the plans make of blue rows as an `insert` run
 * (of a merged table: the owner's row with the parts' puts on it).
 */
export interface Comparable {
  readonly table: TargetTable;
  /** Blue tables that feed it, the owner first. */
  readonly sources: readonly Relation[];
  /** Green columns that are a pure function of blue rows. */
  readonly columns: readonly number[];
  readonly notCompared: readonly { readonly column: string; readonly reason: string }[];
  /** Per green column: brings both sides to one text before they are compared; null where the text is compared as it is. */
  readonly canonical: readonly (Canonical | null)[];
  /**
   * Set when both servers can digest the same columns and equal rows give equal text: blue columns `from[i]` stand in green columns
   * `columns[i]`. No row has to be read then.
   */
  readonly direct: { readonly from: readonly number[]; readonly columns: readonly number[] } | null;
}

export function comparableOf(table: TargetTable, plans: readonly CompiledPlan[]): Comparable {
  const feeding = plans
    .flatMap((plan) =>
      plan.targets.filter((target) => target.table === table).map((target) => ({ plan, target })),
    )
    .sort((a, b) => Number(b.target.role === 'owner') - Number(a.target.role === 'owner'));
  const columns: number[] = [];
  const notCompared: { column: string; reason: string }[] = [];
  const { relation } = table;
  for (const [index, column] of relation.columns.entries()) {
    const program = feeding.flatMap(({ target }) => target.programs).find((one) => one.column === index);
    const ordinal = feeding.some(({ target }) => target.explode?.ordinal === index);
    const reason = column.generated
      ? 'green computes it'
      : program === undefined && !ordinal
        ? 'green fills it'
        : program?.pure === false
          ? 'its function is declared not pure'
          : null;
    if (reason === null) columns.push(index);
    else notCompared.push({ column: column.name, reason });
  }
  const passthrough = feeding.length === 1 ? (feeding[0]?.plan.passthrough ?? null) : null;
  const from = feeding[0]?.plan.from;
  const direct =
    passthrough !== null &&
    from !== undefined &&
    passthrough.columns.every((to, i) =>
      sameText(from.columns[passthrough.from[i] as number] as Column, relation.columns[to] as Column),
    );
  return {
    table,
    sources: feeding.map(({ plan }) => plan.from),
    columns,
    notCompared,
    canonical: relation.columns.map((column, index) => {
      const programs = feeding.flatMap(({ target }) => target.programs);
      const document = programs.find((one) => one.column === index)?.document;
      return document?.unordered ?? canonicalOf(column);
    }),
    direct: direct ? { from: passthrough.from, columns: passthrough.columns } : null,
  };
}

/** Equal values of the two columns have equal text on both servers, whatever the value was written as. */
export function sameText(from: Column, to: Column): boolean {
  const left = typeOf(from);
  const right = typeOf(to);
  if (from.kind !== to.kind) return false;
  switch (from.kind) {
    case 'decimal':
      return left.scale === right.scale;
    case 'float':
      return left.single === right.single;
    case 'text':
      return left.padded === right.padded && (!left.padded || from.type === to.type);
    case 'json':
    case 'array':
    case 'other':
    case 'document':
    case 'interval':
      return left.name === right.name;
    default:
      return true;
  }
}
