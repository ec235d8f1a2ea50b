import type { RowRun } from '../../../src/core/change.ts';
import { UNCHANGED, type Relation, type Tuple } from '../../../src/core/table.ts';
import { VerdigrisError } from '../../../src/core/errors.ts';
import type { MappingIssue } from '../../../src/transform/issue.ts';
import type { ReverseMapping } from '../../../src/transform/reverse.ts';
import { mapping, shop } from './shop.ts';
import { compileBack, relation, type Sides } from './tables.ts';

export const U: typeof UNCHANGED = UNCHANGED;
export const full = (one: Relation): Relation => ({ ...one, identity: 'full' });

/** Runs a change of a green table through its plan; runs as `op table`. */
export function runOf(back: ReverseMapping, name: string) {
  const plan = back.plans.find((one) => one.from.table.name === name);
  if (plan === undefined) throw new Error(`no plan for ${name}`);
  const run = (op: RowRun['op'], after: readonly Tuple[], before: readonly (Tuple | null)[]) => {
    const output = plan.run({ relation: plan.from, op, after, before });
    const runs = output.runs.map((one) => [`${one.op} ${one.relation.table.name}`, one.after, one.before]);
    return { runs, rejects: output.rejects };
  };
  return {
    insert: (...rows: Tuple[]) =>
      run(
        'insert',
        rows,
        rows.map(() => null),
      ),
    update: (before: Tuple | null, after: Tuple) => run('update', [after], [before]),
    remove: (...rows: Tuple[]) => run('delete', [], rows),
    truncate: () => run('truncate', [], []),
  };
}

export function one(
  columns: unknown,
  from: Parameters<typeof relation>[1],
  to: Parameters<typeof relation>[1],
  more: Record<string, unknown> = {},
) {
  const sides = { blue: [relation('a.t', from)], green: [full(relation('b.t', to))] };
  const { entry = {}, target = {} } = more as Record<string, Record<string, unknown>>;
  const back = compileBack([{ from: 'a.t', ...entry, to: [{ table: 'b.t', columns, ...target }] }], sides);
  return { back, ...runOf(back, 't') };
}

export function issues(spec: unknown, sides: Sides): string[] {
  try {
    compileBack(spec, sides);
  } catch (error) {
    if (!(error instanceof VerdigrisError) || error.code !== 'MAPPING_INVALID') throw error;
    return (error.context['issues'] as MappingIssue[]).map(
      ({ path, message }) => `${path.join('.')}: ${message}`,
    );
  }
  return [];
}
export const ways = (back: ReverseMapping) =>
  back.report.flatMap(({ columns }) => columns.map(({ column, way }) => `${column} ${way}`));
export const whys = (back: ReverseMapping) =>
  back.impossible.map(({ column, why }) => `${column ?? '*'}: ${why}`);

export const shopBack = compileBack(mapping, { ...shop, greenSource: shop.green.map(full) });
export const customer = runOf(shopBack, 'customer');
export const address = runOf(shopBack, 'customer_address');
export const product = runOf(shopBack, 'product');
export const ann: Tuple = ['1', 'Ann', 'van Dyk', 'ann@x', '1250', 'active', '2024-07-01 10:00:00+00'];
export const annBlue: Tuple = ['1', 'Ann van Dyk', 'ann@x', '12.50', '1', U, U, '2024-07-01 12:00:00'];
