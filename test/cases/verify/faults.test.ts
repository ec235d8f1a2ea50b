import { expect, test } from 'vitest';
import { FAULTS, spelled } from './faults.ts';
import { breakGreen, churn, shop } from './shop.ts';

test('every seeded fault is found in one pass while 16 clients write, named by key and column, and repaired', async () => {
  await using run = await shop();
  await run.start();
  const migration = await run.engine.migration();
  const writers = churn(run, 16);
  await breakGreen(
    run,
    FAULTS.flatMap(({ sql }) => sql),
  );
  const first = await migration.verify({ mode: 'full' });
  expect(first.mismatches.map(spelled).sort()).toEqual(FAULTS.flatMap(({ found }) => found).sort());
  for (const { firstSeen, kind, key } of first.mismatches) {
    expect(Date.now() - Date.parse(firstSeen)).toBeLessThan(120_000);
    if (Object.keys(key).includes('row hash')) expect(kind).not.toBe('different');
  }

  const repair = await migration.repair({});
  const left = FAULTS.filter(({ repaired }) => !repaired).flatMap(({ found }) => found);
  expect(repair.report.mismatches.map(spelled).sort()).toEqual([...left].sort());
  expect(repair.refused).toMatchObject([{ table: 'shop.log', reason: 'shop.log has no key' }]);
  const again = await migration.verify({ mode: 'full' });
  expect(again.mismatches.map(spelled).sort()).toEqual([...left].sort());
  expect(await writers.stop()).toBeGreaterThan(500);
  expect((await run.engine.status()).apply.holes).toBe(0);
}, 180_000);
