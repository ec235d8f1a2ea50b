import { expect, test } from 'vitest';
import { createDatabase, createDatabaseOn, type TestDatabase } from '../support/databases.ts';
import { Workplace } from '../support/engine-process.ts';
import { startPostgres } from '../support/postgres.ts';
import { waitFor } from '../support/wait.ts';

const yaml = (blue: TestDatabase, green: TestDatabase, copy: string): string => `version: 1
migration: ${blue.name.replaceAll(/[^a-z0-9]/g, '')}
blue: { engine: postgres, url: "${blue.url}" }
green: { engine: postgres, url: "${green.url}", schema_file: ./green.sql }
verify: { after_copy: "off" }
apply: { heartbeat: 200ms }
copy: ${copy}
tables:
  - from: public.t
`;
const TABLE = 'CREATE TABLE public.t (id int PRIMARY KEY, n int NOT NULL, v text);';
const STATE = 'SELECT id, n, md5(v) AS v FROM public.t ORDER BY id';

const equalInTheEnd = (blue: TestDatabase, green: TestDatabase): Promise<unknown> =>
  waitFor(async () => JSON.stringify(await green.query(STATE)) === JSON.stringify(await blue.query(STATE)), {
    what: 'green to be what blue is',
    timeoutMs: 30_000,
    everyMs: 200,
  });

test('commit-streamed-before-visible-then-kill: a change that the log shows before blue does is neither applied early nor lost', async () => {
  await using server = await startPostgres({ version: 16 });
  await using blue = await createDatabaseOn(server);
  await using green = await createDatabase(18);
  await blue.query(TABLE);
  await blue.query(`INSERT INTO public.t SELECT g, 0, repeat('v' || g, 20) FROM generate_series(1, 1000) g`);
  await blue.query('ANALYZE');
  // One range a second: the copy is still going on when commits begin to wait.
  await using place = await Workplace.create({
    'verdigris.yaml': yaml(blue, green, '{ workers: 1, chunk: { max_rows: 100 }, max_rows_per_sec: 100 }'),
    'green.sql': TABLE,
  });
  const first = place.start();
  const done = async (): Promise<number> => {
    const [row] = await green.query<{ n: number }>(
      'SELECT count(*)::int AS n FROM verdigris.ranges WHERE upto IS NOT NULL',
    );
    return row?.n ?? 0;
  };
  await waitFor(async () => (await done()) >= 3, { what: 'three ranges to be copied' });

  // Commits wait for a standby that does not exist: they are in the log and not visible.
  await blue.query(`ALTER SYSTEM SET synchronous_standby_names = 'missing'`);
  await blue.query('SELECT pg_reload_conf()');
  await waitFor(
    async () =>
      (await blue.query<{ synchronous_standby_names: string }>('SHOW synchronous_standby_names'))[0]
        ?.synchronous_standby_names === 'missing',
    {
      what: 'the setting to take effect',
    },
  );
  const writer = await blue.connect();
  const commit = writer.query('UPDATE public.t SET n = 1 WHERE id IN (1, 950)');
  commit.catch(() => undefined);
  await waitFor(
    async () =>
      (
        await blue.query(
          `SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'UPDATE%'`,
        )
      ).length > 0,
    { what: 'the commit to wait for its standby' },
  );
  await first.until(
    'it waits for visibility',
    (status) => status.condition === 'blocked' && /visib/.test(status.reason),
    40_000,
  );
  expect(await blue.query('SELECT n FROM public.t WHERE id IN (1, 950)')).toEqual([{ n: 0 }, { n: 0 }]);
  expect(await green.query('SELECT n FROM public.t WHERE id = 1')).toEqual([{ n: 0 }]);
  expect(await first.kill('SIGKILL')).toBe('SIGKILL');

  const second = place.start({ args: ['--takeover'] });
  await second.until(
    'it waits again, knowing nothing of what the first one had seen',
    (status) => status.condition === 'blocked' && /visib/.test(status.reason),
    40_000,
  );
  expect(await green.query('SELECT n FROM public.t WHERE id = 1')).toEqual([{ n: 0 }]);
  await blue.query('ALTER SYSTEM RESET synchronous_standby_names');
  await blue.query('SELECT pg_reload_conf()');
  await commit;
  await second.until('it replicates', (status) => status.phase === 'replicating');
  await equalInTheEnd(blue, green);
  expect(await green.query('SELECT n FROM public.t WHERE id IN (1, 950)')).toEqual([{ n: 1 }, { n: 1 }]);
  expect(await second.kill('SIGTERM')).toBe(143);
}, 120_000);

test('idle-advance-then-restart: the log of a busy neighbour is given back, never past the checkpoint, and a killed engine may go on (F32)', async () => {
  await using server = await startPostgres({ version: 16 });
  await using blue = await createDatabaseOn(server);
  await using neighbour = await createDatabaseOn(server);
  await using green = await createDatabase(18);
  await blue.query(TABLE);
  await blue.query(`INSERT INTO public.t VALUES (1, 0, 'v')`);
  await using place = await Workplace.create({
    'verdigris.yaml': yaml(blue, green, '{ workers: 1 }'),
    'green.sql': TABLE,
  });
  const first = place.start();
  await first.until('it replicates', (status) => status.phase === 'replicating');

  await neighbour.query('CREATE TABLE noise (v text)');
  await neighbour.query(
    `INSERT INTO noise SELECT repeat(md5(g::text), 100) FROM generate_series(1, 30000) g`,
  );
  const [end] = await neighbour.query<{ lsn: string; bytes: string }>(
    `SELECT pg_current_wal_flush_lsn()::text AS lsn, pg_total_relation_size('noise')::text AS bytes`,
  );
  expect(Number(end?.bytes)).toBeGreaterThan(1_000_000);
  const place0 = async (): Promise<{ confirmed: string; passed: boolean }> => {
    const [row] = await blue.query<{ confirmed: string; passed: boolean }>(
      `SELECT confirmed_flush_lsn::text AS confirmed, confirmed_flush_lsn >= $1::pg_lsn AS passed FROM pg_replication_slots`,
      [end?.lsn],
    );
    const [checkpoint] = await green.query<{ ahead: boolean }>(
      `SELECT $1::pg_lsn > position::pg_lsn AS ahead FROM verdigris.checkpoint`,
      [row?.confirmed],
    );
    // Read after the slot, so it can only be newer.
    expect(checkpoint?.ahead).toBe(false);
    return row as { confirmed: string; passed: boolean };
  };
  await waitFor(async () => (await place0()).passed, {
    what: 'the slot to pass what the neighbour wrote',
    timeoutMs: 40_000,
    everyMs: 100,
  });
  expect(await first.kill('SIGKILL')).toBe('SIGKILL');

  await blue.query(`UPDATE public.t SET n = 5`);
  const second = place.start({ args: ['--takeover'] });
  await second.until(
    'it replicates again',
    (status) => status.phase === 'replicating' && status.condition === 'running',
  );
  await equalInTheEnd(blue, green);
  expect(await second.kill('SIGTERM')).toBe(143);
}, 120_000);
