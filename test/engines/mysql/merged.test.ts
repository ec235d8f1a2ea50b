import { randomInt } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startMysqlWithAccounts } from '../../support/mysql-harness.ts';
import { MysqlRun } from '../../support/mysql-run.ts';
import type { MysqlFlavour, MysqlServer } from '../../support/mysql-server.ts';

const BLUE = [
  'CREATE TABLE product (id int PRIMARY KEY, title varchar(60) NOT NULL)',
  'CREATE TABLE stock (product_id int PRIMARY KEY, amount int NOT NULL, shelf varchar(20) UNIQUE)',
  'CREATE TABLE price (product_id int PRIMARY KEY, cents bigint NOT NULL)',
];
const GREEN = [
  `CREATE TABLE item (id bigint PRIMARY KEY, title varchar(60) NOT NULL, amount bigint NOT NULL, shelf varchar(20) UNIQUE,
    cents bigint NULL, twice bigint GENERATED ALWAYS AS (amount * 2) STORED, legacy varchar(9) DEFAULT 'none')`,
];
const TABLES = `
- from: $db.product
  to: [{ table: $db.item, owner: true, columns: { id: { from: id, cast: bigint }, title: copy } }]
- from: $db.stock
  to:
    - table: $db.item
      key: { id: product_id }
      columns: { id: { from: product_id, cast: bigint }, amount: { from: amount, cast: bigint, absent: 0 }, shelf: copy }
- from: $db.price
  to: [{ table: $db.item, key: { id: product_id }, columns: { id: { from: product_id, cast: bigint }, cents: copy } }]`;
const BOTH = [
  `SELECT CAST(id AS CHAR) AS k, title, CAST(coalesce(amount, 0) AS CHAR) AS a, shelf, CAST(cents AS CHAR) AS c FROM product
    LEFT JOIN stock ON stock.product_id = id LEFT JOIN price ON price.product_id = id ORDER BY id`,
  'SELECT CAST(id AS CHAR) AS k, title, CAST(amount AS CHAR) AS a, shelf, CAST(cents AS CHAR) AS c FROM item ORDER BY id',
] as const;

const many = (from: number, to: number, row: (id: number) => string): string =>
  Array.from({ length: to - from + 1 }, (_, index) => `(${row(from + index)})`).join(', ');

describe.each<MysqlFlavour>(['mysql', 'mariadb'])(
  'several tables of blue that become one, on %s',
  (flavour) => {
    let blue: MysqlServer;
    let green: MysqlServer;
    beforeAll(async () => {
      blue = await startMysqlWithAccounts(flavour);
      green = await startMysqlWithAccounts(flavour);
    }, 300_000);
    afterAll(async () => {
      await blue[Symbol.asyncDispose]();
      await green[Symbol.asyncDispose]();
    });

    const create = (): Promise<MysqlRun> =>
      MysqlRun.create({
        blueOn: blue,
        greenOn: green,
        blue: [
          ...BLUE,
          `INSERT INTO product VALUES ${many(1, 300, (id) => `${id}, 'p${id}'`)}`,
          `INSERT INTO stock VALUES ${many(100, 400, (id) => `${id}, ${id}, 's${id}'`)}`,
          `INSERT INTO price VALUES ${many(50, 350, (id) => `${id}, ${id * 100}`)}`,
          'ANALYZE TABLE product, stock, price',
        ],
        green: GREEN,
        tables: TABLES,
        settings: 'copy: { workers: 2, chunk: { max_rows: 100 } }',
      });

    test('merge-half-first: a part that comes before, after or without its owner, and rows that move (F88)', async () => {
      await using run = await create();
      await run.start();
      await run.compare(...BOTH);
      for (const sql of [
        "INSERT INTO stock VALUES (500, 5, 'first')",
        "INSERT INTO product VALUES (500, 'after'), (301, 'owner of a copied part')",
        "INSERT INTO stock VALUES (1, 7, 'late')",
        'DELETE FROM stock WHERE product_id = 150',
        'DELETE FROM product WHERE id = 151',
        "INSERT INTO product VALUES (151, 'back: its parts had stayed')",
        'UPDATE stock SET product_id = 2 WHERE product_id = 152',
        'UPDATE product SET id = 600 WHERE id = 153',
        "INSERT INTO product VALUES (153, 'takes what the one before it had')",
        // A space is no value for a collation that pads: it must wait all the same.
        "INSERT INTO stock VALUES (700, 0, ' ')",
        "INSERT INTO product VALUES (700, 'with a space')",
      ])
        await run.blue(sql);
      const together = [
        "INSERT INTO stock VALUES (501, 6, 'x')",
        "INSERT INTO product VALUES (501, 'same transaction')",
        // Two owners exchange their keys, a third goes where another part waits.
        'UPDATE product SET id = -1 WHERE id = 200',
        'UPDATE product SET id = 200 WHERE id = 201',
        'UPDATE product SET id = 201 WHERE id = -1',
        'UPDATE product SET id = 390 WHERE id = 202',
        // Two parts exchange a value that is unique on green as well.
        "UPDATE stock SET shelf = 'none' WHERE product_id = 210",
        "UPDATE stock SET shelf = 's210' WHERE product_id = 211",
        "UPDATE stock SET shelf = 's211' WHERE product_id = 210",
      ];
      for (const sql of ['START TRANSACTION', ...together, 'COMMIT']) await run.blue(sql);
      await run.settled();
      expect(await run.compare(...BOTH)).toHaveLength(305);
      expect(await run.green("SELECT 1 FROM item WHERE twice <> amount * 2 OR legacy <> 'none'")).toEqual([]);
      expect((await run.engine.verify({ mode: 'full' })).ok).toBe(true);

      // The place where parts wait is as wide as green, at any time.
      await run.green('ALTER TABLE item MODIFY shelf varchar(5)');
      await run.blue("INSERT INTO stock VALUES (800, 1, 'no owner yet')");
      await run.blue("INSERT INTO product VALUES (800, 'its owner')");
      const { error } = await run.parked('SINK_CONFLICT');
      expect(error?.message).toContain(`${run.name}.item, column shelf`);
      expect(run.told.at(-1)).toMatchObject({ key: { id: '800' } });
      await run.green('ALTER TABLE item MODIFY shelf varchar(30)');
      await run.resume();
      await run.settled();
      await run.compare(...BOTH);
    });

    test('changes of owner and parts while they are copied: held ones are put on top, whatever the snapshot had of them', async () => {
      await using run = await create();
      const one = (): number => randomInt(1, 401);
      const write = async (): Promise<void> => {
        for (let next = 1_000; next < 1_200; next += 1)
          for (const sql of [
            `INSERT IGNORE INTO product VALUES (${one()}, 'n${next}')`,
            `DELETE FROM product WHERE id = ${one()}`,
            `UPDATE IGNORE product SET id = ${one()} WHERE id = ${one()}`,
            `REPLACE INTO stock VALUES (${one()}, ${next}, 'n${next}')`,
            `DELETE FROM stock WHERE product_id = ${one()}`,
            `UPDATE IGNORE stock SET product_id = ${one()} WHERE product_id = ${one()}`,
            `INSERT INTO price VALUES (${one()}, ${next}) ON DUPLICATE KEY UPDATE cents = cents + 1`,
            `DELETE FROM price WHERE product_id = ${one()}`,
          ])
            await run.blue(sql);
      };
      await Promise.all([run.start(), write()]);
      await run.settled();
      await run.compare(...BOTH);
      const waiting = await run.green(
        "SELECT TABLE_NAME AS name FROM information_schema.TABLES WHERE TABLE_SCHEMA = '$db_state' AND TABLE_NAME LIKE 'parts%'",
      );
      expect(waiting).toHaveLength(1);
      // Exactly the parts without an owner wait.
      const orphans = `SELECT product_id FROM (SELECT product_id FROM stock WHERE amount <> 0 OR shelf IS NOT NULL UNION SELECT product_id FROM price) p
      WHERE product_id NOT IN (SELECT id FROM product) ORDER BY product_id`;
      expect(
        (await run.green(`SELECT id FROM $db_state.${String(waiting[0]?.['name'])} ORDER BY id`)).map(
          ({ id }) => Number(id),
        ),
      ).toEqual((await run.blue(orphans)).map((row) => Number(row['product_id'])));
    });
  },
);
