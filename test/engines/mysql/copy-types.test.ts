import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, describe } from 'vitest';
import { createEngine } from '../../../src/app/engine.ts';
import { loadConfig } from '../../../src/app/load.ts';
import { ENGINE_USER, startMysqlWithAccounts } from '../../support/mysql-harness.ts';
import type { MysqlServer } from '../../support/mysql-server.ts';
import { newDir } from '../../support/run-dir.ts';

const DATABASE = 'app';

describe('the first copy between MySQL servers', () => {
  test('a number that a YEAR takes as text is another year (0 is 2000): it does not go in bulk, wider columns do', async () => {
    await using blue = await startMysqlWithAccounts('mysql');
    await using green = await startMysqlWithAccounts('mysql');
    for (const server of [blue, green]) await server.query(`CREATE DATABASE ${DATABASE}`);
    await blue.query('CREATE TABLE item (id int PRIMARY KEY, y smallint, v varchar(10))', DATABASE);
    await green.query('CREATE TABLE item (id bigint PRIMARY KEY, y year, v varchar(20))', DATABASE);
    await blue.query("INSERT INTO item VALUES (1, 0, 'a'), (2, 2024, 'b'), (3, NULL, NULL)", DATABASE);
    const side = (server: MysqlServer) => ({ engine: 'mysql', url: server.url(DATABASE, ENGINE_USER) });
    const file = join(await newDir('copy'), 'verdigris.yaml');
    const config = {
      version: 1,
      migration: 'types',
      blue: side(blue),
      green: side(green),
      verify: { after_copy: 'off' },
      tables: [
        {
          from: `${DATABASE}.item`,
          to: [
            {
              table: `${DATABASE}.item`,
              columns: { '*': 'copy', id: { from: 'id', cast: 'bigint' }, y: { from: 'y', cast: 'year' } },
            },
          ],
        },
      ],
    };
    await writeFile(file, JSON.stringify(config));
    await using engine = createEngine(await loadConfig(file));
    const { hash } = await engine.plan();
    await engine.start({ plan: { hash } });
    const rows = await green.query('SELECT id, y, v FROM item ORDER BY id', DATABASE);
    expect(rows).toEqual([
      { id: '1', y: 0, v: 'a' },
      { id: '2', y: 2024, v: 'b' },
      { id: '3', y: null, v: null },
    ]);
    expect((await engine.verify({ mode: 'full' })).ok).toBe(true);
  });
});
