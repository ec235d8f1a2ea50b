import { expect, test } from 'vitest';
import { startPostgres } from '../../support/postgres.ts';
import { waitFor } from '../../support/wait.ts';
import { breakGreen, LOOKS, shop } from './shop.ts';

/** A commit that waits for its standby is in the log, and on green, and blue does not show it: who reads that row again gets the old one. */
test('a repair after a restart waits for commits that were applied before it and are still invisible on blue', async () => {
  await using server = await startPostgres({ version: 16 });
  await using run = await shop({
    blueOn: server,
    settings: `copy: { workers: 2, chunk: { max_rows: 500 } }\nverify: { after_copy: "off", ${LOOKS} }\napply: { heartbeat: 200ms }`,
  });
  await run.start();
  await run.blue.query(`SET synchronous_commit = 'local'`);
  const writer = await run.blue.connect();
  await run.blue.query(`ALTER SYSTEM SET synchronous_standby_names = 'missing'`);
  await run.blue.query('SELECT pg_reload_conf()');
  await waitFor(
    async () =>
      (
        await run.blue.query(
          `SELECT FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting = 'missing'`,
        )
      ).length > 0,
    { what: 'the setting to take effect' },
  );
  const commit = writer.query('UPDATE public.tag SET n = 77 WHERE name = $1', ['Tag-5']);
  commit.catch(() => undefined);
  const amount = async (side: 'blue' | 'green'): Promise<string | null | undefined> =>
    (
      await run.rows(side, `SELECT n FROM ${side === 'blue' ? 'public' : 'shop'}.tag WHERE name = 'Tag-5'`)
    )[0]?.[0];
  await waitFor(async () => (await amount('green')) === '77', { what: 'the change to be on green' });
  expect(await amount('blue')).toBe('5');

  await run.stop();
  await run.start({ takeover: true });
  const migration = await run.engine.migration();
  await breakGreen(run, [`UPDATE shop.tag SET n = -1 WHERE name = 'Tag-5'`]);
  expect(await migration.verify({ mode: 'full', tables: ['shop.tag'] })).toMatchObject({
    mismatches: [{ key: { name: 'Tag-5' }, columns: ['n'] }],
  });
  await expect(migration.repair({})).rejects.toMatchObject({
    code: 'VERIFY_FAILED',
    message: expect.stringContaining('since before replication') as string,
  });
  expect(await amount('green')).toBe('-1');

  await run.blue.query('ALTER SYSTEM RESET synchronous_standby_names');
  await run.blue.query('SELECT pg_reload_conf()');
  await commit;
  expect(await migration.repair({})).toMatchObject({ repaired: 1, report: { ok: true } });
  expect(await amount('green')).toBe('77');
}, 120_000);
