import { readFile, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/databases.ts';
import { Workplace } from '../support/engine-process.ts';
import { inPlace, run } from './cli-run.ts';

const EXAMPLE = new URL('../../config/', import.meta.url);

/** The shipped example on two real databases; blue holds the canary in every text. */
async function shop(blue: TestDatabase, green: TestDatabase, more = ''): Promise<Workplace> {
  await blue.query(
    `CREATE TABLE customers (id integer PRIMARY KEY, full_name text, email text, balance numeric(12,2), status smallint NOT NULL)`,
  );
  await blue.query(
    `CREATE TABLE orders (id integer PRIMARY KEY, customer_id integer NOT NULL, placed_at timestamptz NOT NULL, note text)`,
  );
  await blue.query(
    `INSERT INTO customers SELECT g, 'Row' || g || ' C4n4ry', ' A' || g || '@C4n4ry.example ', g / 4.0, g % 3 FROM generate_series(1, 300) g`,
  );
  await blue.query(
    `INSERT INTO orders SELECT g, 1 + g % 300, now(), 'C4n4ry ' || g FROM generate_series(1, 2000) g`,
  );
  await blue.query('ANALYZE');
  const text = await readFile(new URL('postgres.example.yaml', EXAMPLE), 'utf8');
  return Workplace.create({
    'postgres.example.green.sql': await readFile(new URL('postgres.example.green.sql', EXAMPLE), 'utf8'),
    'verdigris.yaml': `${text.replace(/url: \$\{BLUE_URL[^}]*\}/, `url: ${blue.url}`).replace(/url: \$\{GREEN_URL[^}]*\}/, `url: ${green.url}`)}gates: { stable_for: 1s }\n${more}`,
  });
}

const passwordOf = (database: TestDatabase): string => new URL(database.url).password;

test('init writes a configuration without the addresses, and it is valid', async () => {
  await using blue = await createDatabase(16);
  await using green = await createDatabase(18);
  await using workplace = await shop(blue, green);
  await blue.query('CREATE TABLE "x""; drop table y; --" (a integer PRIMARY KEY, "b\nc" text)');
  const made = await run(
    workplace,
    'init',
    '--from',
    blue.url,
    '--to',
    green.url,
    '-c',
    inPlace(workplace, 'new.yaml'),
    '--json',
  );
  expect(made).toMatchObject({
    code: 0,
    envelopes: [
      { kind: 'Init', ok: true, data: { tables: expect.arrayContaining(['public.customers']) as unknown } },
    ],
  });
  const text = await readFile(inPlace(workplace, 'new.yaml'), 'utf8');
  expect(text).not.toContain(blue.url);
  const checked = await run(
    workplace,
    'config',
    'check',
    '-c',
    inPlace(workplace, 'new.yaml'),
    '--set',
    `blue.url=${blue.url}`,
    '--json',
  );
  expect(checked).toMatchObject({ code: 2, envelopes: [{ error: { code: 'CONFIG_SECRET' } }] });
  await writeFile(inPlace(workplace, '.env'), `BLUE_URL=${blue.url}\nGREEN_URL=${green.url}\n`);
  expect(
    await run(
      workplace,
      'config',
      'check',
      '-c',
      inPlace(workplace, 'new.yaml'),
      '--env-file',
      inPlace(workplace, '.env'),
    ),
  ).toMatchObject({ code: 0 });
  expect(
    await run(workplace, 'init', '--from', blue.url, '--to', green.url, '-c', inPlace(workplace, 'new.yaml')),
  ).toMatchObject({ code: 2 });
});

test('from doctor to abort, every command with its envelope and exit code, and no value of a row anywhere', async () => {
  await using blue = await createDatabase(16);
  await using green = await createDatabase(18);
  await using workplace = await shop(blue, green);
  const seen: string[] = [];
  const step = async (...argv: string[]) => {
    const done = await run(workplace, ...argv);
    if (argv[0] !== 'transform') seen.push(done.out, done.err);
    return done;
  };

  const doctor = await step('doctor', '--json');
  expect(doctor, doctor.out).toMatchObject({
    code: 0,
    envelopes: [{ kind: 'Doctor', ok: true, data: { blocking: 0 } }],
  });
  expect((await step('doctor')).out).toMatch(/\d+ checks: \d+ ok, 0 blocking/);

  const stored = await step('status', '--json');
  expect(stored, stored.out).toMatchObject({
    code: 0,
    envelopes: [{ kind: 'Status', data: { reason: 'never started', copy: null } }],
  });

  const plan = await step('plan', '--out', inPlace(workplace, 'plan.json'), '--exit-code', '--json');
  expect(plan, plan.out).toMatchObject({
    code: 10,
    envelopes: [{ kind: 'Plan', data: { migration: 'shop-v2' } }],
  });
  const { hash } = JSON.parse(await readFile(inPlace(workplace, 'plan.json'), 'utf8')) as { hash: string };
  expect((await step('plan')).out).toContain(`hash ${hash.slice(0, 8)}`);
  await writeFile(inPlace(workplace, 'stale.json'), '{"hash":"0000000000"}');
  const stale = await step('start', '--plan', inPlace(workplace, 'stale.json'), '--json');
  expect(stale.code).toBe(11);
  expect(stale.envelopes.at(-1)).toMatchObject({ kind: 'Start', ok: false, error: { code: 'PLAN_STALE' } });

  const tried = await step('transform', 'test', '--table', 'public.customers', '--rows', '3', '--json');
  expect(tried, tried.out).toMatchObject({
    code: 0,
    envelopes: [
      {
        kind: 'TransformTest',
        data: {
          rows: {
            length: 3,
            0: {
              before: { full_name: 'Row1 C4n4ry' },
              after: [
                {
                  table: 'shop.client',
                  row: {
                    first_name: 'Row1',
                    last_name: 'C4n4ry',
                    email: 'a1@c4n4ry.example',
                    balance_cents: '25',
                  },
                },
              ],
            },
          },
        },
      },
    ],
  });
  expect(await step('transform', 'test', '--table', 'public.customer')).toMatchObject({ code: 2 });

  const engine = workplace.start({ args: ['--plan', inPlace(workplace, 'plan.json')] });
  expect((await step('wait', '--for', 'phase=replicating', '--timeout', '60s', '--json')).code).toBe(0);
  expect((await step('start', '--json')).envelopes.at(-1)).toMatchObject({
    kind: 'Start',
    error: { code: 'STATE_LEASE_HELD' },
  });
  expect(await step('plan', '--exit-code', '--quiet')).toMatchObject({ code: 0 });
  expect(await step('pause', '--reason', 'test')).toMatchObject({ code: 0 });
  await expect
    .poll(async () => (await step('status', '--json')).envelopes[0]?.data, { timeout: 20_000 })
    .toMatchObject({ phase: 'replicating', condition: 'paused' });
  expect(await step('status', '--exit-code')).toMatchObject({ code: 10 });
  expect(await step('resume')).toMatchObject({ code: 0 });
  // The verification after the copy must have ended: one runs at a time.
  expect(await step('wait', '--for', 'gate=verified', '--timeout', '60s')).toMatchObject({ code: 0 });
  const verified = await step('verify', '--json');
  expect(verified, verified.out).toMatchObject({
    code: 0,
    envelopes: [{ kind: 'Verify', data: { ok: true } }],
  });
  expect(await step('verify', 'show')).toMatchObject({ code: 0 });
  expect((await step('status', '--format', 'line')).out).toMatch(
    /^ts=\S+ migration=shop-v2 phase=replicating /,
  );
  const dry = await step('cutover', '--dry-run', '--json');
  expect(dry.envelopes, dry.out).toMatchObject([{ kind: 'Cutover', data: { outcome: 'dry-run' } }]);
  const events = await step('events', '--json');
  expect(events.envelopes.length).toBeGreaterThan(2);
  expect(events.envelopes.every(({ kind }) => kind === 'Event')).toBe(true);

  // Green is fenced until the switch: only who takes the guards off can make the difference.
  await green.query('ALTER TABLE shop.client DISABLE TRIGGER USER');
  await green.query(`UPDATE shop.client SET first_name = 'C4n4ry' WHERE id = 7`);
  const different = await step('verify', '--json');
  expect(different, different.out).toMatchObject({
    code: 5,
    envelopes: [{ ok: false, data: { mismatches: [{ table: 'shop.client', key: { id: '7' } }] } }],
  });

  expect(await step('abort', '--confirm', 'shop-v2', '--json')).toMatchObject({
    code: 2,
    envelopes: [{ error: { code: 'CONFIRMATION' } }],
  });
  expect(
    await step('abort', '--confirm', 'shop-v2', '--plan', inPlace(workplace, 'stale.json')),
  ).toMatchObject({ code: 11 });
  const aborted = await step(
    'abort',
    '--confirm',
    'shop-v2',
    '--plan',
    inPlace(workplace, 'plan.json'),
    '--json',
  );
  expect(aborted, aborted.out).toMatchObject({ code: 0, envelopes: [{ kind: 'Aborted' }] });
  expect(await engine.ended, engine.output()).toBe(0);
  seen.push(engine.output());

  for (const text of seen) {
    expect(text.toLowerCase()).not.toContain('c4n4ry');
    expect(text).not.toContain(`:${passwordOf(blue)}@`);
  }
}, 180_000);

test('a signal saves the run: 130 or 143, and the next start goes on', async () => {
  await using blue = await createDatabase(16);
  await using green = await createDatabase(18);
  await using workplace = await shop(blue, green);
  const first = workplace.start();
  await first.until('replicating', ({ phase }) => phase === 'replicating', 60_000);
  expect(await first.kill('SIGTERM')).toBe(143);
  const stored = await run(workplace, 'status', '--json');
  expect(stored).toMatchObject({
    code: 0,
    envelopes: [{ data: { phase: 'replicating', reason: 'no engine runs', copy: null } }],
  });
  await blue.query(`INSERT INTO orders VALUES (5000, 1, now(), null)`);
  const second = workplace.start();
  await second.until('replicating again', ({ phase }) => phase === 'replicating', 60_000);
  await expect
    .poll(async () => (await green.query('SELECT 1 FROM shop.purchase WHERE id = 5000')).length, {
      timeout: 20_000,
    })
    .toBe(1);
  expect(await second.kill('SIGINT')).toBe(130);
  expect(await run(workplace, 'start', '--until', 'replicating', '--quiet')).toMatchObject({ code: 0 });
  const last = workplace.start();
  await last.until('replicating once more', ({ phase }) => phase === 'replicating', 60_000);
  await run(workplace, 'plan', '--out', inPlace(workplace, 'plan.json'), '--quiet');
  const aborted = await run(
    workplace,
    'abort',
    '--confirm',
    'shop-v2',
    '--plan',
    inPlace(workplace, 'plan.json'),
  );
  expect(aborted, aborted.err).toMatchObject({ code: 0 });
  expect(await last.ended, last.output()).toBe(0);
}, 180_000);

test('a mapping that does not fit the tables names file, line and column and exits 2', async () => {
  await using blue = await createDatabase(16);
  await using green = await createDatabase(18);
  await using workplace = await shop(blue, green);
  const failed = await run(workplace, 'plan', '--set', 'tables[0].to[0].columns.email.from=e_mail', '--json');
  expect(failed, failed.out).toMatchObject({
    code: 2,
    envelopes: [{ kind: 'Plan', ok: false, error: { code: 'MAPPING_INVALID' } }],
  });
  expect(failed.envelopes[0]?.error?.message).toMatch(
    /verdigris\.yaml:\d+:\d+ tables\[0\]\.to\[0\]\.columns\.email/,
  );
});
