import pg from 'pg';
import { expect, test } from 'vitest';
import { HoldPoints, type Run } from '../../support/run.ts';
import { LOOKS, shop } from './shop.ts';

const SETTINGS = `copy: { workers: 2, chunk: { max_rows: 300 } }\nverify: { after_copy: "off", ${LOOKS} }\napply: { heartbeat: 200ms }`;

const ranges = (run: Run): Promise<{ table_name: string; next: number; done: boolean }[]> =>
  run.green.query('SELECT table_name, next, done FROM verdigris.verify_table ORDER BY table_name');

test('a table that does not exist and a mode that does not exist are refused, and nothing is begun', async () => {
  await using run = await shop({ settings: SETTINGS });
  await run.start();
  const migration = await run.engine.migration();
  await expect(migration.verify({ mode: 'full', tables: ['shop.nothing'] })).rejects.toMatchObject({
    code: 'USAGE',
    remedy: expect.stringContaining('shop.account') as string,
  });
  expect(await migration.verification()).toBeNull();
  await expect(migration.repair({})).rejects.toMatchObject({ code: 'VERIFY_FAILED' });
  expect(await migration.verify({ mode: 'full', tables: ['shop.account', 'shop.tag'] })).toMatchObject({
    ok: true,
    tables: [{ table: 'shop.account' }, { table: 'shop.tag' }],
  });
}, 90_000);

test.each(['blue', 'green'] as const)(
  'when %s goes away in the middle the error is clear, and the next round goes on where it was',
  async (side) => {
    await using run = await shop({ settings: SETTINGS });
    const points = new HoldPoints();
    await run.start({ failpoints: points });
    const migration = await run.engine.migration();
    const reached = points.hold('verify.stored');
    const round = migration.verify({ mode: 'full' });
    round.catch(() => undefined);
    await reached;
    // Its connections end, and for a moment nobody can connect.
    const db = run[side];
    const address = new URL(db.url);
    address.pathname = '/postgres';
    const elsewhere = new pg.Client({ connectionString: address.href });
    await elsewhere.connect();
    await elsewhere.query(`ALTER DATABASE ${db.name} ALLOW_CONNECTIONS false`);
    await elsewhere.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'verdigris%'`,
      [db.name],
    );
    points.release('verify.stored');
    const error = (await round.catch((raw: unknown) => raw)) as { code: string; remedy: string };
    await elsewhere.query(`ALTER DATABASE ${db.name} ALLOW_CONNECTIONS true`);
    await elsewhere.end();
    expect(error.code).toMatch(
      side === 'blue'
        ? /^(SOURCE_(LOST|CONNECT|FAILED)|VERIFY_FAILED)$/
        : /^(SINK_(LOST|CONNECT|FAILED)|STATE_FAILED|VERIFY_FAILED)$/,
    );
    expect((await run.engine.status()).verify.state).toBe('error');
    const before = await ranges(run);
    expect(before.length).toBeGreaterThan(0);
    const report = await migration.verify({ mode: 'full' });
    expect(report.ok).toBe(true);
    const [round1] = await run.green.query<{ number: string; state: string }>(
      'SELECT number, state FROM verdigris.verify_round',
    );
    expect(round1).toMatchObject({ number: '1', state: 'pass' });
  },
  120_000,
);

test('a layout change of green in the middle is named, and the state is kept', async () => {
  await using run = await shop({ settings: SETTINGS });
  const points = new HoldPoints();
  await run.start({ failpoints: points });
  const migration = await run.engine.migration();
  const reached = points.hold('verify.stored');
  const round = migration.verify({ mode: 'full' });
  round.catch(() => undefined);
  await reached;
  await run.green.query('ALTER TABLE shop.tag RENAME COLUMN n TO m');
  points.release('verify.stored');
  await expect(round).rejects.toMatchObject({
    code: 'SCHEMA_CHANGED',
    message: expect.stringContaining('shop.tag') as string,
  });
  expect((await ranges(run)).find((table) => table.table_name === 'shop.person')).toMatchObject({
    done: true,
  });
  await run.green.query('ALTER TABLE shop.tag RENAME COLUMN m TO n');
  expect(await migration.verify({ mode: 'full' })).toMatchObject({ ok: true });
}, 90_000);

test('a layout change of blue in the middle ends the round with the reason why green does not follow', async () => {
  await using run = await shop({ settings: SETTINGS });
  const points = new HoldPoints();
  await run.start({ failpoints: points });
  const migration = await run.engine.migration();
  const reached = points.hold('verify.stored');
  const round = migration.verify({ mode: 'full' });
  round.catch(() => undefined);
  await reached;
  await run.blue.query('ALTER TABLE public.tag ALTER n TYPE bigint');
  await run.blue.query(`UPDATE public.tag SET n = 7 WHERE name = 'Tag-5'`);
  await run.parked('SCHEMA_CHANGED');
  points.release('verify.stored');
  const error = (await round.catch((raw: unknown) => raw)) as { code: string; message: string };
  expect(error.code).toMatch(/^(SCHEMA_CHANGED|VERIFY_FAILED)$/);
  expect(error.message).toContain('public.tag');
}, 90_000);
