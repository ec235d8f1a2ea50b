import { expect, test } from 'vitest';
import { Run } from '../../support/run.ts';
import { WayBack } from './way-back.ts';

test('F88: a row of green that blue cannot hold is shown by key, stays on blue as it was, and arrives once it fits', async () => {
  await using run = await Run.create({
    blue: `CREATE TABLE public.account (id int PRIMARY KEY, name text NOT NULL, points int NOT NULL, internal text DEFAULT 'new', kind text NOT NULL DEFAULT 'a'); ALTER TABLE public.account REPLICA IDENTITY FULL;
      INSERT INTO public.account SELECT g, 'N ' || g, g, 'only blue has ' || g FROM generate_series(1, 20) g;
      INSERT INTO public.account VALUES (50, 'kept from green', 1, 'hidden', 'z');`,
    green: `CREATE TABLE public.account (id bigint PRIMARY KEY, name text NOT NULL, points bigint NOT NULL, kind text NOT NULL DEFAULT 'a');`,
    tables: `
- from: public.account
  when: row.kind != "z"
  to:
    - table: public.account
      columns: { id: { from: id, cast: bigint }, name: copy, points: { from: points, cast: bigint }, kind: copy }
      drop: [internal]`,
  });
  await run.start();
  await run.settled();
  await run.stop();
  await using way = await WayBack.open(run);
  const onBlue = (where: string): Promise<(string | null)[][]> =>
    run.rows('blue', `SELECT id, name, points, internal FROM public.account WHERE ${where} ORDER BY id`);
  const write = async (sql: string): Promise<void> => {
    await run.green.query(sql);
    await way.settled();
  };
  expect(way.pipeline.fit).toMatchObject({ fits: true, misfits: 0 });

  await write(`BEGIN; UPDATE public.account SET name = 'changed' WHERE id = 3; UPDATE public.account SET points = 5000000000 WHERE id IN (3, 4);
    UPDATE public.account SET name = 'later' WHERE id = 4; UPDATE public.account SET id = 70 WHERE id = 4; COMMIT`);
  expect(way.pipeline.fit).toMatchObject({
    fits: false,
    misfits: 2,
    first: { key: ['3'], column: 'points' },
  });
  expect(way.pipeline.fit.first?.reason).not.toContain('5000000000');
  expect(await onBlue('id IN (3, 4, 70)')).toEqual([
    ['3', 'changed', '3', 'only blue has 3'],
    ['70', 'N 4', '4', 'only blue has 4'],
  ]);

  // A new row whose key is too large is nowhere on blue.
  await write(`INSERT INTO public.account VALUES (3000000000, 'far', 1, 'a')`);
  expect(way.pipeline.fit.misfits).toBe(3);
  await write(`DELETE FROM public.account WHERE id = 3000000000`);
  await write(`UPDATE public.account SET points = 7 WHERE id IN (3, 70)`);
  expect(way.pipeline.fit).toEqual({ fits: true, misfits: 0, blocked: false, first: null });
  expect(await onBlue('id IN (3, 70)')).toEqual([
    ['3', 'changed', '7', 'only blue has 3'],
    ['70', 'later', '7', 'only blue has 4'],
  ]);

  // A row that blue would keep from green on the way there.
  await write(`UPDATE public.account SET kind = 'z' WHERE id = 5`);
  expect(way.pipeline.fit).toMatchObject({ fits: false, first: { key: ['5'], column: 'when' } });
  await write(`UPDATE public.account SET kind = 'b' WHERE id = 5`);
  expect(way.pipeline.fit.fits).toBe(true);
  await run.compare('SELECT id, name, points, kind FROM public.account WHERE id <> 50 ORDER BY id');
});

test('F88: a new row of green with a key that blue has in a row green never saw does not fit, and is not written over it', async () => {
  await using run = await Run.create({
    blue: `CREATE TABLE public.account (id int PRIMARY KEY, kind text NOT NULL); ALTER TABLE public.account REPLICA IDENTITY FULL; INSERT INTO public.account VALUES (1, 'a'), (50, 'z');`,
    green: `CREATE TABLE public.account (id bigint PRIMARY KEY, kind text NOT NULL);`,
    tables: `
- from: public.account
  when: row.kind != "z"
  to: [{ table: public.account, columns: { id: { from: id, cast: bigint }, kind: copy } }]`,
  });
  await run.start();
  await run.settled();
  await run.stop();
  await using way = await WayBack.open(run);
  await run.green.query(`INSERT INTO public.account VALUES (50, 'b')`);
  await way.blocked();
  expect(way.pipeline.fit).toMatchObject({
    fits: false,
    blocked: true,
    first: { table: 'public.account', key: ['50'] },
  });
  expect(await run.rows('blue', 'SELECT id, kind FROM public.account ORDER BY id')).toEqual([
    ['1', 'a'],
    ['50', 'z'],
  ]);
  // Once green has another key for it, the stream goes on where it stopped.
  await run.green.query(`UPDATE public.account SET id = 51 WHERE id = 50`);
  await run.blue.query(`DELETE FROM public.account WHERE id = 50`);
  way.pipeline.resume();
  await way.settled();
  expect(way.pipeline.fit.fits).toBe(true);
  expect(await run.rows('blue', 'SELECT id, kind FROM public.account ORDER BY id')).toEqual([
    ['1', 'a'],
    ['51', 'b'],
  ]);
});
