import { describe, expect, test } from 'vitest';
import type { RowRun } from '../../../src/core/change.ts';
import { tableId, UNCHANGED, type Relation, type Tuple } from '../../../src/core/table.ts';
import { blue, green, mapping, shop } from './shop.ts';
import { compile } from './tables.ts';

const U: typeof UNCHANGED = UNCHANGED;
const compiled = compile(mapping, shop);
const planOf = (relation: Relation, { plans } = compiled) => {
  const plan = plans.find((one) => tableId(one.from.table) === tableId(relation.table));
  if (plan === undefined) throw new Error('no plan');
  return plan;
};

const insert = (relation: Relation, ...after: Tuple[]): RowRun => ({
  relation,
  op: 'insert',
  after,
  before: after.map(() => null),
});
const update = (relation: Relation, before: Tuple | null, after: Tuple): RowRun => ({
  relation,
  op: 'update',
  after: [after],
  before: [before],
});
const remove = (relation: Relation, ...before: Tuple[]): RowRun => ({
  relation,
  op: 'delete',
  after: [],
  before,
});

/** Runs as `op table`, after and before. */
const show = (run: RowRun) => ({
  op: run.op,
  table: run.relation.table.name,
  after: run.after,
  before: run.before,
});
const result = (run: RowRun) => planOf(run.relation).run(run).runs.map(show);

const ann: Tuple = [
  '1',
  'Ann  van Dyk',
  ' ANN@X.ORG ',
  '12.50',
  '1',
  'Ulm',
  'x',
  '2024-07-01 12:00:00.123456',
];
const annGreen: Tuple = [
  '1',
  'Ann',
  ' van Dyk',
  'ann@x.org',
  '1250',
  'active',
  '2024-07-01 10:00:00.123456+00',
];
const bob: Tuple = ['2', 'Bob', null, '-0.01', '0', null, null, '2024-01-01 00:00:00'];
const bobGreen: Tuple = ['2', 'Bob', null, null, '-1', 'new', '2023-12-31 23:00:00+00'];

describe('split of a table', () => {
  test('an insert makes a row per green table, and none where emit_when is false', () => {
    expect(result(insert(blue.customers, ann, bob))).toEqual([
      { op: 'insert', table: 'customer', after: [annGreen, bobGreen], before: [null, null] },
      { op: 'insert', table: 'customer_address', after: [['1', 'primary', 'Ulm']], before: [null] },
    ]);
  });

  test('an update writes only to the tables that have something of what changed', () => {
    const now = ann.with(3, '13.50');
    expect(result(update(blue.customers, ann, now))).toEqual([
      { op: 'update', table: 'customer', after: [annGreen.with(4, '1350')], before: [null] },
    ]);
    expect(result(update(blue.customers, ann, ann))).toEqual([]);
    // Of the old row only the key is known: what is the same cannot be told.
    const key = ann.map((cell, index) => (index === 0 || index === 5 ? cell : U));
    expect(result(update(blue.customers, key, ann)).map((run) => run.table)).toEqual(['customer']);
  });

  test('a condition that turns false deletes the child, one that turns true inserts it', () => {
    const gone = ann.with(5, null);
    expect(result(update(blue.customers, ann, gone))).toEqual([
      { op: 'delete', table: 'customer_address', after: [], before: [['1', 'primary', U]] },
    ]);
    expect(result(update(blue.customers, gone, ann)).at(-1)).toEqual({
      op: 'insert',
      table: 'customer_address',
      after: [['1', 'primary', 'Ulm']],
      before: [null],
    });
  });

  test('a key change moves every green row in place and keeps unchanged cells', () => {
    const moved = ann.with(0, '9').with(1, U);
    const runs = result(update(blue.customers, ann, moved));
    expect(runs).toEqual([
      {
        op: 'update',
        table: 'customer',
        after: [annGreen.with(0, '9').with(1, U).with(2, U)],
        before: [['1', U, U, U, U, U, U]],
      },
      {
        op: 'update',
        table: 'customer_address',
        after: [['9', 'primary', 'Ulm']],
        before: [['1', 'primary', U]],
      },
    ]);
  });

  test('F44: a value the mapping refuses is on no green table, and an update takes away what was there', () => {
    const bad = ann.with(4, '7');
    const output = planOf(blue.customers).run(insert(blue.customers, bad, bob));
    expect(output.runs.map(show)).toEqual([
      { op: 'insert', table: 'customer', after: [bobGreen], before: [null] },
    ]);
    expect(output.rejects).toEqual([
      { row: 0, kind: 'value', column: 'status', reason: 'is not among the mapped values' },
    ]);
    const again = planOf(blue.customers).run(update(blue.customers, ann, bad));
    expect(again.runs.map(show)).toEqual([
      { op: 'delete', table: 'customer', after: [], before: [['1', U, U, U, U, U, U]] },
      { op: 'delete', table: 'customer_address', after: [], before: [['1', 'primary', U]] },
    ]);
    expect(again.rejects).toHaveLength(1);
  });

  test('a delete takes only what was there', () => {
    expect(result(remove(blue.customers, ann, bob))).toEqual([
      {
        op: 'delete',
        table: 'customer',
        after: [],
        before: [
          ['1', U, U, U, U, U, U],
          ['2', U, U, U, U, U, U],
        ],
      },
      { op: 'delete', table: 'customer_address', after: [], before: [['1', 'primary', U]] },
    ]);
  });

  test('a truncate empties both', () => {
    expect(
      result({ relation: blue.customers, op: 'truncate', after: [], before: [] }).map((run) => run.op),
    ).toEqual(['truncate', 'truncate']);
  });
});

describe('merge of two tables', () => {
  test('merge-half-first: a part is put, the owner inserted, and neither names the columns of the other', () => {
    expect(result(insert(blue.stock, ['5', '3', 'A']))).toEqual([
      { op: 'put', table: 'product', after: [['5', U, U, '3', 'A', U]], before: [null] },
    ]);
    const output = planOf(blue.products).run(insert(blue.products, ['5', 'Cup', '9.99']));
    expect(output.runs.map(show)).toEqual([
      { op: 'insert', table: 'product', after: [['5', 'Cup', '999', U, U, U]], before: [null] },
    ]);
    expect(output.runs[0]?.columns).toEqual([0, 1, 2]);
  });

  test('a part that goes leaves its absent values', () => {
    expect(result(remove(blue.stock, ['5', U, U]))).toEqual([
      { op: 'put', table: 'product', after: [['5', U, U, '0', null, U]], before: [null] },
    ]);
  });

  test('a key change of a part empties the old row and fills the new one; of the owner it is a delete and an insert', () => {
    expect(result(update(blue.stock, ['5', U, U], ['6', '3', 'A']))).toEqual([
      {
        op: 'put',
        table: 'product',
        after: [
          ['5', U, U, '0', null, U],
          ['6', U, U, '3', 'A', U],
        ],
        before: [null, null],
      },
    ]);
    expect(result(update(blue.products, ['5', U, U], ['6', 'Cup', '9.99']))).toEqual([
      { op: 'delete', table: 'product', after: [], before: [['5', U, U, U, U, U]] },
      { op: 'insert', table: 'product', after: [['6', 'Cup', '999', U, U, U]], before: [null] },
    ]);
  });

  test('F53: a key change of a merged row without its whole image is incomplete, and the old row is taken away', () => {
    const output = planOf(blue.products).run(update(blue.products, ['5', U, U], ['6', U, '9.99']));
    expect(output.rejects).toEqual([
      { row: 0, kind: 'incomplete', column: 'title', reason: 'the log did not bring every cell it needs' },
    ]);
    expect(output.runs.map(show)).toEqual([
      { op: 'delete', table: 'product', after: [], before: [['5', U, U, U, U, U]] },
    ]);
  });

  test('a truncate of one of them is refused', () => {
    expect(() => result({ relation: blue.stock, op: 'truncate', after: [], before: [] })).toThrow(
      /also holds rows of other tables/,
    );
  });

  test('the target says who owns what, and both are one copy unit with the owner first', () => {
    const table = compiled.targets.find((one) => one.relation === green.product);
    expect(table?.merge).toEqual({ owner: [0, 1, 2], parts: [{ columns: [3, 4], absent: ['0', null] }] });
    expect(compiled.units.map((unit) => unit.relations.map((one) => one.table.name))).toEqual([
      ['customers'],
      ['products', 'stock'],
      ['orders'],
    ]);
  });
});

describe('explode of a JSON array', () => {
  const items = '[{"sku": "a\\"b", "quantity": 12345678901234567890.0e-1}, {"sku": "c"}]';
  const order: Tuple = ['7', '1', items, 'n'];
  const children = [
    ['7', '1', 'a"b', '1234567890123456789', '{"sku": "a\\"b", "quantity": 12345678901234567890.0e-1}'],
    ['7', '2', 'c', '1', '{"sku": "c"}'],
  ];
  const prefix: Tuple = ['7', U, U, U, U];

  test('an insert replaces the children of the parent, numbers keep every digit', () => {
    expect(result(insert(blue.orders, order)).at(-1)).toEqual({
      op: 'replace',
      table: 'order_line',
      after: children,
      before: [prefix],
    });
  });

  test('shrink-exploded-array: an update replaces by the prefix, so that the tail goes', () => {
    const shorter = order.with(2, '[{"sku": "c"}]');
    expect(result(update(blue.orders, order, shorter)).at(-1)).toEqual({
      op: 'replace',
      table: 'order_line',
      after: [['7', '1', 'c', '1', '{"sku": "c"}']],
      before: [prefix],
    });
  });

  test('F44: what the second green table refuses is not on the first either, and the rows around it are on both', () => {
    const bad = order.with(0, '8').with(2, '[{"sku": "c"}');
    const tolerant = structuredClone(mapping) as { to?: { explode?: { on_error?: string } }[] }[];
    for (const { to } of tolerant)
      for (const { explode } of to ?? []) if (explode) explode.on_error = 'reject';
    const plan = planOf(blue.orders, compile(tolerant, shop));
    const output = plan.run(insert(blue.orders, order, bad, order.with(0, '9')));
    expect(output.rejects.map(({ row, kind }) => [row, kind])).toEqual([[1, 'value']]);
    const inserted = output.runs.filter((run) => run.op === 'insert').flatMap((run) => run.after);
    expect(inserted.map((row) => row[0])).toEqual(['7', '9']);
    const replaced = output.runs.filter((run) => run.op === 'replace');
    expect(replaced.flatMap((run) => run.before.map((row) => row?.[0]))).toEqual(['7', '9']);
    expect(replaced.flatMap((run) => run.after.map((row) => row[0]))).toEqual(['7', '7', '9', '9']);
    // Of an update that is refused only its leaving is left, whatever had come before.
    const later = plan.run({
      ...update(blue.orders, order, order.with(3, 'm')),
      after: [order.with(3, 'm'), bad.with(0, '7')],
      before: [order, order.with(3, 'm')],
    });
    expect(later.runs.map((run) => [run.relation.table.name, run.op, run.before.length])).toEqual([
      ['sales_order', 'update', 1],
      ['sales_order', 'delete', 1],
      ['order_line', 'replace', 1],
    ]);
  });

  test('an update that leaves the array alone does not touch the children', () => {
    expect(result(update(blue.orders, order, order.with(3, 'm'))).map((run) => run.table)).toEqual([
      'sales_order',
    ]);
    expect(result(update(blue.orders, null, ['7', '1', U, 'm'])).map((run) => run.table)).toEqual([
      'sales_order',
    ]);
  });

  test('a key change empties the old parent and fills the new one', () => {
    expect(
      result(update(blue.orders, order, order.with(0, '8'))).filter((run) => run.table === 'order_line'),
    ).toEqual([
      {
        op: 'replace',
        table: 'order_line',
        after: children.map((child) => child.with(0, '8')),
        before: [prefix, ['8', U, U, U, U]],
      },
    ]);
  });

  test('two changes of one parent are two runs: a run holds a parent once', () => {
    const run: RowRun = {
      relation: blue.orders,
      op: 'update',
      after: [order.with(2, '[]'), order],
      before: [order, order.with(2, '[]')],
    };
    const replaced = result(run).filter((one) => one.table === 'order_line');
    expect(replaced.map((one) => one.after.length)).toEqual([0, 2]);
  });

  test('a delete of the parent deletes the children', () => {
    expect(result(remove(blue.orders, order)).at(-1)).toEqual({
      op: 'replace',
      table: 'order_line',
      after: [],
      before: [prefix],
    });
  });

  test('what is no array is refused with the column', () => {
    expect(() => result(insert(blue.orders, order.with(2, '{"a": 1}')))).toThrow(
      /public\.orders .*items is not an array/,
    );
  });

  test('the ordinal is behind the prefix', () => {
    expect(compiled.targets.find((one) => one.relation === green.line)?.prefix).toBe(1);
  });
});

describe('what the compiled mapping says about itself', () => {
  test('the plan lists kinds, operations and lossy columns', () => {
    expect(compiled.report.map((one) => one.to.map((target) => target.kind))).toEqual([
      ['split', 'split'],
      ['merge'],
      ['merge'],
      ['split', 'explode'],
    ]);
    const customer = compiled.report[0];
    expect(customer?.dropped).toEqual(['legacy']);
    expect(
      customer?.to[0]?.columns.map(({ column, operation, reverse }) => [column, operation, reverse]),
    ).toEqual([
      ['id', 'cast bigint', 'exact'],
      ['first_name', 'split " " first', 'exact'],
      ['last_name', 'split " " rest', 'exact'],
      ['email', 'trim, lower', 'lossy'],
      ['balance_cents', 'scale 100, cast bigint', 'exact'],
      ['status', 'map', 'exact'],
      ['created_at', 'timezone Europe/Berlin', 'exact'],
    ]);
    expect(customer?.lossy.map((one) => one.column)).toEqual(['email', 'city', 'legacy']);
  });

  test('comparison leaves out what green fills by itself', () => {
    const product = compiled.comparables.find((one) => one.table.relation === green.product);
    expect(product?.columns).toEqual([0, 1, 2, 3, 4]);
    expect(product?.notCompared).toEqual([{ column: 'added', reason: 'green fills it' }]);
    expect(product?.sources.map((one) => one.table.name)).toEqual(['products', 'stock']);
  });

  test('tables that log whole old rows need nothing more', () => {
    expect(compiled.needsFullImages).toEqual([]);
    const poor = { ...blue.customers, identity: 'key' as const };
    const again = compile(mapping, { ...shop, blue: [poor, blue.products, blue.stock, blue.orders] });
    expect(again.needsFullImages).toEqual([
      { table: poor.table, why: 'emit_when of crm.customer_address reads city' },
    ]);
  });
});
