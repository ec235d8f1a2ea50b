import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { benchSchema } from '../../src/app/bench-data.ts';
import { createDatabase, type TestDatabase } from '../support/databases.ts';
import { Workplace } from '../support/engine-process.ts';
import { TEST_PASSWORD } from '../support/postgres.ts';
import { waitFor } from '../support/wait.ts';
import { inPlace, run } from './cli-run.ts';

/** A bench prepares for seconds before what is waited for; on a busy machine for much longer. */
const PATIENCE_MS = 90_000;

const MAIN = new URL('../../src/cli/main.ts', import.meta.url).pathname;

/** A configuration as a user has it, with names of its own and a table that the bench must not touch. */
async function place(blue: TestDatabase, green: TestDatabase): Promise<Workplace> {
  for (const side of [blue, green]) await side.query('CREATE TABLE public.theirs (id int PRIMARY KEY)');
  await blue.query('INSERT INTO public.theirs VALUES (1)');
  return Workplace.create({
    'verdigris.yaml': `version: 1
migration: theirs
blue: { engine: postgres, url: "${blue.url}", replication: { slot: their_slot, publication: their_publication } }
green: { engine: postgres, url: "${green.url}" }
tables:
  - from: public.theirs
`,
  });
}

/** Everything on a side that is not the server's own and not the user's table. */
async function leftOn(database: TestDatabase): Promise<string[]> {
  const rows = await database.query<{ what: string }>(
    `SELECT 'slot ' || slot_name AS what FROM pg_replication_slots WHERE database = current_database()
     UNION ALL SELECT 'publication ' || pubname FROM pg_publication
     UNION ALL SELECT 'subscription ' || subname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
     UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN ('public', 'information_schema')
     UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger
     UNION ALL SELECT 'relation ' || oid::regclass FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname !~ '^theirs'
     UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgrelid = 'public.theirs'::regclass`,
  );
  return rows.map(({ what }) => what);
}

test('copy without a file, where green may not have a subscription: a note says why and the ratio is null', async () => {
  await using blue = await createDatabase(16);
  await using green = await createDatabase(18);
  await using workplace = await place(blue, green);
  const role = `weak_${green.name}`;
  await green.query(`CREATE ROLE "${role}" LOGIN REPLICATION PASSWORD '${TEST_PASSWORD}'`);
  try {
    await green.query(
      `GRANT CREATE ON DATABASE "${green.name}" TO "${role}"; GRANT SET ON PARAMETER session_replication_role TO "${role}"`,
    );
    const addresses = ['--blue', blue.url, '--green', green.urlFor(role)];
    const done = await run(
      workplace,
      'bench',
      '--profile',
      'copy',
      '--rows',
      '3000',
      '--repeat',
      '1',
      ...addresses,
      '--yes',
      '--json',
    );
    expect(done, done.err + done.out).toMatchObject({
      code: 0,
      envelopes: [
        { ok: true, data: { profile: 'copy', changes: 3000, peer: null, ratio: null, ratios: [] } },
      ],
    });
    const { notes } = benchSchema.parse(done.envelopes[0]?.data);
    expect(notes.join('\n')).toContain(`${role} may not create a subscription on green`);
    expect(await leftOn(blue)).toEqual([]);
    expect(await leftOn(green)).toEqual([]);
  } finally {
    await green.query(`DROP OWNED BY "${role}"; DROP ROLE "${role}"`);
  }
}, 240_000);

/** The command in a process of its own, for signals. */
function start(workplace: Workplace) {
  const args = ['bench', '-c', workplace.file, '--transactions', '1000', '--yes', '--json'];
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: { ...process.env, XDG_STATE_HOME: workplace.dir },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
  const ended = new Promise<number | null>((resolve) => child.on('close', (code) => resolve(code)));
  return {
    kill: (signal: NodeJS.Signals) => child.kill(signal),
    ended,
    out: () => out,
    err: () => err,
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** Blue through a door that lets everybody in but the subscription. */
async function doorOf(blue: TestDatabase): Promise<AsyncDisposable & { readonly url: string }> {
  const url = new URL(blue.url);
  const target = { host: url.hostname, port: Number(url.port) };
  const open = new Set<Socket>();
  const server = createServer((client) => {
    open.add(client);
    client.on('error', () => undefined).on('close', () => open.delete(client));
    client.once('data', (first) => {
      if (first.includes('verdigris_bench_peer')) {
        client.destroy();
        return;
      }
      const upstream = connect(target);
      upstream.on('error', () => client.destroy()).write(first);
      client.pipe(upstream).pipe(client);
    });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    [Symbol.asyncDispose]: async () => {
      for (const client of open) client.destroy();
      await once(server.close(), 'close');
    },
  };
}

test('where green’s server cannot reach blue a note says so; ours is measured all the same', async () => {
  await using blue = await createDatabase(16);
  await using green = await createDatabase(18);
  await using workplace = await place(blue, green);
  await using door = await doorOf(blue);
  const addresses = ['--blue', door.url, '--green', green.url];
  const args = ['--transactions', '50', '--repeat', '1', '--yes', '--json'];
  const done = await run(workplace, 'bench', ...addresses, ...args);
  expect(done, done.err + done.out).toMatchObject({
    code: 0,
    envelopes: [{ data: { changes: 200, peer: null, ratio: null, verdigris: { runs: { length: 1 } } } }],
  });
  expect(done.err).toMatch(/note: without a peer: green refused a subscription to blue: .*connect/);
  expect(done.err + done.out).not.toContain(TEST_PASSWORD);
  expect(await leftOn(blue)).toEqual([]);
  expect(await leftOn(green)).toEqual([]);
}, 240_000);

test('catch-up beside the subscription leaves nothing: interrupted, behind a killed one, and with its figures', async () => {
  await using blue = await createDatabase(16);
  await using green = await createDatabase(18);
  await using workplace = await place(blue, green);

  await using interrupted = start(workplace);
  await waitFor(() => interrupted.err().includes('  1. verdigris'), {
    what: 'the first run to end',
    timeoutMs: PATIENCE_MS,
  });
  interrupted.kill('SIGINT');
  expect(await interrupted.ended, interrupted.err()).toBe(130);
  expect(JSON.parse(interrupted.out())).toMatchObject({
    kind: 'Bench',
    ok: false,
    error: { code: 'INTERRUPTED' },
  });
  expect(await leftOn(blue)).toEqual([]);
  expect(await leftOn(green)).toEqual([]);

  await using killed = start(workplace);
  await waitFor(async () => (await blue.query('SELECT FROM verdigris_bench.history LIMIT 1')).length > 0, {
    what: 'the backlog to begin',
    timeoutMs: PATIENCE_MS,
  });
  killed.kill('SIGKILL');
  await killed.ended;
  expect((await leftOn(blue)).length).toBeGreaterThan(3);
  expect((await leftOn(green)).length).toBeGreaterThan(3);
  // The lock goes with the session, which ends with the statement that it was in.
  await waitFor(
    async () =>
      (
        await blue.query(
          `SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'verdigris-bench:blue'`,
        )
      ).length === 0,
    { what: 'the session of the killed bench to end', timeoutMs: PATIENCE_MS },
  );

  const out = inPlace(workplace, 'bench.json');
  const args = ['--transactions', '400', '--repeat', '2', '--out', out, '--yes', '--json'];
  const done = await run(workplace, 'bench', ...args);
  expect(done, done.err + done.out).toMatchObject({ code: 0, envelopes: [{ kind: 'Bench', ok: true }] });
  expect(done.err).toContain('removed what an earlier bench had left: ');
  const data = benchSchema.parse(done.envelopes[0]?.data);
  expect(data).toMatchObject({
    profile: 'catchup',
    changes: 1600,
    transactions: 400,
    verdigris: { runs: { length: 2 }, cpuSeconds: { engine: expect.any(Number) as unknown } },
    peer: { name: 'subscription', runs: { length: 2 } },
    ratios: { length: 2 },
    ratio: expect.any(Number) as unknown,
  });
  expect(data.distinctKeys).toBeGreaterThan(700);
  expect(JSON.parse(await readFile(out, 'utf8'))).toEqual(done.envelopes[0]?.data);
  for (const text of [done.out, done.err, interrupted.out(), interrupted.err()])
    expect(text).not.toContain(TEST_PASSWORD);
  expect(await leftOn(blue)).toEqual([]);
  expect(await leftOn(green)).toEqual([]);
}, 240_000);

test('a run after which the sides differ has no figures: exit 5, and nothing is left', async () => {
  await using blue = await createDatabase(16);
  await using green = await createDatabase(18);
  await using workplace = await place(blue, green);
  const running = run(workplace, 'bench', '--transactions', '300', '--repeat', '1', '--yes', '--json');
  // The backlog touches a few of the accounts only; the others stay as they are now.
  await waitFor(
    async () =>
      (await green.query(`UPDATE verdigris_bench.accounts SET filler = 'x' RETURNING aid`)).length === 1_500,
    { what: 'the accounts of the peer', timeoutMs: PATIENCE_MS },
  );
  const done = await running;
  expect(done, done.err).toMatchObject({
    code: 5,
    envelopes: [{ data: null, error: { code: 'VERIFY_DIFFERENT' } }],
  });
  expect(await leftOn(blue)).toEqual([]);
  expect(await leftOn(green)).toEqual([]);
}, 240_000);

test('it asks first, and refuses a schema that is somebody else’s and a side where everything is published', async () => {
  await using blue = await createDatabase(16);
  await using green = await createDatabase(18);
  await using workplace = await place(blue, green);
  expect(await run(workplace, 'bench', '--json')).toMatchObject({
    code: 2,
    envelopes: [{ error: { code: 'CONFIRMATION' } }],
  });
  await green.query('CREATE SCHEMA verdigris_bench_ours');
  const named = await run(workplace, 'bench', '--yes', '--json');
  expect(named.envelopes[0]?.error, named.out).toMatchObject({ code: 'PREFLIGHT_FAILED' });
  expect(await leftOn(green)).toEqual(['schema verdigris_bench_ours']);
  await green.query('DROP SCHEMA verdigris_bench_ours');
  await blue.query('CREATE PUBLICATION everything FOR ALL TABLES');
  await blue.query(`SELECT pg_create_logical_replication_slot('reader_${blue.name}', 'pgoutput')`);
  const published = await run(workplace, 'bench', '--yes', '--json');
  expect(published.envelopes[0]?.error?.message, published.out).toMatch(/publishes all tables/);
  expect(await leftOn(green)).toEqual([]);
}, 240_000);

test('there is no bench beside a migration, by its configuration or by the addresses', async () => {
  await using blue = await createDatabase(16);
  await using green = await createDatabase(18);
  await using workplace = await place(blue, green);
  const engine = workplace.start({ args: ['--set', 'blue.replication.slot=verdigris_theirs'] });
  await engine.until('replicating', ({ phase }) => phase === 'replicating');
  expect(await run(workplace, 'bench', '--yes', '--json')).toMatchObject({
    envelopes: [{ error: { code: 'CUTOVER_PHASE' } }],
  });
  const addresses = ['--blue', blue.url, '--green', green.url];
  expect(await run(workplace, 'bench', ...addresses, '--yes', '--json')).toMatchObject({
    code: 9,
    envelopes: [{ error: { code: 'STATE_LEASE_HELD' } }],
  });
  expect(await engine.kill('SIGTERM')).toBe(143);
}, 240_000);
