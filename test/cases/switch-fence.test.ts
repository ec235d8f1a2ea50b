import { expect, test } from 'vitest';
import { startPostgres } from '../support/postgres.ts';
import { Run } from '../support/run.ts';
import { waitFor } from '../support/wait.ts';

/** Writers that are there when the switch comes, through a whole run. */

const SMALL = {
  blue: `CREATE TABLE public.t (id int PRIMARY KEY, v text); CREATE TABLE public.other (id int); INSERT INTO public.t VALUES (1, 'a');`,
  green: 'CREATE TABLE public.t (id int PRIMARY KEY, v text);',
  tables: '- from: public.t\n- from: public.other\n  ignore: true',
  settings: 'gates: { stable_for: 1ms, max_transaction_age: 10m }',
};
const STATE = 'SELECT id, v FROM public.t ORDER BY id';

/** Switches; the gates that only time opens are passed over. */
async function cutover(run: Run): Promise<Awaited<ReturnType<Run['engine']['cutover']>>> {
  const plan = await run.engine.plan();
  const overrides = (['lag-stable', 'verified'] as const).map((gate) => ({ gate, reason: 'test' }));
  return run.engine.cutover({ planHash: plan.hash, confirm: run.name, overrides });
}

test('rr-transaction-older-than-fence: a transaction that began before the switch cannot write behind it', async () => {
  await using run = await Run.create(SMALL);
  await run.start();
  const old = await run.blue.connect();
  await old.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  await old.query('SELECT count(*) FROM public.other');
  expect(await cutover(run)).toMatchObject({ outcome: 'switched', error: null });
  await expect(old.query(`INSERT INTO public.t VALUES (2, 'late')`)).rejects.toThrow();
  await run.compare(STATE);
  await run.green.query(`INSERT INTO public.t VALUES (3, 'green serves')`);
});

test('commit-prepared-after-fence: a prepared transaction keeps the gate shut, and is on green once it was committed', async () => {
  await using run = await Run.create(SMALL);
  await run.start();
  await run.blue.query(
    `BEGIN; INSERT INTO public.t VALUES (2, 'prepared'); PREPARE TRANSACTION '${run.name}'`,
  );
  await expect(cutover(run)).rejects.toMatchObject({ code: 'CUTOVER_GATE' });
  expect((await run.engine.status()).phase).toBe('replicating');
  await run.blue.query(`COMMIT PREPARED '${run.name}'`);
  await run.settled();
  await waitFor(async () => (await cutover(run)).outcome === 'switched', {
    what: 'the switch',
    everyMs: 500,
  });
  expect(await run.compare(STATE)).toHaveLength(2);
});

test('fence-during-autovacuum: a vacuum of a mapped table does not hold the switch up', async () => {
  await using server = await startPostgres({
    version: 16,
    settings: {
      autovacuum_naptime: '1s',
      autovacuum_vacuum_cost_delay: '100ms',
      autovacuum_vacuum_cost_limit: '1',
      autovacuum_vacuum_threshold: '1',
      autovacuum_vacuum_scale_factor: '0',
      deadlock_timeout: '5s',
    },
  });
  await using run = await Run.create({ ...SMALL, blueOn: server });
  await run.start();
  await run.blue.query(`INSERT INTO public.t SELECT g, repeat('x', 500) FROM generate_series(10, 20000) g`);
  await run.blue.query('DELETE FROM public.t WHERE id % 2 = 0');
  await run.settled();
  await waitFor(
    () =>
      run.blue
        .query(
          `SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.relation = 'public.t'::regclass AND l.mode = 'ShareUpdateExclusiveLock'
             AND l.granted AND a.backend_type = 'autovacuum worker'`,
        )
        .then((rows) => rows.length > 0),
    { what: 'an autovacuum of the table' },
  );
  const report = await cutover(run);
  expect(report).toMatchObject({ outcome: 'switched', error: null });
  // The vacuum alone would have taken minutes, and waiting for the server's own look at deadlocks five seconds.
  expect(report.steps.find((step) => /fence/.test(step.name))?.ms).toBeLessThan(4_000);
  await run.compare('SELECT count(*), sum(id) FROM public.t');
}, 90_000);
