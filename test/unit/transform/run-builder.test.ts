import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { RowRun } from '../../../src/core/change.ts';
import { RunBuilder } from '../../../src/transform/run-builder.ts';
import { relation } from './tables.ts';

const table = relation('a.t', { id: 'text', value: 'text' }, ['id']);

/** What a run says, one entry per row or parent. */
const entries = (run: RowRun): string[] =>
  run.op === 'replace'
    ? run.before.map((prefix) => {
        const parent = String(prefix?.[0]);
        return `replace ${parent}: ${run.after.flatMap(([id, value]) => (id === parent ? [value] : [])).join()}`;
      })
    : run.after.map((row) => `${run.op} ${String(row[0])}`);

test('what is taken back is in no run, all else is there in its order, and no parent is twice in a run', () => {
  const step = fc.record({
    op: fc.constantFrom('insert', 'update', 'replace', 'replace'),
    key: fc.constantFrom('a', 'b', 'c'),
  });
  const row = fc.record({ steps: fc.array(step, { maxLength: 3 }), refused: fc.nat(2) });
  fc.assert(
    fc.property(fc.array(row, { maxLength: 12 }), (rows) => {
      const builder = new RunBuilder(table);
      const wanted: string[] = [];
      let serial = 0;
      for (const { steps, refused } of rows) {
        builder.mark();
        const told: string[] = [];
        for (const { op, key } of steps) {
          serial += 1;
          if (op === 'replace') {
            builder.replace([key], [[key, String(serial)]]);
            told.push(`replace ${key}: ${serial}`);
          } else {
            builder.add(op, [key, String(serial)], null);
            told.push(`${op} ${key}`);
          }
        }
        // Twice is the same as once.
        for (let times = 0; times < refused; times++) builder.rollback();
        if (refused === 0) wanted.push(...told);
      }
      const runs: RowRun[] = [];
      builder.finish(runs);
      expect(runs.flatMap(entries)).toEqual(wanted);
      for (const { op, before } of runs) {
        expect(before.length).toBeGreaterThan(0);
        if (op === 'replace') expect(new Set(before.map((prefix) => prefix?.[0])).size).toBe(before.length);
      }
    }),
    { numRuns: 500 },
  );
});
