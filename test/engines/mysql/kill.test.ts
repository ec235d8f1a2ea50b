import { randomInt } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Workplace } from '../../support/engine-process.ts';
import { ENGINE_USER, startMysqlWithAccounts } from '../../support/mysql-harness.ts';
import type { MysqlFlavour, MysqlServer } from '../../support/mysql-server.ts';
import { waitFor } from '../../support/wait.ts';

const DATABASE = 'app';
const ROWS = 4_000;

/** Places in the copy and in the stream; those of the sink lie between a statement and its COMMIT, and behind the COMMIT. */
const FAILPOINTS: Readonly<Record<MysqlFlavour, readonly string[]>> = {
  mysql: [
    'sink.indexes-recorded:exit',
    'copy.rows-written:exit@3',
    'sink.before-chunk-close:exit@4',
    'copying.rows-done:exit',
    'sink.before-commit:exit@25',
    'sink.after-commit:exit@30',
  ],
  mariadb: ['sink.before-chunk-close:exit@4', 'copying.indexes-done:exit', 'sink.before-commit:exit@25'],
};

const SELECT = 'SELECT id, code, n, SHA2(note, 256) AS note FROM item ORDER BY id';

const yaml = (blue: MysqlServer, green: MysqlServer): string => `version: 1
migration: kill
blue: { engine: mysql, url: "${blue.url(DATABASE, ENGINE_USER)}" }
green: { engine: mysql, url: "${green.url(DATABASE, ENGINE_USER)}" }
copy: { workers: 2, chunk: { max_rows: 500 } }
verify: { after_copy: "off" }
tables:
  - from: ${DATABASE}.item
    to: [{ table: ${DATABASE}.item }]
`;

/** Transactions until it is told to stop: keys and unique values change places, along chains, and come back. */
function write(blue: MysqlServer): AsyncDisposable & { stop: () => Promise<number> } {
  let stopped = false;
  const running = (async () => {
    const client = await blue.connect(DATABASE);
    let count = 0;
    for (let next = ROWS + 1; !stopped; next += 1) {
      const [one, two] = [randomInt(1, ROWS / 2), randomInt(ROWS / 2, ROWS)];
      const transaction = [
        `INSERT INTO item VALUES (${next}, 'code ${next}', 0, REPEAT('x', ${next % 7 === 0 ? 9_000 : 5}))`,
        `UPDATE item SET n = n + 1 WHERE id = ${one}`,
        // Two rows exchange their keys.
        `UPDATE item SET id = -1 WHERE id = ${one}`,
        `UPDATE item SET id = ${one} WHERE id = ${two}`,
        `UPDATE item SET id = ${two} WHERE id = -1`,
        // And their unique values.
        `SELECT code FROM item WHERE id = ${one} INTO @one`,
        `SELECT code FROM item WHERE id = ${two} INTO @two`,
        `UPDATE item SET code = 'none' WHERE id = ${one}`,
        `UPDATE item SET code = @one WHERE id = ${two}`,
        `UPDATE item SET code = @two WHERE id = ${one}`,
        ...(next % 3 === 0 ? [`UPDATE item SET id = id + 1000000 WHERE id = ${next - 1}`] : []),
        ...(next % 5 === 0
          ? [
              `DELETE FROM item WHERE id = ${two}`,
              `INSERT INTO item VALUES (${two}, CONCAT('again ', ${next}), 1, 'new')`,
            ]
          : []),
      ];
      await client.query('START TRANSACTION');
      for (const sql of transaction) await client.query(sql);
      await client.query('COMMIT');
      count += 1;
    }
    await client.end();
    return count;
  })();
  running.catch(() => undefined);
  const stop = (): Promise<number> => {
    stopped = true;
    return running;
  };
  return {
    stop,
    [Symbol.asyncDispose]: () =>
      stop().then(
        () => undefined,
        () => undefined,
      ),
  };
}

const doneRanges = (green: MysqlServer): Promise<Record<string, unknown>[]> =>
  green
    .query('SELECT unit, ordinal, upto, row_count FROM verdigris.ranges WHERE upto IS NOT NULL')
    .catch(() => []);

describe.each<MysqlFlavour>(['mysql', 'mariadb'])('killed on %s, it goes on where it was', (flavour) => {
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

  test.each(FAILPOINTS[flavour])(
    '%s: rows whose keys and unique values change places are there once, done ranges stay done',
    async (failpoint) => {
      for (const server of [blue, green]) {
        for (const name of ['verdigris', DATABASE]) await server.query(`DROP DATABASE IF EXISTS ${name}`);
        await server.query(`CREATE DATABASE ${DATABASE} CHARACTER SET utf8mb4`);
        await server.query(
          'CREATE TABLE item (id int PRIMARY KEY, code varchar(40) NOT NULL, n int NOT NULL, note text NOT NULL, UNIQUE KEY code (code), KEY n (n))',
          DATABASE,
        );
      }
      const values = Array.from(
        { length: ROWS },
        (_, index) => `(${index + 1}, 'code ${index + 1}', 0, 'seed')`,
      );
      await blue.query(`INSERT INTO item VALUES ${values.join(',')}`, DATABASE);
      await blue.query('ANALYZE TABLE item', DATABASE);
      await using place = await Workplace.create({ 'verdigris.yaml': yaml(blue, green) });
      await using writer = write(blue);
      const first = place.start({ failpoint });
      expect(await first.ended, first.output().slice(-2000)).toBe('SIGKILL');
      const done = await doneRanges(green);

      const second = place.start({ args: ['--takeover'] });
      await second
        .until('it replicates', (status) => status.phase === 'replicating')
        .catch((error: unknown) => {
          throw new Error(second.output().slice(-4_000), { cause: error });
        });
      const after = await doneRanges(green);
      for (const range of done) expect(after).toContainEqual(range);
      expect(await writer.stop()).toBeGreaterThan(10);
      const expected = await blue.query(SELECT, DATABASE);
      const same = async (): Promise<boolean> =>
        JSON.stringify(await green.query(SELECT, DATABASE)) === JSON.stringify(expected);
      await waitFor(same, { what: 'green to hold what blue holds', timeoutMs: 60_000 });
      const keys = await green.query(
        `SELECT DISTINCT INDEX_NAME AS name FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = '${DATABASE}'`,
      );
      expect(keys.map(({ name }) => String(name)).sort()).toEqual(['PRIMARY', 'code', 'n']);
      expect(await second.kill('SIGTERM')).toBe(143);
    },
    180_000,
  );
});
