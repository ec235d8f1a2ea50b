import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startMysqlWithAccounts } from '../../support/mysql-harness.ts';
import { MysqlRun } from '../../support/mysql-run.ts';
import type { MysqlFlavour, MysqlServer } from '../../support/mysql-server.ts';
import { waitFor } from '../../support/wait.ts';
import { MISFITS, misfitTables } from './misfits.ts';

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

  test('in the stream: it stops exactly before the change with table, key, column and position, and goes on when green takes it (F41)', async () => {
    await using run = await MysqlRun.create({
      blueOn: blue,
      greenOn: green,
      blue: [
        ...misfitTables('wide'),
        ...MISFITS.map(({ fits }, index) => `INSERT INTO t${index} VALUES (1, ${fits})`),
      ],
      green: misfitTables('wide'),
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
