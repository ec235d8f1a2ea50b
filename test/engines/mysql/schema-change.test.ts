import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startMysqlWithAccounts } from '../../support/mysql-harness.ts';
import { MysqlRun } from '../../support/mysql-run.ts';
import type { MysqlFlavour, MysqlServer } from '../../support/mysql-server.ts';
import { waitFor } from '../../support/wait.ts';

const LAYOUT = '(id int PRIMARY KEY, v int, KEY v (v))';

/** Statements of blue, and what is said of them. */
const STOPS: readonly (readonly [string, RegExp])[] = [
  ['ALTER TABLE t ADD COLUMN extra int DEFAULT 5', /column extra \(int.*\) came/],
  ['ALTER TABLE t MODIFY v bigint', /column v is bigint.* and was int/],
  ['ALTER TABLE t RENAME COLUMN v TO w', /column w .*came, column v went/],
  ['ALTER TABLE t DROP COLUMN v', /column v went/],
  ['RENAME TABLE t TO gone', /renamed or dropped/],
  ['DROP TABLE t', /renamed or dropped/],
  ['CREATE OR REPLACE TABLE t (id int PRIMARY KEY, v int, KEY v (v))', /without row events/],
];

describe.each<MysqlFlavour>(['mysql', 'mariadb'])('a layout that changes on blue, on %s (F28)', (flavour) => {
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
      blue: [`CREATE TABLE t ${LAYOUT}`, 'INSERT INTO t VALUES (1, 1)'],
      green: [`CREATE TABLE t ${LAYOUT}`],
      tables: '- from: $db.t',
    });

  const stops = STOPS.filter(([sql]) => flavour === 'mariadb' || !sql.includes('OR REPLACE'));
  test.each(stops)('%s parks where it happened, with what changed', async (sql, said) => {
    await using run = await create();
    await run.start();
    const migration = await run.engine.migration();
    await migration.pause('apply', 'test');
    await run.blue('UPDATE t SET v = 2');
    const before = await run.mark();
    await run.blue(sql);
    await run.mark();
    await migration.resume('apply');
    const { error } = await run.parked('SCHEMA_CHANGED');
    expect(error?.message).toContain(`${run.name}.t`);
    expect(error?.message).toMatch(said);
    await run.marked(before);
    expect(await run.green('SELECT id, v FROM t')).toEqual([{ id: 1, v: 2 }]);
    const { retries } = (await run.engine.status()).apply;
    await run.resume();
    await waitFor(async () => (await run.engine.status()).apply.retries > retries, { what: 'another try' });
    // A table that is gone by now has a code of its own.
    await waitFor(
      async () => {
        const now = await run.engine.status();
        return now.condition === 'blocked' && now.error?.code.startsWith('SCHEMA_') === true;
      },
      { what: 'the run to stop again' },
    );
    expect(await run.green(`SELECT id FROM run_mark WHERE id > ${before}`)).toEqual([]);
  });

  test('what changes no layout, and a TRUNCATE, go through', async () => {
    await using run = await create();
    await run.start();
    for (const sql of [
      'ALTER TABLE t ADD KEY both_of (v, id)',
      "ALTER TABLE t COMMENT 'said'",
      'OPTIMIZE TABLE t',
      'CREATE TABLE other (id int PRIMARY KEY)',
      'INSERT INTO t VALUES (2, 2)',
      'TRUNCATE TABLE t',
      'INSERT INTO t VALUES (3, 3)',
    ])
      await run.blue(sql);
    await run.settled();
    expect(await run.compare('SELECT id, v FROM t ORDER BY id')).toEqual([{ id: 3, v: 3 }]);
  });
});
