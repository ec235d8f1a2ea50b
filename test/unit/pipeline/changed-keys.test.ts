import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { RowRun } from '../../../src/core/change.ts';
import type { Tuple } from '../../../src/core/table.ts';
import { ChangedKeys } from '../../../src/pipeline/changed-keys.ts';
import { relation } from '../transform/tables.ts';

const table = relation('public.t', { id: 'integer', note: 'text?' });
const tracked = [
  {
    relation: table,
    identify: (row: Tuple) => (typeof row[0] === 'string' ? { id: row[0], key: [row[0]] } : null),
  },
];
const change = (...ids: number[]): RowRun[] => [
  { relation: table, op: 'update', after: ids.map((id) => [String(id), null]), before: ids.map(() => null) },
];
const TRUNCATE: RowRun = { relation: table, op: 'truncate', after: [], before: [] };

test('nothing is known about what came before the start, nor about keys when the table was truncated', () => {
  const changed = new ChangedKeys(tracked);
  changed.note(change(1));
  expect(changed.since(table, changed.now)).toBeNull();
  changed.start();
  const seen = changed.now;
  changed.note(change(2, 3));
  expect([...(changed.since(table, seen)?.keys() ?? [])]).toEqual(['2', '3']);
  changed.note([TRUNCATE]);
  expect(changed.since(table, seen)).toBeNull();
  const after = changed.now;
  changed.note(change(4));
  expect([...(changed.since(table, after)?.keys() ?? [])]).toEqual(['4']);
});

/** Whatever the bound: an answer is the truth, or there is none. */
test('what changed after any moment is all of it, or not known', () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(fc.nat(30), { minLength: 1, maxLength: 4 }), { maxLength: 60 }),
      fc.nat(60),
      fc.integer({ min: 2, max: 40 }),
      (steps, from, most) => {
        const changed = new ChangedKeys(tracked, most);
        changed.start();
        let seen = changed.now;
        steps.forEach((ids, index) => {
          if (index === from) seen = changed.now;
          changed.note(change(...ids));
        });
        const truth = new Set(
          steps
            .slice(from < steps.length ? from : 0)
            .flat()
            .map(String),
        );
        const known = changed.since(table, seen);
        if (known !== null) expect(new Set(known.keys())).toEqual(truth);
        else expect(truth.size).toBeGreaterThan(Math.floor(most / 2));
        expect(changed.size).toBeLessThanOrEqual(most);
        changed.forget(seen);
        const left = changed.since(table, seen);
        if (known !== null) expect(left).toEqual(known);
      },
    ),
  );
});
