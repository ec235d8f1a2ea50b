import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { RowRun } from '../../../src/core/change.ts';
import { UNCHANGED, type Cell, type Relation, type Tuple } from '../../../src/core/table.ts';
import { canonicalOf } from '../../../src/transform/canonical.ts';
import { StrictSink } from './strict-sink.ts';
import { compile, compileBack, relation, type ColumnShort } from './tables.ts';

/** One column of blue and what becomes of it on green; `x` stands for its name. */
interface Sample {
  readonly blue: string;
  readonly values: fc.Arbitrary<string>;
  readonly green: Readonly<Record<string, string>>;
  readonly columns: Readonly<Record<string, unknown>>;
  readonly exact: boolean;
}

const stamp = fc
  .date({ min: new Date('1990-01-01'), max: new Date('2030-01-01'), noInvalidDate: true })
  .map((at) => at.toISOString().slice(0, 19).replace('T', ' '));
const text = fc.string({ unit: fc.constantFrom('a', 'B', ' ', 'ß', '😀'), maxLength: 6 });
const cents = fc.integer({ min: -1e6, max: 1e6 }).map((n) => (n / 100).toFixed(2));
const from = 'x';
const berlin = {
  from,
  op: 'timezone',
  assume: 'Europe/Berlin',
  on_ambiguous: 'earlier',
  nonexistent: 'shift',
};
const samples: readonly Sample[] = [
  {
    blue: 'integer',
    values: fc.integer().map((n) => String(n | 0)),
    green: { y: 'bigint' },
    columns: { y: { from } },
    exact: true,
  },
  { blue: 'text', values: text, green: { x: 'text' }, columns: { x: 'copy' }, exact: true },
  { blue: 'varchar(6)', values: text, green: { y: 'text' }, columns: { y: { from } }, exact: true },
  {
    blue: 'smallint',
    values: fc.integer({ min: -9, max: 9 }).map(String),
    green: { y: 'text' },
    columns: { y: { from, cast: 'text' } },
    exact: true,
  },
  {
    blue: 'numeric(12,2)',
    values: cents,
    green: { y: 'bigint' },
    columns: { y: { from, op: 'scale', factor: 100, cast: 'bigint' } },
    exact: true,
  },
  {
    blue: 'numeric',
    values: cents,
    green: { y: 'numeric' },
    columns: { y: { from, op: 'scale', factor: '-0.25' } },
    exact: true,
  },
  {
    blue: 'boolean',
    values: fc.constantFrom('t', 'f'),
    green: { y: 'smallint' },
    columns: { y: { from, cast: 'smallint' } },
    exact: true,
  },
  {
    blue: 'date',
    values: stamp.map((at) => at.slice(0, 10)),
    green: { y: 'timestamp' },
    columns: { y: { from, cast: 'timestamp' } },
    exact: true,
  },
  {
    blue: 'jsonb',
    values: fc.jsonValue().map((value) => JSON.stringify(value)),
    green: { y: 'jsonb' },
    columns: { y: { from } },
    exact: true,
  },
  {
    blue: 'smallint',
    values: fc.constantFrom('0', '1'),
    green: { y: 'text' },
    columns: { y: { from, op: 'map', values: { 0: 'off', 1: 'on' } } },
    exact: true,
  },
  {
    blue: 'text',
    values: text,
    green: { y: 'text', z: 'text?' },
    columns: {
      y: { from, op: 'split', by: ' ', take: 'first' },
      z: { from, op: 'split', by: ' ', take: 'rest' },
    },
    exact: true,
  },
  {
    blue: 'timestamptz',
    values: stamp.map((at) => `${at}+00`),
    green: { y: 'timestamp' },
    columns: { y: { from, op: 'timezone_strip', to: 'UTC' } },
    exact: true,
  },
  { blue: 'timestamp', values: stamp, green: { y: 'timestamptz' }, columns: { y: berlin }, exact: false },
  {
    blue: 'text',
    values: text,
    green: { y: 'text' },
    columns: { y: { from, op: ['trim', 'lower'] } },
    exact: false,
  },
  {
    blue: 'smallint',
    values: fc.constantFrom('0', '1', '2'),
    green: { y: 'text' },
    columns: { y: { from, op: 'map', values: { 0: 'a', 1: 'a', 2: 'b' } } },
    exact: false,
  },
  {
    blue: 'timestamp',
    values: stamp,
    green: { y: 'date' },
    columns: { y: { from, cast: 'date' } },
    exact: false,
  },
  {
    blue: 'text',
    values: fc.integer().map((n) => ` ${n}`.trim()),
    green: { y: 'bigint' },
    columns: { y: { from, cast: 'bigint' } },
    exact: false,
  },
];

interface Picked {
  readonly sample: Sample;
  readonly nullable: boolean;
  /** In the second green table, which has a row while one of its columns is not null. */
  readonly second: boolean;
  readonly cells: readonly [Cell, Cell];
}

const picked: fc.Arbitrary<Picked> = fc
  .record({ sample: fc.constantFrom(...samples), nullable: fc.boolean(), second: fc.boolean() })
  .chain(({ sample, nullable, second }) => {
    const cell: fc.Arbitrary<Cell> = nullable ? fc.option(sample.values, { freq: 3 }) : sample.values;
    const same = cell.map((one) => [one, one] as const);
    const cells = fc.oneof(fc.tuple(cell, cell), same);
    return fc.record({
      sample: fc.constant(sample),
      nullable: fc.constant(nullable),
      second: fc.constant(second && nullable),
      cells,
    });
  });

function mappingOf(columns: readonly Picked[]) {
  const blueColumns: Record<string, ColumnShort> = { id: 'integer' };
  const tables = ['b.t', 'b.u'].map((table) => ({
    table,
    layout: { id: 'bigint' } as Record<string, ColumnShort>,
    columns: { id: 'copy' } as Record<string, unknown>,
  }));
  const conditions: string[] = [];
  for (const [index, { sample, nullable, second }] of columns.entries()) {
    const name = `c${index}`;
    blueColumns[name] = `${sample.blue}${nullable ? '?' : ''}`;
    const target = tables[second ? 1 : 0] as (typeof tables)[number];
    if (second) conditions.push(`row.${name} != null`);
    for (const [key, type] of Object.entries(sample.green)) {
      const own = key === 'x' ? name : `${name}_${key}`;
      target.layout[own] = `${type.replace('?', '')}${nullable || type.endsWith('?') ? '?' : ''}`;
      const spec = sample.columns[key];
      target.columns[own] = typeof spec === 'string' ? spec : { ...(spec as object), from: name };
    }
  }
  const used = conditions.length > 0 ? tables : tables.slice(0, 1);
  const spec = [
    {
      from: 'a.t',
      to: used.map(({ table, columns: own }, index) => ({
        table,
        columns: own,
        ...(index === 1 ? { emit_when: conditions.join(' || ') } : {}),
      })),
    },
  ];
  const blue = [relation('a.t', blueColumns, ['id'], 'full')];
  const green = used.map(({ table, layout }) => relation(table, layout, ['id'], 'full'));
  return { spec, blue, green };
}

const canonical = (one: Relation, row: Tuple): Tuple =>
  row.map((cell, index) => canonicalOf(one.columns[index] as Relation['columns'][number])?.(cell) ?? cell);

test('for any mapping: what is exact comes back, and a change on green touches only what it changed', () => {
  let compared = 0;
  let kept = 0;
  const insert = (one: Relation, row: Tuple): RowRun => ({
    relation: one,
    op: 'insert',
    after: [row],
    before: [null],
  });
  fc.assert(
    fc.property(fc.array(picked, { minLength: 1, maxLength: 8 }), (columns) => {
      const { spec, blue, green } = mappingOf(columns);
      const compiled = compile(spec, { blue, green });
      const back = compileBack(spec, { blue, green });
      expect(back.impossible).toEqual([]);
      const [table] = blue as [Relation];
      const [first, then] = [0, 1].map((side): Tuple => [
        '1',
        ...columns.map(({ cells }) => cells[side] as Cell),
      ]);
      const forward = (row: Tuple): Map<string, Tuple> => {
        const output = compiled.plans[0]?.run(insert(table, row));
        return new Map(output?.runs.map((run) => [run.relation.table.name, run.after[0] as Tuple]));
      };
      const images = [forward(first as Tuple), forward(then as Tuple)] as const;
      const reverse = (run: RowRun): readonly RowRun[] => {
        const output = back.plans.find((plan) => plan.from === run.relation)?.run(run);
        expect(output?.rejects).toEqual([]);
        return output?.runs ?? [];
      };

      // The whole row, made anew from green.
      const sink = new StrictSink(back.targets);
      sink.apply(
        green.flatMap((one) => {
          const row = images[0].get(one.table.name);
          return row === undefined ? [] : reverse(insert(one, row));
        }),
      );
      const made = sink.rows(table).get('1') as Tuple;
      const report = back.report[0]?.columns ?? [];
      expect(report.map((one) => one.way)).toEqual([
        'exact',
        ...columns.map(({ sample }) => (sample.exact ? 'exact' : 'lossy')),
      ]);
      for (const [index, { way }] of report.entries()) {
        if (way !== 'exact') continue;
        compared += 1;
        expect(canonical(table, made)[index]).toEqual(canonical(table, first as Tuple)[index]);
      }
      const sameGreen = (row: Tuple, image: ReadonlyMap<string, Tuple>): void => {
        const again = forward(row);
        for (const one of green) {
          const [left, right] = [again, image].map((rows) => rows.get(one.table.name));
          expect(left && canonical(one, left)).toEqual(right && canonical(one, right));
        }
      };
      sameGreen(made, images[0]);

      // One change on green to a row that blue has as it always had it.
      const lived = new StrictSink(back.targets);
      lived.rows(table).set('1', [...(first as Tuple)]);
      const changed = new Set<string>();
      lived.apply(
        green.flatMap((one) => {
          const [old, now] = images.map((image) => image.get(one.table.name));
          for (const [index, column] of one.columns.entries())
            if (old?.[index] !== now?.[index]) changed.add(`b.${one.table.name}.${column.name}`);
          if (old === undefined) return now === undefined ? [] : reverse(insert(one, now));
          if (now === undefined) return reverse({ relation: one, op: 'delete', after: [], before: [old] });
          const sent = now.map((cell, index) => (index > 0 && cell === old[index] ? UNCHANGED : cell));
          return reverse({ relation: one, op: 'update', after: [sent], before: [old] });
        }),
      );
      const row = lived.rows(table).get('1') as Tuple;
      for (const [index, one] of report.entries()) {
        if (one.from.some((name) => changed.has(name))) continue;
        kept += 1;
        expect(row[index]).toBe((first as Tuple)[index]);
      }
      sameGreen(row, images[1]);
    }),
    { numRuns: 300 },
  );
  // Rows that are all rejected, or all changed, would prove nothing.
  expect(compared).toBeGreaterThan(500);
  expect(kept).toBeGreaterThan(500);
});
