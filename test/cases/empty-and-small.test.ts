import { expect, test } from 'vitest';
import { Run } from '../support/run.ts';

test('a table without rows, one with a single row, and sixty small ones together', async () => {
  const names = Array.from({ length: 60 }, (_, index) => `small_${index}`);
  const ddl = names.map((name) => `CREATE TABLE public.${name} (id int PRIMARY KEY, v text);`).join('\n');
  await using run = await Run.create({
    blue: `CREATE TABLE public.none (id int PRIMARY KEY, v text); CREATE TABLE public.one (id int PRIMARY KEY, v text); INSERT INTO public.one VALUES (1, 'a');
      ${ddl} ${names.map((name, index) => `INSERT INTO public.${name} SELECT g, 'v' || g FROM generate_series(1, ${index}) g;`).join('\n')}`,
    green: `CREATE TABLE public.none (id int PRIMARY KEY, v text); CREATE TABLE public.one (id int PRIMARY KEY, v text); ${ddl}`,
    tables: ['none', 'one', ...names].map((name) => `- from: public.${name}`).join('\n'),
  });
  await run.start();
  const all = ['none', 'one', ...names];
  const everything = all
    .map((name) => `SELECT '${name}' AS t, id::text, v FROM public.${name}`)
    .join(' UNION ALL ');
  expect(await run.compare(`SELECT * FROM (${everything}) x ORDER BY 1, 2`)).toHaveLength(1 + (59 * 60) / 2);
  await run.blue.query(
    `INSERT INTO public.none VALUES (1, 'first'); UPDATE public.one SET v = 'b'; DELETE FROM public.small_59 WHERE id = 1`,
  );
  await run.settled();
  expect(await run.compare(`SELECT * FROM (${everything}) x ORDER BY 1, 2`)).toContainEqual([
    'none',
    '1',
    'first',
  ]);
}, 60_000);
