import { pipeline } from 'node:stream/promises';

import type pg from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';

import type { Compared, Counted } from '../result.ts';

/** Blue in the shape of green, written by hand: what the mapping is meant to say, said a second time in SQL. */
const EXPECTED: Readonly<Record<string, { readonly columns: string; readonly sql: string }>> = {
  'shop.client': {
    columns: 'id, first_name, last_name, email, balance_cents, status, tags, created_at',
    sql: `SELECT id, split_part(full_name, ' ', 1), nullif(regexp_replace(full_name, '^[^ ]* ?', ''), ''), email, (balance * 100)::bigint,
            (ARRAY['prospect', 'active', 'suspended', 'closed'])[status + 1], tags, created_at FROM customers`,
  },
  'shop.client_address': {
    columns: 'client_id, street, city',
    sql: `SELECT id, street, city FROM customers WHERE street IS NOT NULL OR city IS NOT NULL`,
  },
  'shop.product': {
    columns:
      'id, public_id, title, price_cents, labels, thumbnail, datasheet, supplier, weight_grams, rating',
    sql: `SELECT p.id, p.public_id, p.title, (p.price * 100)::bigint, p.labels, p.thumbnail, p.datasheet, s.supplier, s.weight_grams, s.rating
          FROM products p LEFT JOIN product_suppliers s ON s.product_id = p.id`,
  },
  'shop.stock_level': {
    columns: 'warehouse, product_id, quantity, reserved, available',
    sql: `SELECT warehouse, product_id, quantity, reserved, available FROM stock`,
  },
  'shop.sales_order': {
    columns: 'id, public_id, client_id, status, total_cents, note, placed_at',
    sql: `SELECT id, public_id, customer_id, status, (total * 100)::bigint, note, placed_at FROM orders`,
  },
  'shop.order_line': {
    columns: 'order_id, line_no, product_id, quantity, price_cents',
    sql: `SELECT o.id, line.no, line.item ->> 'product', line.item ->> 'quantity', line.item ->> 'cents'
          FROM orders o CROSS JOIN LATERAL jsonb_array_elements(o.items) WITH ORDINALITY AS line (item, no)`,
  },
  'shop.invoice': {
    columns: 'number, order_id, amount_cents, issued_at',
    sql: `SELECT number, order_id, (amount * 100)::bigint, issued_at FROM invoices`,
  },
  'shop.payment': {
    columns: 'id, order_id, amount_cents, receipt, paid_at',
    sql: `SELECT id, order_id, (amount * 100)::bigint, receipt, paid_at FROM payments`,
  },
  'shop.review': {
    columns: 'id, product_id, client_id, stars, body',
    sql: `SELECT id, product_id, customer_id, stars, body FROM reviews`,
  },
  'shop.audit_log': {
    columns: 'transaction_id, client, action, detail, at',
    sql: `SELECT transaction_id, client, action, detail, at FROM audit_log`,
  },
};

/**
 * Compares blue, mapped by hand, with what `green` sees: a session with the snapshot of the switch open. Blue must not have been written since. The rows travel as the servers'
 * own COPY text; nothing of the code under test has a hand in it.
 */
export async function compare(blue: pg.Client, green: pg.Client): Promise<readonly Compared[]> {
  await green.query(`SET LOCAL work_mem = '128MB'`);
  const { rows: tables } = await green.query<{ name: string }>(
    `SELECT 'shop.' || relname AS name FROM pg_class WHERE relnamespace = 'shop'::regnamespace AND relkind IN ('r', 'p')`,
  );
  const forgotten = tables.filter(({ name }) => EXPECTED[name] === undefined);
  if (forgotten.length > 0)
    throw new Error(`the comparison does not know ${forgotten.map(({ name }) => name).join(', ')}`);
  const compared: Compared[] = [];
  for (const [table, { columns, sql }] of Object.entries(EXPECTED)) {
    await green.query(
      `CREATE TEMP TABLE expected ON COMMIT DROP AS SELECT ${columns} FROM ${table} WHERE false`,
    );
    await pipeline(
      blue.query(copyTo(`COPY (${sql}) TO STDOUT`)),
      green.query(copyFrom(`COPY expected FROM STDIN`)),
    );
    const { rows } = await green.query<{ rows: string; missing: string; extra: string }>(
      `WITH missing AS (TABLE expected EXCEPT ALL SELECT ${columns} FROM ${table}),
            extra AS (SELECT ${columns} FROM ${table} EXCEPT ALL TABLE expected)
       SELECT (SELECT count(*) FROM ${table}) AS rows, (SELECT count(*) FROM missing) AS missing, (SELECT count(*) FROM extra) AS extra`,
    );
    const [found] = rows;
    compared.push({
      table,
      rows: Number(found?.rows),
      missing: Number(found?.missing),
      extra: Number(found?.extra),
    });
    await green.query('DROP TABLE expected');
  }
  return compared;
}

/** Looks for every transaction in the log of the shop: it must be there, and once. */
export async function countTransactions(on: pg.Client, committed: readonly string[]): Promise<Counted> {
  const { rows } = await on.query<Counted>(
    `SELECT count(*) FILTER (WHERE n = 0)::int AS lost, count(*) FILTER (WHERE n > 1)::int AS duplicated
     FROM (SELECT a.id, count(l.transaction_id) AS n FROM unnest($1::uuid[]) AS a (id)
           LEFT JOIN audit_log l ON l.transaction_id = a.id GROUP BY a.id) AS counted`,
    [committed],
  );
  return rows[0] ?? { lost: committed.length, duplicated: 0 };
}

/** Sequences of green that would give a number that is in use. */
export async function collidingSequences(green: pg.Client): Promise<readonly string[]> {
  const { rows } = await green.query<{ name: string }>(
    `SELECT name FROM (
       SELECT 'shop.invoice_number' AS name, (SELECT max(number) FROM shop.invoice) AS used
       UNION ALL SELECT pg_get_serial_sequence('shop.client', 'id'), (SELECT max(id) FROM shop.client)
       UNION ALL SELECT pg_get_serial_sequence('shop.product', 'id'), (SELECT max(id) FROM shop.product)
       UNION ALL SELECT pg_get_serial_sequence('shop.sales_order', 'id'), (SELECT max(id) FROM shop.sales_order)
       UNION ALL SELECT pg_get_serial_sequence('shop.review', 'id'), (SELECT max(id) FROM shop.review)) AS counted
     WHERE nextval(name::regclass) <= used`,
  );
  return rows.map(({ name }) => name);
}
