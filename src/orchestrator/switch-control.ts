import type { Clock } from '../core/clock.ts';
import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';
import type { Logger } from '../core/log.ts';
import type { RunRecord } from '../core/state.ts';
import type { GateFacts } from '../cutover/gates.ts';
import type { CutoverReport, StepReport } from './api.ts';
import {
  approvalsDetail,
  approvalsOf,
  approvalVerdict,
  countedApprovals,
  withApproval,
  withoutApproval,
  type Approval,
} from './approvals.ts';
import { requirePhase } from './phase.ts';
import { isPending, iso, requestOf } from './requests.ts';
import {
  rehearsalDetail,
  rehearsalOf,
  rehearsalVerdict,
  withRehearsed,
  type Rehearsal,
} from './rehearsal-result.ts';
import type { RunState } from './run-state.ts';
import type { Settings } from './settings.ts';
import type { SwitchStatus } from './status.ts';
import { nextOpening, openAt, windowVerdict } from './windows.ts';

export interface SwitchControlOptions {
  readonly settings: Pick<Settings, 'gates' | 'cutover'>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Who may switch, and when: approvals, windows and the last rehearsal. What people decided stands in the run's record. */
export class SwitchControl {
  readonly #o: SwitchControlOptions;
  #state: RunState | null = null;

  constructor(options: SwitchControlOptions) {
    this.#o = options;
  }

  /** Works on this record from now on. */
  take(state: RunState): void {
    this.#state = state;
  }

  /** The gates that people, the clock and the last rehearsal decide. */
  verdicts(starter: string | null): Pick<GateFacts, 'rehearsed' | 'approvals' | 'window'> {
    const { gates, cutover } = this.#o.settings;
    const record = this.#state?.record ?? null;
    const request = requestOf(record);
    const now = this.#o.clock.now();
    return {
      rehearsed: rehearsalVerdict(rehearsalOf(record), {
        withinMs: gates.rehearsedWithinMs,
        planHash: record?.planHash ?? '',
        now,
      }),
      approvals: approvalVerdict(gates.approvals, approvalsOf(record), {
        planHash: record?.planHash ?? '',
        starter: starter ?? (isPending(request) ? request.by : null),
      }),
      window: windowVerdict(
        cutover.windows,
        now,
        isPending(request) && request.window !== null ? request.window : undefined,
      ),
    };
  }

  /** @param record of the run, also one that is not held */
  status(record: RunRecord | null): SwitchStatus {
    const { gates, cutover } = this.#o.settings;
    const now = this.#o.clock.now();
    const { windows } = cutover;
    const opening = openAt(windows, now) ?? nextOpening(windows, now);
    const request = requestOf(record);
    const rehearsal = rehearsalOf(record);
    const starter = isPending(request) ? request.by : null;
    const counted = countedApprovals(gates.approvals, approvalsOf(record), {
      planHash: record?.planHash ?? '',
      starter,
    });
    return {
      window:
        opening === null
          ? null
          : {
              name: opening.name,
              open: opening.opensAt <= now,
              opensAt: iso(opening.opensAt),
              closesAt: iso(opening.closesAt),
              timezone: opening.timezone,
            },
      approvals: {
        required: gates.approvals.count,
        roles: gates.approvals.roles,
        counted: counted.length,
        given: approvalsOf(record).map((approval) => ({ ...approval, counts: counted.includes(approval) })),
      },
      request,
      rehearsal:
        rehearsal === null
          ? null
          : { ...rehearsal, ageSeconds: Math.max(0, (now - Date.parse(rehearsal.at)) / 1_000) },
    };
  }

  // ---- approvals

  /** @throws VerdigrisError PLAN_STALE, USAGE */
  async approve(options: {
    readonly by: string;
    readonly role: string;
    readonly note: string;
    readonly planHash: string;
  }): Promise<Approval> {
    const state = this.#required();
    const { by, role, note, planHash } = options;
    requirePhase(state.phase, ['preparing', 'copying', 'catching_up', 'replicating'], 'an approval');
    const inForce = state.record?.planHash ?? '';
    if (planHash !== inForce) {
      throw new VerdigrisError(
        'PLAN_STALE',
        `The plan in force is ${inForce.slice(0, 8)}, not ${planHash.slice(0, 8)}.`,
        { context: { current: inForce, named: planHash } },
      );
    }
    const { roles } = this.#o.settings.gates.approvals;
    if (roles.length > 0 && !roles.includes(role)) {
      throw new VerdigrisError('USAGE', `Role ${role === '' ? '(none)' : role} is not asked for.`, {
        remedy: `Roles: ${roles.join(', ')}.`,
      });
    }
    const approval: Approval = { by, role, note, at: iso(this.#o.clock.now()), planHash };
    await state.revise((record) => ({
      ...record,
      detail: { ...record.detail, ...approvalsDetail(withApproval(approvalsOf(record), approval)) },
    }));
    await state.note('approval.given', { by, role, note, planHash });
    return approval;
  }

  /** @throws VerdigrisError USAGE when that person has approved nothing */
  async revoke(options: { readonly by: string; readonly reason: string }): Promise<void> {
    const state = this.#required();
    await state.revise((record) => {
      const before = approvalsOf(record);
      const left = withoutApproval(before, options.by);
      if (left.length === before.length)
        throw new VerdigrisError('USAGE', `There is no approval of ${options.by}.`);
      return { ...record, detail: { ...record.detail, ...approvalsDetail(left) } };
    });
    await state.note('approval.revoked', options);
  }

  // ---- rehearsal

  /** One was begun and not ended: what it made may still be there. */
  get rehearsing(): boolean {
    return this.#state?.record?.detail['rehearsing'] === true;
  }

  /** Runs it and stores what came of it; that it runs is stored first. */
  async rehearse(act: () => Promise<Rehearsal>): Promise<Rehearsal> {
    const state = this.#required();
    await state.remember({ rehearsing: true });
    await state.note('rehearsal.begin', {});
    const result = await act();
    await state.remember({ ...rehearsalDetail(result), rehearsing: !result.cleared });
    await state.note('rehearsal', { ...result });
    return result;
  }

  async cleared(act: () => Promise<void>): Promise<void> {
    try {
      await act();
      await this.#required().remember({ rehearsing: false });
      await this.#required().note('rehearsal.cleared', {});
    } catch (error) {
      const { code, message } = asVerdigrisError(error);
      this.#o.log.error({ code }, `an interrupted rehearsal left something behind: ${message}`);
    }
  }

  /** The steps of a dry run with what the last rehearsal measured. */
  rehearsed(steps: readonly StepReport[]): Pick<CutoverReport, 'steps' | 'rehearsed'> {
    const rehearsal = rehearsalOf(this.#state?.record ?? null);
    if (rehearsal === null || rehearsal.writePauseMs === null) return { steps, rehearsed: null };
    const ageSeconds = Math.max(0, (this.#o.clock.now() - Date.parse(rehearsal.at)) / 1_000);
    return {
      steps: withRehearsed(steps, rehearsal),
      rehearsed: { writePauseMs: rehearsal.writePauseMs, ageSeconds },
    };
  }

  #required(): RunState {
    if (this.#state === null) throw new VerdigrisError('ENGINE_NOT_RUNNING', 'The run is not started.');
    return this.#state;
  }
}
