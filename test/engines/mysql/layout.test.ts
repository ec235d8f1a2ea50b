import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readLayout } from '../../../src/engines/mysql/catalog-layout.ts';
import { parseConfig } from '../../../src/engines/mysql/config.ts';
import { connect, type Link } from '../../../src/engines/mysql/connect.ts';
import { startMysql, type MysqlFlavour, type MysqlServer } from '../../support/mysql-server.ts';

describe.each<MysqlFlavour>(['mysql', 'mariadb'])('a table that is looked up on %s', (flavour) => {
  let server: MysqlServer;
  beforeAll(async () => {
    server = await startMysql({ flavour });
    await server.query('CREATE DATABASE app');
    await server.query('CREATE TABLE app.other (id int PRIMARY KEY)');
    await server.query(
      'CREATE TABLE app.item (id int PRIMARY KEY, v int NOT NULL, w varchar(100) NOT NULL, UNIQUE KEY w (w))',
    );
    await server.query(
      'INSERT INTO app.item WITH RECURSIVE g (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < 900) SELECT i, i, i FROM g',
    );
  }, 300_000);
  afterAll(() => server[Symbol.asyncDispose]());

  const open = (): Promise<Link> => {
    const parsed = parseConfig({ url: server.url('app') });
    if ('issues' in parsed) throw new Error(JSON.stringify(parsed.issues));
    return connect(parsed.config, { name: 'layout', where: 'sink' });
  };

  test('in a transaction, while its indexes are built: it is there, with all columns, and its key', async () => {
    await using builder = await open();
    await using reader = await open();
    let building = true;
    const built = (async () => {
      for (let round = 0; round < 60; round += 1) {
        await builder.run('ALTER TABLE app.item ADD UNIQUE KEY v (v)');
        await builder.run('ALTER TABLE app.item DROP KEY v');
      }
    })().finally(() => {
      building = false;
    });
    built.catch(() => undefined);
    let looked = 0;
    for (; building; looked += 1) {
      await reader.run('START TRANSACTION');
      await reader.run(`INSERT IGNORE INTO app.other VALUES (${looked})`);
      const { columns, indexes } = await readLayout(reader, { schema: 'app', name: 'item' });
      expect(columns.map(({ name }) => name)).toEqual(['id', 'v', 'w']);
      expect(indexes.map(({ name }) => name)).toEqual(expect.arrayContaining(['PRIMARY', 'w']));
      await reader.run('COMMIT');
    }
    await built;
    expect(looked).toBeGreaterThan(10);
  }, 60_000);

  test('one that is not there, in a database that is and in one that is not', async () => {
    await using link = await open();
    await expect(readLayout(link, { schema: 'app', name: 'none' })).rejects.toMatchObject({
      code: 'SCHEMA_TABLE_MISSING',
    });
    await expect(readLayout(link, { schema: 'nowhere', name: 'none' })).rejects.toMatchObject({
      code: 'SCHEMA_TABLE_MISSING',
    });
  });
});
