import type { Place } from './sink-layout.ts';
import { columnList, housekeeping, type Step } from './sink-statements.ts';

/** Where the touched rows of a table stand while the exact fallback works on them. Lives in the transaction. */
export const shadowPlace = (real: Place, number: number): Place => ({
  ...real,
  sql: `pg_temp.verdigris_shadow_${number}`,
  shadow: true,
});

/**
 * A temporary table with the layout and defaults of the real one, but without constraints, identity and generated columns. Ends with
 * the transaction.
 */
export function createTwin(real: Place, twin: Place): Step[] {
  const { layout } = real;
  const name = twin.sql.replace('pg_temp.', '');
  const defaults = layout.writable.flatMap((column) => {
    const { fallback, sql } = layout.columns[column] as { fallback: string | null; sql: string };
    return fallback === null ? [] : [`ALTER COLUMN ${sql} SET DEFAULT ${fallback}`];
  });
  return [
    housekeeping(
      `CREATE TEMP TABLE ${name} ON COMMIT DROP AS SELECT ${columnList(layout, layout.writable)} FROM ${real.sql} WITH NO DATA`,
    ),
    ...(defaults.length === 0 ? [] : [housekeeping(`ALTER TABLE ${twin.sql} ${defaults.join(', ')}`)]),
  ];
}

/** Its index is not unique: rows may pass through states that the table forbids. */
export const createShadow = (real: Place, shadow: Place): Step[] => [
  ...createTwin(real, shadow),
  housekeeping(`CREATE INDEX ON ${shadow.sql} (${columnList(real.layout, real.layout.key)})`),
];

/** Marks the statement that brings the rows back, so that an error in it can be named row by row. */
export interface FlushStep extends Step {
  readonly flush: { readonly real: Place; readonly shadow: Place };
}

/** Everything back into the table, where all constraints judge the final state at once. */
export function flushShadow(real: Place, shadow: Place): (Step | FlushStep)[] {
  const { layout } = real;
  const columns = columnList(layout, layout.writable);
  const back: FlushStep = {
    ...housekeeping(
      `INSERT INTO ${real.sql} (${columns}) OVERRIDING SYSTEM VALUE SELECT ${columns} FROM ${shadow.sql}`,
    ),
    place: real,
    flush: { real, shadow },
  };
  return [back, housekeeping(`DROP TABLE ${shadow.sql}`)];
}
