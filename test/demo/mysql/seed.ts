import { readFile } from 'node:fs/promises';

import type mysql from 'mysql2/promise';

import type { MysqlServer } from '../../support/mysql-server.ts';
import { ROWS, type Seeded, WAREHOUSES } from '../shop-size.ts';

export const DATABASE = 'shop';

/** Runs one of the two files, statement by statement, in a new database. */
export async function createShop(server: MysqlServer, file: 'blue.sql' | 'green.sql'): Promise<void> {
  await server.query(`CREATE DATABASE ${DATABASE} CHARACTER SET utf8mb4`);
  const text = await readFile(new URL(`./${file}`, import.meta.url), 'utf8');
  for (const statement of text.split(';').filter((part) => part.trim() !== ''))
    await server.query(statement, DATABASE);
}

/** Creates the shop on blue and fills it. The same scale gives the same numbers of rows. */
export async function seed(server: MysqlServer, scale: number): Promise<Seeded> {
  await createShop(server, 'blue.sql');
  const connection = await server.connect(DATABASE);
  try {
    return await fill(connection, scale);
  } finally {
    await connection.end();
  }
}

async function fill(connection: mysql.Connection, scale: number): Promise<Seeded> {
  const n = (table: keyof typeof ROWS): number => Math.max(160, Math.round(ROWS[table] * scale));
  await numbers(connection, Math.max(n('audit_log'), n('orders')));
  const from = (count: number): string => `FROM numbers.n WHERE g <= ${count}`;
  // MySQL has no MD5 any more.
  const digest = (text: string): string => `LEFT(SHA2(${text}, 256), 32)`;
  const uuid = (text: string): string => `UNHEX(${digest(text)})`;
  const after = (date: string, minutes: number): string => `'${date}' + INTERVAL g * ${minutes} MINUTE`;
  const line = (k: number): string =>
    `JSON_OBJECT('product', 1 + (g * ${k}) % ${n('products')}, 'quantity', ${k}, 'cents', 1250)`;
  const fills = [
    // Every seventh has one name only, every fifth three; every third has no address, every ninth only a city.
    `INSERT INTO customers (full_name, email, balance, status, street, city, tags, legacy_code, created_at)
     SELECT CASE WHEN g % 7 = 0 THEN CONCAT('Mono', g) WHEN g % 5 = 0 THEN CONCAT('Anna van Laar', g) ELSE CONCAT('Ada Lövelace', g) END,
            CONCAT('user', g, '@example.org'), ROUND((g % 100000) / 7, 2), g % 4,
            IF(g % 3 <> 0 AND g % 9 <> 1, CONCAT('Road ', g % 500), NULL), IF(g % 3 <> 0, CONCAT('City ', g % 90), NULL),
            ELT(1 + g % 4, '', 'gold', 'news,wholesale', 'gold,news,wholesale'), CONCAT('L-', g), ${after('2024-01-01', 7)} ${from(n('customers'))}`,
    `INSERT INTO products (public_id, title, price, labels, thumbnail, datasheet)
     SELECT ${uuid("CONCAT('product', g)")}, CONCAT('Thing ', g), 1 + (g % 9000) / 100, JSON_ARRAY(CONCAT('x', g % 10), 'ü,{}'), UNHEX(SHA2(g, 256)),
            JSON_OBJECT('revision', g % 9, 'text', REPEAT(${digest('g')}, 290), 'product', g) ${from(n('products'))}`,
    `INSERT INTO product_suppliers
     SELECT g, CONCAT('Supplier ', g % 40), IF(g % 4 <> 0, g * 3, NULL), (g % 500) / 100 ${from(n('products'))} AND g % 6 <> 0`,
    `INSERT INTO stock (warehouse, product_id, quantity, reserved)
     SELECT w.g, p.g, 1000000, (w.g * p.g) % 50 FROM numbers.n w JOIN numbers.n p ON p.g <= ${n('products')} WHERE w.g <= ${WAREHOUSES}`,
    `INSERT INTO orders (public_id, customer_id, status, total, items, note, placed_at)
     SELECT ${uuid('g')}, 1 + g % ${n('customers')}, 1 + g % 4, (1 + g % 3) * 12.5,
            CASE g % 3 WHEN 0 THEN JSON_ARRAY(${line(1)}) WHEN 1 THEN JSON_ARRAY(${line(1)}, ${line(2)}) ELSE JSON_ARRAY(${line(1)}, ${line(2)}, ${line(3)}) END,
            IF(g % 11 = 0, 'tab\\there, line\\nbreak \\\\ back', NULL), ${after('2025-01-01', 3)} ${from(n('orders'))}`,
    `INSERT INTO invoices (order_id, amount, issued_at)
     SELECT g, 12.5, ${after('2025-02-01', 3)} ${from(Math.min(n('invoices'), n('orders')))}`,
    `INSERT INTO payments SELECT ${uuid("CONCAT('p', g)")}, 1 + g % ${n('orders')}, 12.5, UNHEX(SHA2(CONCAT('r', g), 256)), ${after('2025-02-01', 5)} ${from(n('payments'))}`,
    `INSERT INTO reviews (product_id, customer_id, stars, body)
     SELECT 1 + g % ${n('products')}, 1 + g % ${n('customers')}, 1 + g % 5, IF(g % 3 = 0, REPEAT('word ', g % 40), NULL) ${from(n('reviews'))}`,
    // Every transaction twice: equal rows are told apart by their number only.
    `INSERT INTO audit_log SELECT ${uuid("CONCAT('a', g DIV 2)")}, 0, 'seed', JSON_OBJECT('n', (g DIV 2) % 10), '2025-01-01' + INTERVAL (g DIV 2) MINUTE ${from(n('audit_log'))}`,
  ];
  let rows = 0;
  for (const statement of fills) {
    const [result] = await connection.query<mysql.ResultSetHeader>(statement);
    rows += result.affectedRows;
  }
  await connection.query('DROP DATABASE numbers');
  return { rows, customers: n('customers'), products: n('products'), warehouses: WAREHOUSES };
}

/** A table of the numbers from 1 to at least `count`, in a database of its own. */
async function numbers(connection: mysql.Connection, count: number): Promise<void> {
  await connection.query('CREATE DATABASE numbers');
  await connection.query('CREATE TABLE numbers.n (g int NOT NULL PRIMARY KEY)');
  await connection.query('INSERT INTO numbers.n VALUES (1)');
  for (let made = 1; made < count; made *= 2)
    await connection.query(`INSERT INTO numbers.n SELECT g + ${made} FROM numbers.n`);
}
