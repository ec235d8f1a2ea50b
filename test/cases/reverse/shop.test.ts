import { expect, test } from 'vitest';
import { churn } from './churn.ts';
import { proveWayBack } from './proof.ts';
import { copiedShop } from './shop.ts';

test('F88: what an application writes on green in the new schema comes back to blue, and only that', async () => {
  await using run = await copiedShop(0.02);
  await proveWayBack(run, async () => {
    const committed = await churn(run.green.client, { seed: 20_261_125, transactions: 600 });
    expect(committed).toBeGreaterThan(400);
  });
}, 180_000);
