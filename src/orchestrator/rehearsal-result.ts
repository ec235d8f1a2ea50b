import type { Verdict } from '../core/gate.ts';
import type { RunRecord } from '../core/state.ts';
import { showSpan } from './windows.ts';

/** One timed act of a rehearsal. */
export interface RehearsedAct {
  /** Named like the step of the switch that does the same, where there is one. */
  readonly name: string;
  readonly description: string;
  readonly ms: number;
  readonly detail: string;
}

/** What a rehearsal came to; stored with the run. */
export interface Rehearsal {
  /** End of it; ISO 8601, UTC. */
  readonly at: string;
  readonly ok: boolean;
  readonly planHash: string;
  readonly acts: readonly RehearsedAct[];
  /** What clients would have waited for, from the acts of the way there; null when it failed before. */
  readonly writePauseMs: number | null;
  /** The same for the way back. */
  readonly backPauseMs: number | null;
  /** Canary rows that went there and came back. */
  readonly rows: number;
  /** Everything it made is gone; false: the next start tries again. */
  readonly cleared: boolean;
  readonly error: { readonly code: string; readonly message: string; readonly remedy: string } | null;
}

const KEY = 'rehearsal';

export const rehearsalOf = (record: RunRecord | null): Rehearsal | null =>
  (record?.detail[KEY] as Rehearsal | undefined) ?? null;

export const rehearsalDetail = (rehearsal: Rehearsal): Readonly<Record<string, unknown>> => ({
  [KEY]: rehearsal,
});

/** The steps of a dry run with what they took in the rehearsal. */
export function withRehearsed<Step extends { readonly name: string }>(
  steps: readonly Step[],
  rehearsal: Rehearsal | null,
): readonly (Step & { readonly rehearsedMs?: number })[] {
  return steps.map((step) => {
    const act = rehearsal?.ok === true ? rehearsal.acts.find(({ name }) => name === step.name) : undefined;
    return act === undefined ? step : { ...step, rehearsedMs: act.ms };
  });
}

/** Null when the configuration asks for no rehearsal. */
export function rehearsalVerdict(
  rehearsal: Rehearsal | null,
  rule: { readonly withinMs: number | null; readonly planHash: string; readonly now: number },
): Verdict | null {
  if (rule.withinMs === null) return null;
  const limit = `within ${showSpan(rule.withinMs)}`;
  if (rehearsal === null) return { ok: false, observed: 'never', limit, reason: 'run `verdigris rehearse`' };
  const age = Math.max(0, rule.now - Date.parse(rehearsal.at));
  const observed = `${rehearsal.ok ? 'passed' : 'failed'} ${showSpan(age)} ago`;
  const reason = !rehearsal.ok
    ? `it failed: ${rehearsal.error?.code ?? 'INTERNAL'}`
    : rehearsal.planHash !== rule.planHash
      ? 'it was of another plan'
      : age > rule.withinMs
        ? 'it is too old'
        : '';
  return { ok: reason === '', observed, limit, reason };
}
