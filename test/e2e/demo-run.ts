import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import { expect } from 'vitest';

import { envelopeSchema } from '../../src/app/envelope.ts';
import type { DemoData } from '../demo/result.ts';

const RUN = fileURLToPath(new URL('../demo/run.ts', import.meta.url));

/** Runs the demo in a process of its own, small; it must have held. What it printed is in the message of a failure. */
export async function demoThatHolds(args: readonly string[]): Promise<{ facts: DemoData; shown: string }> {
  const child = spawn(process.execPath, [RUN, '--json', '--scale', '0.05', '--after', '3', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  const last = out.trimEnd().split('\n').at(-1) ?? '';
  expect(last, err).toMatch(/^\{/);
  const { data, ok, kind, error } = envelopeSchema.parse(JSON.parse(last));
  expect({ ok, kind, error, code }, `${out}\n${err}`).toEqual({
    ok: true,
    kind: 'Demo',
    error: null,
    code: 0,
  });
  const facts = data as DemoData;
  expect(facts).toMatchObject({
    failedTransactions: 0,
    lostTransactions: 0,
    duplicatedTransactions: 0,
    differences: 0,
    activeSide: 'green',
    rollback: {
      activeSide: 'blue',
      failedTransactions: 0,
      lostTransactions: 0,
      duplicatedTransactions: 0,
      differences: 0,
    },
  });
  expect(facts.rows).toBeGreaterThan(15_000);
  expect(facts.clientTransactions).toBeGreaterThan(500);
  expect(facts.copyRowsPerSecond).toBeGreaterThan(0);
  // The pause is real: what was measured cannot be nothing, nor longer than what the engine may take.
  for (const { writePauseMs } of [facts, facts.rollback]) {
    expect(writePauseMs).toBeGreaterThan(0);
    expect(writePauseMs).toBeLessThan(12_000);
  }
  return { facts, shown: out };
}
