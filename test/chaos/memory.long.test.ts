import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { createDatabase } from '../support/databases.ts';
import { Workplace } from '../support/engine-process.ts';
import { waitFor } from '../support/wait.ts';

const TABLE = 'CREATE TABLE public.item (id bigint PRIMARY KEY, note text NOT NULL)';

test('F10: a sink stopped for a minute under load stays under 512 MB', async () => {
  await using blue = await createDatabase(16);
  await using green = await createDatabase(18);
  await blue.query(TABLE);
  await using place = await Workplace.create({
    'green.sql': TABLE,
    'verdigris.yaml': `version: 1
migration: minute
blue: { engine: postgres, url: "${blue.url}" }
green: { engine: postgres, url: "${green.url}", schema_file: ./green.sql }
verify: { after_copy: "off" }
tables:
  - from: public.item
    to: [{ table: public.item }]
`,
  });
  const engine = place.start();
  await engine.until('it replicates', (status) => status.phase === 'replicating');
  const holder = await green.connect();
  await holder.query('BEGIN');
  await holder.query('LOCK TABLE public.item IN ACCESS EXCLUSIVE MODE');
  const end = performance.now() + 60_000;
  let rows = 0;
  for (; performance.now() < end; rows += 200) {
    await blue.query(
      `INSERT INTO public.item SELECT $1::bigint + g, repeat('x', 500) FROM generate_series(1, 200) g`,
      [rows],
    );
  }
  await holder.query('ROLLBACK');
  await waitFor(
    async () =>
      (await green.query<{ n: string }>('SELECT count(*) AS n FROM public.item'))[0]?.n === String(rows),
    { what: 'all rows on green', timeoutMs: 300_000, everyMs: 500 },
  );
  const status = await readFile(`/proc/${engine.pid}/status`, 'utf8');
  expect(Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1024).toBeLessThan(512);
  await engine.kill('SIGTERM');
});
