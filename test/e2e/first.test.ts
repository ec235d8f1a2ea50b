import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createEngine } from '../../src/app/engine.ts';
import { loadConfig } from '../../src/app/load.ts';
import { createDatabase } from '../support/databases.ts';

test('copy, stream, verify and switch', async () => {
  await using blue = await createDatabase(16);
  await using green = await createDatabase(18);
  await blue.query(`CREATE TABLE public.item (id int PRIMARY KEY, name text NOT NULL UNIQUE, note text)`);
  await blue.query(`INSERT INTO public.item SELECT g, 'item ' || g, repeat('x', 20) FROM generate_series(1, 5000) g`);
  const dir = await mkdtemp(join(tmpdir(), 'verdigris-test-'));
  const out = (level: string) => (fields: unknown, text: string) => console.log(level, text, JSON.stringify(fields));
  const log = { debug: () => undefined, info: out('info'), warn: out('warn'), error: out('error'), child: () => log };
  await writeFile(join(dir, 'green.sql'), `CREATE SCHEMA shop; CREATE TABLE shop.item (id bigint PRIMARY KEY, name text NOT NULL UNIQUE, note text);`);
  await writeFile(
    join(dir, 'verdigris.yaml'),
    `version: 1
migration: first
blue: { engine: postgres, url: "${blue.url}" }
green: { engine: postgres, url: "${green.url}", schema_file: ./green.sql }
copy: { chunk: { max_rows: 1000 } }
gates: { stable_for: 1s }
tables:
  - from: public.item
    to:
      - table: shop.item
        columns: { "*": copy, id: { from: id, cast: bigint } }
`,
  );
  const loaded = await loadConfig(join(dir, 'verdigris.yaml'));
  const engine = createEngine(loaded, { logger: log as never });
  try {
    let stop = false;
    const writer = (async () => {
      for (let i = 0; !stop; i++) {
        await blue.query('UPDATE public.item SET note = $1 WHERE id = $2', [`n${i}`, 1 + (i % 5000)]);
        await blue.query('INSERT INTO public.item VALUES ($1, $2)', [10_000 + i, `new ${i}`]);
      }
    })();
    writer.catch(() => undefined);
    const plan = await engine.plan();
    console.log(JSON.stringify(plan.checks.filter((c) => c.outcome !== 'ok').map((c) => [c.id, c.level, c.outcome, c.observed])));
    await engine.start();
    const status = await engine.status();
    console.log(JSON.stringify(status));
    const report = await engine.verify({ mode: 'full' }).catch((e: unknown) => e);
    console.log(report);
    for (;;) {
      const s = await engine.status();
      if (s.gates.every((g) => g.ok)) break;
      console.log(JSON.stringify(s.gates.filter((g) => !g.ok)));
      await new Promise((r) => setTimeout(r, 500));
    }
    stop = true;
    await writer;
    const result = await engine.cutover({ planHash: plan.hash, confirm: 'first' });
    console.log(JSON.stringify(result.steps.map((s) => [s.name, s.outcome, s.ms, s.detail])), result.error);
    expect(result.outcome).toBe('switched');
    const left = await blue.query('SELECT count(*)::int AS n, sum(hashtext(id::text || name || coalesce(note, \'\')))::text AS h FROM public.item');
    const right = await green.query('SELECT count(*)::int AS n, sum(hashtext(id::text || name || coalesce(note, \'\')))::text AS h FROM shop.item');
    expect(right).toEqual(left);
  } finally {
    await engine.close();
    await rm(dir, { recursive: true, force: true });
  }
}, 120_000);
