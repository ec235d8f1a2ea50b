import { expect, test } from 'vitest';
import type { Run } from '../../support/run.ts';
import { waitFor } from '../../support/wait.ts';
import { breakGreen, LOOKS, ROWS, shop } from './shop.ts';

const settings = (verify: string): string =>
  `copy: { workers: 2, chunk: { max_rows: 500 } }\nverify: { ${verify}, ${LOOKS} }\napply: { heartbeat: 200ms }`;

const rounds = async (run: Run) =>
  (await run.engine.events(0, 1000)).flatMap(({ event, detail }) =>
    event === 'verify' ? [detail as { ok: boolean; mode: string; rows: number }] : [],
  );

test('continuous: a round after every rest, without being asked, and what goes wrong between two of them is seen', async () => {
  await using run = await shop({
    settings: settings('after_copy: full, continuous: { every: 200ms, max_rows_per_sec: null }'),
  });
  await run.start();
  await waitFor(async () => (await rounds(run)).length >= 2, {
    what: 'two rounds by themselves',
    timeoutMs: 60_000,
  });
  expect((await rounds(run)).slice(0, 2)).toMatchObject([
    { ok: true, mode: 'full' },
    { ok: true, mode: 'full' },
  ]);
  await breakGreen(run, [`UPDATE shop.tag SET n = -1 WHERE name = 'Tag-9'`]);
  await waitFor(async () => (await run.engine.status()).verify.state === 'fail', {
    what: 'a round to see it',
    timeoutMs: 60_000,
  });
  const shown = await (await run.engine.migration()).verification();
  expect(shown).toMatchObject({
    ok: false,
    mismatches: [{ table: 'shop.tag', kind: 'different', key: { name: 'Tag-9' }, columns: ['n'] }],
  });
}, 150_000);

test('recent compares as many rows as changed, and everything when it is not known what changed', async () => {
  await using run = await shop({ settings: settings('after_copy: "off"') });
  await run.start();
  const migration = await run.engine.migration();
  const first = await migration.verify({ mode: 'recent', tables: ['shop.account'] });
  expect(first).toMatchObject({ ok: true, rows: ROWS, notes: [expect.stringContaining('shop.account')] });
  await migration.verify({ mode: 'full' });
  await run.blue.query('UPDATE public.account SET amount = amount + 1 WHERE id <= 30');
  await run.settled();
  const second = await migration.verify({ mode: 'recent' });
  expect(second.tables.find(({ table }) => table === 'shop.account')).toMatchObject({
    rows: 30,
    method: 'keys',
  });
  expect(second.tables.find(({ table }) => table === 'shop.person')).toMatchObject({
    rows: 0,
    method: 'keys',
  });
  await run.blue.query('UPDATE public.account SET amount = amount + 1 WHERE id <= 5');
  await run.settled();
  expect(
    (await migration.verify({ mode: 'recent' })).tables.find(({ table }) => table === 'shop.account'),
  ).toMatchObject({ rows: 5 });

  // What changed while no engine ran is not known to the next one.
  await run.stop();
  await run.start({ takeover: true });
  const again = await run.engine.migration();
  expect((await again.status()).gates.find(({ name }) => name === 'verified')).toMatchObject({ ok: false });
  expect(await again.verify({ mode: 'recent', tables: ['shop.account'] })).toMatchObject({
    rows: ROWS,
    notes: [expect.stringContaining('whole')],
  });
}, 120_000);

test('a round keeps to its rate', async () => {
  await using run = await shop({ settings: settings('after_copy: "off"') });
  await run.start();
  const migration = await run.engine.migration();
  const started = performance.now();
  await migration.verify({ mode: 'full', tables: ['shop.account'], maxRowsPerSecond: 1_000 });
  expect(performance.now() - started).toBeGreaterThan(ROWS - 50);
}, 90_000);

test.each(['blue', 'green'] as const)(
  'a round waits while %s is above the limit of a throttle, says so, and tells how long it will take',
  async (side) => {
    const rule = `{ name: busy, on: ${side}, query: "SELECT n FROM public.busy", max: 5 }`;
    await using run = await shop({ settings: `${settings('after_copy: "off"')}\nthrottle: [${rule}]` });
    await run[side].query('CREATE TABLE public.busy AS SELECT 1 AS n');
    await run.start();
    const migration = await run.engine.migration();
    await run[side].query('UPDATE public.busy SET n = 9');
    await waitFor(async () => (await run.engine.status()).condition === 'running', { what: 'no throttle' });
    let ended = false;
    // The limit is asked at most once a second: the round has to last longer than that.
    const slowly = { mode: 'full', tables: ['shop.account'], maxRowsPerSecond: 1_000 } as const;
    const round = migration.verify(slowly).finally(() => {
      ended = true;
    });
    const held = await waitFor(
      async () => {
        const status = await run.engine.status();
        return status.condition === 'throttled' ? status : null;
      },
      { what: 'the round to be held back' },
    );
    expect(held.reason).toBe('busy: 9, limit 5');
    expect(held.verify).toMatchObject({ state: 'running', totalRows: expect.any(Number) as number });
    expect(ended).toBe(false);
    await run[side].query('UPDATE public.busy SET n = 1');
    const report = await round;
    expect(report.ok).toBe(true);
    expect(report.tables.every(({ notCompared }) => notCompared.length === 0)).toBe(true);
  },
  90_000,
);

test('columns that cannot be compared are listed with the reason, and the others are', async () => {
  await using run = await shop({
    settings: settings('after_copy: "off"'),
    blue: 'CREATE TABLE public.note (id int PRIMARY KEY, what text);',
    green:
      'CREATE TABLE public.note (id int PRIMARY KEY, what text, added timestamptz NOT NULL DEFAULT now());',
    tables: '- from: public.note\n  to: [{ table: public.note }]',
  });
  await run.blue.query(`INSERT INTO public.note SELECT g, 'n' || g FROM generate_series(1, 100) g`);
  await run.start();
  await breakGreen(run, [
    `UPDATE public.note SET added = 'epoch' WHERE id = 3`,
    `UPDATE public.note SET what = 'other' WHERE id = 4`,
  ]);
  const report = await run.engine.verify({ mode: 'full', tables: ['public.note'] });
  expect(report.tables).toMatchObject([{ notCompared: [{ column: 'added', reason: 'green fills it' }] }]);
  const mismatches = [];
  for await (const one of report.mismatches) mismatches.push(one);
  expect(mismatches).toMatchObject([{ key: { id: '4' }, columns: ['what'] }]);
}, 90_000);

test('an invalid index, a foreign key that is not validated and missing statistics on green each shut their gate by name', async () => {
  await using run = await shop({ settings: settings('after_copy: "off"') });
  await run.start();
  const gate = async (name: string) => (await run.engine.status()).gates.find((one) => one.name === name);
  for (const name of ['indexes', 'constraints', 'statistics'])
    await waitFor(async () => (await gate(name))?.ok, { what: `gate ${name} to open` });
  await expect(
    run.green.query('CREATE UNIQUE INDEX CONCURRENTLY twice ON shop.account ((amount * 0))'),
  ).rejects.toMatchObject({ code: '23505' });
  await run.green.query(
    'ALTER TABLE shop.line ADD CONSTRAINT line_order FOREIGN KEY (order_id) REFERENCES shop.orders (id) NOT VALID',
  );
  await run.green.query(`UPDATE pg_class SET reltuples = -1 WHERE oid = 'shop.tag'::regclass`);
  const shut = { indexes: 'twice', constraints: 'line_order', statistics: 'shop.tag' } as const;
  for (const [name, named] of Object.entries(shut)) {
    const found = await waitFor(async () => ((await gate(name))?.ok === false ? gate(name) : null), {
      what: `gate ${name} to shut`,
    });
    expect(JSON.stringify(found)).toContain(named);
  }
}, 90_000);
