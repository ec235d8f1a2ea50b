import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Digester } from '../../../src/core/digest.ts';
import type { TablePlan, TargetTable } from '../../../src/core/plan.ts';
import type { Tuple } from '../../../src/core/table.ts';
import { scan } from '../../../src/verify/scan.ts';
import { rowId } from '../../../src/verify/subject.ts';
import type { VerifyTable } from '../../../src/verify/verify-table.ts';
import { relation } from '../transform/tables.ts';

/** Rows that stand still, in pieces as a server would hand them out. */
const at = (rows: readonly Tuple[]): Digester => ({
  split: () => Promise.resolve([]),
  digest: () => Promise.reject(new Error('not asked for')),
  hashes: () => {
    throw new Error('not asked for');
  },
  read: async function* () {
    for (let from = 0; from < rows.length; from += 7) yield await Promise.resolve(rows.slice(from, from + 7));
  },
});

function tableOf(key: readonly string[]): VerifyTable {
  const from = relation('public.t', { id: 'integer', part: 'integer', note: 'text?' }, [...key]);
  const target: TargetTable = { relation: from, merge: null, prefix: 0 };
  const plan: TablePlan = {
    from,
    to: [target],
    passthrough: null,
    inputs: [0, 1, 2],
    run: (run) => ({ runs: [{ ...run, op: 'insert' }], rejects: [] }),
  };
  return {
    target,
    plans: [plan],
    compared: [0, 1, 2],
    canonical: [null, null, null],
    direct: null,
    notCompared: [],
    sameRanges: false,
    links: null,
  };
}

const row = fc
  .tuple(fc.nat(40), fc.nat(3), fc.constantFrom('a', 'b', null))
  .map(([id, part, note]): Tuple => [String(id), String(part), note]);

const ids = (table: VerifyTable, rows: readonly Tuple[]): Map<string, Tuple[]> =>
  Map.groupBy(rows, (one) => rowId(table, one));

/** However few rows may be held: the suspects are the rows that differ, no more and no less. */
test.each([
  ['with a key', ['id', 'part']],
  ['without a key', []],
] as const)('a scan finds exactly the rows that differ, %s', async (_, key) => {
  const table = tableOf(key);
  const unique = (rows: readonly Tuple[]): Tuple[] =>
    key.length === 0 ? [...rows] : [...ids(table, rows).values()].map((same) => same[0] as Tuple);
  await fc.assert(
    fc.asyncProperty(
      fc.array(row, { maxLength: 120 }),
      fc.array(row, { maxLength: 12 }),
      fc.array(fc.nat(119), { maxLength: 12 }),
      fc.integer({ min: 3, max: 400 }),
      async (all, added, dropped, mostHeld) => {
        const blue = unique(all);
        const green = unique([...added, ...all.filter((_row, index) => !dropped.includes(index))]);
        const [left, right] = [ids(table, blue), ids(table, green)];
        const differ = [...new Set([...left.keys(), ...right.keys()])].filter(
          (id) => JSON.stringify(left.get(id) ?? []) !== JSON.stringify(right.get(id) ?? []),
        );
        const held = Math.max(mostHeld, differ.length + 1);
        const signal = new AbortController().signal;
        const found = await scan(
          { blue: at(blue), green: at(green) },
          table,
          { lower: null, upper: null },
          { signal, mostHeld: held },
        );
        expect([...found.suspects.keys()].sort()).toEqual(differ.sort());
        expect(found.rows).toBe(blue.length);
      },
    ),
    { numRuns: 300 },
  );
});
