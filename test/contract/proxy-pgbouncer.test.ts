import { chown, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import pg from 'pg';
import { describe, expect, test } from 'vitest';
import { NO_FAILPOINTS, type Failpoints } from '../../src/core/failpoint.ts';
import { SILENT } from '../../src/core/log.ts';
import type { ProxyAdapter } from '../../src/core/proxy.ts';
import { proxy } from '../../src/proxies/pgbouncer/index.ts';
import { queryAsClient } from '../../src/proxies/pgbouncer/client.ts';
import { createDatabase, type TestDatabase } from '../support/databases.ts';
import { startPgBouncer, type PgBouncer, type PgBouncerOptions } from '../support/pgbouncer.ts';
import { TEST_PASSWORD } from '../support/postgres.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { waitFor } from '../support/wait.ts';
import { describeProxy, type ProxyClient, type ProxyHarness } from './proxy.ts';

const soon = (): AbortSignal => AbortSignal.timeout(10_000);

interface World extends ProxyHarness {
  readonly bouncer: PgBouncer;
  readonly blue: TestDatabase;
  readonly green: TestDatabase;
  adapter(more?: Record<string, unknown>, failpoints?: Failpoints): ProxyAdapter;
  /** One command on the admin console, from somebody else. */
  admin(command: string): Promise<Record<string, unknown>[]>;
}

const host = '127.0.0.1';
const place = (database: TestDatabase) => ({ host, port: database.server.port, dbname: database.name });

async function start(options: Partial<PgBouncerOptions> = {}): Promise<World> {
  const blue = await createDatabase(16);
  const green = await createDatabase(16);
  for (const [side, database] of Object.entries({ blue, green })) {
    await database.query('CREATE TABLE whoami (side text)');
    await database.query('INSERT INTO whoami VALUES ($1)', [side]);
  }
  const bouncer = await startPgBouncer({ databases: { crm: place(blue) }, ...options });
  return {
    bouncer,
    blue,
    green,
    adapter: (more = {}, failpoints = NO_FAILPOINTS) => {
      const parsed = proxy.parseConfig({
        admin_url: bouncer.adminUrl,
        ini: bouncer.databasesIniPath,
        databases: ['crm'],
        blue: place(blue),
        green: place(green),
        ...more,
      });
      if ('issues' in parsed) throw new Error(JSON.stringify(parsed.issues));
      return proxy.create(parsed.config, { log: SILENT, failpoints });
    },
    client: () => client(bouncer.url('crm')),
    admin: async (command) => {
      const console = new pg.Client(bouncer.adminUrl);
      await console.connect();
      try {
        return (await console.query<Record<string, unknown>>(command)).rows;
      } finally {
        await console.end();
      }
    },
    [Symbol.asyncDispose]: async () => {
      await bouncer[Symbol.asyncDispose]();
      await blue[Symbol.asyncDispose]();
      await green[Symbol.asyncDispose]();
    },
  };
}

async function client(url: string): Promise<ProxyClient & { readonly connection: pg.Client }> {
  const connection = new pg.Client(url);
  connection.on('error', () => undefined);
  await connection.connect();
  return {
    connection,
    ask: async () => {
      // A name makes it a protocol-level prepared statement: parsed once, bound ever after.
      const { rows } = await connection.query<{ side: 'blue' | 'green' }>({
        name: 'ask',
        text: 'SELECT side FROM whoami WHERE $1',
        values: [true],
      });
      return rows[0]?.side as 'blue' | 'green';
    },
    begin: async () => {
      await connection.query('BEGIN');
    },
    commit: async () => {
      await connection.query('COMMIT');
    },
    [Symbol.asyncDispose]: () => connection.end(),
  };
}

describeProxy('pgbouncer', start);

describe('pgbouncer', () => {
  test('rehearse: the reload that a switch waits for, while clients are in the middle of their transactions', async () => {
    await using world = await start();
    await using adapter = world.adapter();
    await using busy = await client(world.bouncer.url('crm'));
    await busy.begin();
    const pid = async (): Promise<unknown> =>
      (await busy.connection.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]?.pid;
    const before = { pid: await pid(), ini: await readFile(world.bouncer.databasesIniPath, 'utf8') };
    await adapter.rehearse?.(soon());
    expect({ pid: await pid(), ini: await readFile(world.bouncer.databasesIniPath, 'utf8') }).toEqual(before);
    await busy.commit();
    expect(await busy.ask()).toBe('blue');
    expect(await adapter.observe(soon())).toEqual({ to: 'blue', paused: false });
    // The server connection was not closed behind the client either: it is the one that is used next.
    expect(await pid()).toBe(before.pid);
  });

  test('the file before the switch is kept, other entries and comments stay, and mode and owner do not change', async () => {
    await using world = await start();
    const { bouncer } = world;
    const before = `; the shop\n${await readFile(bouncer.databasesIniPath, 'utf8')}other = host=127.0.0.1 port=1 dbname='o''x' pool_size=3\n`;
    await writeFile(bouncer.databasesIniPath, before);
    await world.admin('RELOAD');
    const was = await stat(bouncer.databasesIniPath);
    await using adapter = world.adapter();
    await adapter.pause(soon());
    await adapter.route('green', 1, soon());
    await adapter.resume(soon());
    const after = await readFile(bouncer.databasesIniPath, 'utf8');
    expect(after).toBe(
      before.replace(
        `port=${world.blue.server.port} dbname=${world.blue.name}`,
        `port=${world.green.server.port} dbname=${world.green.name}`,
      ),
    );
    expect(await readFile(`${bouncer.databasesIniPath}.verdigris-backup`, 'utf8')).toBe(before);
    const { mode, uid, gid } = await stat(bouncer.databasesIniPath);
    expect({ mode, uid, gid }).toEqual({ mode: was.mode, uid: was.uid, gid: was.gid });
    const left = (await readdir(dirname(bouncer.databasesIniPath))).filter((file) => file.startsWith('.'));
    expect(left).toEqual([]);
  });

  test('reload-with-bad-port: PgBouncer takes port=5x5 as 5 and answers OK; only the read-back sees it', async () => {
    await using world = await start();
    await using adapter = world.adapter();
    const { databasesIniPath } = world.bouncer;
    const good = await readFile(databasesIniPath, 'utf8');
    const bad = good.replace(/port=\d+/, 'port=5x5');
    await writeFile(databasesIniPath, bad);
    expect((await adapter.probe(soon())).findings).toContainEqual(
      expect.objectContaining({
        level: 'block',
        text: expect.stringContaining('is not what PgBouncer uses'),
      }),
    );
    await world.admin('RELOAD');
    expect(await adapter.observe(soon())).toMatchObject({
      to: 'unknown',
      detail: expect.stringContaining(':5/'),
    });
    await writeFile(databasesIniPath, good);
    await world.admin('RELOAD');

    // A later entry that overrides ours, in the file that includes it: the read-back refuses, and the file is put back.
    await adapter.pause(soon());
    await writeFile(
      world.bouncer.iniPath,
      `[databases]\n${'%include'} ${databasesIniPath}\ncrm = host=127.0.0.1 port=5x5 dbname=x\n${(await readFile(world.bouncer.iniPath, 'utf8')).replace(/^%include.*$/m, '')}`,
    );
    await expect(adapter.route('green', 1, soon())).rejects.toMatchObject({
      code: 'PROXY_UNEXPECTED',
      message: expect.stringContaining(':5/x'),
    });
    expect(await readFile(databasesIniPath, 'utf8')).toBe(good);
  });

  test('a database without an entry in the ini is refused before anything is written', async () => {
    await using world = await start();
    await using adapter = world.adapter({ databases: ['crm', 'billing'] });
    expect(
      (await adapter.probe(soon())).findings
        .filter((finding) => finding.level === 'block')
        .map((finding) => finding.text),
    ).toEqual([
      'PgBouncer knows no database billing',
      expect.stringContaining('has no entry for database billing'),
    ]);
    const before = await readFile(world.bouncer.databasesIniPath, 'utf8');
    await expect(adapter.route('green', 1, soon())).rejects.toMatchObject({ code: 'PROXY_UNEXPECTED' });
    expect(await readFile(world.bouncer.databasesIniPath, 'utf8')).toBe(before);
    expect(await adapter.observe(soon())).toMatchObject({ to: 'unknown' });
  });

  test('several databases with hostile names are paused and routed together', async () => {
    const names = ['x"; drop table y; --', 'a b', 'ünï=cödé', 'Crm', 'plain.name-2'];
    await using world = await start();
    const target = place(world.blue);
    const lines = names.map(
      (name) => `'${name}' = host=${target.host} port=${target.port} dbname=${target.dbname}`,
    );
    await writeFile(world.bouncer.databasesIniPath, `[databases]\n${lines.join('\n')}\n`);
    await world.admin('RELOAD');
    await using adapter = world.adapter({ databases: names });
    expect((await adapter.probe(soon())).findings).toEqual([]);
    await adapter.pause(soon());
    expect(await adapter.observe(soon())).toEqual({ to: 'blue', paused: true });
    await adapter.route('green', 1, soon());
    await adapter.resume(soon());
    expect(await adapter.observe(soon())).toEqual({ to: 'green', paused: false });
    for (const name of names) {
      const connection = new pg.Client({
        host,
        port: world.bouncer.port,
        user: 'postgres',
        password: TEST_PASSWORD,
        database: name,
      });
      await connection.connect();
      expect((await connection.query('SELECT side FROM whoami')).rows).toEqual([{ side: 'green' }]);
      await connection.end();
    }
  });

  test('one paused database of several counts as paused; databases on different sides are mixed', async () => {
    await using world = await start();
    const [blue, green] = [place(world.blue), place(world.green)];
    const line = (name: string, to: typeof blue) =>
      `${name} = host=${to.host} port=${to.port} dbname=${to.dbname}\n`;
    await writeFile(world.bouncer.databasesIniPath, `[databases]\n${line('crm', blue)}${line('shop', blue)}`);
    await world.admin('RELOAD');
    await using adapter = world.adapter({ databases: ['crm', 'shop'] });
    await world.admin('PAUSE shop');
    expect(await adapter.observe(soon())).toEqual({ to: 'blue', paused: true });
    await adapter.resume(soon());
    expect(await adapter.observe(soon())).toEqual({ to: 'blue', paused: false });
    await writeFile(
      world.bouncer.databasesIniPath,
      `[databases]\n${line('crm', blue)}${line('shop', green)}`,
    );
    await world.admin('RELOAD');
    expect(await adapter.observe(soon())).toMatchObject({ to: 'mixed', paused: false });
  });

  test.each([
    { when: 'after we saw the pause', unseen: false },
    { when: 'before we saw the pause', unseen: true },
  ])(
    'a RESUME by somebody else $when ends it instead of waiting for an answer that never comes',
    async ({ unseen }) => {
      await using world = await start();
      await using other = world.adapter();
      // Seen, it is what ends the limit on new server connections.
      const unlimited = async () =>
        (await world.admin('SHOW CONFIG')).some(
          ({ key, value }) => key === 'max_db_connections' && value === '0',
        );
      const resume = async () => {
        await waitFor(async () => (await other.observe(soon())).paused, { what: 'the pause' });
        if (!unseen) await waitFor(unlimited, { what: 'the pause to be seen by us' });
        await world.admin('RESUME crm');
      };
      const given = Promise.withResolvers<void>();
      await using adapter = world.adapter(
        {},
        {
          hit: async (name) => {
            if (name !== 'proxy.pgbouncer.given') return;
            if (unseen) await resume();
            given.resolve();
          },
        },
      );
      await using busy = await world.client();
      await busy.begin();
      const refused = expect(adapter.pause(AbortSignal.timeout(30_000))).rejects.toMatchObject({
        code: 'PROXY_UNEXPECTED',
        message: expect.stringContaining('somebody gave RESUME'),
      });
      await given.promise;
      if (!unseen) await resume();
      await refused;
      await busy.commit();
    },
  );

  test('an admin console that goes away in the middle is PROXY_UNREACHABLE, and the next call connects again', async () => {
    await using world = await start();
    await using adapter = world.adapter();
    await using busy = await world.client();
    await busy.begin();
    const pausing = adapter.pause(AbortSignal.timeout(30_000));
    const lost = expect(pausing).rejects.toMatchObject({ code: 'PROXY_UNREACHABLE' });
    await waitFor(async () => /PAUSE 'crm' command/.test(world.bouncer.log()), { what: 'PAUSE to be given' });
    await world.bouncer.kill('SIGKILL');
    await lost;
    await expect(adapter.observe(soon())).rejects.toMatchObject({ code: 'PROXY_UNREACHABLE' });
    await world.bouncer.start();
    expect(await adapter.observe(soon())).toEqual({ to: 'blue', paused: false });
  });

  test('a frozen console ends every call at its bound', async () => {
    await using world = await start();
    await using adapter = world.adapter();
    await adapter.observe(soon());
    await world.bouncer.kill('SIGSTOP');
    try {
      await expect(adapter.observe(AbortSignal.timeout(200))).rejects.toMatchObject({
        code: 'PROXY_TIMEOUT',
      });
      await expect(adapter.pause(AbortSignal.timeout(200))).rejects.toMatchObject({ code: 'PROXY_TIMEOUT' });
    } finally {
      await world.bouncer.kill('SIGCONT');
    }
    await adapter.resume(soon());
    expect(await adapter.observe(soon())).toEqual({ to: 'blue', paused: false });
  });

  test('a pause that meets a server connection in its login does not make clients wait for server_login_retry', async () => {
    await using world = await start({ settings: { server_login_retry: '40' } });
    await using tcp = await startTcpProxy({ host, port: world.blue.server.port });
    const through = { ...place(world.blue), port: tcp.port };
    const ini = await readFile(world.bouncer.databasesIniPath, 'utf8');
    await writeFile(world.bouncer.databasesIniPath, ini.replace(/port=\d+/, `port=${tcp.port}`));
    await world.admin('RELOAD');
    await using adapter = world.adapter({ blue: through });
    await using one = await world.client();
    await using two = await world.client();
    await one.ask();
    // Longer than a pause waits for logins: this one is met.
    tcp.delay(1_500);
    await one.begin();
    const held = two.ask();
    const logins = async () =>
      (await world.admin('SHOW POOLS')).some(
        (pool) => pool['database'] === 'crm' && Number(pool['sv_login']) > 0,
      );
    await waitFor(logins, { what: 'the login of a second server connection', everyMs: 5 });
    const pausing = adapter.pause(soon());
    await one.commit();
    await pausing;
    tcp.delay(0);
    expect(world.bouncer.log()).toMatch(/closing because: pause mode/);
    await adapter.route('green', 1, soon());
    const started = performance.now();
    await adapter.resume(soon());
    expect(await held).toBe('green');
    expect(performance.now() - started).toBeLessThan(20_000);
    const settings = await world.admin('SHOW CONFIG');
    expect(settings.find((row) => row['key'] === 'server_login_retry')?.['value']).toBe('40');
  });

  test('a pool that wants another server connection in the very moment of the pause gets none: its login would fail, and statements with it', async () => {
    await using world = await start();
    await using tcp = await startTcpProxy({ host, port: world.blue.server.port });
    const through = { ...place(world.blue), port: tcp.port };
    const ini = await readFile(world.bouncer.databasesIniPath, 'utf8');
    await writeFile(world.bouncer.databasesIniPath, ini.replace(/port=\d+/, `port=${tcp.port}`));
    await world.admin('RELOAD');
    await using one = await world.client();
    await using two = await world.client();
    await using three = await world.client();
    await one.ask();
    await one.begin();
    await one.ask();
    const held: Promise<unknown>[] = [];
    await using adapter = world.adapter(
      { blue: through },
      {
        hit: async (name) => {
          if (name !== 'proxy.pgbouncer.looked') return;
          tcp.delay(300);
          held.push(two.ask());
          await waitFor(
            async () =>
              (await world.admin('SHOW POOLS')).some(
                (pool) => pool['database'] === 'crm' && Number(pool['cl_waiting']) > 0,
              ),
            { what: 'a client that waits for a server connection', everyMs: 1 },
          );
        },
      },
    );
    const setting = async (): Promise<unknown> =>
      (await world.admin('SHOW CONFIG')).find((row) => row['key'] === 'max_db_connections')?.['value'];
    const before = await setting();
    const pausing = adapter.pause(soon());
    await waitFor(async () => (await adapter.observe(soon())).paused, { what: 'the pause', everyMs: 5 });
    // Others behind this PgBouncer are not kept from connecting for longer than that moment.
    await waitFor(async () => (await setting()) === before, { what: 'the limit to be put back' });
    await one.commit();
    await pausing;
    await adapter.route('green', 1, soon());
    await adapter.resume(soon());
    // The two that meet no server connection yet.
    expect(await Promise.all([three.ask(), ...held])).toEqual(['green', 'green']);
    expect(world.bouncer.log()).not.toMatch(/server login has been failing/);
  });

  test('who died before the pause was given, with the connections held: resume lets them go', async () => {
    await using world = await start();
    await using adapter = world.adapter();
    await world.admin("SET max_db_connections = '1'");
    await adapter.resume(soon());
    const after = (await world.admin('SHOW CONFIG')).find((row) => row['key'] === 'max_db_connections');
    expect(after?.['value']).toBe('0');
  });

  test('routing while not paused leaves no connection to the old server either', async () => {
    await using world = await start();
    await using adapter = world.adapter();
    await using busy = await world.client();
    await busy.begin();
    await busy.ask();
    await expect(adapter.route('green', 1, AbortSignal.timeout(300))).rejects.toMatchObject({
      code: 'PROXY_TIMEOUT',
    });
    await busy.commit();
    await adapter.route('green', 1, soon());
    expect(await busy.ask()).toBe('green');
  });

  test('probe names what would hurt: session pooling, no admin right, a pause by somebody, a lost prepared statement, connect_query, a limit of its own', async () => {
    await using world = await start({
      settings: {
        pool_mode: 'session',
        max_prepared_statements: '0',
        admin_users: 'postgres',
        stats_users: 'looker',
        query_wait_timeout: '7',
      },
      users: { looker: TEST_PASSWORD },
    });
    const ini = await readFile(world.bouncer.databasesIniPath, 'utf8');
    await writeFile(
      world.bouncer.databasesIniPath,
      ini.replace(/^crm.*$/m, "$& max_db_connections=9 connect_query='SET search_path TO compat'"),
    );
    await world.admin('RELOAD');
    await world.admin('PAUSE crm');
    await using adapter = world.adapter({ admin_url: world.bouncer.url('pgbouncer', 'looker') });
    const report = await adapter.probe(soon());
    expect(report.holdsForMs).toBe(7_000);
    const texts = report.findings.map((finding) => `${finding.level}: ${finding.text}`);
    expect(texts).toEqual([
      expect.stringMatching(/^warn: max_prepared_statements is 0/),
      expect.stringMatching(/^block: looker is not one of admin_users/),
      'block: database crm: pool_mode is session',
      'warn: database crm has a limit of connections of its own: a login that begins in the moment of the pause fails, and statements with it',
      'block: database crm is paused already',
      expect.stringMatching(/^warn: database crm has a connect_query/),
    ]);
    for (const finding of report.findings) expect(finding.remedy).not.toBe('');
    await world.admin('RESUME crm');
  });

  test('no password reaches an error or a report', async () => {
    await using world = await start();
    const secret = 'canary-of-the-proxy';
    await using wrong = world.adapter({ admin_url: world.bouncer.adminUrl.replace(TEST_PASSWORD, secret) });
    const error: unknown = await wrong.probe(soon()).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'PROXY_UNREACHABLE' });
    expect(JSON.stringify(error) + String(error)).not.toContain(secret);
  });

  test.skipIf(process.getuid?.() !== 0)(
    'the file keeps its owner when somebody else (root) replaces it',
    async () => {
      await using world = await start();
      await chown(world.bouncer.databasesIniPath, 12_345, 12_346);
      await using adapter = world.adapter();
      await adapter.pause(soon());
      await adapter.route('green', 1, soon());
      const { uid, gid } = await stat(world.bouncer.databasesIniPath);
      expect({ uid, gid }).toEqual({ uid: 12_345, gid: 12_346 });
    },
  );

  test('while paused and routed, not one connection of PgBouncer is left on the old server', async () => {
    await using world = await start();
    await using adapter = world.adapter();
    await using busy = await world.client();
    await busy.ask();
    const left = async () =>
      world.blue.query(
        `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`,
      );
    expect(await left()).toHaveLength(1);
    await adapter.pause(soon());
    await adapter.route('green', 1, soon());
    await waitFor(async () => (await left()).length === 0, { what: 'blue to notice' });
    await adapter.resume(soon());
    expect(await busy.ask()).toBe('green');
  });

  test("two processes that read one file are switched together without taking back each other's change", async () => {
    await using world = await start();
    await using second = await startPgBouncer({ databases: {} });
    const { databasesIniPath } = world.bouncer;
    await writeFile(second.databasesIniPath, `%include ${databasesIniPath}\n`);
    const line = (name: string) =>
      `${name} = host=${host} port=${world.blue.server.port} dbname=${world.blue.name}\n`;
    await writeFile(databasesIniPath, `[databases]\n${line('crm')}${line('shop')}`);
    await world.admin('RELOAD');
    await using one = world.adapter({ databases: ['crm'] });
    await using two = world.adapter({ databases: ['shop'], admin_url: second.adminUrl });
    const console = new pg.Client(second.adminUrl);
    await console.connect();
    await console.query('RELOAD');
    await console.end();
    const both = [one, two];
    await Promise.all(both.map((adapter) => adapter.pause(soon())));
    await Promise.all(both.map((adapter) => adapter.route('green', 1, soon())));
    await Promise.all(both.map((adapter) => adapter.resume(soon())));
    for (const adapter of both) expect(await adapter.observe(soon())).toEqual({ to: 'green', paused: false });
    expect(
      (await readFile(databasesIniPath, 'utf8')).match(new RegExp(`dbname=${world.green.name}`, 'g')),
    ).toHaveLength(2);
  });

  test("discard-all-keeps-search-path: the role's search path on green survives a client's DISCARD ALL", async () => {
    await using world = await start();
    await using adapter = world.adapter();
    const role = `app_${world.green.name}`;
    await world.blue.query(`CREATE ROLE ${role} LOGIN PASSWORD '${TEST_PASSWORD}'`);
    try {
      for (const database of [world.blue, world.green])
        await database.query(`GRANT SELECT ON whoami TO ${role}`);
      await world.green.query('CREATE SCHEMA compat');
      await world.green.query(`CREATE VIEW compat.orders AS SELECT 'through compat' AS text`);
      await world.green.query(`GRANT USAGE ON SCHEMA compat TO ${role}`);
      await world.green.query(`GRANT SELECT ON compat.orders TO ${role}`);
      await world.green.query(
        `ALTER ROLE ${role} IN DATABASE ${world.green.name} SET search_path = compat, public`,
      );
      await writeFile(
        `${dirname(world.bouncer.iniPath)}/users.txt`,
        `"postgres" "${TEST_PASSWORD}"\n"${role}" "${TEST_PASSWORD}"\n`,
      );
      await world.admin('RELOAD');
      await using one = await client(world.bouncer.url('crm', role));
      await using two = await client(world.bouncer.url('crm', role));
      expect(await one.ask()).toBe('blue');
      await adapter.pause(soon());
      await adapter.route('green', 1, soon());
      await adapter.resume(soon());
      await one.connection.query('DISCARD ALL');
      expect((await two.connection.query('SELECT text FROM orders')).rows).toEqual([
        { text: 'through compat' },
      ]);
      await one.connection.query('RESET ALL');
      expect((await two.connection.query('SHOW search_path')).rows).toEqual([
        { search_path: 'compat, public' },
      ]);
    } finally {
      await world.bouncer[Symbol.asyncDispose]();
      for (const database of [world.blue, world.green]) await database.query(`DROP OWNED BY ${role}`);
      await world.blue.query(`DROP ROLE ${role}`);
    }
  });
});

test('a query as a client of the proxy reaches the side that is routed, and a failing one says why without the values', async () => {
  await using database = await createDatabase(16);
  await database.query('CREATE TABLE public.mark (side text)');
  await database.query(`INSERT INTO public.mark VALUES ('here')`);
  await using bouncer = await startPgBouncer({
    databases: { app: { host: '127.0.0.1', port: database.server.port, dbname: database.name } },
  });
  const signal = AbortSignal.timeout(10_000);
  expect(await queryAsClient(bouncer.url('app'), 'SELECT side FROM public.mark', signal)).toBe('here');
  await expect(
    queryAsClient(bouncer.url('app'), `SELECT 1 / 0 FROM public.mark`, signal),
  ).rejects.toMatchObject({
    code: 'PROXY_UNEXPECTED',
    context: { state: '22012' },
  });
});
