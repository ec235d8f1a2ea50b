import type pg from 'pg';

/** Numbers that a seed decides, so that a run can be had again. */
export function numbers(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

type Next = (below: number) => number;

const pick = <T>(next: Next, ...values: readonly T[]): T => values[next(values.length)] as T;
const text = (value: string | null): string => (value === null ? 'NULL' : `'${value.replaceAll("'", "''")}'`);

/** What an application in the new schema writes: every kind of change to every table, also to keys. All of it fits blue. */
const WRITES: Readonly<Record<string, (next: Next, id: (below: number) => number) => string[]>> = {
  client: (next, id) => [
    `UPDATE shop.client SET ${pick(
      next,
      `email = 'n${next(999)}@x', balance_cents = ${next(1_000_000) - 500}`,
      `first_name = 'Eve${next(9)}'`,
      `last_name = ${text(pick(next, null, 'van  Dyk', " O'Hara"))}`,
      `status = '${pick(next, 'active', 'closed')}'`,
      `tags = ARRAY['x', NULL, 'ü"${next(9)}']`,
    )} WHERE id = ${id(1_000)}`,
  ],
  'new client': (next) => [
    `WITH c AS (INSERT INTO shop.client (id, first_name, last_name, email, balance_cents, status, tags, created_at)
       VALUES (${100_000 + next(400)}, 'New', ${text(pick(next, null, 'Name'))}, 'a@b', 7, 'prospect', '{}', '2025-03-30 02:30:00.5+01') ON CONFLICT DO NOTHING RETURNING id)
     INSERT INTO shop.client_address SELECT id, ${text(pick(next, null, 'Lane'))}, 'Ulm' FROM c`,
  ],
  'client goes': (next) => {
    const at = 100_000 + next(400);
    return [
      `DELETE FROM shop.client_address WHERE client_id = ${at}`,
      `DELETE FROM shop.client WHERE id = ${at}`,
    ];
  },
  'client moves': (next) => {
    const [from, to] = [100_000 + next(400), 100_000 + next(400)];
    return [
      `DELETE FROM shop.client_address WHERE client_id IN (${from}, ${to})`,
      `DELETE FROM shop.client WHERE id = ${to} AND ${from} <> ${to}`,
      `UPDATE shop.client SET id = ${to} WHERE id = ${from}`,
      ...(next(2) === 0
        ? [`INSERT INTO shop.client_address SELECT id, 'Moved', NULL FROM shop.client WHERE id = ${to}`]
        : []),
    ];
  },
  address: (next, id) => {
    const at = id(1_000);
    return [
      pick(
        next,
        `DELETE FROM shop.client_address WHERE client_id = ${at}`,
        `UPDATE shop.client_address SET city = 'Kiel' WHERE client_id = ${at}`,
        `INSERT INTO shop.client_address SELECT id, 'S', 'C' FROM shop.client WHERE id = ${at}
         ON CONFLICT (client_id) DO UPDATE SET street = NULL, city = 'both'`,
      ),
    ];
  },
  product: (next, id) => [
    `UPDATE shop.product SET ${pick(
      next,
      `price_cents = ${next(90_000)}`,
      `title = 'T${next(99)}', labels = '{a,"b c"}'`,
      `thumbnail = decode(md5('${next(99)}'), 'hex')`,
      `datasheet = jsonb_build_object('text', repeat(md5('${next(99)}'), 200))`,
      `weight_grams = CASE WHEN supplier IS NULL THEN NULL ELSE ${next(900)} END`,
      `rating = CASE WHEN supplier IS NULL THEN NULL ELSE ${next(900)} / 100.0 END`,
    )} WHERE id = ${id(160)}`,
  ],
  supplier: (next, id) => [
    pick(
      next,
      `UPDATE shop.product SET supplier = NULL, weight_grams = NULL, rating = NULL WHERE id = ${id(160)}`,
      `UPDATE shop.product SET supplier = 'Maker ${next(9)}' WHERE id = ${id(160)}`,
    ),
  ],
  'new product': (next) => [
    `INSERT INTO shop.product (id, title, price_cents, labels, thumbnail, datasheet, supplier, rating)
     VALUES (${200_000 + next(300)}, 'P', 999, '{}', NULL, '{"a": 1e3}', ${text(pick(next, null, 'M'))}, NULL) ON CONFLICT DO NOTHING`,
  ],
  'product goes or moves': (next) => {
    const [from, to] = [200_000 + next(300), 200_000 + next(300)];
    return [
      `DELETE FROM shop.product WHERE id = ${to}`,
      ...(next(2) === 0 ? [`UPDATE shop.product SET id = ${to} WHERE id = ${from}`] : []),
    ];
  },
  stock: (next, id) => [
    pick(
      next,
      `UPDATE shop.stock_level SET quantity = quantity - 1, reserved = ${next(9)} WHERE warehouse = ${1 + next(10)} AND product_id = ${id(160)}`,
      `DELETE FROM shop.stock_level WHERE warehouse = ${1 + next(10)} AND product_id = ${id(160)}`,
      `INSERT INTO shop.stock_level (warehouse, product_id, quantity, reserved) VALUES (${1 + next(10)}, ${id(160)}, 5, 1) ON CONFLICT DO NOTHING`,
    ),
  ],
  order: (next, id) => [
    `UPDATE shop.sales_order SET ${pick(next, `note = ${text(pick(next, null, 'n\tb', 'x'))}`, `status = 'shipped'`, `total_cents = ${next(9_999)}`)} WHERE id = ${id(1_200)}`,
  ],
  'new order': (next, id) => {
    const at = 300_000 + next(300);
    return [
      `INSERT INTO shop.sales_order (id, public_id, client_id, status, total_cents, note, placed_at)
       VALUES (${at}, gen_random_uuid(), ${id(1_000)}, 'new', 1, NULL, now()) ON CONFLICT DO NOTHING`,
      `INSERT INTO shop.order_line SELECT ${at}, g, g, ${next(9)}, 12 FROM generate_series(1, ${next(5)}) g ON CONFLICT DO NOTHING`,
    ];
  },
  'order goes or moves': (next) => {
    const [from, to] = [300_000 + next(300), 300_000 + next(300)];
    const goes = [
      `DELETE FROM shop.order_line WHERE order_id = ${to}`,
      `DELETE FROM shop.sales_order WHERE id = ${to}`,
    ];
    if (next(2) === 0 || from === to) return goes;
    return [
      ...goes,
      `INSERT INTO shop.sales_order SELECT ${to}, public_id, client_id, status, total_cents, note, placed_at FROM shop.sales_order WHERE id = ${from}`,
      `UPDATE shop.order_line SET order_id = ${to} WHERE order_id = ${from}`,
      `DELETE FROM shop.sales_order WHERE id = ${from}`,
    ];
  },
  line: (next, id) => {
    const at = next(3) === 0 ? 300_000 + next(300) : id(1_200);
    return [
      pick(
        next,
        `UPDATE shop.order_line SET quantity = ${next(99)} WHERE order_id = ${at} AND line_no = ${1 + next(3)}`,
        `DELETE FROM shop.order_line WHERE order_id = ${at} AND line_no = ${1 + next(3)}`,
        `INSERT INTO shop.order_line SELECT ${at}, coalesce(max(line_no), 0) + 1, 7, 1, 5 FROM shop.order_line WHERE order_id = ${at}
         HAVING EXISTS (SELECT FROM shop.sales_order WHERE id = ${at})`,
        `UPDATE shop.order_line SET line_no = line_no + 100 WHERE order_id = ${at} AND line_no < 50`,
      ),
    ];
  },
  invoice: (next, id) => [
    pick(
      next,
      `INSERT INTO shop.invoice VALUES (${400_000 + next(300)}, ${id(1_200)}, ${next(9_999)}, now()) ON CONFLICT DO NOTHING`,
      `UPDATE shop.invoice SET amount_cents = ${next(9_999)} WHERE number = ${400_000 + next(300)}`,
      `DELETE FROM shop.invoice WHERE number = ${400_000 + next(300)}`,
    ),
  ],
  payment: (next, id) => [
    `INSERT INTO shop.payment VALUES (gen_random_uuid(), ${id(1_200)}, ${next(9_999)}, '\\x00ff', now())`,
    `UPDATE shop.payment SET amount_cents = amount_cents + 1 WHERE order_id = ${id(1_200)}`,
  ],
  review: (next, id) => [
    pick(
      next,
      `INSERT INTO shop.review (product_id, client_id, stars, body) VALUES (${id(160)}, ${id(1_000)}, ${next(5)}, NULL)`,
      `UPDATE shop.review SET body = 'changed', stars = 1 WHERE id = ${id(400)}`,
      `DELETE FROM shop.review WHERE id = ${id(400)}`,
    ),
  ],
  audit: (next) => [
    pick(
      next,
      `INSERT INTO shop.audit_log SELECT md5('x')::uuid, 1, 'twice', '{"b": 1, "a": -0.0}', '2025-01-01' FROM generate_series(1, 2)`,
      `UPDATE shop.audit_log SET action = 'one' WHERE ctid = (SELECT min(ctid) FROM shop.audit_log WHERE action = 'twice')`,
      `DELETE FROM shop.audit_log WHERE ctid = (SELECT min(ctid) FROM shop.audit_log WHERE action IN ('twice', 'one'))`,
    ),
  ],
};

/** Random transactions of one to five writes. What a constraint of green refuses is rolled back; returns how many were committed. */
export async function churn(
  client: pg.Client,
  { seed, transactions }: { readonly seed: number; readonly transactions: number },
): Promise<number> {
  const next = numbers(seed);
  const id = (below: number): number => 1 + next(below);
  const kinds = Object.values(WRITES);
  await client.query(`SELECT setval(pg_get_serial_sequence('shop.review', 'id'), 1000000)`);
  let committed = 0;
  for (let n = 0; n < transactions; n += 1) {
    const writes = Array.from({ length: 1 + next(5) }, () =>
      (kinds[next(kinds.length)] as (typeof kinds)[number])(next, id),
    );
    try {
      await client.query(`BEGIN; ${writes.flat().join('; ')}; COMMIT`);
      committed += 1;
    } catch (error) {
      // Keys of green, which the writes do not look at.
      if (!['23503', '23505'].includes((error as { code?: string }).code ?? '')) throw error;
      await client.query('ROLLBACK');
    }
  }
  return committed;
}

/** Writes many rows at a time, until there are `rows` of them; returns how many there were. Every eighth row is left as it is. */
export async function bulk(client: pg.Client, { rows }: { readonly rows: number }): Promise<number> {
  let written = 0;
  for (let round = 0; written < rows; round += 1) {
    const some = (column: string): string => `${column} % 8 = ${round % 7}`;
    for (const sql of [
      `UPDATE shop.client SET balance_cents = balance_cents + 1 WHERE ${some('id')}`,
      `UPDATE shop.client SET last_name = 'L' || id || ' ${round}' WHERE ${some('id')}`,
      `UPDATE shop.client_address SET city = 'City ${round}' WHERE ${some('client_id')}`,
      `UPDATE shop.sales_order SET note = 'round ${round}' WHERE ${some('id')}`,
      `UPDATE shop.order_line SET quantity = quantity + 1 WHERE ${some('order_id')}`,
      `DELETE FROM shop.order_line WHERE line_no = 1 AND order_id % 64 = ${round % 64}`,
      `UPDATE shop.stock_level SET reserved = reserved + 1 WHERE ${some('product_id')}`,
      `UPDATE shop.product SET supplier = CASE WHEN supplier IS NULL THEN 'S' ELSE 'T ${round}' END, price_cents = price_cents + 1 WHERE ${some('id')}`,
      `INSERT INTO shop.payment SELECT gen_random_uuid(), id, 5, '\\x01', now() FROM shop.sales_order WHERE ${some('id')}`,
      `INSERT INTO shop.audit_log SELECT gen_random_uuid(), 1, 'bulk', NULL, now() FROM generate_series(1, 2000)`,
      `DELETE FROM shop.payment WHERE amount_cents = 5 AND ${some('get_byte(uuid_send(id), 0)')}`,
    ])
      written += (await client.query(sql)).rowCount ?? 0;
  }
  return written;
}
