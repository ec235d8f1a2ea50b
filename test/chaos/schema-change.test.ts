import { expect, test } from 'vitest';
import { createDatabase } from '../support/databases.ts';
import { Workplace } from '../support/engine-process.ts';

const TABLE = 'CREATE TABLE public.item (id int PRIMARY KEY, note text)';

test('F28: a layout change inside a transaction that comes in parts parks before it; nothing of it is on green', async () => {
  await using blue = await createDatabase(16);
  await using green = await createDatabase(18);
  await blue.query(TABLE);
  await blue.query(`INSERT INTO public.item VALUES (1, 'before')`);
  await using place = await Workplace.create({
    'green.sql': TABLE,
    'verdigris.yaml': `version: 1
migration: parts
blue: { engine: postgres, url: "${blue.url}" }
green: { engine: postgres, url: "${green.url}", schema_file: ./green.sql }
apply: { max_transaction: 64KiB }
verify: { after_copy: "off" }
tables:
  - from: public.item
    to: [{ table: public.item }]
`,
  });
  const engine = place.start();
  await engine.until('it replicates', (status) => status.phase === 'replicating');
  await blue.query(`INSERT INTO public.item VALUES (2, 'also before')`);
  await blue.query('BEGIN');
  await blue.query(`INSERT INTO public.item SELECT g, repeat('x', 100) FROM generate_series(10, 5000) g`);
  await blue.query('ALTER TABLE public.item ADD COLUMN extra int');
  await blue.query(`INSERT INTO public.item SELECT g, 'y', 1 FROM generate_series(5001, 9000) g`);
  await blue.query('COMMIT');
  const parked = await engine.until(
    'it is parked',
    (status) => status.error?.code === 'SCHEMA_CHANGED',
    30_000,
  );
  expect(parked).toMatchObject({ condition: 'blocked', phase: 'replicating' });
  expect(parked.reason).toContain('public.item');
  expect(await green.query('SELECT id, note FROM public.item ORDER BY id')).toEqual([
    { id: 1, note: 'before' },
    { id: 2, note: 'also before' },
  ]);
  expect(await engine.kill('SIGTERM')).toBe(143);
});
