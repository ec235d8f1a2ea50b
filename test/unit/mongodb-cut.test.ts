import { BSON } from 'mongodb';
import { describe, expect, test } from 'vitest';

import type { RowRun } from '../../src/core/change.ts';
import type { VerdigrisError } from '../../src/core/errors.ts';
import type { Tuple } from '../../src/core/table.ts';
import { relationOf } from '../../src/engines/mongodb/document.ts';
import { isBare, replaced } from '../../src/engines/mongodb/merged.ts';
import { Budget, Cutter, MOST_BYTES } from '../../src/engines/mongodb/sink-cut.ts';

const relation = relationOf({ schema: 'shop', name: 'items' }, 'g', true);
const row = (n: number): Tuple => [`${n}`, Buffer.alloc(0)];
const rows = (count: number): Tuple[] => Array.from({ length: count }, (_, n) => row(n));
const run = (op: RowRun['op'], count: number): RowRun =>
  op === 'delete'
    ? { relation, op, after: [], before: rows(count) }
    : { relation, op, after: rows(count), before: rows(count).map(() => null) };

/** How many rows of which run each slice has. */
async function slices(runs: readonly RowRun[], most: number, size: number): Promise<string[]> {
  const cutter = new Cutter(runs, (_, asked) => Promise.resolve(asked.map(() => size)));
  const found: string[] = [];
  for (;;) {
    const slice = await cutter.next(most);
    if (slice === null) return found;
    found.push(
      slice.map(({ op, after, before }) => `${op} ${Math.max(after.length, before.length)}`).join(', '),
    );
    cutter.advance();
  }
}

describe('rows are cut by what they write', () => {
  test('in their order, at least one at a time, across runs', async () => {
    const runs = [run('delete', 2), run('insert', 3), run('put', 5)];
    expect(await slices(runs, 4_500, 1_000)).toEqual(['delete 2, insert 2', 'insert 1, put 3', 'put 2']);
    expect(await slices([run('put', 3)], 10, 1_000)).toEqual(['put 1', 'put 1', 'put 1']);
    expect(await slices([run('put', 1_200)], 2 ** 30, 0)).toEqual(['put 1200']);
    expect(await slices([], 10, 10)).toEqual([]);
  });

  test('parents with their children, and a truncate, stay whole', async () => {
    const children: RowRun = { relation, op: 'replace', after: rows(3), before: rows(1) };
    const truncate: RowRun = { relation, op: 'truncate', after: [], before: [] };
    expect(await slices([run('insert', 1), children, truncate, run('insert', 1)], 100, 1_000)).toEqual([
      'insert 1',
      'replace 3',
      'truncate 0',
      'insert 1',
    ]);
  });

  test('the same rows again, and fewer of them, until they were written', async () => {
    const cutter = new Cutter([run('put', 8)], (_, asked) => Promise.resolve(asked.map(() => 1_000)));
    const count = async (most: number): Promise<number | undefined> =>
      (await cutter.next(most))?.[0]?.after.length;
    expect(await count(4_500)).toBe(4);
    expect(await count(2_250)).toBe(2);
    cutter.advance();
    expect((await cutter.next(2_250))?.[0]?.after[0]?.[0]).toBe('2');
  });

  test('half as much each time that it does not fit, and not for ever', async () => {
    const budget = new Budget();
    await budget.shrink();
    await budget.shrink();
    expect(budget.bytes).toBe(MOST_BYTES / 4);
    const shrunk = async (): Promise<void> => {
      for (;;) await budget.shrink();
    };
    const error = (await shrunk().catch((one: unknown) => one)) as VerdigrisError;
    expect([error.code, error.directive]).toEqual(['SINK_FAILED', 'operator']);
  });
});

describe('the fields of a part in a document of its own', () => {
  const bytes = (fields: object): Buffer => Buffer.from(BSON.serialize(fields));
  const names = ['a', 'b'];

  test('they keep their places, new ones go to the end, and the rest stays', () => {
    const document = bytes({ _id: 1, b: 1, seen: 2, a: 3, late: 4 });
    expect(replaced(document, names, bytes({ a: 5, b: 6 }))).toEqual(
      bytes({ _id: 1, b: 6, seen: 2, a: 5, late: 4 }),
    );
    expect(replaced(document, names, bytes({ a: 5 }))).toEqual(bytes({ _id: 1, seen: 2, a: 5, late: 4 }));
    expect(replaced(document, names, null)).toEqual(bytes({ _id: 1, seen: 2, late: 4 }));
    expect(replaced(bytes({ _id: 1 }), names, bytes({ b: 1 }))).toEqual(bytes({ _id: 1, b: 1 }));
  });

  test('nothing but the key is left', () => {
    expect(isBare(replaced(bytes({ _id: 1, a: 1 }), names, null))).toBe(true);
    expect(isBare(bytes({ _id: 1, seen: 1 }))).toBe(false);
  });
});
