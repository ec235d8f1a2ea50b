import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { proxy } from '../../../src/proxies/pgbouncer/index.ts';
import { parseConfig } from '../../../src/proxies/pgbouncer/config.ts';
import {
  connectPairs,
  connectValue,
  databaseEntries,
  rewriteDatabases,
} from '../../../src/proxies/pgbouncer/ini.ts';

const target = new Map([
  ['host', 'green.internal'],
  ['port', '5433'],
  ['dbname', "o'brien db"],
]);

describe('the ini file of PgBouncer', () => {
  test('only the named entries change; comments, other keys, other sections and line ends stay', () => {
    const before = [
      '; comment',
      '# another',
      '[databases]\r',
      "  crm   =  host=blue.internal   port=5432 dbname='a b' pool_size=7  \r",
      'crm2 = host=blue.internal',
      "'we ird;' = port=1",
      '%include more.ini',
      '[pgbouncer]',
      'crm = host=not-an-entry',
      'listen_port = 6432',
      '',
    ].join('\n');
    const after = rewriteDatabases(before, ['crm', 'we ird;'], target);
    expect(after).toBe(
      before
        .replace(
          "host=blue.internal   port=5432 dbname='a b' pool",
          "host=green.internal   port=5433 dbname='o''brien db' pool",
        )
        .replace("'we ird;' = port=1", "'we ird;' = port=5433 host=green.internal dbname='o''brien db'"),
    );
    expect(rewriteDatabases(after, ['crm', 'we ird;'], target)).toBe(after);
  });

  test('a later entry of the same name wins in PgBouncer, so all of them are rewritten', () => {
    const after = rewriteDatabases('[databases]\na = port=1\na = port=2\n', ['a'], new Map([['port', '9']]));
    expect(after).toBe('[databases]\na = port=9\na = port=9\n');
  });

  test('an included file without a section goes on in [databases]', () => {
    expect(databaseEntries('crm = host=x\n').map((entry) => entry.name)).toEqual(['crm']);
  });

  test('a missing entry is refused, never added', () => {
    expect(() => rewriteDatabases('[databases]\nCRM = host=x\n', ['crm'], target)).toThrow(
      /no entry for database crm/,
    );
  });

  test.each(['host', 'host=x ; comment', "host='x", "host='x'port=1", '=x'])(
    '%s is refused as a connect string',
    (connect) => {
      expect(() => connectPairs({ name: 'crm', line: 1, connect })).toThrow(/not a connect string/);
    },
  );

  test('any value survives writing and reading', () => {
    const value = fc.string({ minLength: 1 }).filter((text) => !/[\0\r\n]/.test(text));
    fc.assert(
      fc.property(value, value, fc.nat(65_535), (host, dbname, port) => {
        const text = rewriteDatabases(
          '[databases]\ncrm = host=a pool_size=3\n',
          ['crm'],
          new Map([
            ['host', host],
            ['port', String(port)],
            ['dbname', dbname],
          ]),
        );
        const [entry] = databaseEntries(text);
        const pairs = connectPairs(entry as NonNullable<typeof entry>);
        expect(['host', 'port', 'dbname', 'pool_size'].map((key) => connectValue(pairs, key))).toEqual([
          host,
          String(port),
          dbname,
          '3',
        ]);
      }),
    );
  });
});

describe('configuration of the pgbouncer adapter', () => {
  const good = {
    admin_url: 'postgres://admin:secret@127.0.0.1:6432/pgbouncer',
    ini: '/etc/pgbouncer/databases.ini',
    databases: ['crm'],
    blue: { host: 'blue', port: 5432, dbname: 'crm' },
    green: { host: 'green', dbname: 'crm' },
  };
  const issues = (change: object): string[] => {
    const result = parseConfig({ ...good, ...change });
    return 'issues' in result
      ? result.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)
      : [];
  };

  test('the example of the documentation is taken, with the default port', () => {
    expect(parseConfig(good)).toMatchObject({ config: { green: { port: 5432 } } });
  });

  test('the schema for editors describes every leaf', () => {
    const { properties } = proxy.jsonSchema() as { properties: Record<string, { description?: string }> };
    expect(Object.keys(properties)).toEqual(['admin_url', 'client_url', 'ini', 'databases', 'blue', 'green']);
    for (const leaf of Object.values(properties)) expect(leaf.description).toMatch(/\S{3}/);
  });

  test('what cannot work is refused with its place', () => {
    expect(issues({ databases: ["o'x"] })).toEqual([expect.stringMatching(/^databases\.0: /)]);
    expect(issues({ databases: ['pgbouncer'] })).toEqual(['databases.0: reserved by PgBouncer']);
    expect(issues({ databases: ['crm', 'crm'] })).toEqual(['databases: a database is named twice']);
    expect(issues({ databases: ['x'.repeat(64)] })).toEqual(['databases.0: longer than 63 bytes']);
    expect(issues({ green: good.blue })).toEqual([expect.stringMatching(/^green: the same place/)]);
    expect(issues({ green: { ...good.green, user: 'app' } })).toEqual([
      expect.stringMatching(/^green\.user: /),
    ]);
    expect(issues({ admin_url: 'postgres://a:b@h:1/pgbouncer?sslmode=require' })).toEqual([
      expect.stringMatching(/^admin_url: .*sslmode/),
    ]);
    expect(issues({ surprise: 1 })).toEqual(['surprise: unknown key surprise']);
    expect(issues({ blue: { ...good.blue, port: 0 } })).toEqual([expect.stringMatching(/^blue\.port: /)]);
  });
});
