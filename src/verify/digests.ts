import type { Cell, Relation } from '../core/table.ts';
import type { Sides } from './rows.ts';
import type { VerifyTable } from './verify-table.ts';

export type Range = { readonly lower: Cell | null; readonly upper: Cell | null };

/** How a table is compared: see {@link import('./report.ts').TableReport}. */
export function methodOf(table: VerifyTable): 'server' | 'mapped' | 'rows' {
  if (table.target.relation.key.length === 0) return 'rows';
  return table.sameRanges && canDigest(table) ? 'server' : 'mapped';
}

/**
 * The number of rows of a range where both servers digest the same, null where they do not or cannot. A table without a key has
 * one range, the whole of it: its digest is a sum over rows, so it tells whether both sides hold the same rows equally often.
 */
export async function digests(sides: Sides, table: VerifyTable, range: Range): Promise<number | null> {
  const whole = range.lower === null && range.upper === null;
  if (!canDigest(table) || !(table.sameRanges || whole)) return null;
  const { plan, direct } = directOf(table);
  const [left, right] = await Promise.all([
    sides.blue.digest(plan, direct.from, range),
    sides.green.digest(table.target.relation, direct.columns, range),
  ]);
  return left.rows === right.rows && left.hash === right.hash ? left.rows : null;
}

/** Blue's relation and the columns of both sides that hold the same text; only where {@link VerifyTable.direct} is set. */
export function directOf(table: VerifyTable): { plan: Relation; direct: NonNullable<VerifyTable['direct']> } {
  return {
    plan: table.plans[0]?.from as Relation,
    direct: table.direct as NonNullable<VerifyTable['direct']>,
  };
}

const canDigest = (table: VerifyTable): boolean => table.direct !== null && table.plans.length === 1;
