import { expect, test } from 'vitest';
import { createEngine, loadConfig, type Phase } from '../../src/index.ts';
import { createDatabase } from '../support/databases.ts';
import { Workplace } from '../support/engine-process.ts';

test('a migration driven by a program, as the README shows it', async () => {
  await using blue = await createDatabase(16);
  await using green = await createDatabase(18);
  await blue.query('CREATE TABLE item (id integer PRIMARY KEY, name text)');
  await blue.query(`INSERT INTO item SELECT g, 'item ' || g FROM generate_series(1, 500) g`);
  await green.query('CREATE TABLE item (id bigint PRIMARY KEY, name text)');
  await using workplace = await Workplace.create({
    'verdigris.yaml': `version: 1
migration: items
blue: { engine: postgres, url: "${blue.url}" }
green: { engine: postgres, url: "${green.url}" }
gates: { stable_for: 1s }
tables:
  - from: public.item
    to: [{ table: public.item, columns: { '*': copy, id: { from: id, cast: bigint } } }]
`,
  });

  const phases: Phase[] = [];
  await using engine = createEngine(await loadConfig(workplace.file));
  engine.on('phase', (phase) => phases.push(phase));
  const plan = await engine.plan();
  await engine.start({ plan });
  for await (const status of engine.watch({ everyMs: 200 })) {
    if (status.gates.ready) break;
  }
  const verified = await engine.verify({ mode: 'full' });
  expect(verified).toMatchObject({ ok: true, rows: 500 });
  for await (const mismatch of verified.mismatches) expect.unreachable(mismatch.table);
  await expect(engine.cutover({ planHash: plan.hash, confirm: 'wrong' })).rejects.toMatchObject({
    code: 'CONFIRMATION',
  });
  await expect(engine.cutover({ planHash: 'stale', confirm: 'items' })).rejects.toMatchObject({
    code: 'PLAN_STALE',
  });
  const result = await engine.cutover({ planHash: plan.hash, confirm: 'items' });
  expect(result).toMatchObject({ outcome: 'switched', error: null });
  // However short they were.
  const wanted = ['preparing', 'copying', 'catching_up', 'replicating', 'cutting_over', 'reversing'];
  expect(phases).toEqual(wanted);
  expect(await green.query('SELECT count(*)::int AS n FROM item')).toEqual([{ n: 500 }]);
  await expect(blue.query('DELETE FROM item')).rejects.toThrow(/fenced|no writes/);
  await (await engine.migration()).finish({ keepState: false });
}, 120_000);
