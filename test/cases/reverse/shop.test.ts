import { expect, test } from 'vitest';
import { compare, differencesOf } from '../../demo/comparison.ts';
import type { Run } from '../../support/run.ts';
import { churn } from './churn.ts';
import { copiedShop } from './shop.ts';
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

test('F88: what an application writes on green in the new schema comes back to blue, and only that', async () => {
  await using run = await copiedShop(0.02);
  await run.blue.query('CREATE SCHEMA before; SELECT 1');
  for (const table of ['customers', 'products', 'orders', 'reviews'])
    await run.blue.query(`CREATE TABLE before.${table} AS TABLE public.${table}`);
  await using way = await WayBack.open(run);
  await run.green.query('CREATE SCHEMA before');
  for (const table of ['client', 'product', 'sales_order', 'order_line', 'review'])
    await run.green.query(`CREATE TABLE before.${table} AS TABLE shop.${table}`);

  const committed = await churn(run.green.client, { seed: 20_261_125, transactions: 1_500 });
  expect(committed).toBeGreaterThan(1_000);
  await way.settled();
  expect(way.pipeline.rejects).toBe(0);

  // Gaps in the numbers of lines are on green only; the order of the lines is not.
  const order = [
    `SELECT o.id, n, e ->> 'product', e ->> 'quantity', e ->> 'cents' FROM orders o, jsonb_array_elements(items) WITH ORDINALITY x(e, n) ORDER BY 1, 2`,
    `SELECT order_id, row_number() OVER (PARTITION BY order_id ORDER BY line_no), product_id, quantity, price_cents FROM shop.order_line ORDER BY 1, 2`,
  ] as const;
  const inPublic = (sql: string): string => sql.replaceAll('FROM orders', 'FROM public.orders');
  expect((await run.compare(inPublic(order[0]), order[1])).length).toBeGreaterThan(1_000);
  const gaps = await run.rows(
    'green',
    'SELECT order_id FROM shop.order_line GROUP BY order_id HAVING max(line_no) <> count(*)',
  );
  expect(gaps.length).toBeGreaterThan(20);

  await expectUntouched(run);

  // Without the gaps green is again what the mapping makes of blue, in every row of every table.
  await run.green
    .query(`UPDATE shop.order_line AS l SET line_no = -n.n FROM (SELECT order_id, line_no, row_number() OVER (PARTITION BY order_id ORDER BY line_no) AS n FROM shop.order_line) n
      WHERE l.order_id = n.order_id AND l.line_no = n.line_no`);
  await run.green.query('UPDATE shop.order_line SET line_no = -line_no');
  await way.settled();
  await run.green.query('BEGIN');
  const tables = await compare(run.blue.client, run.green.client);
  await run.green.query('ROLLBACK');
  expect(differencesOf(tables), JSON.stringify(tables)).toBe(0);
  expect(tables.every(({ rows }) => rows > 100)).toBe(true);
  expect(await keptOnBlue(run)).toEqual([]);
  await expectUntouched(run);
});

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
async function keptOnBlue(run: Run): Promise<unknown[]> {
  const [name] = await run.rows(
    'blue',
    `SELECT storage FROM verdigris.halves WHERE direction = 'reverse' AND table_name = 'orders.items[]'`,
  );
  return await run.rows('blue', `SELECT * FROM ${name?.[0] ?? ''}`);
}
