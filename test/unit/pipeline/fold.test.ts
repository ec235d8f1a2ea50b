import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { RowRun } from '../../../src/core/change.ts';
import { UNCHANGED, type Tuple } from '../../../src/core/table.ts';
import { Fold } from '../../../src/pipeline/fold.ts';
import { RELATION, random } from './model.ts';

const run = (op: RowRun['op'], after: Tuple[], before: (Tuple | null)[] = after.map(() => null)): RowRun => ({
  relation: RELATION,
  op,
  after,
  before,
});
const folded = (...runs: RowRun[]): RowRun[] => {
  const fold = new Fold();
  for (const one of runs) fold.add(one);
  return fold.take();
};
const sorted = <V>(map: ReadonlyMap<string, V>): [string, V][] =>
  [...map].sort(([a], [b]) => (a < b ? -1 : 1));
const keyImage = (k: string): Tuple => [k, UNCHANGED, UNCHANGED];

/** Applies folded runs the way a sink does: every run at once, by the keys that stood before it. */
function applyAtOnce(table: Map<string, [string, string]>, runs: readonly RowRun[]): void {
  for (const { op, after, before } of runs) {
    if (op === 'delete') for (const row of before) expect(table.delete(String(row?.[0]))).toBe(true);
    if (op === 'truncate') table.clear();
    if (op === 'insert') {
      for (const row of after) {
        expect(table.has(String(row[0]))).toBe(false);
        table.set(String(row[0]), [String(row[1]), String(row[2])]);
      }
    }
    if (op !== 'update') continue;
    const next = after.map((row, index): [string, [string, string]] => {
      const old = table.get(String((before[index] ?? row)[0]));
      if (old === undefined) throw new Error(`update misses ${String((before[index] ?? row)[0])}`);
      return [
        String(row[0]),
        [row[1] === UNCHANGED ? old[0] : String(row[1]), row[2] === UNCHANGED ? old[1] : String(row[2])],
      ];
    });
    after.forEach((row, index) => table.delete(String((before[index] ?? row)[0])));
    for (const [key, value] of next) {
      expect(table.has(key)).toBe(false);
      table.set(key, value);
    }
  }
}

describe('fold', () => {
  test('F53: an unchanged cell keeps what an earlier image of the group had, and stays unchanged when none had it', () => {
    expect(
      folded(run('update', [['1', 'x', UNCHANGED]]), run('update', [['1', UNCHANGED, 'T']])),
    ).toMatchObject([{ op: 'update', after: [['1', 'x', 'T']], columns: [0, 1, 2] }]);
    expect(
      folded(
        run('update', [
          ['1', 'x', UNCHANGED],
          ['1', 'y', UNCHANGED],
        ]),
      ),
    ).toMatchObject([{ op: 'update', after: [['1', 'y', UNCHANGED]], columns: [0, 1] }]);
    expect(folded(run('insert', [['1', 'x', 'T']]), run('update', [['1', 'y', UNCHANGED]]))).toMatchObject([
      { op: 'insert', after: [['1', 'y', 'T']] },
    ]);
  });

  test('insert and delete of one key in a group leave nothing; delete and insert leave both', () => {
    expect(folded(run('insert', [['1', 'x', 'T']]), run('delete', [], [keyImage('1')]))).toEqual([]);
    const both = folded(run('delete', [], [keyImage('1')]), run('insert', [['1', 'x', 'T']]));
    expect(both.map((one) => one.op)).toEqual(['delete', 'insert']);
  });

  test('F54: a chain of key changes is one change of the first key to the last', () => {
    const chain = folded(
      run('update', [['2', 'x', UNCHANGED]], [keyImage('1')]),
      run('update', [['3', 'y', UNCHANGED]], [keyImage('2')]),
    );
    expect(chain).toMatchObject([
      { op: 'update', after: [['3', 'y', UNCHANGED]], before: [['1', UNCHANGED, UNCHANGED]] },
    ]);
  });

  test('a swap of two keys over a third is two changes, each of its own row', () => {
    const table = new Map<string, [string, string]>([
      ['1', ['a', 'A']],
      ['2', ['b', 'B']],
    ]);
    const move = (from: string, to: string): RowRun =>
      run('update', [[to, UNCHANGED, UNCHANGED]], [keyImage(from)]);
    applyAtOnce(table, folded(move('1', '9'), move('2', '1'), move('9', '2')));
    expect(sorted(table)).toEqual([
      ['1', ['b', 'B']],
      ['2', ['a', 'A']],
    ]);
  });

  test('two rows with one key at the same time stop the stream', () => {
    expect(() =>
      folded(
        run('insert', [
          ['1', 'x', 'T'],
          ['1', 'y', 'T'],
        ]),
      ),
    ).toThrow(/same key at the same time/);
  });

  test('a truncate is a barrier', () => {
    const runs = folded(
      run('insert', [['1', 'x', 'T']]),
      run('truncate', [], []),
      run('insert', [['1', 'y', 'T']]),
    );
    expect(runs.map((one) => one.op)).toEqual(['insert', 'truncate', 'insert']);
  });

  test('rows of different shapes never share a run', () => {
    const runs = folded(
      run('update', [
        ['1', 'x', 'T'],
        ['2', 'y', UNCHANGED],
        ['3', 'z', 'T'],
      ]),
    );
    expect(runs.map(({ columns, after }) => [columns, after.length])).toEqual([
      [[0, 1, 2], 2],
      [[0, 1], 1],
    ]);
  });

  test('any history folds to what a plain replay gives, whatever the group size', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 40 }), (seed, size) => {
        const r = random(seed);
        const pick = (n: number): number => Math.floor(r() * n);
        const truth = new Map<string, [string, string]>();
        const green = new Map<string, [string, string]>();
        let fold = new Fold();
        for (let i = 0; i < 200; i++) {
          const k = String(pick(6));
          const row = truth.get(k);
          if (row === undefined) {
            truth.set(k, [`a${i}`, `t${i}`]);
            fold.add(run('insert', [[k, `a${i}`, `t${i}`]]));
          } else if (r() < 0.25) {
            truth.delete(k);
            fold.add(run('delete', [], [keyImage(k)]));
          } else if (r() < 0.4) {
            const to = String(pick(9));
            if (truth.has(to)) continue;
            truth.delete(k);
            truth.set(to, [`a${i}`, row[1]]);
            fold.add(run('update', [[to, `a${i}`, UNCHANGED]], [keyImage(k)]));
          } else {
            const whole = r() < 0.5;
            truth.set(k, [`a${i}`, whole ? `t${i}` : row[1]]);
            fold.add(run('update', [[k, `a${i}`, whole ? `t${i}` : UNCHANGED]]));
          }
          if (i % size === size - 1) {
            const held = fold.rows;
            const runs = fold.take();
            expect(held).toBe(
              runs.reduce((sum, { after, before }) => sum + Math.max(after.length, before.length), 0),
            );
            applyAtOnce(green, runs);
            fold = new Fold();
            expect(sorted(green)).toEqual(sorted(truth));
          }
        }
      }),
      { numRuns: 200 },
    );
  });
});
