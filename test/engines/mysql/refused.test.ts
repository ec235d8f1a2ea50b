import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startMysqlWithAccounts } from '../../support/mysql-harness.ts';
import { MysqlRun } from '../../support/mysql-run.ts';
import type { MysqlFlavour, MysqlServer } from '../../support/mysql-server.ts';
import { waitFor } from '../../support/wait.ts';

/**
 * What blue holds and green refuses: the type of blue, what green has by mistake, a value that both take, one that green does not, and
 * what the log of the engine is not to say of it.
 */
interface Misfit {
  readonly wide: string;
  readonly narrow: string;
  readonly fits: string;
  readonly bad: string;
  readonly secret?: string;
  /** The message names the column; a constraint is named otherwise. */
  readonly names?: RegExp;
  readonly only?: MysqlFlavour;
}

const MISFITS: readonly Misfit[] = [
  { wide: 'bigint', narrow: 'smallint', fits: '32767', bad: '4711471', secret: '4711471' },
  { wide: 'int', narrow: 'int unsigned', fits: '7', bad: '-4711', secret: '4711' },
  { wide: 'varchar(40)', narrow: 'varchar(5)', fits: "'abcde'", bad: "'abc-secret'", secret: 'secret' },
  { wide: 'varchar(40)', narrow: 'varchar(40) NOT NULL', fits: "'x'", bad: 'NULL' },
  {
    wide: 'varchar(40) CHARACTER SET utf8mb4',
    narrow: 'varchar(40) CHARACTER SET latin1',
    fits: "'é'",
    bad: "'snow ☃ secret'",
    secret: 'secret',
  },
  { wide: 'decimal(10,4)', narrow: 'decimal(10,2)', fits: '1.25', bad: '471.1234', secret: '471.12' },
  { wide: 'double', narrow: 'float', fits: '1', bad: '4.711e300', secret: '4.711e' },
  {
    wide: 'datetime(6)',
    narrow: 'datetime(3)',
    fits: "'2026-01-01'",
    bad: "'2026-01-01 11:12:13.471147'",
    secret: '13.471',
  },
  {
    wide: 'datetime',
    narrow: 'timestamp NULL',
    fits: "'2026-01-01'",
    bad: "'1901-02-03 04:05:06'",
    secret: '1901',
  },
  { wide: "enum('a','b','sesam')", narrow: "enum('a','b')", fits: "'b'", bad: "'sesam'", secret: 'sesam' },
  { wide: 'longblob', narrow: 'varbinary(4)', fits: '0x01', bad: '0x4711471147', secret: '4711471147' },
  {
    wide: 'int',
    narrow: 'int, CONSTRAINT positive CHECK (v > 0)',
    fits: '1',
    bad: '-4711',
    secret: '4711',
    names: /positive/,
  },
  { wide: 'int', narrow: 'int, UNIQUE KEY once (v)', fits: '5', bad: '5', names: /once/ },
];

describe.each<MysqlFlavour>(['mysql', 'mariadb'])('what green refuses, on %s', (flavour) => {
  let blue: MysqlServer;
  let green: MysqlServer;
  beforeAll(async () => {
    blue = await startMysqlWithAccounts(flavour);
    // A server that keeps no warnings must not hide what it does to a value.
    green = await startMysqlWithAccounts(flavour, { 'max-error-count': '0' });
  }, 300_000);
  afterAll(async () => {
    await blue[Symbol.asyncDispose]();
    await green[Symbol.asyncDispose]();
  });

  const names = MISFITS.map((_, index) => `t${index}`);
  const entries = names.map((name) => `- from: $db.${name}`).join('\n');
  const tables = (type: 'wide' | 'narrow'): string[] =>
    MISFITS.map((misfit, index) => `CREATE TABLE t${index} (id int PRIMARY KEY, v ${misfit[type]})`);

  test('in the stream: it stops exactly before the change with table, key, column and position, and goes on when green takes it (F41)', async () => {
    await using run = await MysqlRun.create({
      blueOn: blue,
      greenOn: green,
      blue: [
        ...tables('wide'),
        ...MISFITS.map(({ fits }, index) => `INSERT INTO t${index} VALUES (1, ${fits})`),
      ],
      green: tables('wide'),
      tables: entries,
    });
    await run.start();
    const migration = await run.engine.migration();
    for (const [index, misfit] of MISFITS.entries()) {
      const { narrow, bad, secret } = misfit;
      const table = `t${index}`;
      await run.green(`DROP TABLE ${table}`);
      await run.green(`CREATE TABLE ${table} (id int PRIMARY KEY, v ${narrow})`);
      await run.green(`INSERT INTO ${table} VALUES (1, ${misfit.fits})`);
      await migration.pause('apply', 'test');
      const before = await run.mark();
      await run.blue(`INSERT INTO ${table} VALUES (2, ${bad})`);
      await run.blue(`UPDATE ${table} SET v = ${misfit.fits} WHERE id = 1`);
      const behind = await run.mark();
      await migration.resume('apply');
      const { error, positions } = await run.parked('SINK_CONFLICT');
      expect(error?.message, narrow).toContain(`${run.name}.${table}`);
      expect(error?.message, narrow).toMatch(misfit.names ?? /column v/);
      expect(error?.remedy, narrow).toMatch(/resume/);
      const told = run.told.at(-1);
      expect(told, narrow).toMatchObject({ table: `${run.name}.${table}`, key: { id: '2' } });
      expect(String(told?.['position']), narrow).toMatch(/\d+-\d+/);
      if (secret !== undefined) expect(JSON.stringify([run.told, error]), narrow).not.toContain(secret);
      await run.marked(before);
      expect(positions.applied, narrow).not.toBeNull();
      expect(await run.green(`SELECT id FROM ${table} ORDER BY id`), narrow).toEqual([{ id: 1 }]);
      // Nothing was mended: it stays there.
      if (index === 0) {
        const { retries } = (await run.engine.status()).apply;
        await run.resume();
        await waitFor(async () => (await run.engine.status()).apply.retries > retries, {
          what: 'another try',
        });
        await run.parked('SINK_CONFLICT');
      }
      if (misfit.names !== undefined)
        await run.green(
          `ALTER TABLE ${table} DROP ${narrow.includes('CHECK') ? 'CONSTRAINT positive' : 'KEY once'}`,
        );
      await run.green(`ALTER TABLE ${table} MODIFY v ${misfit.wide}`);
      await run.resume();
      await run.marked(behind);
      expect(await run.compare(`SELECT id, v FROM ${table} ORDER BY id`), narrow).toHaveLength(2);
    }
  }, 120_000);
});
