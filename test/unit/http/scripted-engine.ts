import type {
  Approval,
  CutoverReport,
  Migration,
  Rehearsal,
  RunReport,
  ScheduledCutover,
  VerifyReport,
} from '../../../src/app/engine.ts';
import type { ControlledEngine } from '../../../src/http/routes.ts';
import type { Status } from '../../../src/orchestrator/status.ts';

export const STATUS: Status = {
  migration: 'crm-v2',
  phase: 'replicating',
  condition: 'running',
  reason: '',
  next: { action: 'switch when you like', command: 'verdigris cutover' },
  activeSide: 'blue',
  epoch: 0,
  planHash: 'hash-in-force',
  upSeconds: 11_520,
  lag: { commitSeconds: 0.84, distanceBytes: 212_000, roundTripMs: 3, lastEventAgeSeconds: 0.2 },
  copy: {
    rows: 48_200_000,
    totalRows: 48_200_000,
    bytes: 31_400_000_000,
    rowsPerSecond: null,
    etaSeconds: null,
    rangesDone: 964,
    ranges: 964,
    finishing: null,
  },
  tables: [{ table: 'public.orders', rows: 36_000_000, totalRows: 36_000_000, rangesDone: 720, ranges: 720 }],
  apply: {
    transactions: 10,
    changes: 20,
    changesPerSecond: 1842,
    groups: 5,
    retries: 3,
    fallbacks: 0,
    queueBytes: 0,
    holes: 0,
    rejects: 0,
  },
  verify: { state: 'pass', rows: 48_200_000, totalRows: null, differences: 0, ageSeconds: 840, detail: null },
  source: {
    state: 'reserved',
    retainedBytes: 310_000_000,
    limitBytes: 20_000_000_000,
    oldestTransactionSeconds: 12,
  },
  gates: [
    { name: 'lag', ok: true, observed: '0.8 s', limit: '2 s', reason: '' },
    { name: 'verified', ok: true, observed: '14 m', limit: '30 m', reason: '' },
  ],
  window: null,
  approvals: { required: 0, roles: [], counted: 0, given: [] },
  request: null,
  rehearsal: null,
  positions: { head: '0/9A3F21C8', received: '0/9A3F21C8', applied: '0/9A3F21C0' },
  rollback: { wanted: true, problems: [], fits: null, misfits: null, first: null },
  error: null,
};

export const SHUT_GATE = {
  name: 'rejects',
  ok: false,
  observed: '2',
  limit: '0',
  reason: '2 rejected rows',
} as const;

export const VERIFY_REPORT: VerifyReport = {
  ok: true,
  mode: 'full',
  rows: 10,
  seconds: 0.5,
  tables: [
    { table: 'crm.sales_order', rows: 10, differences: 0, unsettled: 0, method: 'server', notCompared: [] },
  ],
  mismatches: [],
  notes: [],
};

export const CUTOVER_REPORT: CutoverReport = {
  outcome: 'switched',
  writePauseMs: 812,
  epoch: 1,
  to: 'green',
  steps: [
    {
      name: 'pause',
      description: 'pause the proxies',
      pastPointOfNoReturn: false,
      outcome: 'ok',
      ms: 12,
      detail: '',
    },
    {
      name: 'resume',
      description: 'resume the proxies',
      pastPointOfNoReturn: true,
      outcome: 'ok',
      ms: 9,
      detail: '',
    },
  ],
  gates: STATUS.gates,
  error: null,
};

export const APPROVAL: Approval = {
  by: 'ada',
  role: 'dba',
  note: '',
  at: '2026-11-22T01:00:00.000Z',
  planHash: 'hash-in-force',
};

export const CUTOVER_REQUEST: ScheduledCutover = {
  id: 'c-1',
  to: 'green',
  state: 'waiting',
  by: 'ops',
  planHash: 'hash-in-force',
  requestedAt: '2026-11-22T01:00:00.000Z',
  notBefore: '2026-11-22T02:00:00.000Z',
  window: null,
  deadline: '2026-11-22T03:00:00.000Z',
  maxWritePauseMs: null,
  overrides: [],
  outcome: null,
  reason: '',
  endedAt: null,
};

export const REHEARSAL: Rehearsal = {
  at: '2026-11-22T01:00:00.000Z',
  ok: true,
  planHash: 'hash-in-force',
  acts: [{ name: 'fence', description: 'raise the fence', ms: 12, detail: 'barrier 0/1' }],
  writePauseMs: 80,
  backPauseMs: 60,
  rows: 100,
  cleared: true,
  error: null,
};

export const RUN_REPORT: RunReport = {
  migration: 'crm-v2',
  planHash: 'hash-in-force',
  phase: 'replicating',
  activeSide: 'blue',
  epoch: 0,
  beganAt: '2026-11-22T00:00:00.000Z',
  plans: [],
  phases: [],
  approvals: [],
  rehearsal: null,
  verification: null,
  attempts: [],
  acts: [],
};

export interface Script {
  status: Status;
  readonly calls: unknown[][];
  migration: Partial<Migration>;
}

/**
 * What stands behind the control API in the tests of that API: answers as it is told and writes down what it was asked.
 * The real run behind the same API is tested with real servers in test/e2e.
 */
export function scriptedEngine(script: Script): ControlledEngine {
  const record =
    <T>(name: string, answer: T) =>
    (...args: unknown[]): Promise<T> => {
      script.calls.push([name, ...args]);
      return Promise.resolve(answer);
    };
  const migration: Migration = {
    start: record('start', undefined),
    ended: new Promise(() => undefined),
    status: () => Promise.resolve(script.status),
    plan: () => Promise.reject(new Error('not scripted')),
    pause: record('pause', undefined),
    resume: record('resume', undefined),
    verify: record('verify', VERIFY_REPORT),
    verification: () =>
      Promise.resolve(
        script.calls.some(([name]) => name === 'verify')
          ? { ...VERIFY_REPORT, endedAt: '2026-11-22T02:00:00.000Z' }
          : null,
      ),
    repair: record('repair', { repaired: 0, refused: [], report: VERIFY_REPORT }),
    cutover: record('cutover', CUTOVER_REPORT),
    rollback: record('rollback', { ...CUTOVER_REPORT, to: 'blue' as const }),
    recover: record('recover', null),
    schedule: record('schedule', CUTOVER_REQUEST),
    cancel: record('cancel', { ...CUTOVER_REQUEST, state: 'cancelled' }),
    approve: record('approve', APPROVAL),
    revoke: record('revoke', undefined),
    rehearse: record('rehearse', REHEARSAL),
    report: record('report', RUN_REPORT),
    abort: record('abort', undefined),
    finish: record('finish', RUN_REPORT),
    events: (after, limit) =>
      Promise.resolve(
        [1, 2, 3]
          .filter((n) => n > after)
          .slice(0, limit)
          .map((sequence) => ({ sequence, at: '2026-11-22T02:00:00.000Z', event: 'phase', detail: {} })),
      ),
    close: () => Promise.resolve(),
  };
  const current = (): Migration => ({ ...migration, ...script.migration });
  return {
    name: 'crm-v2',
    migration: () => Promise.resolve(current()),
    status: () => Promise.resolve(script.status as never),
    plan: () => current().plan(),
    events: (after, limit) => current().events(after, limit),
  };
}
