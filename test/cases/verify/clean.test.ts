import { expect, test } from 'vitest';
import { churn, shop } from './shop.ts';

test('dbg', async () => {
  await using run = await shop();
  const log = (l: string) => (f: object, m: string) => process.stderr.write(`${l} ${m} ${JSON.stringify(f)}\n`);
  const logger = { debug: log('d'), info: log('i'), warn: log('w'), error: log('e'), child: () => logger };
  const t = setInterval(() => void run.engine.status().then((s) => process.stderr.write(JSON.stringify([s.phase, s.condition, s.reason, s.copy, s.verify, s.error, s.apply]) + '\n')), 3000);
  try {
  await run.start({ logger: logger as never });
  const quiet = await run.engine.verify({ mode: 'full' });
  console.log(JSON.stringify(quiet));
  const writers = churn(run, 16);
  const busy = await run.engine.verify({ mode: 'full' });
  console.log(await writers.stop(), JSON.stringify(busy));
  const m = []; for await (const x of busy.mismatches) m.push(x);
  console.log(JSON.stringify(m.slice(0,20)));
  expect(busy.ok).toBe(true);
  } finally { clearInterval(t); }
}, 30_000);
