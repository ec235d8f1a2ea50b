import { describe, expect, test } from 'vitest';
import {
  approvalVerdict,
  withApproval,
  withoutApproval,
  type Approval,
  type ApprovalRule,
} from '../../src/orchestrator/approvals.ts';

const give = (by: string, role: string, planHash = 'plan'): Approval => ({
  by,
  role,
  note: '',
  at: '2026-11-25T00:00:00.000Z',
  planHash,
});
const rule: ApprovalRule = { count: 2, roles: ['dba'] };
const look = (
  all: readonly Approval[],
  now: { planHash?: string; starter?: string | null } = {},
  of = rule,
) => approvalVerdict(of, all, { planHash: 'plan', starter: null, ...now });

describe('approvals', () => {
  test('nobody is asked: no gate', () => {
    expect(look([give('ada', 'dba')], {}, { count: 0, roles: [] })).toBe(null);
  });

  test('so many different people, each role among them', () => {
    expect(look([])).toEqual({
      ok: false,
      observed: '0',
      limit: '2 people, roles dba',
      reason: '0 of 2 approvals; needs role dba',
    });
    expect(look([give('ada', 'dba')])).toMatchObject({ ok: false, reason: '1 of 2 approvals' });
    expect(look([give('ada', 'dba'), give('bob', 'dba')])).toMatchObject({
      ok: true,
      observed: '2: ada (dba), bob (dba)',
      reason: '',
    });
    // A role that is not asked for is nobody.
    expect(look([give('ada', 'dba'), give('bob', 'intern')])).toMatchObject({ ok: false });
    expect(
      look([give('ada', 'oncall'), give('bob', 'oncall')], {}, { count: 2, roles: ['dba', 'oncall'] }),
    ).toMatchObject({ ok: false, reason: 'needs role dba' });
    expect(look([give('ada', ''), give('bob', 'x')], {}, { count: 2, roles: [] })).toMatchObject({
      ok: true,
    });
  });

  test('one person approves once: a second one replaces the first', () => {
    const twice = withApproval(withApproval([], give('ada', 'oncall')), give('ada', 'dba'));
    expect(twice).toEqual([give('ada', 'dba')]);
    expect(look(twice)).toMatchObject({ ok: false, reason: '1 of 2 approvals' });
    expect(withoutApproval(twice, 'ada')).toEqual([]);
  });

  test('another plan voids it', () => {
    const all = [give('ada', 'dba'), give('bob', 'dba')];
    expect(look(all, { planHash: 'other' })).toMatchObject({
      ok: false,
      observed: '0',
      reason: '0 of 2 approvals; needs role dba; 2 given for another plan are void',
    });
  });

  test('who starts the switch does not count', () => {
    const all = [give('ada', 'dba'), give('bob', 'dba')];
    expect(look(all, { starter: 'bob' })).toMatchObject({
      ok: false,
      reason: '1 of 2 approvals; that of who starts the switch does not count',
    });
    expect(look([...all, give('eve', 'dba')], { starter: 'bob' })).toMatchObject({ ok: true });
  });
});
