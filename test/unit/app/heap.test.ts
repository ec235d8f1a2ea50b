import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const HEAP = new URL('../../../src/app/heap.ts', import.meta.url).href;

/** Rows that live as long as two groups, for a while; prints MB of the young generation and of the process. */
const churn = (bounded: boolean): string => `
  import { getHeapSpaceStatistics } from 'node:v8';
  ${bounded ? `const { boundHeap } = await import('${HEAP}'); boundHeap();` : ''}
  const kept = [];
  for (let turn = 0; turn < 60; turn++) {
    kept.push(Array.from({ length: 30_000 }, (_, n) => [String(n), 'value ' + n + turn]));
    if (kept.length > 5) kept.shift();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  console.log(Math.round(getHeapSpaceStatistics().find((space) => space.space_name === 'new_space').space_size / 2 ** 20));
`;

async function young(bounded: boolean): Promise<number> {
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--max-semi-space-size=64',
    '--input-type=module',
    '-e',
    churn(bounded),
  ]);
  return Number(stdout);
}

test('the young generation of the engine stays at half of what it could be', async () => {
  expect(await young(true)).toBeLessThanOrEqual(64);
  // Without the bound it is more: else the line above would prove nothing.
  expect(await young(false)).toBeGreaterThan(64);
});
