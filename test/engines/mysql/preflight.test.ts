import type mysql from 'mysql2/promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { PreflightScope, Session } from '../../../src/core/engine.ts';
import type { CheckResult } from '../../../src/core/preflight.ts';
import { SILENT } from '../../../src/core/log.ts';
import { NO_FAILPOINTS } from '../../../src/core/failpoint.ts';
import type { Link } from '../../../src/engines/mysql/connect.ts';
import { engine } from '../../../src/engines/mysql/index.ts';
import type { CheckContext } from '../../../src/engines/mysql/preflight/check.ts';
import { LOG_CHECKS } from '../../../src/engines/mysql/preflight/log.ts';
import { ENGINE_USER, startMysqlWithAccounts } from '../../support/mysql-harness.ts';
import type { MysqlFlavour, MysqlServer } from '../../support/mysql-server.ts';
import { newMigration, targetOf } from '../../contract/engine/side.ts';

const DATABASE = 'app';
const HOUR = 3_600;

/** A server or table that is not fit, how it is made so and mended again, and what is seen of it. */
interface Unfit {
  readonly id: string;
  readonly level: CheckResult['level'];
  readonly outcome?: CheckResult['outcome'];
  readonly observed: RegExp;
  readonly make: readonly string[];
  readonly mend: readonly string[];
  readonly tables?: readonly string[];
  readonly role?: 'sink';
  readonly only?: MysqlFlavour;
}

const variable = (name: string, bad: string, good: string) => ({
  make: [`SET GLOBAL ${name} = ${bad}`],
  mend: [`SET GLOBAL ${name} = ${good}`],
});
const table = (name: string, sql: string, more: readonly string[] = []) => ({
  tables: [name],
  make: [`CREATE TABLE ${name} ${sql}`, ...more],
  mend: [`DROP TABLE ${name}`],
});

const UNFIT: readonly Unfit[] = [
  { id: 'M3', level: 'block', observed: /STATEMENT/, ...variable('binlog_format', "'STATEMENT'", "'ROW'") },
  { id: 'M4', level: 'block', observed: /MINIMAL/, ...variable('binlog_row_image', "'MINIMAL'", "'FULL'") },
  {
    id: 'M5',
    level: 'block',
    observed: /MINIMAL/,
    ...variable('binlog_row_metadata', "'MINIMAL'", "'FULL'"),
  },
  {
    id: 'M6',
    level: 'block',
    observed: /PARTIAL_JSON/,
    only: 'mysql',
    ...variable('binlog_row_value_options', "'PARTIAL_JSON'", "''"),
  },
  {
    id: 'M7',
    level: 'block',
    observed: /= 1/,
    only: 'mysql',
    ...variable('binlog_transaction_compression', 'ON', 'OFF'),
  },
  {
    id: 'M7',
    level: 'block',
    observed: /= 1/,
    only: 'mariadb',
    ...variable('log_bin_compress', 'ON', 'OFF'),
  },
  {
    id: 'M9',
    level: 'block',
    observed: /^3600 s$/,
    ...variable('binlog_expire_logs_seconds', String(HOUR), String(48 * HOUR)),
  },
  {
    id: 'M11',
    level: 'block',
    observed: /ON_PERMISSIVE/,
    only: 'mysql',
    ...variable('gtid_mode', 'ON_PERMISSIVE', 'ON'),
  },
  {
    id: 'M14',
    level: 'warn',
    observed: /= 0/,
    only: 'mysql',
    ...variable('binlog_order_commits', 'OFF', 'ON'),
  },
  {
    id: 'M16',
    level: 'block',
    observed: /missing: PROCESS/,
    make: [`REVOKE PROCESS ON *.* FROM '${ENGINE_USER}'@'%'`],
    mend: [`GRANT PROCESS ON *.* TO '${ENGINE_USER}'@'%'`],
  },
  {
    id: 'M16',
    level: 'warn',
    observed: /'other'@'%'/,
    make: ["CREATE USER 'other'@'%'", "GRANT SUPER ON *.* TO 'other'@'%'"],
    mend: ["DROP USER 'other'@'%'"],
  },
  { id: 'M17', level: 'block', observed: /MyISAM/, ...table('m17', '(id int PRIMARY KEY) ENGINE = MyISAM') },
  { id: 'M18', level: 'warn', observed: /m18 has none/, ...table('m18', '(id int NULL, UNIQUE KEY (id))') },
  {
    id: 'M19',
    level: 'block',
    observed: /m19: down .*ON DELETE CASCADE/,
    ...table(
      'm19',
      '(id int PRIMARY KEY, p int, CONSTRAINT down FOREIGN KEY (p) REFERENCES fit (id) ON DELETE CASCADE)',
    ),
  },
  {
    id: 'M23',
    level: 'block',
    observed: /m23\.v: .*COMPRESSED/,
    only: 'mariadb',
    ...table('m23', '(id int PRIMARY KEY, v varchar(100) COMPRESSED)'),
  },
  {
    id: 'M25',
    level: 'warn',
    observed: /prepared XA transaction/,
    make: ["XA START 'left'", 'INSERT INTO fit (id) VALUES (99)', "XA END 'left'", "XA PREPARE 'left'"],
    mend: ["XA ROLLBACK 'left'"],
  },
  {
    id: 'M27',
    level: 'warn',
    observed: /1048576 bytes/,
    ...variable('max_allowed_packet', '1048576', '67108864'),
  },
  {
    id: 'M28',
    level: 'warn',
    observed: /m28: 2000000000/,
    ...table('m28', '(id int AUTO_INCREMENT PRIMARY KEY) AUTO_INCREMENT = 2000000000'),
  },
  {
    id: 'M29',
    level: 'warn',
    observed: /nightly/,
    make: [
      `GRANT EVENT ON *.* TO '${ENGINE_USER}'@'%'`,
      'SET GLOBAL event_scheduler = ON',
      'CREATE EVENT nightly ON SCHEDULE EVERY 1 YEAR STARTS NOW() + INTERVAL 1 YEAR DO SELECT 1',
    ],
    mend: [
      'DROP EVENT nightly',
      'SET GLOBAL event_scheduler = OFF',
      `REVOKE EVENT ON *.* FROM '${ENGINE_USER}'@'%'`,
    ],
  },
  {
    id: 'M29',
    level: 'warn',
    outcome: 'could-not-check',
    observed: /may not list/,
    ...variable('event_scheduler', 'ON', 'OFF'),
  },
  {
    id: 'M30',
    level: 'warn',
    observed: /replica of another server/,
    only: 'mysql',
    make: ["CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = 1"],
    mend: ['RESET REPLICA ALL'],
  },
  {
    id: 'M30',
    level: 'warn',
    observed: /replica of another server/,
    only: 'mariadb',
    make: ["CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1"],
    mend: ['RESET SLAVE ALL'],
  },
  {
    id: 'M31',
    level: 'block',
    observed: /group_replication_group_name/,
    only: 'mysql',
    make: [
      "INSTALL PLUGIN group_replication SONAME 'group_replication.so'",
      "SET GLOBAL group_replication_group_name = '3e11fa47-71ca-11e1-9e33-c80aa9429562'",
    ],
    mend: ['UNINSTALL PLUGIN group_replication'],
  },
  {
    id: 'MT8',
    level: 'block',
    observed: /again/,
    role: 'sink',
    make: ['CREATE TRIGGER again BEFORE INSERT ON fit FOR EACH ROW SET NEW.v = 1'],
    mend: ['DROP TRIGGER again'],
  },
  { id: 'MT10', level: 'warn', observed: /OFF/, role: 'sink', ...variable('local_infile', 'OFF', 'ON') },
];

test.each([
  ['mysql', [8, 0, 22], '8.0.22', false],
  ['mysql', [8, 0, 23], '8.0.23', true],
  ['mysql', [9, 7, 0], '9.7.0', true],
  ['mysql', [8, 0, 40], '8.0.40-Vitess', false],
  ['mariadb', [10, 6, 99], '10.6.99-MariaDB', false],
  ['mariadb', [11, 4, 2], '11.4.2-MariaDB', true],
] as const)('M1: %s %j is a server that we can read: %s %s', async (kind, version, comment, fit) => {
  const check = LOG_CHECKS.find(({ id }) => id === 'M1');
  const link = { flavour: kind, version, value: () => Promise.resolve(comment) } as unknown as Link;
  const found = await check?.run({ link } as CheckContext);
  expect(typeof found === 'string').toBe(fit);
});

describe.each<MysqlFlavour>(['mysql', 'mariadb'])('checks before the start, on %s', (flavour) => {
  let server: MysqlServer;
  let administrator: mysql.Connection;
  beforeAll(async () => {
    server = await startMysqlWithAccounts(flavour, { 'binlog-ignore-db': 'junk' });
    await server.query(`CREATE DATABASE ${DATABASE}`);
    administrator = await server.connect(DATABASE);
    await administrator.query('CREATE TABLE fit (id int PRIMARY KEY, v int)');
  }, 300_000);
  afterAll(async () => {
    await administrator.end();
    await server[Symbol.asyncDispose]();
  });

  const connect = async (more: Readonly<Record<string, unknown>> = {}): Promise<Session> => {
    const parsed = engine.parseConfig({ url: server.url(DATABASE, ENGINE_USER), ...more });
    if (!('config' in parsed)) throw new Error(JSON.stringify(parsed.issues));
    return await engine.connect(parsed.config, {
      migration: newMigration(),
      side: 'blue',
      stateSchema: 'state',
      log: SILENT,
      failpoints: NO_FAILPOINTS,
    });
  };
  const look = async (
    session: Session,
    {
      role = 'source',
      tables = ['fit'],
    }: { readonly role?: 'source' | 'sink'; readonly tables?: readonly string[] } = {},
  ): Promise<readonly CheckResult[]> => {
    const names = tables.map((name) => ({ schema: DATABASE, name }));
    const scope: PreflightScope = {
      role,
      tables: names,
      needsFullImages: [],
      targets: role === 'sink' ? [await targetOf(session, { schema: DATABASE, name: 'fit' })] : [],
      connections: 6,
      fresh: true,
    };
    return await session.preflight(scope);
  };
  const findings = (results: readonly CheckResult[], id: string): readonly CheckResult[] =>
    results.filter((one) => one.id === id && one.outcome !== 'ok');

  const cases = UNFIT.filter(({ only }) => only === undefined || only === flavour);
  test('what is not fit is found under its number, with what to do, and no longer when it is mended', async () => {
    await using session = await connect();
    for (const { id, level, observed, make, mend, tables, role, outcome = 'finding' } of cases) {
      const scope = { ...(role === undefined ? {} : { role }), ...(tables === undefined ? {} : { tables }) };
      for (const sql of make) await administrator.query(sql);
      const found = findings(await look(session, scope), id).filter((one) => observed.test(one.observed));
      for (const sql of mend) await administrator.query(sql);
      expect(found, `${id} ${String(observed)}`).toHaveLength(1);
      expect(found[0], id).toMatchObject({ outcome, level });
      expect(found[0]?.remedy, id).not.toBe('');
      const after = findings(await look(session, role === undefined ? {} : { role }), id);
      expect(
        after.filter((one) => observed.test(one.observed)),
        `${id}, mended`,
      ).toEqual([]);
    }
  });

  test('no log at all, and a replica that does not log what it executes', async () => {
    await using deaf = await startMysqlWithAccounts(flavour, { 'skip-log-bin': '1' });
    await deaf.query(`CREATE DATABASE ${DATABASE}`);
    await deaf.query(`CREATE TABLE ${DATABASE}.fit (id int PRIMARY KEY, v int)`);
    await deaf.query(
      flavour === 'mysql'
        ? "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = 1"
        : "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1",
    );
    await using session = await connect({ url: deaf.url(DATABASE, ENGINE_USER) });
    const results = await look(session);
    expect(findings(results, 'M2')).toMatchObject([
      { level: 'block', observed: expect.stringMatching(/log_bin/) },
    ]);
    expect(findings(results, 'M12')).toMatchObject([
      { level: 'block', observed: 'a replica without log_replica_updates' },
    ]);
  }, 60_000);

  test('filters of the log, a number that the server has itself, commits that a crash may take back', async () => {
    const own = String((await server.query('SELECT @@server_id AS id'))[0]?.['id']);
    await using session = await connect({ replication: { server_id: Number(own) } });
    const results = await look(session);
    expect(findings(results, 'M15')[0]).toMatchObject({
      level: 'block',
      observed: expect.stringContaining('junk'),
    });
    expect(findings(results, 'M13')[0]).toMatchObject({ level: 'block' });
    expect(findings(await look(session, { role: 'sink' }), 'MT9')[0]).toMatchObject({ level: 'warn' });
  });
});
