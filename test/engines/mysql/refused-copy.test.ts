import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startMysqlWithAccounts } from '../../support/mysql-harness.ts';
import { MysqlRun } from '../../support/mysql-run.ts';
import type { MysqlFlavour, MysqlServer } from '../../support/mysql-server.ts';
import { HoldPoints } from '../../support/run.ts';
import { waitFor } from '../../support/wait.ts';
import { MISFITS, misfitTables, type Misfit } from './misfits.ts';

describe.each<MysqlFlavour>(['mysql', 'mariadb'])('what green refuses in the copy, on %s', (flavour) => {
  let blue: MysqlServer;
  let green: MysqlServer;
  beforeAll(async () => {
    blue = await startMysqlWithAccounts(flavour);
    green = await startMysqlWithAccounts(flavour, {
      // A server that keeps no warnings must not hide what it does to a value.
      'max-error-count': '0',
      'sql-mode': 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE',
    });
  }, 300_000);
  afterAll(async () => {
    await blue[Symbol.asyncDispose]();
    await green[Symbol.asyncDispose]();
  });

  const names = MISFITS.map((_, index) => `t${index}`);
  const entries = names.map((name) => `- from: $db.${name}`).join('\n');

  test('nothing of the range stays, each table is named with key and column, and it goes on when green takes it (F41)', async () => {
    await using run = await MysqlRun.create({
      blueOn: blue,
      greenOn: green,
      blue: [
        ...misfitTables('wide'),
        ...MISFITS.map(({ fits, bad }, index) => `INSERT INTO t${index} VALUES (1, ${fits}), (2, ${bad})`),
        'CREATE TABLE child (id int PRIMARY KEY, parent int)',
        'INSERT INTO child VALUES (1, 4711)',
        'CREATE TABLE zero (id int PRIMARY KEY, d date, t datetime)',
        "SET @mode = @@sql_mode, SESSION sql_mode = 'ALLOW_INVALID_DATES'",
        "INSERT INTO zero VALUES (1, '0000-00-00', '0000-00-00 00:00:00'), (2, '2026-00-00', '2026-02-30 00:00:00')",
        'SET SESSION sql_mode = @mode',
      ],
      green: [
        ...MISFITS.map(
          ({ wide, narrow, names: constraint }, index) =>
            `CREATE TABLE t${index} (id int PRIMARY KEY, v ${constraint === undefined ? wide : narrow})`,
        ),
        'CREATE TABLE child (id int PRIMARY KEY, parent int, CONSTRAINT born FOREIGN KEY (parent) REFERENCES t0 (id))',
        'CREATE TABLE zero (id int PRIMARY KEY, d date, t datetime)',
      ],
      tables: `${entries}\n- from: $db.child\n- from: $db.zero`,
    });
    // Narrower since the plan was made.
    const points = new HoldPoints();
    const planned = points.hold('sink.indexes-recorded');
    await run.begin({ failpoints: points });
    await planned;
    for (const [index, { narrow, names: constraint }] of MISFITS.entries())
      if (constraint === undefined) await run.green(`ALTER TABLE t${index} MODIFY v ${narrow}`);
    points.release('sink.indexes-recorded');
    const mended = new Set<string>();
    let seen = 0;
    while (mended.size < MISFITS.length + 1) {
      await waitFor(() => Promise.resolve(run.told.length > seen), {
        what: 'the next refusal',
      });
      const { error } = await run.parked('SINK_CONFLICT');
      seen = run.told.length;
      const told = run.told.at(-1);
      const table = String(told?.['table']).split('.')[1] ?? '';
      expect(mended, JSON.stringify(told)).not.toContain(table);
      mended.add(table);
      expect(error?.message).toContain(`${run.name}.${table}`);
      expect(error?.remedy).toMatch(/resume/);
      if (table === 'child') {
        expect(error?.message).toContain('born');
        expect(told).toMatchObject({ key: { id: '1' } });
        await run.blue('DELETE FROM child');
        await run.marked(await run.mark());
      } else {
        const misfit = MISFITS[Number(table.slice(1))] as Misfit;
        expect(error?.message, misfit.narrow).toMatch(misfit.names ?? /column v/);
        if (misfit.secret !== undefined)
          expect(JSON.stringify([run.told, error]), misfit.narrow).not.toContain(misfit.secret);
        if (misfit.narrow.includes('KEY once')) {
          await run.blue(`UPDATE ${table} SET v = 6 WHERE id = 2`);
          await run.marked(await run.mark());
        } else {
          expect(told, misfit.narrow).toMatchObject({ key: { id: '2' }, range: 0 });
          expect(await run.green(`SELECT id FROM ${table}`), misfit.narrow).toEqual([]);
          if (misfit.narrow.includes('CHECK'))
            await run.green(`ALTER TABLE ${table} DROP CONSTRAINT positive`);
          await run.green(`ALTER TABLE ${table} MODIFY v ${misfit.wide}`);
        }
      }
      await run.resume();
    }
    await waitFor(async () => (await run.engine.status()).phase === 'replicating', {
      what: 'the end of the copy',
    });
    await run.settled();
    for (const table of names) await run.compare(`SELECT id, v FROM ${table} ORDER BY id`);
    await expect(run.green("INSERT INTO zero VALUES (3, '0000-00-00', NULL)")).rejects.toMatchObject({
      errno: 1292,
    });
    // What the server of green refuses from others it takes from us, as it is.
    const dates = 'CAST(d AS CHAR) AS d, CAST(t AS CHAR) AS t';
    expect(await run.compare(`SELECT ${dates} FROM zero ORDER BY id`)).toHaveLength(2);
  }, 120_000);
});
