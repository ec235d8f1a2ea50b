import { expect, test } from 'vitest';
import { HoldPoints, Run } from '../../support/run.ts';
import { waitFor } from '../../support/wait.ts';

const TABLE = 'CREATE TABLE public.item (id int PRIMARY KEY, v int NOT NULL)';

test('a table of blue that is written anew changes values without a row in the log: the gate shuts, the fence notices, a verification finds them', async () => {
  await using run = await Run.create({
    blue: `${TABLE}; INSERT INTO public.item SELECT g, g FROM generate_series(1, 300) g`,
    green: TABLE,
    tables: '- from: public.item',
    settings:
      'verify: { after_copy: "off" }\napply: { heartbeat: 200ms }\ngates: { stable_for: 200ms, max_commit_lag: 10s }\n',
  });
  const points = new HoldPoints();
  await run.start({ failpoints: points });
  expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
  const gate = async () => (await run.engine.status()).gates.find(({ name }) => name === 'verified');
  await waitFor(async () => (await run.engine.status()).gates.every(({ ok }) => ok), {
    what: 'every gate to open',
  });

  // After the gates were looked at: only the look under the fence is left to notice it.
  const reached = points.hold('cutover.step.pause.before');
  const { hash } = await run.engine.plan();
  const report = run.engine.cutover({ planHash: hash, confirm: run.name });
  await reached;
  await run.blue.query('ALTER TABLE public.item ALTER v TYPE int USING v * 2');
  points.release('cutover.step.pause.before');
  expect(await report).toMatchObject({ outcome: 'undone' });
  expect((await report).steps.find(({ outcome }) => outcome === 'failed')?.name).toBe('recheck');

  await waitFor(async () => (await gate())?.ok === false, { what: 'the gate to shut' });
  expect((await run.engine.status()).verify.detail).toMatch(/written anew/);
  // A look at recent changes only must not bring the trust back.
  const recent = await run.engine.verify({ mode: 'recent' });
  expect(recent).toMatchObject({ ok: false });
  expect(recent.tables.find(({ table }) => table === 'public.item')).toMatchObject({ differences: 300 });
}, 120_000);
