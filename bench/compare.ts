import type pg from 'pg';

/** A query on blue and the query on green that has to give the same rows. */
export interface Pair {
  readonly table: string;
  readonly blue: string;
  readonly green: string;
}

const digest = (sql: string): string =>
  `SELECT count(*)::text || ' rows, ' || coalesce(sum(hashtextextended(t::text, 0)), 0)::text AS digest FROM (${sql}) AS t`;

/** @throws Error when a table differs */
export async function compare(blue: pg.Client, green: pg.Client, pairs: readonly Pair[]): Promise<void> {
  for (const pair of pairs) {
    const [left, right] = await Promise.all([
      blue.query<{ digest: string }>(digest(pair.blue)),
      green.query<{ digest: string }>(digest(pair.green)),
    ]);
    const expected = left.rows[0]?.digest;
    const found = right.rows[0]?.digest;
    if (expected !== found) throw new Error(`${pair.table} differs: blue ${expected}, green ${found}`);
  }
}

export const same = (table: string): Pair => ({
  table,
  blue: `SELECT * FROM ${table}`,
  green: `SELECT * FROM ${table}`,
});
