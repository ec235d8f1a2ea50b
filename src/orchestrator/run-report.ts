import type { GateName, GateResult } from '../core/gate.ts';
import type { JournalEvent, Phase, RunRecord } from '../core/state.ts';
import type { Session } from '../core/engine.ts';
import type { StoredVerification, VerifyMode } from '../core/verification.ts';
import { approvalsOf, type Approval } from './approvals.ts';
import { rehearsalOf, type Rehearsal } from './rehearsal-result.ts';

/** One attempt to switch, as the journal holds it. Times are ISO 8601, UTC; what the journal does not hold is null. */
export interface ReportedAttempt {
  readonly epoch: number;
  readonly request: string | null;
  readonly by: string | null;
  readonly beganAt: string;
  readonly endedAt: string | null;
  readonly outcome: 'switched' | 'undone' | 'undetermined' | null;
  readonly writePauseMs: number | null;
  readonly maxWritePauseMs: number | null;
  /** As they stood when it began. */
  readonly gates: readonly GateResult[];
  readonly overrides: readonly { readonly gate: GateName; readonly reason: string }[];
  readonly steps: readonly {
    readonly step: string;
    readonly beganAt: string;
    readonly ms: number | null;
    readonly outcome: 'ok' | 'failed' | 'begun';
    readonly detail: string;
  }[];
  /** The drain certificate; null: it did not get so far. */
  readonly certificate: Readonly<Record<string, unknown>> | null;
  readonly error: { readonly code: string; readonly message: string } | null;
}

/** The record of a run, for the change ticket. Holds no row values and no secrets. */
export interface RunReport {
  readonly migration: string;
  readonly planHash: string;
  readonly phase: Phase;
  readonly activeSide: 'blue' | 'green';
  readonly epoch: number;
  readonly beganAt: string | null;
  readonly plans: readonly { readonly planHash: string; readonly since: string }[];
  readonly phases: readonly {
    readonly phase: Phase;
    readonly since: string;
    /** Null: it is the current one. */
    readonly seconds: number | null;
  }[];
  readonly approvals: readonly (Approval & { readonly void: boolean })[];
  readonly rehearsal: Rehearsal | null;
  /** The last round; null: none. */
  readonly verification: {
    readonly mode: VerifyMode;
    readonly state: 'running' | 'pass' | 'fail';
    readonly endedAt: string | null;
    readonly seconds: number;
    readonly rows: number;
    readonly differences: number;
    readonly unsettled: number;
    readonly tables: readonly {
      readonly table: string;
      readonly rows: number;
      readonly differences: number;
    }[];
  } | null;
  readonly attempts: readonly ReportedAttempt[];
  /** What people asked for and what became of it, in order. */
  readonly acts: readonly {
    readonly at: string;
    readonly event: string;
    readonly detail: Readonly<Record<string, unknown>>;
  }[];
}

const PAGE = 1_000;

/** Reads the journal and the last verification of a run from where it is remembered. */
export async function readReport(
  record: RunRecord,
  { state, verification }: Pick<Session, 'state' | 'verification'>,
): Promise<RunReport> {
  const events: JournalEvent[] = [];
  for (let page = PAGE; page === PAGE;) {
    const next = await state.events(record.id, events.at(-1)?.sequence ?? 0, PAGE);
    events.push(...next);
    page = next.length;
  }
  return runReport({ record, events, verification: await verification.load(record.id) });
}

type Detail = JournalEvent['detail'];

const ACTS: ReadonlySet<string> = new Set([
  'approval.given',
  'approval.revoked',
  'cutover.requested',
  'cutover.request',
  'cutover.cancel',
  'gate.override',
  'rehearsal',
  'pause',
  'resume',
  'cutover.recover',
  'abort',
  'finish',
]);

/** From the record and its whole journal. Pure. */
export function runReport(options: {
  readonly record: RunRecord;
  readonly events: readonly JournalEvent[];
  readonly verification: StoredVerification | null;
}): RunReport {
  const { record, events } = options;
  const began = events.find(({ event }) => event === 'run.created');
  return {
    migration: record.id,
    planHash: record.planHash,
    phase: record.phase,
    activeSide: record.activeSide,
    epoch: record.epoch,
    beganAt: began?.at ?? null,
    plans: events
      .filter(({ event }) => event === 'run.created' || event === 'run.replanned')
      .map(({ at, detail }) => ({ planHash: text(detail, 'planHash') ?? '', since: at })),
    phases: phases(events, began),
    approvals: approvalsOf(record).map((approval) => ({
      ...approval,
      void: approval.planHash !== record.planHash,
    })),
    rehearsal: rehearsalOf(record),
    verification: options.verification === null ? null : verified(options.verification),
    attempts: attempts(events),
    acts: events
      .filter(({ event }) => ACTS.has(event))
      .map(({ at, event, detail }) => ({ at, event, detail })),
  };
}

const verified = ({ round, tables }: StoredVerification): NonNullable<RunReport['verification']> => ({
  mode: round.mode,
  state: round.state,
  endedAt: round.endedAt,
  seconds: round.spentMs / 1_000,
  rows: tables.reduce((sum, table) => sum + table.rows, 0),
  differences: tables.reduce((sum, table) => sum + table.differences, 0),
  unsettled: tables.reduce((sum, table) => sum + table.unsettled, 0),
  tables: tables.map(({ table, rows, differences }) => ({ table, rows, differences })),
});

function phases(events: readonly JournalEvent[], began: JournalEvent | undefined): RunReport['phases'] {
  const entered = [
    ...(began === undefined ? [] : [{ phase: 'preparing' as Phase, since: began.at }]),
    ...events
      .filter(({ event }) => event === 'phase')
      .map(({ at, detail }) => ({ phase: detail['to'] as Phase, since: at })),
  ];
  return entered.map((entry, index) => {
    const next = entered[index + 1];
    return { ...entry, seconds: next === undefined ? null : between(entry.since, next.since) / 1_000 };
  });
}

type Growing = { -readonly [Key in keyof ReportedAttempt]: ReportedAttempt[Key] };

function attempts(events: readonly JournalEvent[]): readonly ReportedAttempt[] {
  const all: Growing[] = [];
  let overrides: { gate: GateName; reason: string }[] = [];
  for (const { event, at, detail } of events) {
    const attempt = all.at(-1);
    switch (event) {
      case 'gate.override':
        overrides.push({ gate: detail['gate'] as GateName, reason: text(detail, 'reason') ?? '' });
        break;
      case 'cutover.begin':
        all.push({
          epoch: Number(detail['epoch']),
          request: text(detail, 'request'),
          by: text(detail, 'by'),
          beganAt: at,
          endedAt: null,
          outcome: null,
          writePauseMs: null,
          maxWritePauseMs: number(detail, 'maxWritePauseMs'),
          gates: (detail['gates'] as readonly GateResult[] | undefined) ?? [],
          overrides,
          steps: [],
          certificate: null,
          error: null,
        });
        overrides = [];
        break;
      case 'cutover.step':
        if (attempt) attempt.steps = withStep(attempt.steps, at, detail);
        break;
      case 'cutover.drained':
        if (attempt) attempt.certificate = detail;
        break;
      case 'cutover.end':
        if (attempt) ended(attempt, at, detail);
        break;
      default:
    }
  }
  return all;
}

function withStep(steps: ReportedAttempt['steps'], at: string, detail: Detail): ReportedAttempt['steps'] {
  const step = text(detail, 'step') ?? '';
  const state = text(detail, 'state');
  if (state === 'begin') return [...steps, { step, beganAt: at, ms: null, outcome: 'begun', detail: '' }];
  const open = steps.findLastIndex((entry) => entry.step === step && entry.outcome === 'begun');
  return steps.map((entry, index) =>
    index === open
      ? {
          ...entry,
          ms: between(entry.beganAt, at),
          outcome: state === 'ok' ? 'ok' : 'failed',
          detail: text(detail, 'message') ?? '',
        }
      : entry,
  );
}

/** The switch notes its end, and the run notes it again with what it makes of it. */
function ended(attempt: Growing, at: string, detail: Detail): void {
  attempt.endedAt = at;
  attempt.outcome = detail['outcome'] as ReportedAttempt['outcome'];
  attempt.writePauseMs = number(detail, 'writePauseMs') ?? attempt.writePauseMs;
  const { error } = detail as { error?: { code: string; message: string } | null };
  if (error !== undefined) attempt.error = error;
}

const text = (detail: Detail, key: string): string | null =>
  typeof detail[key] === 'string' ? detail[key] : null;
const number = (detail: Detail, key: string): number | null =>
  typeof detail[key] === 'number' ? detail[key] : null;
const between = (from: string, to: string): number => Date.parse(to) - Date.parse(from);
