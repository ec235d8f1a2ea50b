import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { HoldPoints, Run } from '../support/run.ts';
import { waitFor } from '../support/wait.ts';

const SMALL = {
  blue: 'CREATE TABLE public.t (id int PRIMARY KEY, v int); INSERT INTO public.t SELECT g, g FROM generate_series(1, 50) g;',
  green: 'CREATE TABLE public.t (id int PRIMARY KEY, v int);',
  tables: '- from: public.t',
};
const slotsOf = (run: Run): Promise<unknown[]> =>
  run.blue.query('SELECT 1 FROM pg_replication_slots WHERE database = current_database()');

test('an abort while the engine makes what it needs on blue: no slot is left to hold the log', async () => {
  const points = new HoldPoints();
  await using run = await Run.create(SMALL);
  const about = points.hold('prepare.after-preflight');
  await run.begin({ failpoints: points });
  await about;
  const migration = await run.engine.migration();
  const aborted = migration.abort({ dropGreenData: false });
  aborted.catch(() => undefined);
  // It must not come to an end here; where it does, that takes some 100 ms.
  await Promise.race([aborted, sleep(1_000)]);
  points.release('prepare.after-preflight');
  await aborted;
  await run.started();
  expect(await run.engine.status()).toMatchObject({ phase: 'aborted' });
  expect(await slotsOf(run)).toEqual([]);
});

test('an abort while the engine is about to read the log: the run ends as aborted, and nothing reads or is left behind', async () => {
  const points = new HoldPoints();
  await using run = await Run.create(SMALL);
  const about = points.hold('copying.entered');
  await run.begin({ failpoints: points });
  await about;
  // The abort gets as far as the state of green: the slot is gone by then.
  const locker = await run.green.connect();
  await locker.query('BEGIN; LOCK TABLE verdigris.checkpoint IN SHARE MODE');
  const aborted = (await run.engine.migration()).abort({ dropGreenData: false });
  aborted.catch(() => undefined);
  await waitFor(async () => (await slotsOf(run)).length === 0, { what: 'the slot to be dropped' });
  points.release('copying.entered');
  await run.started();
  await locker.query('COMMIT');
  await locker.end();
  await aborted;
  await run.engine.ended();
  expect(await run.engine.status()).toMatchObject({ phase: 'aborted' });
  expect(await slotsOf(run)).toEqual([]);
});
