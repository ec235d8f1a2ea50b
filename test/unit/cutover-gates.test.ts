import { describe, expect, test } from 'vitest';
import { GATES, type GateName } from '../../src/core/gate.ts';
import {
  closedGates,
  evaluateGates,
  NOT_OVERRIDABLE,
  type GateFacts,
  type GateLimits,
} from '../../src/cutover/gates.ts';

const limits: GateLimits = {
  maxCommitLagMs: 2_000,
  stableForMs: 60_000,
  roundTripMs: 1_000,
  verifiedWithinMs: 1_800_000,
  maxTransactionAgeMs: 20_000,
  maxRejects: 0,
  maxWritePauseMs: 10_000,
};

const report = { name: 'pgbouncer', version: '1.25', holdsForMs: 120_000, findings: [] } as const;
const proxy = { name: 'pgbouncer', route: { to: 'blue', paused: false }, report } as const;

const good: GateFacts = {
  from: 'blue',
  wayBack: [],
  lagMs: 2_000,
  lagStableForMs: 60_000,
  roundTripMs: 12,
  copyComplete: true,
  holes: 0,
  verification: { ageMs: 60_000, differences: 0 },
  rejects: 0,
  foreignWrites: { blind: null, count: 0, named: [] },
  oldestTransactionMs: 0,
  ddlInProgress: [],
  source: {
    state: 'reserved',
    ok: true,
    retainedBytes: 1,
    limitBytes: 2,
    oldestTransactionSeconds: 0,
    detail: '',
  },
  unmatchedCounters: [],
  invalidIndexes: [],
  unvalidatedConstraints: [],
  tablesWithoutStatistics: [],
  proxies: [proxy],
  rehearsed: null,
  approvals: null,
  window: null,
};

const shut = (facts: Partial<GateFacts>): string[] =>
  evaluateGates({ ...good, ...facts }, limits).flatMap((gate) =>
    gate.ok ? [] : [`${gate.name}: ${gate.reason}`],
  );

describe('gates', () => {
  test('all twenty, in the order of their names, each with what was observed and its limit', () => {
    const results = evaluateGates(good, limits);
    expect(results.map((gate) => gate.name)).toEqual([...GATES]);
    for (const gate of results) {
      expect(gate).toMatchObject({ ok: true, reason: '' });
      expect(gate.observed).not.toBe('');
      expect(gate.limit).not.toBe('');
    }
  });

  const unknown: [Partial<GateFacts>, GateName][] = [
    [{ lagMs: null }, 'lag'],
    [{ lagStableForMs: null }, 'lag-stable'],
    [{ roundTripMs: null }, 'round-trip'],
    [{ copyComplete: null }, 'copy-complete'],
    [{ holes: null }, 'copy-complete'],
    [{ verification: { ageMs: null, differences: 0 } }, 'verified'],
    [{ verification: { ageMs: 0, differences: null } }, 'differences'],
    [{ rejects: null }, 'rejects'],
    [{ oldestTransactionMs: null }, 'long-transactions'],
    [{ ddlInProgress: null }, 'ddl'],
    [{ source: null }, 'source-health'],
    [{ unmatchedCounters: null }, 'counters'],
    [{ invalidIndexes: null }, 'indexes'],
    [{ unvalidatedConstraints: null }, 'constraints'],
    [{ tablesWithoutStatistics: null }, 'statistics'],
    [{ proxies: [{ ...proxy, route: null }] }, 'proxies'],
    [{ proxies: [{ ...proxy, report: null }] }, 'proxies'],
  ];
  test.each(unknown)('what is not known (%j) keeps its gate %s shut, with a reason', (facts, name) => {
    const closed = evaluateGates({ ...good, ...facts }, limits).filter((gate) => !gate.ok);
    expect(closed.map((gate) => gate.name)).toEqual([name]);
    expect(closed[0]?.reason).not.toBe('');
  });

  test('what is past its limit keeps its gate shut and says by how much', () => {
    expect(shut({ lagMs: 2_001 })).toEqual(['lag: the lag is 2.0 s']);
    expect(shut({ lagStableForMs: 59_999 })).toEqual([
      'lag-stable: the lag has been within its limit for 60.0 s only',
    ]);
    expect(shut({ roundTripMs: 1_500 })).toEqual(['round-trip: the round trip of a mark is 1.5 s']);
    expect(shut({ copyComplete: false })).toEqual(['copy-complete: the copy is not complete']);
    expect(shut({ holes: 2 })).toEqual(['copy-complete: 2 keys are known to be missing on green']);
    expect(shut({ verification: { ageMs: 1_800_001, differences: 3 } })).toEqual([
      'verified: the age of the last clean verification is 1800.0 s',
      'differences: 3 rows that differ',
    ]);
    expect(shut({ rejects: 1 })).toEqual(['rejects: 1 rejected rows']);
    expect(shut({ oldestTransactionMs: 20_001 })).toEqual([
      'long-transactions: the oldest transaction on blue is 20.0 s',
    ]);
    expect(shut({ ddlInProgress: ['VACUUM public.a'] })).toEqual([
      'ddl: in progress on mapped tables: VACUUM public.a',
    ]);
    expect(
      shut({ source: { ...good.source, state: 'lost', ok: false, detail: '' } as GateFacts['source'] }),
    ).toEqual(['source-health: lost']);
    expect(shut({ invalidIndexes: ['i1', 'i2'] })).toEqual([
      'indexes: invalid or unfinished indexes: i1, i2',
    ]);
  });

  test('a proxy must point to blue, not be paused, have no blocking finding, and hold clients longer than the pause', () => {
    const hold = (holdsForMs: number | null) => [{ ...proxy, report: { ...report, holdsForMs } }];
    expect(shut({ proxies: hold(10_000) })).toEqual([
      'proxies: pgbouncer holds a waiting client for 10.0 s, less than the write pause of 10.0 s',
    ]);
    expect(shut({ proxies: hold(null) })).toEqual([]);
    expect(shut({ proxies: [{ ...proxy, route: { to: 'blue', paused: true } }] })).toEqual([
      'proxies: pgbouncer is paused',
    ]);
    expect(shut({ proxies: [{ ...proxy, route: { to: 'mixed', paused: false, detail: '' } }] })).toEqual([
      'proxies: pgbouncer points to mixed',
    ]);
    const findings = [
      { level: 'warn', text: 'a', remedy: '' },
      { level: 'block', text: 'b', remedy: '' },
    ] as const;
    expect(shut({ proxies: [{ ...proxy, report: { ...report, findings } }] })).toEqual([
      'proxies: pgbouncer: b',
    ]);
  });

  test('an override opens its gate only, needs a reason, and is refused where rows would be lost', () => {
    const results = evaluateGates({ ...good, lagMs: 5_000, rejects: 2 }, limits);
    expect(closedGates(results, []).map((gate) => gate.name)).toEqual(['lag', 'rejects']);
    expect(closedGates(results, [{ gate: 'lag', reason: 'agreed' }]).map((gate) => gate.name)).toEqual([
      'rejects',
    ]);
    expect(() => closedGates(results, [{ gate: 'lag', reason: ' ' }])).toThrow(/names no reason/);
    expect([...NOT_OVERRIDABLE]).toEqual(['copy-complete']);
    expect(() => closedGates(results, [{ gate: 'copy-complete', reason: 'x' }])).toThrow(
      /cannot be overridden/,
    );
  });
});
