import { expect } from 'vitest';
import { churn, ROWS, shop, STILL } from './shop.ts';

/**
 * Rounds of every mode one after the other while 16 clients write, and the stream stands still now and then so that much is on its
 * way: nothing is ever found that is not there.
 */
export async function nothingFound(forMs: number): Promise<void> {
  await using run = await shop();
  await run.start();
  const migration = await run.engine.migration();
  // Rows that never change have no part in it: all of it is hot.
  for (const table of ['account', 'person', 'orders', 'product'])
    await run.blue.query(`DELETE FROM public.${table} WHERE id <= ${STILL}`);
  const writers = churn(run, 16);
  const until = performance.now() + forMs;
  let rounds = 0;
  while (performance.now() < until) {
    const mode = rounds % 3 === 1 ? 'recent' : 'full';
    const verified = migration.verify({ mode });
    if (rounds % 2 === 1) {
      await migration.pause('apply', 'test');
      await new Promise((resolve) => setImmediate(resolve));
      const { queueBytes } = (await migration.status()).apply;
      expect(queueBytes).toBeGreaterThanOrEqual(0);
      await migration.resume('apply');
    }
    const report = await verified;
    expect(report.mismatches, `round ${rounds} (${mode})`).toEqual([]);
    if (mode === 'full') expect(report.rows).toBeGreaterThan(ROWS);
    rounds += 1;
  }
  expect(await writers.stop()).toBeGreaterThan(forMs / 100);
  expect(rounds).toBeGreaterThan(1);
  await run.settled();
  expect(await migration.verify({ mode: 'full' })).toMatchObject({
    ok: true,
    tables: expect.not.arrayContaining([expect.objectContaining({ unsettled: 1 })]) as unknown,
  });
}
