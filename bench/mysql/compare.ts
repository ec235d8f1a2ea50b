import type mysql from 'mysql2/promise';
import { DATABASE } from './rig.ts';

/** @throws Error when a table differs */
export async function compareMysql(
  blue: mysql.Connection,
  green: mysql.Connection,
  tables: readonly string[],
): Promise<void> {
  for (const table of tables) {
    const [expected, found] = await Promise.all([digest(blue, table), digest(green, table)]);
    if (expected !== found) throw new Error(`${table} differs: blue ${expected}, green ${found}`);
  }
}

/** Number of rows, and the sum of a hash of each: 60 bits of it, so that the sum stays exact. */
async function digest(connection: mysql.Connection, table: string): Promise<string> {
  const [columns] = await connection.query<mysql.RowDataPacket[]>(
    `SELECT COLUMN_NAME AS name FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION`,
    [DATABASE, table],
  );
  const row = columns.map(({ name }) => `QUOTE(\`${String(name)}\`)`).join(', ');
  const [rows] = await connection.query<mysql.RowDataPacket[]>(
    `SELECT COUNT(*) AS n, COALESCE(SUM(CAST(CONV(LEFT(SHA2(CONCAT_WS(',', ${row}), 256), 15), 16, 10) AS UNSIGNED)), 0) AS hash
     FROM \`${table}\``,
  );
  return `${String(rows[0]?.['n'])} rows, ${String(rows[0]?.['hash'])}`;
}
