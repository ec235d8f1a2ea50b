import { expect, test } from 'vitest';
import { HoldPoints, Run } from '../support/run.ts';
import { waitFor } from '../support/wait.ts';

test('an abort while the engine is about to read the log: the run ends as aborted, and nothing reads or is left behind', async () => {
  const points = new HoldPoints();
  await using run = await Run.create({
    blue: 'CREATE TABLE public.t (id int PRIMARY KEY, v int); INSERT INTO public.t SELECT g, g FROM generate_series(1, 50) g;',
    green: 'CREATE TABLE public.t (id int PRIMARY KEY, v int);',
    tables: '- from: public.t',
  });
  const about = points.hold('copying.entered');
  await run.begin({ failpoints: points });
  await about;
  // The abort gets as far as the state of green: the slot is gone by then.
  const locker = await run.green.connect();
  await locker.query('BEGIN; LOCK TABLE verdigris.checkpoint IN SHARE MODE');
  const aborted = (await run.engine.migration()).abort({ dropGreenData: false });
  aborted.catch(() => undefined);
  const slots = (): Promise<unknown[]> =>
    run.blue.query('SELECT 1 FROM pg_replication_slots WHERE database = current_database()');
  await waitFor(async () => (await slots()).length === 0, { what: 'the slot to be dropped' });
  points.release('copying.entered');
  await run.started();
  await locker.query('COMMIT');
  await locker.end();
  await aborted;
  await run.engine.ended();
  expect(await run.engine.status()).toMatchObject({ phase: 'aborted' });
  expect(await slots()).toEqual([]);
});
