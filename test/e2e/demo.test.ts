import { readFile } from 'node:fs/promises';

import pg from 'pg';
import { expect, test } from 'vitest';

import { compare, countTransactions } from '../demo/postgres/comparison.ts';
import { differencesOf } from '../demo/result.ts';
import { longestWait } from '../demo/ledger.ts';
import { seed } from '../demo/postgres/seed.ts';
import { type PostgresServer, startPostgres } from '../support/postgres.ts';
import { demoThatHolds } from './demo-run.ts';

test('the demo, smaller: a shop under load moves and no client notices', { timeout: 170_000 }, async () => {
  const { facts } = await demoThatHolds([]);
  expect(facts).toMatchObject({
    blue: expect.stringMatching(/^PostgreSQL 16\./),
    green: expect.stringMatching(/^PostgreSQL 18\./),
  });
  expect(facts.seconds).toBeLessThan(180);
});

test(
  'what the demo looks with sees a row that is missing, extra or changed, and a transaction lost or made twice',
  { timeout: 60_000 },
  async () => {
    await using blueServer = await startPostgres({ version: 16 });
    await using greenServer = await startPostgres({ version: 18 });
    const blue = await shopOn(blueServer);
    const green = await shopOn(greenServer);
    try {
      await seed(blue, 0.001);
      await green.query(await readFile(new URL('../demo/postgres/green.sql', import.meta.url), 'utf8'));
      const { rows } = await blue.query<{ id: string; n: number }>(
        'SELECT transaction_id::text AS id, count(*)::int AS n FROM audit_log GROUP BY 1 ORDER BY 1',
      );
      const once = rows.filter(({ n }) => n === 1).map(({ id }) => id);
      const twice = rows.filter(({ n }) => n === 2).map(({ id }) => id);
      expect(twice.length).toBeGreaterThan(0);
      expect(await countTransactions(blue, [...once, '00000000-0000-0000-0000-000000000000'])).toEqual({
        lost: 1,
        duplicated: 0,
      });
      expect(await countTransactions(blue, twice)).toEqual({ lost: 0, duplicated: twice.length });

      // An empty green: everything is missing.
      const empty = await inTransaction(green, () => compare(blue, green));
      expect(empty.every(({ missing, extra }) => missing > 0 && extra === 0)).toBe(true);

      // Through the old names, as clients do: the views and their triggers must say the same as the hand-written mapping.
      const found = await inTransaction(green, async () => {
        await green.query('SET LOCAL search_path = compat, shop');
        for (const table of [
          'customers',
          'products',
          'product_suppliers',
          'orders',
          'invoices',
          'payments',
        ]) {
          const { rows: copied } = await blue.query<{ row: string }>(
            `SELECT to_jsonb(t)::text AS row FROM ${table} t`,
          );
          for (const { row } of copied)
            await green.query(
              `INSERT INTO ${table} SELECT * FROM jsonb_populate_record(NULL::compat.${table}, $1)`,
              [row],
            );
        }
        const perfect = await compare(blue, green);
        await green.query(`UPDATE shop.client SET balance_cents = balance_cents + 1 WHERE id = 7`);
        await green.query(`DELETE FROM shop.payment WHERE id = (SELECT id FROM shop.payment LIMIT 1)`);
        await green.query(`INSERT INTO shop.order_line VALUES (1, 99, 1, 1, 1)`);
        return { perfect, spoiled: await compare(blue, green) };
      });
      const of = (tables: typeof found.perfect, name: string) => tables.filter(({ table }) => table === name);
      const filled = [
        'shop.client',
        'shop.client_address',
        'shop.product',
        'shop.sales_order',
        'shop.order_line',
        'shop.invoice',
        'shop.payment',
      ];
      expect(differencesOf(filled.flatMap((name) => of(found.perfect, name)))).toBe(0);
      expect(of(found.spoiled, 'shop.client')).toMatchObject([{ missing: 1, extra: 1 }]);
      expect(of(found.spoiled, 'shop.payment')).toMatchObject([{ missing: 1, extra: 0 }]);
      expect(of(found.spoiled, 'shop.order_line')).toMatchObject([{ missing: 0, extra: 1 }]);
      expect(differencesOf(filled.flatMap((name) => of(found.spoiled, name)))).toBe(3);
    } finally {
      await Promise.all([blue.end(), green.end()]);
    }
  },
);

test('the longest wait is that of an answer that came after the pause began', () => {
  const waits = [
    { atMs: 100, ms: 900 },
    { atMs: 1_500, ms: 700 },
    { atMs: 1_900, ms: 400 },
    { atMs: 4_000, ms: 800 },
  ];
  expect(longestWait(waits, 2_000, 3_000)).toBe(700);
  expect(longestWait([], 2_000, 3_000)).toBe(0);
});

async function shopOn(server: PostgresServer): Promise<pg.Client> {
  const admin = new pg.Client({ connectionString: server.url() });
  await admin.connect();
  await admin.query('CREATE ROLE app');
  await admin.query('CREATE DATABASE shop');
  await admin.end();
  const client = new pg.Client({ connectionString: server.url('shop') });
  await client.connect();
  return client;
}

async function inTransaction<T>(client: pg.Client, work: () => Promise<T>): Promise<T> {
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  try {
    return await work();
  } finally {
    await client.query('ROLLBACK');
  }
}
