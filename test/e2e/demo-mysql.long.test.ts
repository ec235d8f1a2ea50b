import { describe, expect, test } from 'vitest';

import { collidingCounters, compare, countTransactions } from '../demo/mysql/comparison.ts';
import { createShop, DATABASE, seed } from '../demo/mysql/seed.ts';
import { differencesOf } from '../demo/result.ts';
import { startMysqlWithAccounts } from '../support/mysql-harness.ts';
import { demoThatHolds } from './demo-run.ts';

const CLIENTS = 16;

describe.each([
  ['mysql', /^MySQL \d+\.\d+\.\d+$/],
  ['mariadb', /^MariaDB 10\.11\./],
] as const)('%s', (flavour, version) => {
  test(
    'the demo, smaller: clients connect anew twice, and nothing is lost',
    { timeout: 300_000 },
    async () => {
      const { facts, shown } = await demoThatHolds(['--engine', 'mysql', '--blue', flavour]);
      expect(facts).toMatchObject({
        blue: expect.stringMatching(version),
        green: expect.stringMatching(version),
      });
      // Each connection is ended at the switch; those of the second load at the rollback.
      expect(facts.reconnects).toBe(CLIENTS);
      expect(facts.rollback.reconnects).toBe(CLIENTS);
      expect(shown).toContain('connections opened anew');
    },
  );

  test(
    'what the demo looks with sees a row that is missing, extra or changed, and a transaction lost or made twice',
    { timeout: 120_000 },
    async () => {
      await using blueServer = await startMysqlWithAccounts(flavour);
      await using greenServer = await startMysqlWithAccounts(flavour);
      await seed(blueServer, 0.001);
      await createShop(greenServer, 'green.sql');
      const blue = await blueServer.connect(DATABASE);
      const green = await greenServer.connect(DATABASE);
      try {
        const seeded = await blueServer.query(
          'SELECT LOWER(HEX(transaction_id)) AS id, COUNT(*) AS n FROM audit_log GROUP BY transaction_id',
          DATABASE,
        );
        const idsOf = (times: number) =>
          seeded.filter(({ n }) => Number(n) === times).map(({ id }) => id as string);
        const [once, twice] = [idsOf(1), idsOf(2)];
        expect(twice.length).toBeGreaterThan(0);
        expect(await countTransactions(blue, 'blue', [...once, '0'.repeat(32)])).toEqual({
          lost: 1,
          duplicated: 0,
        });
        expect(await countTransactions(blue, 'blue', twice)).toEqual({ lost: 0, duplicated: twice.length });

        const empty = await compare(blue, green);
        expect(empty.every(({ missing, extra }) => missing > 0 && extra === 0)).toBe(true);

        await green.query('SET FOREIGN_KEY_CHECKS = 0');
        const [suppliers] = await blue.query('SELECT * FROM product_suppliers');
        for (const row of suppliers as Record<string, unknown>[])
          await green.query('INSERT INTO product_supplier VALUES (?)', [Object.values(row)]);
        const of = async () =>
          (await compare(blue, green)).filter(({ table }) => table === 'shop.product_supplier');
        expect(await of()).toMatchObject([{ missing: 0, extra: 0 }]);
        await green.query('UPDATE product_supplier SET rating = rating + 1 WHERE product_id = 1');
        expect(await of()).toMatchObject([{ missing: 1, extra: 1 }]);
        await green.query('DELETE FROM product_supplier WHERE product_id = 2');
        expect(await of()).toMatchObject([{ missing: 2, extra: 1 }]);
        await green.query(`INSERT INTO product_supplier VALUES (99999, 'x', NULL, NULL)`);
        const spoiled = await of();
        expect(spoiled).toMatchObject([{ missing: 2, extra: 2 }]);
        expect(differencesOf(spoiled)).toBe(2);

        // The same row a second time, in a table without a key.
        for (const _ of [1, 2])
          await green.query(
            `INSERT INTO audit_entry VALUES (UNHEX('${'ab'.repeat(16)}'), 1, 'x', NULL, '2026-01-01')`,
          );
        expect(await countTransactions(green, 'green', ['ab'.repeat(16)])).toEqual({
          lost: 0,
          duplicated: 1,
        });
        expect(await collidingCounters(green)).toEqual([]);
      } finally {
        blue.destroy();
        green.destroy();
      }
    },
  );
});
