import { expect, test } from 'vitest';

import { runDemo } from '../../demo/mongodb/demo.ts';

test('a switch under load through HAProxy, and a rollback: every acknowledged transaction is on the serving side once', async () => {
  const phases: string[] = [];
  const { data, failures, tables, transactionsOnGreen, clientTransactionsOfRollback } = await runDemo({
    scale: 0.005,
    afterMs: 2_000,
    report: { phase: (text) => phases.push(text), progress: () => undefined, cutover: () => undefined },
  });
  const told = phases.join('\n');
  expect(failures, told).toEqual([]);
  expect(tables.filter(({ missing, extra }) => missing + extra > 0)).toEqual([]);
  const unharmed = { failedTransactions: 0, lostTransactions: 0, duplicatedTransactions: 0, differences: 0 };
  expect(data).toMatchObject({
    ...unharmed,
    activeSide: 'green',
    rollback: { ...unharmed, activeSide: 'blue' },
  });
  // Nobody would have noticed a proxy that was not there: each switch ends the connections of all clients.
  expect(data.reconnects).toBeGreaterThanOrEqual(8);
  expect(data.rollback.reconnects).toBeGreaterThanOrEqual(8);
  expect(data.clientTransactions).toBeGreaterThan(100);
  expect(transactionsOnGreen).toBeGreaterThan(0);
  expect(clientTransactionsOfRollback).toBeGreaterThan(0);
}, 300_000);
