import { expect, test } from 'vitest';
import { churn, shop } from './shop.ts';

test('dbg', async () => {
  await using run = await shop();
  await run.start();
  const quiet = await run.engine.verify({ mode: 'full' });
  console.log(JSON.stringify(quiet));
  const writers = churn(run, 16);
  const busy = await run.engine.verify({ mode: 'full' });
  console.log(await writers.stop(), JSON.stringify(busy));
  const m = []; for await (const x of busy.mismatches) m.push(x);
  console.log(JSON.stringify(m.slice(0,20)));
  expect(busy.ok).toBe(true);
}, 120_000);
