import { expect, test } from 'vitest';
import { VerdigrisError } from '../../../src/core/errors.ts';
import type { Hole } from '../../../src/core/sink.ts';
import { fitOf, type FitFacts } from '../../../src/pipeline/fit.ts';

const clean: FitFacts = { opened: true, rejected: 0, firstRejected: null, incomplete: 0, blockedBy: null };
const hole: Hole = {
  table: { schema: 'crm', name: 'customer' },
  key: ['7'],
  kind: 'rejected',
  column: 'balance',
  reason: 'is too large',
};

test('a rollback fits only when it is known that every row does', () => {
  expect(fitOf(clean)).toEqual({ fits: true, misfits: 0, blocked: false, first: null });
  expect(fitOf({ ...clean, opened: false }).fits).toBeNull();
  expect(fitOf({ ...clean, incomplete: 1 }).fits).toBeNull();
});

test('the first row that does not fit is shown by key, whether the mapping or a constraint of the other side refused it', () => {
  expect(fitOf({ ...clean, rejected: 2, firstRejected: hole, opened: false })).toEqual({
    fits: false,
    misfits: 2,
    blocked: false,
    first: { table: 'crm.customer', key: ['7'], column: 'balance', reason: 'is too large' },
  });
  const conflict = new VerdigrisError('SINK_CONFLICT', 'A change does not fit into public.customers.', {
    context: { table: 'public.customers', key: { id: '7' } },
  });
  const blocked = fitOf({ ...clean, blockedBy: conflict });
  expect(blocked).toMatchObject({ fits: false, misfits: 1, blocked: true });
  expect(blocked.first).toEqual({
    table: 'public.customers',
    key: ['7'],
    column: '',
    reason: 'A change does not fit into public.customers.',
  });
});

test('what stops the stream for another reason says nothing about rows', () => {
  const paused = new VerdigrisError('SOURCE_LOST', 'gone');
  expect(fitOf({ ...clean, blockedBy: paused }).fits).toBe(true);
});
