import { expect, test } from 'vitest';
import { Run } from '../../support/run.ts';

const ROWS = 1_000_000;

/** Copy and verification of the same untouched table, engine and servers on one machine. */
test('verification of an unchanged table takes at most half the time of its copy', async () => {
  const table = (name: string): string =>
    `CREATE TABLE ${name} (id bigint PRIMARY KEY, owner int NOT NULL, amount numeric(12,2) NOT NULL, at timestamptz NOT NULL, note text);`;
  await using run = await Run.create({
    blue: table('public.entry'),
    green: table('public.entry'),
    tables: '- from: public.entry',
    settings: 'copy: { workers: 2, chunk: { max_rows: 50000 } }',
  });
  await run.blue.query(
    `INSERT INTO public.entry SELECT g, g % 1000, g / 100.0, now(), repeat('n', 40 + g % 60) FROM generate_series(1, ${ROWS}) g`,
  );
  await run.blue.query('VACUUM ANALYZE public.entry');
  const started = performance.now();
  let copied = 0;
  await run.begin();
  const off = run.engine.on('phase', (phase) => {
    if (phase === 'catching_up' && copied === 0) copied = performance.now() - started;
  });
  await run.started();
  const total = performance.now() - started;
  off();
  const copyMs = copied === 0 ? total : copied;
  const report = await run.engine.verify({ mode: 'full' });
  expect(report).toMatchObject({ ok: true, rows: ROWS });
  const verifyMs = report.seconds * 1000;
  const rate = (ms: number): number => Math.round(ROWS / (ms / 1000));
  console.log(
    `copy ${rate(copyMs)} rows/s (${Math.round(copyMs)} ms), verification ${rate(verifyMs)} rows/s (${Math.round(verifyMs)} ms)`,
  );
  expect(verifyMs).toBeLessThan(copyMs / 2);
}, 600_000);
