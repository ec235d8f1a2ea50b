import { writeFile } from 'node:fs/promises';

import pg from 'pg';
import { expect, it } from 'vitest';

import { createDatabase } from '../databases.ts';
import { databasesSection, startPgBouncer } from '../pgbouncer.ts';
import { waitFor } from '../wait.ts';

async function ask(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

it('pools, takes a rewritten [databases] file on RELOAD, and starts again after a kill', async () => {
  await using blue = await createDatabase(16);
  await using green = await createDatabase(18);
  const to = (db: typeof blue) => ({ app: { host: '127.0.0.1', port: db.server.port, dbname: db.name } });
  await using pooler = await startPgBouncer({ databases: to(blue) });
  expect(await ask(pooler.url('app'), 'SELECT current_database() AS db')).toEqual([{ db: blue.name }]);

  await writeFile(pooler.databasesIniPath, databasesSection(to(green)));
  await ask(pooler.adminUrl, 'RELOAD');
  await waitFor(
    async () => (await ask(pooler.url('app'), 'SELECT current_database() AS db'))[0]?.['db'] === green.name,
    {
      what: 'the pooler to lead to green',
    },
  );

  await pooler.kill('SIGKILL');
  await expect(ask(pooler.url('app'), 'SELECT 1')).rejects.toThrow('ECONNREFUSED');
  await pooler.start();
  expect(await ask(pooler.url('app'), 'SELECT current_database() AS db')).toEqual([{ db: green.name }]);
});

it('prints the log when it does not start', async () => {
  await expect(startPgBouncer({ databases: {}, settings: { pool_mode: 'no such mode' } })).rejects.toThrow(
    'pool_mode',
  );
});
