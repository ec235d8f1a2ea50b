import { expect } from 'vitest';
import { compare } from '../../demo/postgres/comparison.ts';
import { differencesOf } from '../../demo/result.ts';
import type { Run } from '../../support/run.ts';
import { WayBack } from './way-back.ts';

/** The blue columns that come from green columns as they are asked for here: of rows whose inputs nobody changed they must be what they were. */
const UNTOUCHED: readonly (readonly [
  blue: string,
  key: string,
  columns: string,
  green: string,
  inputs: string,
])[] = [
  ['customers', 'id', 'full_name', 'client', 'first_name, last_name'],
  ['customers', 'id', 'email', 'client', 'email'],
  ['customers', 'id', 'balance', 'client', 'balance_cents'],
  ['customers', 'id', 'legacy_code', 'client', 'id'],
  ['products', 'id', 'datasheet', 'product', 'datasheet'],
  ['products', 'id', 'thumbnail', 'product', 'thumbnail'],
  ['orders', 'id', 'total', 'sales_order', 'total_cents'],
  ['reviews', 'id', 'body', 'review', 'body'],
];
const LINES = `coalesce((SELECT json_agg(array[l.line_no, l.product_id, l.quantity, l.price_cents] ORDER BY l.line_no) FROM LINES l WHERE l.order_id = o.id), '[]')::text`;

const BEFORE = {
  blue: ['public.customers', 'public.products', 'public.orders', 'public.reviews'],
  green: ['shop.client', 'shop.product', 'shop.sales_order', 'shop.order_line', 'shop.review'],
} as const;

/**
 * Writes on green with the way back open, then compares blue with green by hand-written SQL: every row of every table, and that nothing of
 * blue was touched whose green columns were not.
 */
export async function proveWayBack(run: Run, write: () => Promise<void>): Promise<void> {
  for (const side of ['blue', 'green'] as const) {
    await run[side].query('CREATE SCHEMA before');
    for (const table of BEFORE[side])
      await run[side].query(`CREATE TABLE before.${table.split('.')[1]} AS TABLE ${table}`);
  }
  // Its lines are looked up order by order.
  await run.green.query('CREATE INDEX ON before.order_line (order_id); ANALYZE before.order_line');
  await using way = await WayBack.open(run);
  await write();
  await way.settled(300_000);
  expect(way.pipeline.fit).toEqual({ fits: true, misfits: 0, blocked: false, first: null });

  // Gaps in the numbers of lines are on green only; the order of the lines is not.
  const lines = await run.compare(
    `SELECT o.id, n, e ->> 'product', e ->> 'quantity', e ->> 'cents' FROM public.orders o, jsonb_array_elements(items) WITH ORDINALITY x(e, n) ORDER BY 1, 2`,
    `SELECT order_id, row_number() OVER (PARTITION BY order_id ORDER BY line_no), product_id, quantity, price_cents FROM shop.order_line ORDER BY 1, 2`,
  );
  expect(lines.length).toBeGreaterThan(1_000);
  const gaps = await run.rows(
    'green',
    'SELECT order_id FROM shop.order_line GROUP BY order_id HAVING max(line_no) <> count(*)',
  );
  expect(gaps.length).toBeGreaterThan(10);
  expect(await keptOnBlue(run, way)).not.toEqual([]);
  await expectUntouched(run);

  // Without the gaps green is again what the mapping makes of blue, in every row of every table.
  await run.green.query(`UPDATE shop.order_line AS l SET line_no = -n.n
    FROM (SELECT order_id, line_no, row_number() OVER (PARTITION BY order_id ORDER BY line_no) AS n FROM shop.order_line) n
    WHERE l.order_id = n.order_id AND l.line_no = n.line_no`);
  await run.green.query('UPDATE shop.order_line SET line_no = -line_no');
  await way.settled(300_000);
  await run.green.query('BEGIN');
  const tables = await compare(run.blue.client, run.green.client);
  await run.green.query('ROLLBACK');
  expect(differencesOf(tables), JSON.stringify(tables)).toBe(0);
  expect(tables.every(({ rows }) => rows > 100)).toBe(true);
  expect(await keptOnBlue(run, way)).toEqual([]);
  await expectUntouched(run);
}

/** Columns of rows whose inputs on green are what they were at the switch are on blue byte for byte what they were then. */
async function expectUntouched(run: Run): Promise<void> {
  for (const [table, key, column, green, inputs] of UNTOUCHED) {
    const same = inputs
      .split(', ')
      .map((input) => `b.${input}::text IS NOT DISTINCT FROM g.${input}::text`)
      .join(' AND ');
    const ids = await run.rows(
      'green',
      `SELECT g.id FROM shop.${green} g JOIN before.${green} b USING (id) WHERE ${same} ORDER BY id`,
    );
    expect(ids.length, `${table}.${column}`).toBeGreaterThan(50);
    const differing = await run.rows(
      'blue',
      `SELECT b.${key} FROM before.${table} b LEFT JOIN public.${table} n USING (${key}) WHERE b.${key} = ANY ('{${ids.flat().join()}}')
       AND (n.${key} IS NULL OR b.${column}::text IS DISTINCT FROM n.${column}::text)`,
    );
    expect(differing, `${table}.${column}`).toEqual([]);
  }
  const lines = (schema: string): string =>
    `SELECT o.id, ${LINES.replace('LINES', `${schema}.order_line`)} FROM before.sales_order o JOIN shop.sales_order USING (id) ORDER BY 1`;
  const then = new Map((await run.rows('green', lines('before'))) as [string, string][]);
  const ids = ((await run.rows('green', lines('shop'))) as [string, string][]).flatMap(([id, now]) =>
    then.get(id) === now ? [id] : [],
  );
  expect(ids.length).toBeGreaterThan(200);
  const differing = await run.rows(
    'blue',
    `SELECT b.id FROM before.orders b LEFT JOIN public.orders n USING (id) WHERE b.id = ANY ('{${ids.join()}}') AND b.items::text IS DISTINCT FROM n.items::text`,
  );
  expect(differing).toEqual([]);
}

/** Elements that the arrays of blue do not tell, in our state. */
async function keptOnBlue(run: Run, way: WayBack): Promise<unknown[]> {
  const found = await run.rows(
    'blue',
    `SELECT storage FROM verdigris.halves WHERE id = '${way.migration}' AND table_name = 'orders.items[]'`,
  );
  expect(found).toHaveLength(1);
  return await run.rows('blue', `SELECT * FROM ${found[0]?.[0] ?? ''}`);
}
