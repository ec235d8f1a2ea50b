import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Workplace } from '../../support/engine-process.ts';
import { ENGINE_USER, startMysqlWithAccounts } from '../../support/mysql-harness.ts';
import type { MysqlFlavour, MysqlServer } from '../../support/mysql-server.ts';
import { waitFor } from '../../support/wait.ts';

const DATABASE = 'app';
const ROWS = 500_000;
const LIMIT_MB = 512;

const yaml = (blue: MysqlServer, green: MysqlServer): string => `version: 1
migration: large
blue: { engine: mysql, url: "${blue.url(DATABASE, ENGINE_USER)}" }
green: { engine: mysql, url: "${green.url(DATABASE, ENGINE_USER)}" }
verify: { after_copy: "off" }
tables:
  - from: ${DATABASE}.item
`;

/** Highest resident memory the process ever had, MB. */
async function peakMb(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/VmHWM:\s+(\d+) kB/.exec(text)?.[1]) / 1024;
}

describe.each<MysqlFlavour>(['mysql', 'mariadb'])('a large transaction on %s', (flavour) => {
  let blue: MysqlServer;
  let green: MysqlServer;
  beforeAll(async () => {
    blue = await startMysqlWithAccounts(flavour);
    green = await startMysqlWithAccounts(flavour);
    for (const server of [blue, green]) {
      await server.query(`CREATE DATABASE ${DATABASE} CHARACTER SET utf8mb4`);
      await server.query(
        'CREATE TABLE item (id int PRIMARY KEY, n int NOT NULL, note mediumtext NOT NULL, KEY n (n))',
        DATABASE,
      );
    }
  }, 300_000);
  afterAll(async () => {
    await blue[Symbol.asyncDispose]();
    await green[Symbol.asyncDispose]();
  });

  const sums = async (server: MysqlServer): Promise<unknown> =>
    (
      await server.query(
        'SELECT CAST(count(*) AS CHAR) AS c, CAST(coalesce(sum(n), 0) AS CHAR) AS n, CAST(coalesce(sum(CRC32(note)), 0) AS CHAR) AS s FROM item',
        DATABASE,
      )
    )[0];

  test(`F29: one transaction of ${ROWS} rows is visible on green at once, in under ${LIMIT_MB} MB; killed in the middle of it, it comes as a whole`, async () => {
    await using place = await Workplace.create({ 'verdigris.yaml': yaml(blue, green) });
    const first = place.start();
    await first.until('it replicates', (status) => status.phase === 'replicating');
    await blue.query('SET GLOBAL binlog_cache_size = 1048576');
    const client = await blue.connect(DATABASE);
    await client.query('START TRANSACTION');
    for (let from = 0; from < ROWS; from += 100_000)
      await client.query(
        `INSERT INTO item WITH RECURSIVE g (i) AS (SELECT ${from} UNION ALL SELECT i + 1 FROM g WHERE i < ${from} + 999),
             h (j) AS (SELECT 0 UNION ALL SELECT j + 1 FROM h WHERE j < 99)
           SELECT ${from} + (i - ${from}) * 100 + j, i, CONCAT('note ', i, REPEAT('x', 90)) FROM g, h`,
      );
    await client.query('UPDATE item SET n = n + 1 WHERE id % 5 = 0');
    await client.query('COMMIT');
    await client.end();
    const expected = await sums(blue);
    expect(expected).toMatchObject({ c: String(ROWS) });
    const seen = new Set<string>();
    const look = async (): Promise<boolean> => {
      const found = JSON.stringify(await sums(green));
      seen.add(found);
      return found === JSON.stringify(expected);
    };
    const sent = async (): Promise<number> => {
      const [row] = await green.query(
        'SELECT coalesce(max(trx_rows_modified), 0) AS n FROM information_schema.INNODB_TRX',
      );
      return Number(row?.['n']);
    };
    // It dies with a part of the transaction sent to green and not committed.
    await waitFor(async () => !(await look()) && (await sent()) > ROWS / 5, {
      what: 'a part of the transaction to be sent',
      timeoutMs: 120_000,
      everyMs: 100,
    });
    const peaks = { first: await peakMb(first.pid), second: 0 };
    expect(await first.kill('SIGKILL')).toBe('SIGKILL');
    const second = place.start({ args: ['--takeover'] });
    await waitFor(look, { what: 'all rows on green', timeoutMs: 300_000, everyMs: 200 });
    expect([...seen]).toEqual([JSON.stringify({ c: '0', n: '0', s: '0' }), JSON.stringify(expected)]);
    peaks.second = await peakMb(second.pid);
    expect(Math.max(peaks.first, peaks.second), JSON.stringify(peaks)).toBeLessThan(LIMIT_MB);
    expect(await second.kill('SIGTERM')).toBe(143);
  }, 480_000);
});
