import type { Verdict } from '../core/gate.ts';
import type { RunRecord } from '../core/state.ts';

/** Somebody accepts one plan. Counts as long as that plan is the one in force. */
export interface Approval {
  /** Who, as the caller of the control socket says. */
  readonly by: string;
  readonly role: string;
  readonly note: string;
  /** ISO 8601, UTC. */
  readonly at: string;
  readonly planHash: string;
}

export interface ApprovalRule {
  /** Different people; 0: nobody is asked. */
  readonly count: number;
  /** Each of them has to be among those who approve; empty: any role will do. */
  readonly roles: readonly string[];
}

const KEY = 'approvals';

export const approvalsOf = (record: RunRecord | null): readonly Approval[] =>
  (record?.detail[KEY] as readonly Approval[] | undefined) ?? [];

/** The detail of a record with these approvals in it. */
export const approvalsDetail = (approvals: readonly Approval[]): Readonly<Record<string, unknown>> => ({
  [KEY]: approvals,
});

/** One approval a person: a later one replaces the earlier. */
export const withApproval = (all: readonly Approval[], approval: Approval): readonly Approval[] => [
  ...withoutApproval(all, approval.by),
  approval,
];

export const withoutApproval = (all: readonly Approval[], by: string): readonly Approval[] =>
  all.filter((approval) => approval.by !== by);

/** Those that count: for the plan in force, in a role that is asked for, and not by who starts the switch. */
export function countedApprovals(
  rule: ApprovalRule,
  all: readonly Approval[],
  now: { readonly planHash: string; readonly starter: string | null },
): readonly Approval[] {
  return all.filter(
    ({ planHash, role, by }) =>
      planHash === now.planHash &&
      by !== now.starter &&
      (rule.roles.length === 0 || rule.roles.includes(role)),
  );
}

/** Null when nobody is asked. */
export function approvalVerdict(
  rule: ApprovalRule,
  all: readonly Approval[],
  now: { readonly planHash: string; readonly starter: string | null },
): Verdict | null {
  if (rule.count === 0) return null;
  const counted = countedApprovals(rule, all, now);
  const missing = rule.roles.filter((role) => !counted.some((approval) => approval.role === role));
  const voided = all.filter(({ planHash }) => planHash !== now.planHash).length;
  const own = all.some(({ planHash, by }) => planHash === now.planHash && by === now.starter);
  const ok = counted.length >= rule.count && missing.length === 0;
  const reasons = [
    ...(counted.length < rule.count ? [`${counted.length} of ${rule.count} approvals`] : []),
    ...(missing.length > 0 ? [`needs role ${missing.join(', ')}`] : []),
    ...(own ? ['that of who starts the switch does not count'] : []),
    ...(voided > 0 ? [`${voided} given for another plan are void`] : []),
  ];
  return {
    ok,
    observed: `${counted.length}${counted.length === 0 ? '' : `: ${counted.map(({ by, role }) => `${by} (${role})`).join(', ')}`}`,
    limit: `${rule.count} people${rule.roles.length === 0 ? '' : `, roles ${rule.roles.join(', ')}`}`,
    reason: ok ? '' : reasons.join('; '),
  };
}
