import { hash } from 'node:crypto';

import type mysql from 'mysql2/promise';

import type { Compared, Counted } from '../result.ts';

/** Blue in the shape of green, written by hand: what the mapping is meant to say, said a second time in SQL. */
const EXPECTED: Readonly<Record<string, { readonly green: string; readonly blue: string }>> = {
  client: {
    green: `SELECT id, first_name, last_name, email, balance_cents, status, street, city, tags, created_at FROM client`,
    blue: `SELECT id, SUBSTRING_INDEX(full_name, ' ', 1), NULLIF(SUBSTRING(full_name, CHAR_LENGTH(SUBSTRING_INDEX(full_name, ' ', 1)) + 2), ''), email,
             CAST(balance * 100 AS SIGNED), ELT(status + 1, 'prospect', 'active', 'suspended', 'closed'), street, city, tags, created_at FROM customers`,
  },
  product: {
    green: `SELECT id, HEX(public_id), title, price_cents, labels, HEX(thumbnail), datasheet FROM product`,
    blue: `SELECT id, HEX(public_id), title, CAST(price * 100 AS SIGNED), labels, HEX(thumbnail), datasheet FROM products`,
  },
  product_supplier: {
    green: `SELECT product_id, name, weight_grams, rating FROM product_supplier`,
    blue: `SELECT product_id, supplier, weight_grams, rating FROM product_suppliers`,
  },
  stock_level: {
    green: `SELECT warehouse, product_id, quantity, reserved, available FROM stock_level`,
    blue: `SELECT warehouse, product_id, quantity, reserved, available FROM stock`,
  },
  sales_order: {
    green: `SELECT id, HEX(public_id), client_id, status, total_cents, order_lines, note, placed_at, channel FROM sales_order`,
    blue: `SELECT id, HEX(public_id), customer_id, status, CAST(total * 100 AS SIGNED), items, note, placed_at, 'shop' FROM orders`,
  },
  invoice: {
    green: `SELECT number, order_id, amount_cents, currency, issued_at FROM invoice`,
    blue: `SELECT number, order_id, CAST(amount * 100 AS SIGNED), 'EUR', issued_at FROM invoices`,
  },
  payment: {
    green: `SELECT HEX(id), order_id, amount_cents, HEX(receipt), paid_at FROM payment`,
    blue: `SELECT HEX(id), order_id, CAST(amount * 100 AS SIGNED), HEX(receipt), paid_at FROM payments`,
  },
  review: {
    green: `SELECT id, product_id, client_id, stars, body FROM review`,
    blue: `SELECT id, product_id, customer_id, stars, body FROM reviews`,
  },
  audit_entry: {
    green: `SELECT HEX(transaction_id), client, action, detail, at FROM audit_entry`,
    blue: `SELECT HEX(transaction_id), client, action, detail, at FROM audit_log`,
  },
};

/**
 * Compares blue, mapped by hand, with what these sessions see of both. Rows are compared as the servers' own text, and counted: equal
 * rows are told apart by how many there are.
 */
export async function compare(blue: mysql.Connection, green: mysql.Connection): Promise<readonly Compared[]> {
  const [tables] = await green.query<mysql.RowDataPacket[]>(
    'SELECT TABLE_NAME AS name FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()',
  );
  const forgotten = tables.filter(({ name }) => EXPECTED[name as string] === undefined);
  if (forgotten.length > 0)
    throw new Error(`the comparison does not know ${forgotten.map(({ name }) => name).join(', ')}`);
  const compared: Compared[] = [];
  for (const [table, sql] of Object.entries(EXPECTED)) {
    const counts = new Map<string, number>();
    for (const row of await digests(blue, sql.blue)) counts.set(row, (counts.get(row) ?? 0) + 1);
    const rows = await digests(green, sql.green);
    let extra = 0;
    for (const row of rows) {
      const left = counts.get(row) ?? 0;
      if (left === 0) extra += 1;
      else counts.set(row, left - 1);
    }
    const missing = [...counts.values()].reduce((sum, count) => sum + count, 0);
    compared.push({ table: `shop.${table}`, rows: rows.length, missing, extra });
  }
  return compared;
}

async function digests(on: mysql.Connection, sql: string): Promise<readonly string[]> {
  const [rows] = await on.query<mysql.RowDataPacket[][]>({
    sql,
    rowsAsArray: true,
    typeCast: (field) => field.string('utf8'),
  });
  return rows.map((row) => hash('sha256', JSON.stringify(row)));
}

/** Where the transactions of the shop are written down. */
export const AUDIT = { blue: 'audit_log', green: 'audit_entry' } as const;

/** Looks for every transaction in the log of the shop: it must be there, and once. */
export async function countTransactions(
  on: mysql.Connection,
  side: 'blue' | 'green',
  committed: readonly string[],
): Promise<Counted> {
  const [rows] = await on.query<mysql.RowDataPacket[]>(
    `SELECT LOWER(HEX(transaction_id)) AS id, COUNT(*) AS n FROM ${AUDIT[side]} GROUP BY transaction_id`,
  );
  const times = new Map(rows.map(({ id, n }) => [id as string, Number(n)]));
  const found = committed.map((id) => times.get(id.replaceAll('-', '')) ?? 0);
  return {
    lost: found.filter((n) => n === 0).length,
    duplicated: found.filter((n) => n > 1).length,
  };
}

const COUNTED = { client: 'id', product: 'id', sales_order: 'id', invoice: 'number', review: 'id' } as const;

/** Counters of green that would give a number that is in use. */
export async function collidingCounters(green: mysql.Connection): Promise<readonly string[]> {
  const colliding: string[] = [];
  for (const [table, column] of Object.entries(COUNTED)) {
    const [shown] = await green.query<mysql.RowDataPacket[]>(`SHOW CREATE TABLE ${table}`);
    const next = Number(/ AUTO_INCREMENT=(\d+)/.exec(String(shown[0]?.['Create Table']))?.[1] ?? 1);
    const [used] = await green.query<mysql.RowDataPacket[]>(`SELECT MAX(${column}) AS most FROM ${table}`);
    if (next <= Number(used[0]?.['most'])) colliding.push(`shop.${table}.${column}`);
  }
  return colliding;
}
