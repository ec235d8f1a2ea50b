import { expect, test } from 'vitest';

import type { ChangeBatch } from '../../../src/core/change.ts';
import { asPosition, type Positions } from '../../../src/core/position.ts';
import type { ChangeStream } from '../../../src/core/source.ts';
import type { Relation } from '../../../src/core/table.ts';
import { OneByOne } from '../../../src/pipeline/one-by-one.ts';

const positions: Positions = {
  covers: (have, want) => Number(have) >= Number(want),
  distance: () => null,
  describe: String,
};
const at = (place: number) => asPosition(String(place));

/** Each transaction with one row, the number of the transaction. */
const batchOf = (...ends: readonly number[]): ChangeBatch => ({
  runs: [
    {
      relation: {} as Relation,
      op: 'insert',
      after: ends.map((_, index) => [index]),
      before: ends.map(() => null),
      transaction: ends.map((_, index) => index),
    },
  ],
  end: at(9),
  transactions: ends.map((end, index) => ({ id: String(index), end: at(end), commitMs: index })),
  oldestCommitMs: 0,
  bytes: 10,
  marks: [],
  schemaChanges: [],
  idle: false,
});

test('transactions that end at one position are not parted: a checkpoint there would lose the ones behind', async () => {
  const cutter = new OneByOne(positions);
  cutter.begin(at(9));
  const stream = {
    async *[Symbol.asyncIterator]() {
      yield await Promise.resolve(batchOf(1, 2, 2, 2, 3));
    },
  } as unknown as ChangeStream;
  const seen: unknown[] = [];
  for await (const { end, runs, transactions } of cutter.over(stream)) {
    const rows = runs.flatMap(({ after, transaction }) =>
      after.map(([row], index) => [row, transactions[transaction[index] as number]?.id]),
    );
    seen.push([end, rows]);
  }
  expect(seen).toEqual([
    ['1', [[0, '0']]],
    [
      '2',
      [
        [1, '1'],
        [2, '2'],
        [3, '3'],
      ],
    ],
    ['9', [[4, '4']]],
  ]);
});
