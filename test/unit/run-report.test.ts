import { describe, expect, test } from 'vitest';
import { reportSchema } from '../../src/app/envelope.ts';
import { renderRunReport } from '../../src/cli/render-run-report.ts';
import type { JournalEvent, RunRecord } from '../../src/core/state.ts';
import { runReport } from '../../src/orchestrator/run-report.ts';

const second = (n: number): string => `2026-11-25T12:00:${String(n).padStart(2, '0')}.000000Z`;
const journal = (...entries: [string, Record<string, unknown>][]): JournalEvent[] =>
  entries.map(([event, detail], index) => ({ sequence: index + 1, at: second(index), event, detail }));

const record: RunRecord = {
  id: 'crm-v2',
  phase: 'reversing',
  epoch: 2,
  activeSide: 'green',
  planHash: 'bbbb',
  revision: 9,
  detail: {
    approvals: [
      { by: 'ada', role: 'dba', note: 'ok | fine', at: second(0), planHash: 'bbbb' },
      { by: 'bob', role: 'dba', note: '', at: second(0), planHash: 'aaaa' },
    ],
  },
};
const gate = { name: 'lag', ok: true, observed: '1 ms', limit: '2 s', reason: '' };
const shut = { name: 'verified', ok: false, observed: 'unknown', limit: '30 m', reason: 'never' };

const events = journal(
  ['run.created', { planHash: 'aaaa' }],
  ['phase', { from: 'preparing', to: 'copying' }],
  ['phase', { from: 'copying', to: 'replicating' }],
  ['run.replanned', { planHash: 'bbbb' }],
  ['cutover.begin', { epoch: 1, maxWritePauseMs: 10_000, request: 'c-1', by: 'ops', gates: [gate] }],
  ['cutover.step', { step: 'gates', epoch: 1, state: 'begin' }],
  ['cutover.step', { step: 'gates', epoch: 1, state: 'failed', code: 'CUTOVER_GATE', message: 'lag: 9 s' }],
  ['cutover.end', { epoch: 1, outcome: 'undone', writePauseMs: null, code: 'CUTOVER_GATE' }],
  [
    'cutover.end',
    { outcome: 'undone', writePauseMs: null, error: { code: 'CUTOVER_GATE', message: 'lag: 9 s' } },
  ],
  ['gate.override', { gate: 'verified', reason: 'checked by hand' }],
  ['cutover.begin', { epoch: 2, maxWritePauseMs: 10_000, request: 'c-2', by: 'ops', gates: [gate, shut] }],
  ['cutover.step', { step: 'drain', epoch: 2, state: 'begin' }],
  ['cutover.drained', { epoch: 2, barrier: '0/10', checkpoint: '0/20', transactions: 7, blockers: [] }],
  ['cutover.step', { step: 'drain', epoch: 2, state: 'ok' }],
  ['cutover.end', { outcome: 'switched', writePauseMs: 321, error: null }],
);

describe('the record of a run', () => {
  const report = runReport({ record, events, verification: null });

  test('holds phases with their times, every attempt with its steps, gates, overrides, certificate and pause', () => {
    expect(reportSchema.parse(report)).toEqual(report);
    expect(report.phases).toEqual([
      { phase: 'preparing', since: second(0), seconds: 1 },
      { phase: 'copying', since: second(1), seconds: 1 },
      { phase: 'replicating', since: second(2), seconds: null },
    ]);
    expect(report.plans.map(({ planHash }) => planHash)).toEqual(['aaaa', 'bbbb']);
    expect(report.attempts).toMatchObject([
      {
        epoch: 1,
        outcome: 'undone',
        overrides: [],
        error: { code: 'CUTOVER_GATE' },
        steps: [{ step: 'gates', ms: 1_000, outcome: 'failed', detail: 'lag: 9 s' }],
        certificate: null,
      },
      {
        epoch: 2,
        request: 'c-2',
        by: 'ops',
        outcome: 'switched',
        writePauseMs: 321,
        overrides: [{ gate: 'verified', reason: 'checked by hand' }],
        certificate: { barrier: '0/10', checkpoint: '0/20', transactions: 7 },
        steps: [{ step: 'drain', ms: 2_000, outcome: 'ok' }],
        error: null,
      },
    ]);
    expect(report.approvals.map(({ by, void: gone }) => [by, gone])).toEqual([
      ['ada', false],
      ['bob', true],
    ]);
  });

  test('as Markdown: every fact of it, and nothing from outside ends a cell', () => {
    const text = renderRunReport(report);
    for (const part of [
      'Attempt with epoch 2: switched',
      'Writers waited 321 ms of at most 10 s',
      '| verified | overridden | unknown | 30 m | never |',
      '| verified | checked by hand |',
      '| checkpoint | 0/20 |',
      '| blockers | none |',
      'ok \\| fine',
      'bbbb',
      '(void: another plan)',
    ])
      expect(text).toContain(part);
  });

  test('an engine that died in the middle of an attempt: what is not known is not made up', () => {
    const half = runReport({ record, events: events.slice(0, 12), verification: null });
    expect(half.attempts[1]).toMatchObject({
      outcome: null,
      endedAt: null,
      writePauseMs: null,
      steps: [{ step: 'drain', ms: null, outcome: 'begun' }],
    });
    expect(renderRunReport(half)).toContain('not ended');
  });
});
