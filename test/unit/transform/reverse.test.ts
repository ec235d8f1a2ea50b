import { describe, expect, test } from 'vitest';
import type { Tuple } from '../../../src/core/table.ts';
import {
  address,
  ann,
  annBlue,
  customer,
  full,
  issues,
  one,
  product,
  runOf,
  shopBack,
  U,
  ways,
  whys,
} from './back-runs.ts';
import { green, mapping, shop } from './shop.ts';
import { compileBack, relation } from './tables.ts';

describe('one table', () => {
  test('a row that green makes is a whole row of blue, dropped columns left to it', () => {
    expect(customer.insert(ann)).toEqual({ runs: [['insert customers', [annBlue], [null]]], rejects: [] });
  });

  test('an update writes only what one of its columns on green changed', () => {
    const untouched: Tuple = ['1', U, U, U, U, U, U, U];
    const only = (column: number, cell: string): Tuple => untouched.with(column, cell);
    expect(customer.update(ann, ann.with(5, 'closed')).runs).toEqual([
      ['update customers', [only(4, '3')], [null]],
    ]);
    expect(customer.update(ann, ann.with(2, 'Dyk')).runs).toEqual([
      ['update customers', [only(1, 'Ann Dyk')], [null]],
    ]);
    expect(customer.update(ann, ann.with(1, U).with(2, 'Dyk')).runs).toEqual([
      ['update customers', [only(1, 'Ann Dyk')], [null]],
    ]);
    expect(customer.update(ann, ann).runs).toEqual([]);
  });

  test('a key change moves the row of blue with everything that green does not know of it; other rows follow by themselves', () => {
    expect(customer.update(ann, ann.with(0, '9')).runs).toEqual([
      ['update customers', [['9', U, U, U, U, U, U, U]], [['1', U, U, U, U, U, U, U]]],
    ]);
  });

  test('a delete and an insert of one key stay two changes', () => {
    expect(customer.remove(ann).runs).toEqual([['delete customers', [], [['1', U, U, U, U, U, U, U]]]]);
  });

  test.each([
    ['an id past integer', ann.with(0, '2147483648'), 'id', /out of range for integer/],
    ['a label nobody mapped back', ann.with(5, 'vip'), 'status', /not among the mapped values/],
    ['more digits than balance has', ann.with(4, '1234567890123'), 'balance', /more than 10 digits/],
    [
      'a first name that would end elsewhere',
      ann.with(1, 'Ann Lou'),
      'full_name',
      /cannot hold what first_name has/,
    ],
    ['a name that is not there', ann.with(1, null).with(2, null), 'full_name', /cannot be null on blue/],
    [
      'the second of two equal hours',
      ann.with(6, '2024-10-27 01:30:00+00'),
      'created',
      /another value on the way/,
    ],
  ])('F90: %s does not fit, and says so without the value', (_, row, column, reason) => {
    const { runs, rejects } = customer.insert(row);
    expect(runs).toEqual([]);
    expect(rejects).toEqual([
      { row: 0, kind: 'value', column, reason: expect.stringMatching(reason) as string },
    ]);
    for (const cell of row)
      if (cell !== null && String(cell).length > 2) expect(rejects[0]?.reason).not.toContain(String(cell));
  });

  test('an update to something that does not fit takes away what blue had, as a hole means', () => {
    const { runs, rejects } = customer.update(ann, ann.with(4, '1234567890123'));
    expect(runs).toEqual([['delete customers', [], [['1', U, U, U, U, U, U, U]]]]);
    expect(rejects).toHaveLength(1);
  });

  test('or leaves it as it was, where the pipeline can live with that; what fits again is then written whole', () => {
    const keep = compileBack(mapping, { ...shop, greenSource: shop.green.map(full), misfits: 'keep' });
    const { update, insert } = runOf(keep, 'customer');
    const bad = ann.with(4, '1234567890123');
    expect(update(ann, bad)).toEqual({ runs: [], rejects: [expect.objectContaining({ stays: true })] });
    expect(insert(bad).rejects[0]).not.toHaveProperty('stays');
    const { length } = ann;
    const oldKey: Tuple = Array.from({ length }, (_, index) => (index === 0 ? '1' : U));
    expect(update(oldKey, ann.with(0, '2')).runs).toEqual([
      ['update customers', [annBlue.with(0, '2')], [['1', U, U, U, U, U, U, U]]],
    ]);
    // Whether blue had a row cannot be asked of an image that was never taken.
    const lost = runOf(keep, 'product').update(
      ['5', 'Cup', '1', '3', 'A', 'now'],
      ['5', 'Cup', '1', null, 'A', 'now'],
    );
    expect(lost.rejects[0]).not.toHaveProperty('stays');
    expect(lost.runs).toHaveLength(2);
  });

  test('widened columns are checked on the way back, plain ones are not looked at', () => {
    const { back, insert } = one(
      { '*': 'copy' },
      {
        id: 'integer',
        small: 'smallint',
        short: 'varchar(3)',
        fine: 'numeric(6,2)',
        at: 'timestamp(3)',
        real: 'real',
        state: ['s', { labels: ['a'] }],
      },
      {
        id: 'bigint',
        small: 'integer',
        short: 'text',
        fine: 'numeric',
        at: 'timestamp',
        real: 'double precision',
        state: ['s', { labels: ['a', 'b'] }],
      },
    );
    expect(ways(back).every((way) => way.endsWith('exact'))).toBe(true);
    const good: Tuple = ['1', '7', 'abc', '1234.50', '2024-01-01 00:00:00.123', '0.1', 'a'];
    expect(insert(good).runs).toEqual([['insert t', [good], [null]]]);
    const refused = (column: number, cell: string) => insert(good.with(column, cell)).rejects[0]?.column;
    expect(refused(1, '40000')).toBe('small');
    expect(refused(2, 'abcd')).toBe('short');
    expect(refused(3, '0.001')).toBe('fine');
    expect(refused(4, '2024-01-01 00:00:00.1234')).toBe('at');
    expect(refused(5, '0.12345678901')).toBe('real');
    expect(refused(6, 'b')).toBe('state');
    expect(insert(good.with(5, '16777217')).rejects[0]?.column).toBe('real');
    expect(insert(good.with(5, '3.4028235e+38').with(4, '2024-01-01 00:00:00.120000')).rejects).toEqual([]);
  });

  test('columns that a server computes are on neither way', () => {
    const back = compileBack([{ from: 'a.t', to: [{ table: 'b.t', columns: { '*': 'copy' } }] }], {
      blue: [relation('a.t', { id: 'integer', name: 'text' })],
      blueTarget: [relation('a.t', { id: 'integer', twice: ['integer', { generated: true }], name: 'text' })],
      green: [relation('b.t', { twice: ['integer', { generated: true }], id: 'integer', name: 'text' })],
      greenSource: [relation('b.t', { id: 'integer', name: 'text' }, ['id'], 'full')],
    });
    expect(whys(back)).toEqual([]);
    expect(runOf(back, 't').insert(['1', 'x']).runs).toEqual([['insert t', [['1', U, 'x']], [null]]]);
    expect(back.comparables[0]?.notCompared).toEqual([{ column: 'twice', reason: 'blue computes it' }]);
  });

  test('a column that cannot be filled is no way back, until reverse fills it', () => {
    const from = { id: 'integer', must: 'text', may: 'text?' };
    const to = { id: 'integer' };
    const { back } = one({ id: 'copy' }, from, to);
    expect(whys(back)).toEqual([
      'must: it cannot be null, has no default, and nothing gives it back (it is dropped); write reverse: columns: { must: … }',
    ]);
    const filled = one({ id: 'copy' }, from, to, {
      entry: { reverse: { columns: { must: { value: '-' } } } },
    });
    expect(whys(filled.back)).toEqual([]);
    expect(filled.insert(['1']).runs).toEqual([['insert t', [['1', '-', U]], [null]]]);
    expect(filled.update(['1'], ['1']).runs).toEqual([]);
  });

  test('a key that does not come back as it was is no way back', () => {
    const { back } = one({ id: { op: 'lower' } }, { id: 'text' }, { id: 'text' });
    expect(whys(back)[0]).toMatch(
      /^id: it is in the key, and b.t does not give it back \(id: upper and lower/,
    );
  });

  test('what has no exact way still takes what green writes, where something becomes it', () => {
    const { back, insert } = one(
      {
        id: 'copy',
        mail: { op: ['trim', 'lower'] },
        state: { op: 'map', values: { 0: 'a', 1: 'a', 2: 'b' } },
        day: { cast: 'date' },
        note: { default: '-' },
        digest: { from: 'secret', op: 'hash' },
      },
      { id: 'integer', mail: 'text', state: 'smallint', day: 'timestamp', note: 'text?', secret: 'text?' },
      { id: 'integer', mail: 'text', state: 'text', day: 'date', note: 'text', digest: 'text?' },
    );
    expect(ways(back)).toEqual([
      'id exact',
      ...['mail', 'state', 'day', 'note', 'secret'].map((name) => `${name} lossy`),
    ]);
    expect(insert(['1', 'x@y', 'a', '2024-02-29', '-', 'ff']).runs).toEqual([
      ['insert t', [['1', 'x@y', '0', '2024-02-29 00:00:00', '-', U]], [null]],
    ]);
    expect(back.greenOnly).toEqual([{ table: 'b.t', column: 'digest' }]);
    expect(back.comparables[0]?.columns).toEqual([0]);
  });
});

describe('a split into columns of a bounded length', () => {
  const split = (take: 'first' | 'rest') => ({ from: 'full', op: 'split', by: ' ', take });
  const columns = { id: 'copy', first: split('first'), last: split('rest') };

  test('the parts, which were only measured, give the whole back', () => {
    const to = { id: 'integer', first: 'varchar(20)', last: 'varchar(20)?' };
    const { back, insert, update } = one(columns, { id: 'integer', full: 'varchar(30)' }, to);
    expect(whys(back)).toEqual([]);
    expect(back.report[0]?.columns[1]).toMatchObject({ way: 'exact' });
    const row: Tuple = ['1', 'Ann', 'van Dyk'];
    expect(insert(row).runs).toEqual([['insert t', [['1', 'Ann van Dyk']], [null]]]);
    expect(update(row, row.with(2, null)).runs).toEqual([['update t', [['1', 'Ann']], [null]]]);
    // Together longer than blue's column.
    expect(insert(['2', 'A'.repeat(20), 'B'.repeat(20)]).rejects).toHaveLength(1);
  });

  test('a part that a conversion changed does not', () => {
    const to = { id: 'integer', first: 'varchar(20)', last: 'integer?' };
    const { back } = one(columns, { id: 'integer', full: 'varchar(30)' }, to);
    expect(whys(back)).not.toEqual([]);
  });
});

describe('reverse: what the operator decides', () => {
  const from = { id: 'integer', full: 'text', status: 'smallint', balance: 'numeric(8,2)', at: 'timestamp' };
  const to = {
    id: 'integer',
    first: 'text',
    last: 'text?',
    status: 'text',
    cents: 'bigint',
    at: 'timestamptz',
  };
  const columns = {
    id: 'copy',
    first: { from: 'full', op: 'split', by: ' ', take: 'first' },
    last: { from: 'full', op: 'split', by: ' ', take: 'rest', empty: null },
    status: { op: 'map', values: { 0: 'new', 1: 'old' } },
    cents: { from: 'balance', op: 'scale', factor: 100, cast: 'bigint' },
    at: { op: 'timezone', assume: 'Europe/Berlin', on_ambiguous: 'earlier' },
  };
  const reverse = {
    columns: {
      full: { op: 'concat', of: ['first', 'last'], with: ' ', skip_null: true },
      status: { from: 'status', op: 'unmap' },
      balance: { from: 'cents', op: 'scale', factor: 0.01 },
      at: { from: 'at', op: 'timezone_strip', to: 'Europe/Berlin' },
    },
  };

  test('an entry per column, in the words of the mapping; unmap knows the values of the way there', () => {
    const { back, insert, update } = one(columns, from, to, { entry: { reverse } });
    expect(whys(back)).toEqual([]);
    const row: Tuple = ['1', 'Ann Lou', 'B', 'old', '1250', '2024-10-27 01:30:00+00'];
    expect(insert(row).runs).toEqual([
      ['insert t', [['1', 'Ann Lou B', '1', '12.50', '2024-10-27 02:30:00']], [null]],
    ]);
    expect(update(row, row.with(2, null)).runs).toEqual([['update t', [['1', 'Ann Lou', U, U, U]], [null]]]);
    expect(insert(row.with(4, '1234567890')).rejects).toHaveLength(1);
    expect(back.report[0]?.columns[1]).toMatchObject({ way: 'lossy', reason: 'an override decides' });
  });

  test('what does not compile is reported where it stands, with the side it means', () => {
    expect(
      issues(
        [
          {
            from: 'a.t',
            reverse: { columns: { full: { from: 'frist' } }, off: { no: 1 } },
            to: [{ table: 'b.t', columns }],
          },
        ],
        {
          blue: [relation('a.t', from)],
          green: [relation('b.t', to)],
        },
      ),
    ).toEqual([
      'tables.0.reverse.off.no: no is no column of blue; did you mean id?',
      'tables.0.reverse.columns.full.from: frist is no column of green; did you mean first?',
    ]);
  });

  test('it reads one table of green, because a change brings one', () => {
    const spec = [
      {
        from: 'a.t',
        to: [
          { table: 'b.t', columns: { id: 'copy', x: 'copy' } },
          { table: 'b.u', columns: { id: 'copy', y: 'copy' } },
        ],
        reverse: { columns: { x: { op: 'concat', of: ['x', 'y'] } } },
      },
    ];
    const sides = {
      blue: [relation('a.t', { id: 'integer', x: 'text', y: 'text?' })],
      green: [relation('b.t', { id: 'integer', x: 'text' }), relation('b.u', { id: 'integer', y: 'text?' })],
    };
    expect(issues(spec, sides)[0]).toMatch(
      /reverse.columns.x: reads x, y, which are not in one table of green/,
    );
  });
});

describe('filters', () => {
  const from = { id: 'integer', state: 'text', gone: 'timestamp?' };
  const to = { id: 'integer', state: 'text' };
  const entry = { when: "row.gone == null && row.state != 'draft'" };

  test('a row that the way there would not take does not fit', () => {
    const { insert, update, back } = one({ '*': 'copy' }, from, to, { entry, target: { drop: ['gone'] } });
    expect(insert(['1', 'live']).runs).toEqual([['insert t', [['1', 'live', U]], [null]]]);
    expect(insert(['1', 'draft'])).toEqual({
      runs: [],
      rejects: [expect.objectContaining({ column: 'when', kind: 'value' })],
    });
    // What blue has in `gone` is not known here: an update is taken.
    expect(update(['1', 'live'], ['1', 'draft']).rejects).toEqual([]);
    expect(back.warnings[0]).toMatch(/when of a.t reads gone/);
    expect(back.comparables[0]?.ignores?.(['1', 'live', '2024-01-01 00:00:00'])).toBe(true);
    expect(back.comparables[0]?.ignores?.(['1', 'live', null])).toBe(false);
  });

  test('an update is asked too where everything is known', () => {
    const { update } = one({ '*': 'copy' }, { id: 'integer', state: 'text' }, to, {
      entry: { when: "row.state != 'draft'" },
    });
    expect(update(['1', 'live'], ['1', 'draft'])).toEqual({
      runs: [['delete t', [], [['1', U]]]],
      rejects: [expect.objectContaining({ column: 'when' })],
    });
  });

  test('a truncate of a filtered, split or merged table is refused: blue holds more', () => {
    const { truncate } = one({ '*': 'copy' }, from, to, { entry, target: { drop: ['gone'] } });
    for (const refused of [truncate, customer.truncate, address.truncate, product.truncate])
      expect(refused).toThrow(/on blue also holds what is not from there/);
    const plain = one({ '*': 'copy' }, to, to);
    expect(plain.truncate().runs).toEqual([['truncate t', [], []]]);
  });
});

describe('the log of green', () => {
  test('tables whose old rows must be whole, and why', () => {
    const back = compileBack(mapping, shop);
    expect(back.needsFullImages.map(({ table, why }) => `${table.name}: ${why}`)).toEqual([
      'customer: full_name, email of public.customers must not be written unless changed',
      'customer_address: the conditions of public.customers are asked of whole rows; city of public.customers must not be written unless changed',
      'product: whether public.stock has a row reads amount, shelf; rows of public.stock are written as a whole',
      'order_line: elements of public.orders are written as a whole',
    ]);
    expect(shopBack.needsFullImages).toEqual([]);
  });

  test('without them nothing is guessed', () => {
    const back = compileBack(mapping, shop);
    expect(() => runOf(back, 'product').remove(['5', U, U, U, U, U])).toThrow(
      /does not bring the old values that the way back of amount/,
    );
    expect(runOf(back, 'customer').update(null, ann.with(1, U)).rejects).toEqual([
      expect.objectContaining({ kind: 'incomplete', column: 'full_name' }),
    ]);
  });

  test('a table without a key is found by its rows, if they come back as they were', () => {
    const from = { at: 'timestamp', text: 'text?' };
    const sides = { blue: [relation('a.t', from, [])], green: [full(relation('b.t', from, []))] };
    const back = compileBack([{ from: 'a.t', to: [{ table: 'b.t', columns: { '*': 'copy' } }] }], sides);
    expect(whys(back)).toEqual([]);
    const old: Tuple = ['2024-01-01 00:00:00', 'x'];
    expect(runOf(back, 't').update(old, old.with(1, 'y')).runs).toEqual([['update t', [[U, 'y']], [old]]]);
    expect(runOf(back, 't').remove(old).runs).toEqual([['delete t', [], [old]]]);
    const lossy = compileBack(
      [{ from: 'a.t', to: [{ table: 'b.t', columns: { at: 'copy', text: { op: 'trim' } } }] }],
      sides,
    );
    expect(whys(lossy)).toEqual([
      'text: the table has no key, and a row cannot be found by values that do not come back as they were',
    ]);
  });

  test('tables that write one blue table go together, the one that owns its rows first', () => {
    expect(shopBack.units.map((unit) => unit.relations.map((one) => one.table.name))).toEqual([
      ['customer', 'customer_address'],
      ['product'],
      ['sales_order', 'order_line'],
    ]);
    expect(shopBack.targets.map((target) => target.relation.table.name)).toEqual([
      'customers',
      'products',
      'stock',
      'orders',
      'orders.items[]',
    ]);
  });

  test('what blue and green can compare: only what comes back exactly', () => {
    const shown = shopBack.comparables.map((one) => [
      one.table.relation.table.name,
      one.columns.map((index) => one.table.relation.columns[index]?.name),
    ]);
    expect(shown).toEqual([
      ['customers', ['id', 'full_name', 'balance', 'status', 'created']],
      ['products', ['id', 'title', 'price']],
      ['stock', ['product_id', 'amount', 'shelf']],
      ['orders', ['id', 'customer_id', 'note']],
    ]);
    expect(shopBack.comparables.at(-1)?.sources).toEqual([full(green.order)]);
  });
});
