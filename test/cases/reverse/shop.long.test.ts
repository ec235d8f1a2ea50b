import { expect, test } from 'vitest';
import { bulk, churn } from './churn.ts';
import { proveWayBack } from './proof.ts';
import { copiedShop } from './shop.ts';

test('F88: a million rows written on green come back to blue', async () => {
  await using run = await copiedShop(1);
  await proveWayBack(run, async () => {
    expect(await bulk(run.green.client, { rows: 1_000_000 })).toBeGreaterThanOrEqual(1_000_000);
    expect(await churn(run.green.client, { seed: Date.now(), transactions: 5_000 })).toBeGreaterThan(3_000);
  });
});
