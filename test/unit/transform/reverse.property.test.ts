import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Cell, Tuple } from '../../../src/core/table.ts';
import { canonicalOf } from '../../../src/transform/canonical.ts';
import { describeReverse } from '../../../src/transform/invert.ts';
import { CompiledPlan } from '../../../src/transform/table-plan.ts';
import { compile, relation } from './tables.ts';

const blue = relation('a.t', {
  id: 'integer',
  small: 'smallint',
  money: 'numeric(12,2)',
  free: 'numeric',
  ratio: 'double precision',
  flag: 'boolean?',
  state: 'smallint',
  name: 'text',
  tidy: 'text',
  local: 'timestamp',
  moved: 'timestamp',
  day: 'date?',
  doc: 'jsonb?',
  merged: 'smallint',
  either: 'text?',
});
const green = relation('b.t', {
  id: 'bigint',
  small: 'text',
  money: 'bigint',
  free: 'numeric',
  ratio: 'numeric',
  flag: 'smallint?',
  state: ['b.state', { labels: ['new', 'done'] }],
  first: 'text',
  rest: 'text?',
  tidy_first: 'text',
  tidy_rest: 'text?',
  local: 'timestamptz',
  moved: 'timestamptz',
  day: 'timestamp?',
  doc: 'jsonb?',
  merged: 'text',
  either: 'text',
});
const zone = { op: 'timezone', assume: 'Europe/Berlin', on_ambiguous: 'later' };
const compiled = compile(
  [
    {
      from: 'a.t',
      to: [
        {
          table: 'b.t',
          columns: {
            id: { cast: 'bigint' },
            small: { cast: 'text' },
            money: { op: 'scale', factor: 100, on_error: 'reject' },
            free: { op: 'scale', factor: '-0.25' },
            ratio: { cast: 'numeric' },
            flag: { cast: 'smallint' },
            state: { op: 'map', values: { 0: 'new', 1: 'done' }, on_error: 'reject' },
            first: { from: 'name', op: 'split', by: ', ', take: 'first' },
            rest: { from: 'name', op: 'split', by: ', ', take: 'rest' },
            tidy_first: { from: 'tidy', op: 'split', by: ' ', take: 'first' },
            tidy_rest: { from: 'tidy', op: 'split', by: ' ', take: 'rest', empty: null },
            local: { ...zone, on_error: 'reject' },
            moved: { ...zone, nonexistent: 'shift' },
            day: { cast: 'timestamp' },
            doc: 'copy',
            merged: { op: 'map', values: { 0: 'a', 1: 'a', 2: 'b' } },
            either: { default: '-' },
          },
        },
      ],
    },
  ],
  { blue: [blue], green: [green] },
);
const plan = compiled.plans[0];
if (!(plan instanceof CompiledPlan)) throw new Error('no plan');
const back = describeReverse(plan);

test('what is lossy is named with its reason', () => {
  expect(back.filter((column) => !column.exact).map(({ name, reason }) => [name, reason])).toEqual([
    ['tidy', 'tidy_first: the other parts are elsewhere; tidy_rest: the other parts are elsewhere'],
    ['moved', 'moved: local times that Europe/Berlin left out are moved'],
    ['merged', 'merged: several values become one'],
    ['either', 'either: null becomes the default'],
  ]);
});

test('for every exact column reverse(forward(row)) is the row', () => {
  const stamp = fc
    .date({ min: new Date('1950-01-01'), max: new Date('2090-01-01'), noInvalidDate: true })
    .map((at) => at.toISOString().slice(0, 19).replace('T', ' '));
  const cents = fc.bigInt({ min: -(10n ** 11n), max: 10n ** 11n });
  const row: fc.Arbitrary<Tuple> = fc.tuple(
    fc.integer({ min: 1, max: 1e9 }).map(String),
    fc.integer({ min: -32768, max: 32767 }).map(String),
    cents.map(
      (n) =>
        `${n < 0n ? '-' : ''}${String(n < 0n ? -n : n)
          .padStart(3, '0')
          .replace(/(..)$/, '.$1')}`,
    ),
    fc
      .tuple(fc.bigInt({ min: -(10n ** 30n), max: 10n ** 30n }), fc.stringMatching(/^\d{0,12}$/))
      .map(([whole, fraction]) => (fraction === '' ? String(whole) : `${whole}.${fraction}`)),
    fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e40, max: 1e40 }).map(String),
    fc.constantFrom('t', 'f', null),
    fc.constantFrom('0', '1', '2'),
    fc.string({ unit: fc.constantFrom('a', ',', ' ', 'ß', '😀') }),
    fc.string({ unit: fc.constantFrom('a', ' ') }),
    stamp,
    stamp,
    fc.constantFrom('2024-02-29', '0044-03-15 BC', 'infinity', null),
    fc.jsonValue().map((value) => JSON.stringify(value)),
    fc.constantFrom('0', '1', '2'),
    fc.constantFrom('x', null),
  );
  let taken = 0;
  fc.assert(
    fc.property(row, (tuple) => {
      const output = plan.run({ relation: blue, op: 'insert', after: [tuple], before: [null] });
      const mapped = output.runs[0]?.after[0];
      if (mapped === undefined) return;
      taken += 1;
      for (const column of back) {
        if (!column.exact || column.apply === null) continue;
        const same =
          canonicalOf(blue.columns[column.column] as (typeof blue.columns)[number]) ?? ((cell: Cell) => cell);
        const restored = column.apply(column.inputs.map((input) => mapped[input.column] as Cell));
        expect([column.name, same(restored)]).toEqual([column.name, same(tuple[column.column] as Cell)]);
      }
    }),
    { numRuns: 500 },
  );
  // A test of which every row is rejected would prove nothing.
  expect(taken).toBeGreaterThan(150);
});
