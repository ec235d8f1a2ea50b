import { readFile } from 'node:fs/promises';

import type pg from 'pg';
import { ROWS, type Seeded, WAREHOUSES } from '../shop-size.ts';

/** Creates the shop on blue and fills it. The same scale gives the same numbers of rows. */
export async function seed(client: pg.Client, scale: number): Promise<Seeded> {
  await client.query(await readFile(new URL('./blue.sql', import.meta.url), 'utf8'));
  return await fill(client, scale);
}

/** Fills the tables of the shop. */
export async function fill(client: pg.Client, scale: number): Promise<Seeded> {
  const n = (table: keyof typeof ROWS): number => Math.max(160, Math.round(ROWS[table] * scale));
  const fill = [
    // Every seventh has one name only, every fifth three; every third has no address, every ninth only a city.
    `INSERT INTO customers (full_name, email, balance, status, street, city, tags, legacy_code, created_at)
     SELECT CASE WHEN g % 7 = 0 THEN 'Mono' || g WHEN g % 5 = 0 THEN 'Anna van Laar' || g ELSE 'Ada Lovelace' || g END,
            'user' || g || '@example.org', (g % 100000) / 7.0, g % 4,
            CASE WHEN g % 3 <> 0 AND g % 9 <> 1 THEN 'Road ' || g % 500 END, CASE WHEN g % 3 <> 0 THEN 'City ' || g % 90 END,
            CASE WHEN g % 2 = 0 THEN ARRAY['a b', 'c"d', g::text] ELSE '{}' END, 'L-' || g, timestamptz '2024-01-01' + g * interval '7 minutes'
     FROM generate_series(1, ${n('customers')}) g`,
    `INSERT INTO products (title, price, labels, thumbnail, datasheet)
     SELECT 'Thing ' || g, 1 + (g % 9000) / 100.0, ARRAY['x' || g % 10, 'ü,{}'], sha256(g::text::bytea),
            jsonb_build_object('revision', 1, 'text', repeat(md5(g::text), 290), 'product', g)
     FROM generate_series(1, ${n('products')}) g`,
    `INSERT INTO product_suppliers
     SELECT g, 'Supplier ' || g % 40, CASE WHEN g % 4 <> 0 THEN g * 3 END, (g % 500) / 100.0
     FROM generate_series(1, ${n('products')}) g WHERE g % 6 <> 0`,
    `INSERT INTO stock (warehouse, product_id, quantity, reserved)
     SELECT w, p, 1000000, (w * p) % 50 FROM generate_series(1, ${WAREHOUSES}) w, generate_series(1, ${n('products')}) p`,
    `INSERT INTO orders (public_id, customer_id, status, total, items, note, placed_at)
     SELECT md5(g::text)::uuid, 1 + g % ${n('customers')}, (enum_range(NULL::order_status))[1 + g % 4], (1 + g % 3) * 12.5,
            (SELECT jsonb_agg(jsonb_build_object('product', 1 + (g * k) % ${n('products')}, 'quantity', k, 'cents', 1250))
             FROM generate_series(1, 1 + g % 3) k),
            CASE WHEN g % 11 = 0 THEN E'tab\\there, line\\nbreak \\\\ back' END, timestamptz '2025-01-01' + g * interval '3 minutes'
     FROM generate_series(1, ${n('orders')}) g`,
    `INSERT INTO invoices SELECT nextval('invoice_number'), g, 12.5, timestamptz '2025-02-01' + g * interval '3 minutes'
     FROM generate_series(1, ${Math.min(n('invoices'), n('orders'))}) g`,
    `INSERT INTO payments SELECT md5('p' || g)::uuid, 1 + g % ${n('orders')}, 12.5, sha256(('r' || g)::bytea), timestamptz '2025-02-01' + g * interval '5 minutes'
     FROM generate_series(1, ${n('payments')}) g`,
    `INSERT INTO reviews (product_id, customer_id, stars, body)
     SELECT 1 + g % ${n('products')}, 1 + g % ${n('customers')}, 1 + g % 5, CASE WHEN g % 3 = 0 THEN repeat('word ', g % 40) END
     FROM generate_series(1, ${n('reviews')}) g`,
    `INSERT INTO audit_log SELECT md5('a' || g / 2)::uuid, 0, 'seed', jsonb_build_object('n', g % 10), timestamptz '2025-01-01' + (g / 2) * interval '1 minute'
     FROM generate_series(1, ${n('audit_log')}) g`,
  ];
  let rows = 0;
  for (const statement of fill) rows += (await client.query(statement)).rowCount ?? 0;
  await client.query('ANALYZE');
  return { rows, customers: n('customers'), products: n('products'), warehouses: WAREHOUSES };
}
