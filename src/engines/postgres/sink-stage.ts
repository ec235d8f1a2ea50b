import type { TargetTable } from '../../core/plan.ts';
import type { Place } from './sink-layout.ts';
import { columnList, housekeeping, keyJoin, type Step } from './sink-statements.ts';
import type { Wire } from './sink-wire.ts';

/**
 * Does one of these tables have a unique or exclusion index beside its key? Then an uncommitted row of a chunk could make a group of the
 * pump wait, and the chunk waits for the pump: a deadlock that no server sees.
 */
export async function hasLiveUnique(wire: Wire, tables: readonly TargetTable[]): Promise<boolean> {
  for (const { relation } of tables) {
    const key = relation.key.map((index) => relation.columns[index]?.name ?? '');
    const { rows } = await wire.one(
      `SELECT (SELECT pg_catalog.json_agg(a.attname ORDER BY a.attname) FROM pg_catalog.pg_attribute a
               WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))::text, i.indexprs IS NOT NULL
       FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE n.nspname = $1 AND c.relname = $2 AND (i.indisunique OR i.indisexclusion)`,
      [relation.table.schema, relation.table.name],
    );
    const isKey = (row: readonly (string | null)[]): boolean =>
      row[1] !== 't' && JSON.stringify(JSON.parse(row[0] ?? '[]')) === JSON.stringify([...key].sort());
    if (rows.some((row) => !isKey(row))) return true;
  }
  return false;
}

export const stagePlace = (real: Place, number: number): Place => ({
  ...real,
  sql: `pg_temp.verdigris_stage_${number}`,
  shadow: true,
});

export const dropStage = (stage: Place): string => `DROP TABLE ${stage.sql}`;

/** From the stage into the table; `over`: the rows may be there already and are replaced. */
export function unstageSteps(real: Place, stage: Place, over: boolean): Step[] {
  const { layout } = real;
  const columns = columnList(layout, layout.writable);
  const where = keyJoin(layout, layout.key, (column) => `u.${layout.columns[column]?.sql}`);
  return [
    ...(over && layout.key.length > 0
      ? [housekeeping(`DELETE FROM ${real.sql} AS g USING ${stage.sql} AS u WHERE ${where}`)]
      : []),
    housekeeping(
      `INSERT INTO ${real.sql} (${columns}) OVERRIDING SYSTEM VALUE SELECT ${columns} FROM ${stage.sql}`,
    ),
  ];
}
