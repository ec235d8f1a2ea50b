import { describe, expect, test } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/databases.ts';
import { Workplace } from '../support/engine-process.ts';
import { TEST_PASSWORD } from '../support/postgres.ts';

const yaml = (blue: string, green: string): string => `version: 1
migration: refused
blue: { engine: postgres, url: "${blue}" }
green: { engine: postgres, url: "${green}", schema_file: ./green.sql }
tables:
  - from: public.good
    to: [{ table: public.good }]
  - from: public.odd
    to: [{ table: public.odd }]
`;

/** Server objects of ours on either side. */
async function made(blue: TestDatabase, green: TestDatabase): Promise<unknown[]> {
  return [
    ...(await blue.query('SELECT slot_name FROM pg_replication_slots WHERE database = current_database()')),
    ...(await blue.query('SELECT pubname FROM pg_publication')),
    ...(await blue.query(`SELECT nspname FROM pg_namespace WHERE nspname = 'verdigris'`)),
    ...(await green.query(`SELECT relname FROM pg_class WHERE relname IN ('good', 'odd', 'checkpoint')`)),
  ];
}

const cases = [
  {
    name: 'F55: a table without a key names the table and the statement that helps',
    odd: 'CREATE TABLE public.odd (n int)',
    finding: /P10 blue: .*public\.odd.*REPLICA IDENTITY FULL/s,
  },
  {
    name: 'a key that is deferrable is refused: key changes could not be followed',
    odd: 'CREATE TABLE public.odd (n int PRIMARY KEY DEFERRABLE); ALTER TABLE public.odd REPLICA IDENTITY FULL',
    finding: /P10 blue: .*public\.odd.*deferrable/is,
  },
  {
    name: 'F75: an unlogged table is refused',
    odd: 'CREATE UNLOGGED TABLE public.odd (n int PRIMARY KEY)',
    finding: /public\.odd/,
  },
];

describe('what cannot be replicated is refused by name before anything is created', () => {
  test.each(cases)('$name', async ({ odd, finding }) => {
    await using blue = await createDatabase(16);
    await using green = await createDatabase(18);
    await blue.query(`CREATE TABLE public.good (n int PRIMARY KEY); ${odd}`);
    const ddl = 'CREATE TABLE public.good (n int PRIMARY KEY); CREATE TABLE public.odd (n int PRIMARY KEY)';
    await using place = await Workplace.create({
      'green.sql': ddl,
      'verdigris.yaml': yaml(blue.url, green.url),
    });
    const { code, json } = await place.run('start');
    expect([2, 3]).toContain(code);
    expect(json.error?.message).toMatch(finding);
    expect(await made(blue, green)).toEqual([]);
  });

  test('a missing privilege prints the GRANT', async () => {
    await using blue = await createDatabase(16);
    await using green = await createDatabase(18);
    await blue.query(
      'CREATE TABLE public.good (n int PRIMARY KEY); CREATE TABLE public.odd (n int PRIMARY KEY)',
    );
    const role = `weak_${blue.name}`;
    await blue.query(`CREATE ROLE "${role}" LOGIN REPLICATION PASSWORD '${TEST_PASSWORD}'`);
    try {
      await blue.query(
        `GRANT CREATE ON DATABASE "${blue.name}" TO "${role}"; GRANT SELECT ON public.good TO "${role}"`,
      );
      const ddl = 'CREATE TABLE public.good (n int PRIMARY KEY); CREATE TABLE public.odd (n int PRIMARY KEY)';
      await using place = await Workplace.create({
        'green.sql': ddl,
        'verdigris.yaml': yaml(blue.urlFor(role), green.url),
      });
      const { code, json } = await place.run('start');
      expect(code).toBe(3);
      expect(json.error?.message).toMatch(/P8 blue: .*GRANT SELECT ON .*odd.* TO /s);
      expect(await made(blue, green)).toEqual([]);
    } finally {
      await blue.query(`DROP OWNED BY "${role}"; DROP ROLE "${role}"`);
    }
  });
});
