import { expect, test } from 'vitest';
import type { Clock } from '../../../src/core/clock.ts';
import type { Digester } from '../../../src/core/digest.ts';
import type { TablePlan } from '../../../src/core/plan.ts';
import type { Tuple } from '../../../src/core/table.ts';
import { confirm, differing } from '../../../src/verify/confirm.ts';
import { rowId, subjectOf } from '../../../src/verify/subject.ts';
import type { VerifyTable } from '../../../src/verify/verify-table.ts';
import { relation } from '../transform/tables.ts';

interface Held extends Digester {
  /** Times the rows were moved instead of digested. */
  reads: number;
}

/** Rows that stand still; the digest is their text in an order of its own. */
function side(rows: readonly Tuple[]): Held {
  const held: Held = {
    reads: 0,
    split: () => Promise.resolve([]),
    digest: () =>
      Promise.resolve({
        rows: rows.length,
        hash: rows
          .map((row) => JSON.stringify(row))
          .sort()
          .join(),
      }),
    hashes: () => {
      throw new Error('not asked for');
    },
    read: async function* () {
      held.reads += 1;
      yield await Promise.resolve(rows);
    },
  };
  return held;
}

function tableOf(key: readonly string[]): VerifyTable {
  const from = relation('public.t', { id: 'integer', note: 'text?' }, [...key]);
  const plan: TablePlan = {
    from,
    to: [{ relation: from, merge: null, prefix: 0 }],
    passthrough: { from: [0, 1], columns: [0, 1] },
    inputs: [0, 1],
    run: (run) => ({ runs: [{ ...run, op: 'insert' }], rejects: [] }),
  };
  return {
    target: { relation: from, merge: null, prefix: 0 },
    plans: [plan],
    compared: [0, 1],
    canonical: [null, null],
    direct: { from: [0, 1], columns: [0, 1] },
    notCompared: [],
    sameRanges: key.length > 0,
    links: key.length > 0 ? [[0]] : null,
  };
}

const live = (): AbortSignal => new AbortController().signal;

const named = (table: VerifyTable, row: Tuple) => {
  const subject = subjectOf(table)(row);
  if (subject === null) throw new Error('a row without a name');
  return new Map([[subject.id, subject]]);
};

test('rows of a table without a key are not moved where both servers digest the same', async () => {
  const table = tableOf([]);
  const asked = named(table, ['1', 'a']);
  const [blue, green] = [
    side([
      ['1', 'a'],
      ['2', 'b'],
    ]),
    side([
      ['2', 'b'],
      ['1', 'a'],
    ]),
  ];
  expect((await differing({ blue, green }, table, asked, live())).size).toBe(0);
  expect([blue.reads, green.reads]).toEqual([0, 0]);
});

test('one row of a table without a key that is there twice on green is found, whatever the digests cost', async () => {
  const table = tableOf([]);
  const asked = named(table, ['1', 'a']);
  const blue = side([['1', 'a']]);
  const green = side([
    ['1', 'a'],
    ['1', 'a'],
  ]);
  const found = await differing({ blue, green }, table, asked, live());
  expect([...found.values()].flat()).toMatchObject([{ kind: 'extra', id: rowId(table, ['1', 'a']) }]);
});

test('a key that changes during the look is left to who compares it later, without waiting for it', async () => {
  const table = tableOf(['id']);
  const asked = named(table, ['1', 'a']);
  const sides = { blue: side([['1', 'a']]), green: side([['1', 'old']]) };
  const slept: number[] = [];
  const clock: Clock = {
    now: () => 0,
    monotonic: () => 0,
    sleep: (ms) => {
      slept.push(ms);
      return Promise.resolve();
    },
  };
  const touched = new Map([...asked].map(([id, { key }]) => [id, key]));
  const changes = {
    start: () => undefined,
    now: 1,
    since: () => touched,
    forget: () => undefined,
  };
  const options = { sides, changes, settle: () => Promise.resolve(), attempts: 4, delayMs: 2_000, clock };
  expect(await confirm({ ...options, leaveMoving: true }, table, asked, live())).toEqual({
    differences: [],
    unsettled: 1,
  });
  expect(slept).toEqual([]);
  expect(await confirm(options, table, asked, live())).toEqual({ differences: [], unsettled: 1 });
  expect(slept).toEqual([2_000, 2_000, 2_000]);
});
