import type { RowRun } from '../../core/change.ts';
import { type Tuple } from '../../core/table.ts';
import type { LateConstraint, Place, SinkLayout } from './sink-layout.ts';
import { Arrays, housekeeping, keyJoin, typeOf, type Step } from './sink-statements.ts';
import type { Param } from './sink-messages.ts';

/** Looks for rows that break a constraint which the server does not check for us. */
export interface LateStep extends Step {
  readonly late: { readonly constraint: string; readonly find: Step };
}

/**
 * The server checks a DEFERRABLE unique, primary or exclusion constraint with a trigger, and under session_replication_role = replica that
 * trigger does not fire: duplicates would come in without a word (seen on PostgreSQL 18). So we look ourselves, at the end of the
 * transaction as the server would, by the constraint's own index.
 */
export function lateSteps(real: Place, runs: readonly RowRun[]): LateStep[] {
  const { layout } = real;
  const keys = runs.flatMap((run): readonly Tuple[] =>
    run.op === 'delete' || run.op === 'truncate' ? [] : run.after,
  );
  if (keys.length === 0) return [];
  return layout.late.map((constraint) => {
    const arrays = new Arrays();
    const where = keyJoin(layout, layout.key, (column) => arrays.add(keys, column, typeOf(layout, column)));
    return step(real, constraint, `${arrays.from} JOIN ${real.sql} AS g ON ${where}`, arrays.values);
  });
}

/** The same over the whole table: after a transaction that came in parts, or where rows have no key. */
export const lateWholeSteps = (real: Place): LateStep[] =>
  real.layout.late.map((constraint) => step(real, constraint, `${real.sql} AS g`, []));

function step(real: Place, constraint: LateConstraint, from: string, values: readonly Param[]): LateStep {
  const same = constraint.columns.map(({ sql, operator }) => `o.${sql} ${operator} g.${sql}`).join(' AND ');
  const rows = `FROM ${from} JOIN ${real.sql} AS o ON ${same} WHERE (o.tableoid, o.ctid) <> (g.tableoid, g.ctid)`;
  const find = housekeeping(`SELECT ${keyText(real.layout)} ${rows} LIMIT 1`, values);
  return {
    ...housekeeping(
      `SELECT pg_catalog.width_bucket(0::float8, 0::float8, (count(*) = 0)::int::float8, 1) FROM (SELECT 1 ${rows} LIMIT 1) AS r`,
      values,
    ),
    place: real,
    late: { constraint: constraint.name, find },
  };
}

const keyText = (layout: SinkLayout): string =>
  layout.key.length === 0
    ? "''"
    : layout.key.map((column) => `pg_catalog.format('%s', g.${layout.columns[column]?.sql})`).join(', ');
