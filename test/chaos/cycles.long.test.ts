import { expect, test } from 'vitest';
import { cycle } from './cycles.ts';

test('two hundred times there and back under 16 clients: none failed, none lost, none twice', async () => {
  const report = await cycle(200);
  console.info(`cycles: ${JSON.stringify(report)}`);
  expect(report.pause.p99).toBeLessThan(500);
}, 3_600_000);
