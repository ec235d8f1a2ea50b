import { expect, test } from 'vitest';

import { demoThatHolds } from './demo-run.ts';

const CLIENTS = 8;

test(
  'the demo on MongoDB, smaller: clients connect anew twice, and nothing is lost',
  { timeout: 400_000 },
  async () => {
    const { facts, shown } = await demoThatHolds(['--engine', 'mongodb']);
    expect(facts).toMatchObject({
      blue: expect.stringMatching(/^MongoDB 8\.2\./),
      green: expect.stringMatching(/^MongoDB 8\.2\./),
    });
    // Each connection is ended at the switch, and at the rollback; a driver may try more than once.
    expect(facts.reconnects).toBeGreaterThanOrEqual(CLIENTS);
    expect(facts.rollback.reconnects).toBeGreaterThanOrEqual(CLIENTS);
    expect(shown).toContain('connections opened anew');
  },
);
