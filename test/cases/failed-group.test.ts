import { expect, test } from 'vitest';
import { HoldPoints, Run } from '../support/run.ts';
import { waitFor } from '../support/wait.ts';

test('a group never goes on top of one that failed: what follows a change that does not fit waits behind it (F11, F41)', async () => {
  const points = new HoldPoints();
  await using run = await Run.create({
    blue: `CREATE TABLE public.t (id int PRIMARY KEY, v varchar(9)); INSERT INTO public.t VALUES (1, 'a');`,
    green: 'CREATE TABLE public.t (id int PRIMARY KEY, v varchar(9));',
    tables: '- from: public.t',
  });
  await run.start({ failpoints: points });
  await run.green.query('ALTER TABLE public.t ALTER v TYPE varchar(3)');
  const sending = points.hold('apply.before-group');
  await run.blue.query(`UPDATE public.t SET v = 'too long' WHERE id = 1`);
  await sending;
  // The next group is complete when the one before it fails.
  const { transactions } = (await run.engine.status()).apply;
  const behind = await run.mark();
  await waitFor(async () => (await run.engine.status()).apply.transactions > transactions, {
    what: 'what follows to be read',
  });
  points.release('apply.before-group');
  await run.parked('SINK_FAILED');
  expect(await run.green.query('SELECT id FROM public.run_mark')).toEqual([]);
  await run.green.query('ALTER TABLE public.t ALTER v TYPE varchar(9)');
  await run.resume();
  await run.marked(behind);
  await run.compare('SELECT * FROM public.t');
});
