import { expect, test } from 'vitest';
import type { RowRun } from '../../../src/core/change.ts';
import type { Relation, Tuple } from '../../../src/core/table.ts';
import { StateFold } from '../../../src/pipeline/state-fold.ts';

const column = (name: string) => ({
  name,
  type: 'int',
  kind: 'integer' as const,
  nullable: false,
  generated: false,
  hasDefault: false,
  exact: true,
  mayBeUnchanged: false,
});

const relation: Relation = {
  table: { schema: 's', name: 't' },
  columns: [column('id'), column('v')],
  key: [0],
  identity: 'full',
  version: '1',
};

type Change = readonly ['insert' | 'delete', Tuple] | readonly ['update', Tuple, Tuple];

const run = (change: Change): RowRun =>
  change[0] === 'insert'
    ? { relation, op: 'insert', after: [change[1]], before: [null] }
    : change[0] === 'delete'
      ? { relation, op: 'delete', after: [], before: [change[1]] }
      : { relation, op: 'update', after: [change[2] as Tuple], before: [change[1]] };

/** Applies runs as a sink does to state: a delete may find nothing, an insert must. */
function apply(rows: Map<string, string>, runs: readonly RowRun[]): void {
  for (const { op, before, after } of runs) {
    if (op === 'delete') for (const row of before) rows.delete(String(row?.[0]));
    else
      for (const row of after) {
        expect(rows.has(String(row[0]))).toBe(false);
        rows.set(String(row[0]), String(row[1]));
      }
  }
}

function exact(rows: Map<string, string>, change: Change): void {
  if (change[0] !== 'insert') rows.delete(String(change[1][0]));
  if (change[0] === 'insert') rows.set(String(change[1][0]), String(change[1][1]));
  if (change[0] === 'update') rows.set(String(change[2][0]), String(change[2][1]));
}

test.each<[string, readonly Change[]]>([
  [
    'an insert and a delete of one key',
    [
      ['insert', ['1', 'a']],
      ['delete', ['1', 'a']],
    ],
  ],
  [
    'a row that passes through a key',
    [
      ['update', ['1', 'a'], ['2', 'a']],
      ['update', ['2', 'a'], ['3', 'b']],
    ],
  ],
  [
    'a swap through a third key',
    [
      ['update', ['1', 'a'], ['9', 'a']],
      ['update', ['2', 'b'], ['1', 'b']],
      ['update', ['9', 'a'], ['2', 'a']],
    ],
  ],
  [
    'a delete and an insert',
    [
      ['delete', ['1', 'a']],
      ['insert', ['1', 'c']],
      ['update', ['1', 'c'], ['1', 'd']],
    ],
  ],
])('%s: the end is the same wherever the snapshot fell between the changes', (_, changes) => {
  const start = new Map(
    changes[0]?.[0] === 'insert'
      ? []
      : ([
          ['1', 'a'],
          ['2', 'b'],
        ].slice(0, changes.length > 2 ? 2 : 1) as [string, string][]),
  );
  const end = new Map(start);
  for (const change of changes) exact(end, change);
  for (let seen = 0; seen <= changes.length; seen += 1) {
    const rows = new Map(start);
    for (const change of changes.slice(0, seen)) exact(rows, change);
    const fold = new StateFold();
    for (const change of changes) fold.add(run(change));
    apply(rows, fold.take());
    expect(rows, `snapshot after ${seen} changes`).toEqual(end);
  }
});

test('a table without a key has no state', () => {
  const fold = new StateFold();
  expect(() =>
    fold.add({ relation: { ...relation, key: [] }, op: 'delete', after: [], before: [['1', 'a']] }),
  ).toThrow(/no key/);
});
