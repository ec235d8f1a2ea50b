import { describe, expect, test } from 'vitest';
import type { PreflightScope } from '../../../src/core/engine.ts';
import type { CheckResult } from '../../../src/core/preflight.ts';
import type { TargetTable } from '../../../src/core/plan.ts';
import type { Column, TableName } from '../../../src/core/table.ts';
import { parseConfig } from '../../../src/engines/postgres/config.ts';
import { runPreflight, SINK, SOURCE } from '../../../src/engines/postgres/preflight/run.ts';
import { freePort } from '../../support/free-port.ts';
import { createDatabase, createDatabaseOn, type TestDatabase } from '../../support/databases.ts';
import { startPostgres, TEST_PASSWORD } from '../../support/postgres.ts';
import { configOf, envOf, inPublic } from './fence-setup.ts';

const scopeOf = (
  role: 'source' | 'sink',
  tables: readonly TableName[],
  more: Partial<PreflightScope> = {},
): PreflightScope => ({
  role,
  tables,
  needsFullImages: [],
  targets: [],
  connections: 8,
  fresh: true,
  ...more,
});

const source = (
  db: TestDatabase,
  tables: readonly TableName[],
  more: Partial<PreflightScope> & { user?: string } = {},
) =>
  runPreflight(
    { config: configOf(more.user === undefined ? db.url : db.urlFor(more.user)), env: envOf('m', 'blue') },
    scopeOf('source', tables, more),
  );

const sink = (
  db: TestDatabase,
  tables: readonly TableName[],
  more: Partial<PreflightScope> & { user?: string } = {},
) =>
  runPreflight(
    { config: configOf(more.user === undefined ? db.url : db.urlFor(more.user)), env: envOf('m', 'green') },
    scopeOf('sink', tables, more),
  );

const findings = (results: readonly CheckResult[], id: string): CheckResult[] =>
  results.filter((result) => result.id === id && result.outcome !== 'ok');
const blocking = (results: readonly CheckResult[]): CheckResult[] =>
  results.filter((result) => result.level === 'block' && result.outcome !== 'ok');

const column = (name: string): Column => ({
  name,
  type: 'integer',
  kind: 'integer',
  nullable: true,
  generated: false,
  hasDefault: false,
  exact: true,
  mayBeUnchanged: false,
});

const target = (
  name: string,
  columns: readonly string[],
  more: Partial<TargetTable> & { key?: readonly number[] } = {},
): TargetTable => ({
  relation: {
    table: { schema: 'public', name },
    columns: columns.map(column),
    key: more.key ?? [0],
    identity: 'key',
    version: '1',
  },
  merge: more.merge ?? null,
  prefix: more.prefix ?? 0,
});

/** Runs with a role of the given rights and removes it afterwards. */
async function withRole<T>(
  db: TestDatabase,
  attributes: string,
  work: (role: string) => Promise<T>,
): Promise<T> {
  const role = `role_${db.name}`;
  await db.query(`CREATE ROLE ${role} LOGIN PASSWORD '${TEST_PASSWORD}' ${attributes}`);
  try {
    return await work(role);
  } finally {
    await db.query(`DROP OWNED BY ${role} CASCADE; DROP ROLE ${role}`);
  }
}

describe.each([14, 16, 18] as const)('preflight on PostgreSQL %i', (version) => {
  test('a server that is set up well has nothing that blocks, every check answers, and nothing is left behind', async () => {
    await using db = await createDatabase(version);
    await db.query(`
      CREATE TABLE t (id int PRIMARY KEY, v text);
      CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
      CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
      CREATE SCHEMA "Odd ""schema"; CREATE TABLE "Odd ""schema"."Ta.b'le\\" ("co l" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)`);
    const tables = [...inPublic('t', 'p'), { schema: 'Odd "schema', name: `Ta.b'le\\` }];
    await withRole(db, 'REPLICATION', async (role) => {
      await db.query(
        `GRANT CREATE ON DATABASE ${db.name} TO ${role}; GRANT USAGE, CREATE ON SCHEMA public, "Odd ""schema" TO ${role}`,
      );
      for (const name of ['t', 'p', 'p1', `"Odd ""schema"."Ta.b'le\\"`])
        await db.query(`ALTER TABLE ${name} OWNER TO ${role}`);
      await db.query(`GRANT pg_monitor TO ${role}`);
      const objects = `SELECT oid FROM pg_class UNION ALL SELECT oid FROM pg_publication UNION ALL SELECT oid FROM pg_namespace ORDER BY 1`;
      const before = await db.query(objects);
      const asSource = await source(db, tables, { user: role });
      const asSink = await sink(db, tables);
      expect(await db.query(objects)).toEqual(before);
      expect(blocking(asSource)).toEqual([]);
      expect(new Set(asSource.map((result) => result.id))).toEqual(new Set(SOURCE.map((check) => check.id)));
      expect(SOURCE.map((check) => check.id)).toEqual(
        Array.from({ length: 34 }, (_, index) => `P${index + 1}`),
      );
      expect(asSource.filter((result) => result.outcome === 'could-not-check')).toEqual([]);
      expect(findings(asSource, 'P14')[0]?.observed).toContain('co l');
      expect(findings(asSource, 'P5')).toEqual([]);
      expect(
        asSource.every(
          (result) => result.side === 'blue' && result.expected !== '' && result.observed !== '',
        ),
      ).toBe(true);
      expect(asSource.every((result) => (result.outcome === 'ok') === (result.remedy === ''))).toBe(true);
      expect(blocking(asSink)).toEqual([]);
      expect(new Set(asSink.map((result) => result.id))).toEqual(new Set(SINK.map((check) => check.id)));
      expect(SINK.slice(0, 12).map((check) => check.id)).toEqual(
        Array.from({ length: 12 }, (_, index) => `PT${index + 1}`),
      );
      expect(asSink.every((result) => result.side === 'green')).toBe(true);
    });
  });
});

test('tables: identity, kinds, row security, types, keys and sequences are found by id and named', async () => {
  await using db = await createDatabase(16);
  await db.query(`
    CREATE TABLE good (id int PRIMARY KEY, v text);
    CREATE TABLE no_key (a int);
    CREATE TABLE unique_only (a int NOT NULL UNIQUE);
    CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
    CREATE TABLE late_key (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE by_index (a int NOT NULL); CREATE UNIQUE INDEX by_index_a ON by_index (a);
    ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_a; DROP INDEX by_index_a;
    CREATE TABLE full_one (a int); ALTER TABLE full_one REPLICA IDENTITY FULL;
    CREATE TABLE part (a int, b int) PARTITION BY LIST (a); CREATE TABLE "part One" PARTITION OF part FOR VALUES IN (1);
    CREATE UNLOGGED TABLE fast (id int PRIMARY KEY);
    CREATE VIEW seen AS SELECT 1 AS id;
    CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
    CREATE TABLE typed (id int PRIMARY KEY, r regclass, c aclitem, n pg_node_tree, g int GENERATED ALWAYS AS (1) STORED);
    CREATE TABLE small (id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY); SELECT setval('small_id_seq', 30000);
    SELECT lo_create(0)`);
  const names = [
    'good',
    'no_key',
    'unique_only',
    'nothing',
    'late_key',
    'by_index',
    'full_one',
    'part',
    'fast',
    'seen',
    'parent',
    'typed',
    'small',
    'gone',
  ];
  const results = await source(db, inPublic(...names), {
    needsFullImages: [{ table: { schema: 'public', name: 'good' }, why: 'v is mixed with id' }],
  });
  const p10 = findings(results, 'P10');
  const sqlOf = (name: string): (string | undefined)[] =>
    p10.filter((result) => result.observed.startsWith(`${name}:`)).map((result) => result.sql);
  expect(sqlOf('public.no_key')).toEqual(['ALTER TABLE "public"."no_key" REPLICA IDENTITY FULL']);
  expect(sqlOf('public.unique_only')).toEqual([
    'ALTER TABLE "public"."unique_only" REPLICA IDENTITY USING INDEX "unique_only_a_key"',
  ]);
  expect(sqlOf('public.nothing')).toEqual(['ALTER TABLE "public"."nothing" REPLICA IDENTITY DEFAULT']);
  // FULL would not help: rows are still addressed by a key that two of them may have for a moment.
  expect(sqlOf('public.late_key')).toEqual([undefined]);
  expect(sqlOf('public.by_index')).toEqual(['ALTER TABLE "public"."by_index" REPLICA IDENTITY FULL']);
  expect(sqlOf('public."part One"')).toEqual(['ALTER TABLE "public"."part One" REPLICA IDENTITY FULL']);
  expect(sqlOf('public.good')).toEqual(['ALTER TABLE "public"."good" REPLICA IDENTITY FULL']);
  expect(p10).toHaveLength(7);
  expect(p10.every((result) => result.level === 'block')).toBe(true);
  // Every printed statement is one that works; the deferrable key is mended by hand.
  for (const { sql } of p10) if (sql !== undefined) await db.query(sql);
  await db.query('ALTER TABLE public.late_key DROP CONSTRAINT late_key_pkey, ADD PRIMARY KEY (id)');
  expect(
    findings(
      await source(db, inPublic('good', 'no_key', 'unique_only', 'nothing', 'late_key', 'by_index', 'part')),
      'P10',
    ),
  ).toEqual([]);

  const p12 = findings(results, 'P12').map((result) => `${result.level} ${result.observed}`);
  expect(p12).toEqual(
    expect.arrayContaining([
      'block public.gone does not exist',
      'block public.seen is a view',
      expect.stringMatching(/^block public\.fast is unlogged/),
      expect.stringMatching(/^warn public\.child inherits from public\.parent/),
    ]),
  );
  expect(p12).toHaveLength(4);
  expect(findings(results, 'P13').map((result) => result.level)).toEqual(['warn']);
  expect(
    findings(results, 'P14')
      .map((result) => result.observed)
      .join(),
  ).toContain('typed.g is stored generated');
  const p15 = findings(results, 'P15').map((result) => `${result.level} ${result.observed}`);
  expect(p15).toEqual([
    expect.stringMatching(/^warn .*typed\.r uses regclass/),
    expect.stringMatching(/^warn .*typed\.c uses aclitem/),
    expect.stringMatching(/^block .*typed\.n uses pg_node_tree/),
  ]);
  expect(findings(results, 'P28')[0]?.observed).toMatch(/small_id_seq is 92 % used/);
  expect(
    findings(results, 'P31')
      .map((result) => result.observed)
      .join(),
  ).toMatch(/no_key.*full_one.*part/);
  expect(
    findings(results, 'P32')
      .map((result) => result.observed)
      .join(),
  ).toContain('late_key');
});

test('a role with too little is told every GRANT, and the printed statements repair it', async () => {
  await using db = await createDatabase(16);
  await db.query(`
    CREATE SCHEMA app; CREATE TABLE app.t (id serial PRIMARY KEY, v text);
    CREATE TABLE app.hidden (id int PRIMARY KEY); ALTER TABLE app.hidden ENABLE ROW LEVEL SECURITY`);
  const tables = [
    { schema: 'app', name: 't' },
    { schema: 'app', name: 'hidden' },
  ];
  const owner = `owner_${db.name}`;
  await db.query(
    `CREATE ROLE ${owner}; ALTER TABLE app.t OWNER TO ${owner}; ALTER TABLE app.hidden OWNER TO ${owner}`,
  );
  try {
    await withRole(db, '', async (role) => {
      const results = await source(db, tables, { user: role });
      const ids = new Set(blocking(results).map((result) => result.id));
      expect([...ids]).toEqual(['P5', 'P6', 'P7', 'P8', 'P9']);
      const p8 = findings(results, 'P8').map((result) => result.sql);
      expect(p8).toEqual([
        `GRANT USAGE ON SCHEMA "app" TO "${role}"`,
        `GRANT SELECT ON "app"."hidden" TO "${role}"`,
        `GRANT SELECT ON "app"."t" TO "${role}"`,
        `GRANT SELECT ON SEQUENCE "app"."t_id_seq" TO "${role}"`,
      ]);
      expect(findings(results, 'P7').map((result) => result.sql)).toContain(`GRANT "${owner}" TO "${role}"`);
      expect(findings(results, 'P9')[0]?.observed).toContain('app.hidden');
      for (const result of blocking(results)) if (result.sql !== undefined) await db.query(result.sql);
      expect(blocking(await source(db, tables, { user: role }))).toEqual([]);
      await db.query(`REVOKE "${owner}" FROM "${role}"`);
    });
    await withRole(db, '', async (role) => {
      const results = await sink(db, tables, { user: role });
      expect(findings(results, 'PT3')[0]?.sql).toBe(
        `GRANT SET ON PARAMETER session_replication_role TO "${role}"`,
      );
      expect(findings(results, 'PT4').map((result) => result.sql)).toContain(
        `GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON "app"."t" TO "${role}"`,
      );
      expect(findings(results, 'PT10').map((result) => result.sql)).toEqual([
        `ALTER ROLE "${role}" REPLICATION`,
        `GRANT "${owner}" TO "${role}"`,
        `GRANT "${owner}" TO "${role}"`,
        `GRANT CREATE ON DATABASE "${db.name}" TO "${role}"`,
      ]);
      await db.query(`GRANT USAGE ON SCHEMA app TO "${role}"`);
      for (const result of blocking(results)) if (result.sql !== undefined) await db.query(result.sql);
      expect(blocking(await sink(db, tables, { user: role }))).toEqual([]);
      await db.query(
        `REVOKE "${owner}" FROM "${role}"; REVOKE SET ON PARAMETER session_replication_role FROM "${role}"`,
      );
    });
  } finally {
    await db.query(`DROP OWNED BY ${owner} CASCADE; DROP ROLE ${owner}`);
  }
});

test('what may not be looked at is could-not-check with its SQLSTATE, never ok', async () => {
  await using db = await createDatabase(16);
  await db.query(`CREATE TABLE t (id int PRIMARY KEY); REVOKE SELECT ON pg_largeobject_metadata FROM PUBLIC`);
  await withRole(db, '', async (role) => {
    const results = await source(db, inPublic('t'), { user: role });
    const [p13] = results.filter((result) => result.id === 'P13');
    expect(p13).toMatchObject({ outcome: 'could-not-check', observed: expect.stringContaining('42501') });
    expect(p13?.remedy).not.toBe('');
    expect(results.some((result) => result.id === 'P14' && result.outcome === 'ok')).toBe(true);
  });
});

test('a server without logical decoding, slots, senders, connections or time is named setting by setting', async () => {
  await using server = await startPostgres({
    version: 18,
    settings: {
      wal_level: 'replica',
      max_replication_slots: '0',
      max_wal_senders: '1',
      max_connections: '12',
      statement_timeout: '20s',
      wal_sender_timeout: '5s',
      max_prepared_transactions: '2',
      idle_replication_slot_timeout: '1h',
      max_slot_wal_keep_size: '1MB',
    },
  });
  await using db = await createDatabaseOn(server);
  await db.query(
    `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g`,
  );
  await db.query(`BEGIN; INSERT INTO t VALUES (0); PREPARE TRANSACTION 'forgotten'`);
  const results = await source(db, inPublic('t'), { connections: 10 });
  expect(findings(results, 'P2')[0]).toMatchObject({
    level: 'block',
    observed: 'wal_level is replica',
    sql: `ALTER SYSTEM SET wal_level = 'logical'`,
  });
  expect(findings(results, 'P3')[0]).toMatchObject({
    level: 'block',
    sql: 'ALTER SYSTEM SET max_replication_slots = 2',
  });
  expect(findings(results, 'P4')[0]).toMatchObject({ level: 'block' });
  expect(findings(results, 'P16').map((result) => result.sql)).toEqual([`ROLLBACK PREPARED 'forgotten'`]);
  expect(findings(results, 'P17').map((result) => result.sql?.replace(/"postgres"/, 'us'))).toEqual([
    'ALTER ROLE us SET statement_timeout = 0',
    `ALTER ROLE us SET wal_sender_timeout = '60s'`,
  ]);
  expect(
    findings(results, 'P18')
      .map((result) => result.observed)
      .join(),
  ).toMatch(/max_slot_wal_keep_size is 1 MiB.*idle_replication_slot_timeout/);
  expect(findings(results, 'P25')[0]).toMatchObject({ level: 'block' });
  const green = await sink(db, [], { connections: 1 });
  expect(findings(green, 'PT10').map((result) => result.observed)).toContain('wal_level is replica');
  await db.query(`ROLLBACK PREPARED 'forgotten'`);
});

test('sink: rows, missing tables and columns, keys, uniques, triggers and rules are found and named', async () => {
  await using db = await createDatabase(16);
  await db.query(`
    CREATE TABLE filled (id int PRIMARY KEY); INSERT INTO filled VALUES (1);
    CREATE TABLE needs (id int PRIMARY KEY, must text NOT NULL, may text, given text NOT NULL DEFAULT '');
    CREATE TABLE keyless (a int, b int); CREATE TABLE merged (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL, c int NOT NULL);
    CREATE TABLE twice (id int PRIMARY KEY, mail text UNIQUE);
    CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'begin return new; end';
    CREATE TRIGGER always BEFORE INSERT ON needs FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE needs ENABLE ALWAYS TRIGGER always;
    CREATE TRIGGER usual BEFORE INSERT ON needs FOR EACH ROW EXECUTE FUNCTION f();
    CREATE RULE r AS ON DELETE TO twice DO INSTEAD NOTHING; ALTER TABLE twice ENABLE ALWAYS RULE r`);
  const results = await sink(db, inPublic('later'), {
    targets: [
      target('filled', ['id']),
      target('needs', ['id', 'may']),
      target('keyless', ['a', 'b'], { key: [], prefix: 1 }),
      target('merged', ['id', 'a', 'b', 'c'], {
        merge: { owner: [0, 1], parts: [{ columns: [2], absent: [null] }] },
      }),
      target('twice', ['id', 'mail']),
      target('lost', ['id']),
    ],
  });
  const texts = (id: string): string[] =>
    findings(results, id).map((result) => `${result.level} ${result.observed}`);
  expect(texts('PT4')).toEqual([
    'info public.later does not exist yet',
    'block public.lost does not exist',
    expect.stringMatching(/^block public\.filled holds rows/),
  ]);
  expect(texts('PT5')).toEqual([
    expect.stringMatching(/^block public\.merged\.c is NOT NULL/),
    expect.stringMatching(/^block public\.needs\.must is NOT NULL/),
  ]);
  expect(texts('PT6')).toEqual([expect.stringMatching(/^block public\.keyless has no key/)]);
  expect(findings(results, 'PT7')).toMatchObject([
    { outcome: 'could-not-check', observed: expect.stringContaining('twice_mail_key') },
  ]);
  expect(texts('PT8')).toEqual([
    expect.stringMatching(/trigger always of public\.needs/),
    expect.stringMatching(/rule r of public\.twice/),
  ]);
  expect(findings(await sink(db, inPublic('filled'), { fresh: false }), 'PT4')).toEqual([]);
  const origin = parseConfig({ url: db.url, session: { session_replication_role: 'origin' } });
  if ('issues' in origin) throw new Error('the configuration is not valid');
  const firing = await runPreflight(
    { config: origin.config, env: envOf('m', 'green') },
    scopeOf('sink', inPublic('needs')),
  );
  expect(
    findings(firing, 'PT8')
      .map((result) => result.observed)
      .join(),
  ).toMatch(/always.*usual/);
});

test('a server that does not answer is a result and no crash', async () => {
  const port = await freePort();
  const config = configOf(`postgres://nobody:secret-word@127.0.0.1:${port}/none`);
  for (const role of ['source', 'sink'] as const) {
    const results = await runPreflight({ config, env: envOf() }, scopeOf(role, []));
    expect(results).toMatchObject([
      { id: role === 'source' ? 'P1' : 'PT1', level: 'block', outcome: 'could-not-check' },
    ]);
    expect(JSON.stringify(results)).not.toContain('secret-word');
  }
});

test('subscriptions, event triggers and foreign writers are named', async () => {
  await using db = await createDatabase(16);
  await db.query(`CREATE TABLE t (id int PRIMARY KEY); CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'begin end';
    CREATE EVENT TRIGGER ev ON ddl_command_end EXECUTE FUNCTION e()`);
  await withRole(db, '', async (role) => {
    await db.query(`GRANT INSERT ON t TO ${role}; GRANT USAGE ON SCHEMA public TO ${role}`);
    await db.query(
      `CREATE SUBSCRIPTION s_${db.name} CONNECTION 'host=127.0.0.1 dbname=none' PUBLICATION p WITH (connect = false)`,
    );
    await db.query(`ALTER SUBSCRIPTION s_${db.name} SET (slot_name = NONE)`);
    const writer = await db.connect(role);
    await writer.query(`SET application_name = 'nightly import'`);
    const results = await source(db, inPublic('t'));
    expect(findings(results, 'P26')[0]).toMatchObject({
      level: 'warn',
      observed: expect.stringContaining(`s_${db.name}`),
    });
    expect(findings(results, 'P27')[0]?.observed).toContain('event trigger ev');
    expect(
      findings(results, 'P33')
        .map((result) => result.observed)
        .join(),
    ).toContain(`${role} may write 1 of the mapped tables; connected: nightly import`);
    expect(findings(results, 'P5')).toMatchObject([{ level: 'warn', observed: 'postgres is a superuser' }]);
    await db.query(`DROP SUBSCRIPTION s_${db.name}`);
    await db.query('DROP EVENT TRIGGER ev');
    await writer.end();
  });
});
