import { expect, test } from 'vitest';
import { connect } from '../../../src/engines/postgres/connect.ts';
import { Layouts } from '../../../src/engines/postgres/sink-layout.ts';
import { Wire } from '../../../src/engines/postgres/sink-wire.ts';
import { green } from './sink-setup.ts';

const KEY_OF_UP = `SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'up'::regclass AND attname = 'id'`;

test('layouts that are forgotten while others are read: the caller still gets those it asked for', async () => {
  await using g = await green(
    'CREATE TABLE known (id int PRIMARY KEY); CREATE TABLE up (id int PRIMARY KEY)',
  );
  const [known, up] = (await g.targets('known', 'up')).map(({ relation }) => relation);
  if (known === undefined || up === undefined) throw new Error('two tables');
  await using wire = new Wire(await connect(g.config, { applicationName: 'test' }));
  const layouts = new Layouts();
  await layouts.of(wire, known);
  const asked = layouts.all(wire, [known, up]);
  layouts.forget();
  expect((await asked).map(({ table }) => table.name)).toEqual(['known', 'up']);
});

test('what was read before layouts were forgotten is not kept: it may be older than the change', async () => {
  await using g = await green('CREATE TABLE up (id int PRIMARY KEY)');
  const [up] = (await g.targets('up')).map(({ relation }) => relation);
  if (up === undefined) throw new Error('a table');
  await using wire = new Wire(await connect(g.config, { applicationName: 'test' }));
  const layouts = new Layouts();
  const asked = layouts.of(wire, up);
  layouts.forget();
  await asked;
  await g.db.query('ALTER TABLE up ALTER id TYPE bigint');
  const [row] = await g.rows(KEY_OF_UP);
  expect((await layouts.of(wire, up)).columns[0]?.base).toBe(row);
});

test('columns that the server compares between rows: unique and exclusion constraints, and all where an expression is compared', async () => {
  await using g =
    await green(`CREATE TABLE plain (id int PRIMARY KEY, a int, b int, c int4range, UNIQUE (b), EXCLUDE USING gist (c WITH &&));
    CREATE INDEX ON plain (a);
    CREATE TABLE lower (id int PRIMARY KEY, a text, b text);
    CREATE UNIQUE INDEX ON lower (lower(a))`);
  const relations = (await g.targets('plain', 'lower')).map(({ relation }) => relation);
  await using wire = new Wire(await connect(g.config, { applicationName: 'test' }));
  const layouts = await new Layouts().all(wire, relations);
  expect(layouts.map(({ compared }) => [...compared])).toEqual([
    [0, 2, 3],
    [0, 1, 2],
  ]);
});
