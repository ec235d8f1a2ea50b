import { describe, expect, test } from 'vitest';
import type { RowRun } from '../../../src/core/change.ts';
import { keyText, type Relation, type Tuple } from '../../../src/core/table.ts';
import { address, full, product, runOf, shopBack, U, ways, whys } from './back-runs.ts';
import { blue, green } from './shop.ts';
import { StrictSink } from './strict-sink.ts';
import { compileBack, relation } from './tables.ts';

describe('split', () => {
  test('the second table sets its columns and, when its row goes, their off values', () => {
    const row: Tuple = ['1', 'primary', 'Ulm'];
    const put = (key: string, city: string | null): Tuple => [key, U, U, U, U, city, U, U];
    expect(address.insert(row).runs).toEqual([['put customers', [put('1', 'Ulm')], [null]]]);
    expect(address.update(row, row.with(2, 'Bonn')).runs).toEqual([
      ['put customers', [put('1', 'Bonn')], [null]],
    ]);
    expect(address.remove(row).runs).toEqual([['put customers', [put('1', null)], [null]]]);
    expect(address.update(row, row.with(0, '2')).runs).toEqual([
      ['put customers', [put('1', null), put('2', 'Ulm')], [null, null]],
    ]);
    const target = shopBack.targets.find((one) => one.relation === blue.customers);
    expect(target?.merge).toEqual({ owner: [0, 1, 2, 3, 4, 7], parts: [{ columns: [5], absent: [null] }] });
  });

  test('a row that emit_when would not make does not fit', () => {
    expect(address.insert(['1', 'primary', null])).toEqual({
      runs: [],
      rejects: [expect.objectContaining({ column: 'emit_when', kind: 'value' })],
    });
    expect(address.update(['1', 'primary', 'Ulm'], ['1', 'primary', null]).runs).toEqual([
      ['put customers', [['1', U, U, U, U, null, U, U]], [null]],
    ]);
  });

  test('rows of another kind stay on green, and one that becomes ours arrives', () => {
    expect(address.insert(['1', 'billing', 'Ulm'])).toEqual({ runs: [], rejects: [] });
    expect(address.remove(['1', 'billing', 'Ulm']).runs).toEqual([]);
    expect(address.update(['1', 'billing', 'Ulm'], ['1', 'primary', 'Ulm']).runs).toHaveLength(1);
    expect(address.update(['1', 'primary', 'Ulm'], ['1', 'billing', 'Ulm']).runs).toEqual([
      ['put customers', [['1', U, U, U, U, null, U, U]], [null]],
    ]);
  });

  const sides = {
    blue: [relation('a.t', { id: 'integer', name: 'text', street: 'text?', kind: 'text', zip: 'text?' })],
    green: [
      relation('b.t', { id: 'integer', name: 'text' }),
      relation('b.u', { id: 'integer', street: 'text?', kind: 'text', zip: 'text?' }),
    ],
  };
  const spec = (emit: string | null, reverse?: unknown) => [
    {
      from: 'a.t',
      ...(reverse === undefined ? {} : { reverse }),
      to: [
        { table: 'b.t', columns: { id: 'copy', name: 'copy' } },
        {
          table: 'b.u',
          ...(emit === null ? {} : { emit_when: emit }),
          columns: { id: 'copy', street: 'copy', kind: 'copy', zip: 'copy' },
        },
      ],
    },
  ];

  test('off must be there for what cannot be null, and must make emit_when false', () => {
    expect(whys(compileBack(spec('row.street != null'), sides))).toEqual([
      'kind: it cannot be null, and nothing says what it is while b.u has no row; write reverse: off: { kind: … }',
    ]);
    expect(whys(compileBack(spec("row.kind != 'none'", { off: { kind: 'some' } }), sides))).toEqual([
      '*: without a row in b.u emit_when must be false; write reverse: off: with values of street, kind, zip for which it is',
    ]);
    const back = compileBack(spec("row.kind != 'none'", { off: { kind: 'none' } }), sides);
    expect(whys(back)).toEqual([]);
    expect(runOf(back, 'u').remove(['1', U, U, U]).runs).toEqual([
      ['put t', [['1', U, null, 'none', null]], [null]],
    ]);
  });

  test('a condition over what the second table does not hold cannot be told to blue', () => {
    expect(whys(compileBack(spec("row.name != 'x'", { off: { kind: '-' } }), sides))).toEqual([
      'name: emit_when of b.u reads it, and it does not come back from there: blue cannot say whether that row is there',
    ]);
  });

  test('only what the condition itself reads is exact: the rest may hold values that green never saw', () => {
    const back = compileBack(spec('row.street != null || row.zip != null', { off: { kind: '-' } }), sides);
    expect(ways(back)).toEqual(['id exact', 'name exact', 'street exact', 'kind lossy', 'zip exact']);
  });

  test('tables that none of holds every row give no way back', () => {
    const half = [
      {
        from: 'a.t',
        to: ["row.name == 'a'", "row.name != 'a'"].map((emit_when, i) => ({
          table: i === 0 ? 'b.t' : 'b.u',
          emit_when,
          columns:
            i === 0
              ? { id: 'copy', name: 'copy' }
              : { id: 'copy', street: 'copy', kind: 'copy', zip: 'copy' },
        })),
      },
    ];
    expect(whys(compileBack(half, sides))[0]).toMatch(/no green table holds every row of it/);
  });
});

describe('merge', () => {
  const cup: Tuple = ['5', 'Cup', '999', '3', 'A', 'now'];

  test('the row of the owner and that of the part come, change and go apart', () => {
    expect(product.insert(cup).runs).toEqual([
      ['insert products', [['5', 'Cup', '9.99']], [null]],
      ['replace stock', [['5', '3', 'A']], [['5', U, U]]],
    ]);
    expect(product.update(cup, cup.with(2, '100')).runs).toEqual([
      ['update products', [['5', U, '1.00']], [null]],
    ]);
    expect(product.update(cup, cup.with(3, '4')).runs).toEqual([
      ['replace stock', [['5', '4', 'A']], [['5', U, U]]],
    ]);
    expect(product.update(cup, cup.with(0, '6')).runs).toEqual([
      ['update products', [['6', U, U]], [['5', U, U]]],
      [
        'replace stock',
        [['6', '3', 'A']],
        [
          ['5', U, U],
          ['6', U, U],
        ],
      ],
    ]);
  });

  test('all values absent is no row, where no column says otherwise', () => {
    expect(product.insert(cup.with(3, '0').with(4, null)).runs).toHaveLength(1);
    expect(product.update(cup, cup.with(3, '0').with(4, null)).runs).toEqual([
      ['replace stock', [], [['5', U, U]]],
    ]);
    expect(shopBack.warnings).toEqual([
      "Rows of crm.customer_address with another kind than the mapping's stay on green.",
      expect.stringMatching(/^A row of public.stock that has nothing but the absent values/),
    ]);
    const stock = shopBack.comparables.find((one) => one.table.relation === blue.stock);
    expect(stock?.ignores?.(['5', '0', null])).toBe(true);
    expect(stock?.ignores?.(['5', '0', 'A'])).toBe(false);
  });

  const sides = {
    blue: [
      relation('a.p', { id: 'integer', name: 'text' }),
      relation('a.s', { id: 'integer', supplier: 'text', weight: 'integer?', memo: 'text?' }),
    ],
    green: [
      full(
        relation('b.p', {
          id: 'integer',
          name: 'text',
          supplier: 'text?',
          weight: 'integer?',
          there: ['boolean', { nullable: false }],
        }),
      ),
    ],
  };
  const spec = (columns: unknown) => [
    { from: 'a.p', to: [{ table: 'b.p', owner: true, columns: { id: 'copy', name: 'copy' } }] },
    { from: 'a.s', to: [{ table: 'b.p', columns }] },
  ];
  const bit = { there: { value: true, absent: false } };

  test('a column that its row always fills is the sign, and dropped columns then stay', () => {
    const back = compileBack(spec({ id: 'copy', supplier: 'copy', weight: 'copy', ...bit }), sides);
    const { insert, update, remove } = runOf(back, 'p');
    expect(whys(back)).toEqual([]);
    const row: Tuple = ['1', 'n', 'acme', '5', 't'];
    expect(insert(row).runs[1]).toEqual(['insert s', [['1', 'acme', '5', U]], [null]]);
    expect(insert(['1', 'n', null, null, 'f']).runs).toHaveLength(1);
    expect(update(row, row.with(3, '6')).runs).toEqual([['update s', [['1', U, '6', U]], [null]]]);
    expect(update(row, ['1', 'n', null, null, 'f']).runs).toEqual([['delete s', [], [['1', U, U, U]]]]);
    expect(remove(row).runs).toEqual([
      ['delete p', [], [['1', U]]],
      ['delete s', [], [['1', U, U, U]]],
    ]);
    expect(insert(['1', 'n', null, '5', 'f']).rejects).toEqual([
      expect.objectContaining({ kind: 'value', column: 'weight' }),
    ]);
    expect(insert(['1', 'n', null, '5', 't']).rejects).toEqual([
      expect.objectContaining({ kind: 'value', column: 'supplier' }),
    ]);
  });

  test('without a sign a part that has more than green knows gives no way back', () => {
    const loose = sides.blue.map((one) => ({
      ...one,
      columns: one.columns.map((column) =>
        column.name === 'supplier' ? { ...column, nullable: true } : column,
      ),
    }));
    const open = { ...sides, blue: loose };
    const columns = { id: 'copy', supplier: 'copy', weight: 'copy' };
    const green = [relation('b.p', { id: 'integer', name: 'text', supplier: 'text?', weight: 'integer?' })];
    expect(whys(compileBack(spec(columns), { ...open, green }))).toEqual([
      expect.stringMatching(
        /b.p does not say whether it has a row here, .*memo must stay as it is; map a column/,
      ),
    ]);
    expect(whys(compileBack(spec({ ...columns, ...bit }), open))).toEqual([]);
  });
});

describe('explode', () => {
  const line = runOf(shopBack, 'order_line');
  const element = '{"sku": "a", "quantity": 2}';
  const row: Tuple = ['7', '1', 'a', '2', element];

  test('rows are elements of the array, which the sink keeps', () => {
    expect(line.insert(row)).toEqual({
      runs: [['insert orders.items[]', [['7', '1', element]], [null]]],
      rejects: [],
    });
    expect(line.remove(row).runs).toEqual([['delete orders.items[]', [], [['7', '1', U]]]]);
    expect(line.update(row, row.with(1, '2')).runs).toEqual([
      ['update orders.items[]', [['7', '2', U]], [['7', '1', U]]],
    ]);
    expect(line.update(row, row).runs).toEqual([]);
    const target = shopBack.targets.find((one) => one.elements !== undefined);
    expect(target?.elements).toEqual({ of: blue.orders, array: 2, ordinal: 1, element: 2 });
    expect(target?.relation.key).toEqual([0, 1]);
    expect(runOf(shopBack, 'sales_order').insert(['7', '1', null]).runs).toEqual([
      ['insert orders', [['7', '1', '[]', null]], [null]],
    ]);
  });

  test('columns that contradict the element they came from do not fit', () => {
    expect(line.update(row, row.with(2, 'b')).rejects).toEqual([
      expect.objectContaining({ kind: 'value', column: 'items' }),
    ]);
  });

  const lines = (columns: Parameters<typeof relation>[1]) => ({
    blue: [relation('a.o', { id: 'integer', items: 'jsonb' })],
    green: [
      full(relation('b.o', { id: 'integer' })),
      full(relation('b.l', { id: 'integer', n: 'integer', ...columns }, ['id', 'n'])),
    ],
  });
  const exploded = (columns: Record<string, unknown>) => [
    {
      from: 'a.o',
      to: [
        { table: 'b.o', columns: { id: 'copy' } },
        {
          table: 'b.l',
          explode: { array: 'items', as: 'item', ordinal: 'n' },
          columns: { id: 'copy', ...columns },
        },
      ],
    },
  ];

  test('an element is built from its columns: numbers as numbers, what is null left out', () => {
    const back = compileBack(
      exploded({
        sku: { from: 'item.sku' },
        many: { from: 'item.many', cast: 'integer' },
        gift: { from: 'item.gift', cast: 'boolean' },
        x: { from: 'item.at.x', cast: 'numeric' },
        y: { from: 'item.at.y', cast: 'numeric' },
        rest: { from: 'item.rest' },
      }),
      lines({
        sku: 'text?',
        many: 'integer?',
        gift: 'boolean?',
        x: 'numeric?',
        y: 'numeric?',
        rest: 'jsonb?',
      }),
    );
    const made = (tuple: Tuple) =>
      (runOf(back, 'l').insert(tuple).runs[0]?.[1] as Tuple[] | undefined)?.[0]?.[2];
    expect(made(['1', '1', 'a"', '3', 't', '1.50', '2', '[1, {}]'])).toBe(
      '{"sku": "a\\"", "many": 3, "gift": true, "at": {"x": 1.50, "y": 2}, "rest": [1, {}]}',
    );
    expect(made(['1', '1', null, null, null, null, null, null])).toBe('{}');
    expect(runOf(back, 'l').insert(['1', '1', 'a', '3', 't', 'NaN', '2', null]).rejects).toHaveLength(1);
  });

  test('a plain element is the column', () => {
    const back = compileBack(exploded({ tag: { from: 'item' } }), lines({ tag: 'text?' }));
    expect(runOf(back, 'l').insert(['1', '1', 'x']).runs[0]?.[1]).toEqual([['1', '1', '"x"']]);
    expect(runOf(back, 'l').insert(['1', '1', null]).runs[0]?.[1]).toEqual([['1', '1', 'null']]);
  });

  test('F90: no way back where blue keeps no elements, or what came out does not go in again', () => {
    const sides = lines({ tag: 'text?' });
    const without = compileBack(exploded({ tag: { from: 'item' } }), { ...sides, elements: false });
    expect(whys(without)[0]).toMatch(
      /^items: b.l holds one row per element, and blue keeps no elements; write reverse/,
    );
    const hashed = compileBack(exploded({ tag: { from: 'item.tag', op: 'hash' } }), sides);
    expect(whys(hashed)[0]).toMatch(/^items: tag does not come back into the element/);
    const decided = [
      {
        ...exploded({ tag: { from: 'item.tag', op: 'hash' } })[0],
        reverse: { columns: { items: { value: '[]' } } },
      },
    ];
    expect(whys(compileBack(decided, sides))).toEqual([]);
  });
});

test('a row that moves to another key does not take along what went before it moved', () => {
  const sink = new StrictSink(shopBack.targets);
  const lives = (one: Relation, row: Tuple): unknown => sink.rows(one).set(keyText(one, row), [...row]);
  lives(blue.customers, ['1', 'Ann', null, '1.00', '1', 'Ulm', 'old', '2024-01-01 00:00:00']);
  lives(blue.orders, ['1', '1', '[{"sku": "a"}]', 'n']);
  const change = (one: Relation, before: Tuple, after: Tuple | null): readonly RowRun[] => {
    const plan = shopBack.plans.find(({ from }) => from.table.name === one.table.name);
    if (plan === undefined) throw new Error('no plan');
    const run =
      after === null
        ? { relation: plan.from, op: 'delete' as const, after: [], before: [before] }
        : { relation: plan.from, op: 'update' as const, after: [after], before: [before] };
    return plan.run(run).runs;
  };
  const row: Tuple = ['1', 'Ann', null, null, '100', 'active', '2023-12-31 23:00:00+00'];
  sink.apply([
    ...change(green.address, ['1', 'primary', 'Ulm'], null),
    ...change(green.customer, row, row.with(0, '2')),
    ...change(green.line, ['1', '1', 'a', '1', '{"sku": "a"}'], null),
    ...change(green.order, ['1', '1', 'n'], ['2', '1', 'n']),
  ]);
  expect([...sink.rows(blue.customers).values()]).toEqual([
    ['2', 'Ann', null, '1.00', '1', null, 'old', '2024-01-01 00:00:00'],
  ]);
  expect([...sink.rows(blue.orders).values()]).toEqual([['2', '1', '[]', 'n']]);
});
