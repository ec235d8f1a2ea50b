import type mysql from 'mysql2/promise';
import type { Facts } from '../profile.ts';
import { DATABASE, type MysqlRig } from './rig.ts';

/** A shop: small transactions over four tables, of inserts, updates and deletes. */
export const TABLES = ['customer', 'product', 'purchase', 'purchase_line'] as const;

export const DDL = `
CREATE TABLE customer (id bigint PRIMARY KEY, email varchar(120) NOT NULL, name varchar(120) NOT NULL, balance decimal(14,2) NOT NULL, orders int NOT NULL, seen_at datetime(6) NOT NULL);
CREATE TABLE product (id int PRIMARY KEY, name varchar(120) NOT NULL, stock int NOT NULL, price decimal(10,2) NOT NULL);
CREATE TABLE purchase (id bigint PRIMARY KEY, customer bigint NOT NULL, state varchar(12) NOT NULL, total decimal(14,2) NOT NULL, note text, detail json NOT NULL, placed_at timestamp(6) NOT NULL, KEY (customer), KEY (state, placed_at));
CREATE TABLE purchase_line (purchase bigint NOT NULL, line int NOT NULL, product int NOT NULL, quantity int NOT NULL, price decimal(10,2) NOT NULL, PRIMARY KEY (purchase, line), KEY (product));
CREATE TABLE bench_end (id int PRIMARY KEY);
`;

const TRANSACTIONS = 30_000;
const CUSTOMERS = 50_000;
const PRODUCTS = 20_000;
/** Purchases that are there; the first half of them may be cancelled, the others may be paid. */
const PURCHASES = 50_000;
const WRITERS = 8;

const numbers = (n: number): string =>
  `WITH RECURSIVE numbers (g) AS (SELECT 1 UNION ALL SELECT g + 1 FROM numbers WHERE g < ${n})`;

export async function seed(blue: mysql.Connection): Promise<void> {
  await blue.query(`SET SESSION cte_max_recursion_depth = 10000000; ${DDL}`);
  await blue.query(
    `INSERT INTO customer ${numbers(CUSTOMERS)} SELECT g, CONCAT('user', g, '@example.org'), CONCAT('Name of ', g), g / 7, 0, '2026-01-01' + INTERVAL g SECOND FROM numbers`,
  );
  await blue.query(
    `INSERT INTO product ${numbers(PRODUCTS)} SELECT g, CONCAT('Product ', g), 100000, g / 3 FROM numbers`,
  );
  await blue.query(
    `INSERT INTO purchase ${numbers(PURCHASES)} SELECT g, 1 + g % ${CUSTOMERS}, 'placed', g / 11, REPEAT(LEFT(SHA2(g, 256), 32), 3), JSON_OBJECT('n', g, 'channel', 'web'), '2026-01-01' + INTERVAL g SECOND FROM numbers`,
  );
  await blue.query(
    `INSERT INTO purchase_line ${numbers(PURCHASES)} SELECT g, line, 1 + (g * line) % ${PRODUCTS}, line, g / 13 FROM numbers, (SELECT 1 AS line UNION ALL SELECT 2) AS lines_`,
  );
}

/** Writes the transactions from several sessions at once, and the mark of the end behind them. */
export async function backlog(
  rig: MysqlRig,
  blue: mysql.Connection,
  scale: number,
): Promise<Pick<Facts, 'changes' | 'transactions' | 'distinctKeys' | 'rowBytes' | 'bytes'>> {
  const before = await logBytes(blue);
  const touched = new Set<string>();
  let changes = 0;
  const note = (...keys: string[]): void => {
    changes += keys.length;
    for (const key of keys) touched.add(key);
  };
  const count = Math.round(TRANSACTIONS * scale);
  const transactions = Array.from({ length: count }, (_, index) => transaction(index, note));
  // How the backlog is written is not measured: the log is the same, and this is several times quicker.
  await blue.query('SET GLOBAL sync_binlog = 0; SET GLOBAL innodb_flush_log_at_trx_commit = 2');
  let next = 0;
  await Promise.all(
    Array.from({ length: WRITERS }, async () => {
      const writer = await rig.connect('blue');
      await writer.query('SET SESSION transaction_isolation = "READ-COMMITTED"');
      for (let sql = transactions[next++]; sql !== undefined; sql = transactions[next++])
        await writer.query(sql);
      await writer.end();
    }),
  );
  await blue.query(
    'SET GLOBAL sync_binlog = 1; SET GLOBAL innodb_flush_log_at_trx_commit = 1; INSERT INTO bench_end VALUES (1)',
  );
  const [rows] = await blue.query<mysql.RowDataPacket[]>(
    `SELECT ROUND(SUM(DATA_LENGTH) / SUM(TABLE_ROWS)) AS bytes FROM information_schema.TABLES WHERE TABLE_SCHEMA = '${DATABASE}'`,
  );
  return {
    changes,
    transactions: count,
    distinctKeys: touched.size,
    rowBytes: Number(rows[0]?.['bytes']),
    bytes: (await logBytes(blue)) - before,
  };
}

/** Seven of ten place an order of two lines, two pay one, one cancels one. */
function transaction(index: number, note: (...keys: string[]) => void): string {
  const kind = index % 10;
  const customer = 1 + (scramble(index) % CUSTOMERS);
  if (kind < 7) {
    const id = 1_000_000 + index;
    const [one, two] = [1 + (scramble(index + 7) % PRODUCTS), 1 + (scramble(index + 13) % PRODUCTS)];
    note(`p${id}`, `l${id}/1`, `l${id}/2`, `c${customer}`, `s${one}`);
    return `START TRANSACTION;
      INSERT INTO purchase VALUES (${id}, ${customer}, 'placed', ${index}.25, 'Leave it at the door, please: ${index}', '{"n": ${index}, "channel": "app", "coupons": ["A${index % 97}", "B"]}', '2026-02-01 00:00:00.${String(index % 1e6).padStart(6, '0')}');
      INSERT INTO purchase_line VALUES (${id}, 1, ${one}, 1, 12.50), (${id}, 2, ${two}, 2, 7.75);
      UPDATE customer SET orders = orders + 1, balance = balance + ${index % 100}, seen_at = '2026-02-01 00:00:00.000001' + INTERVAL ${index} SECOND WHERE id = ${customer};
      UPDATE product SET stock = stock - 1 WHERE id = ${one};
      COMMIT`;
  }
  const nth = Math.floor(index / 10);
  if (kind < 9) {
    const paid = PURCHASES / 2 + 1 + ((nth * 2 + kind - 7) % (PURCHASES / 2));
    note(`p${paid}`, `c${customer}`);
    return `START TRANSACTION;
      UPDATE purchase SET state = 'paid', total = total + 1 WHERE id = ${paid};
      UPDATE customer SET balance = balance - 1 WHERE id = ${customer};
      COMMIT`;
  }
  const cancelled = 1 + nth;
  if (cancelled > PURCHASES / 2) throw new Error('the scale is too large: no purchase is left to cancel');
  note(`p${cancelled}`, `l${cancelled}/1`, `l${cancelled}/2`);
  return `START TRANSACTION;
    DELETE FROM purchase_line WHERE purchase = ${cancelled};
    DELETE FROM purchase WHERE id = ${cancelled};
    COMMIT`;
}

/** Spreads numbers, always in the same way. */
const scramble = (n: number): number => (Math.imul(n + 1, 2_654_435_761) >>> 0) % 1_000_003;

async function logBytes(blue: mysql.Connection): Promise<number> {
  const [rows] = await blue.query<mysql.RowDataPacket[]>('SHOW BINARY LOGS');
  return rows.reduce((sum, row) => sum + Number(row['File_size']), 0);
}
