import { z } from 'zod';
import { describe, expect, test } from 'vitest';
import { UNCHANGED, type Tuple } from '../../../src/core/table.ts';
import { mappedTables } from '../../../src/transform/compile.ts';
import { mappingSchema, moduleReferences } from '../../../src/transform/spec.ts';
import { parseTableName } from '../../../src/transform/table-selection.ts';
import { mapping, shop } from './shop.ts';
import { compile, problems, relation } from './tables.ts';

const U: typeof UNCHANGED = UNCHANGED;
const users = relation('a.users', { id: 'integer', name: 'text', age: 'integer?', tags: 'text[]?' });
const sides = {
  blue: [users],
  green: [relation('b.users', { id: 'bigint', name: 'text', age: 'integer?', tags: 'text[]?' })],
};
const to = (more: object) => [{ from: 'a.users', to: [{ table: 'b.users', ...more }] }];

describe('the schema of the list', () => {
  test('every key has a description, so that editors can show it', () => {
    const missing: string[] = [];
    const walk = (node: unknown, path: string): void => {
      if (typeof node !== 'object' || node === null) return;
      const { properties, items, anyOf, additionalProperties } = node as Record<string, unknown>;
      for (const [name, inner] of Object.entries(
        (properties ?? {}) as Record<string, { description?: string }>,
      )) {
        if (inner.description === undefined) missing.push(`${path}.${name}`);
        walk(inner, `${path}.${name}`);
      }
      walk(items, `${path}[]`);
      walk(additionalProperties, `${path}.*`);
      for (const one of (anyOf ?? []) as unknown[]) walk(one, path);
    };
    const schema = z.toJSONSchema(mappingSchema, { io: 'input' });
    walk(schema, 'tables');
    expect(missing).toEqual([]);
    expect(JSON.stringify(schema)).toContain('on_ambiguous');
  });

  test('unknown keys are refused', () => {
    expect(mappingSchema.safeParse(to({ column: {} })).success).toBe(false);
    expect(mappingSchema.safeParse(to({ columns: { id: { from: 'id', op: 'sacle' } } })).success).toBe(false);
  });

  test('functions of modules are listed once', () => {
    const x = { module: './m.ts', export: 'f' };
    expect(
      moduleReferences(mappingSchema.parse(to({ columns: { id: x, name: x, age: { module: './m.ts' } } }))),
    ).toEqual([
      { module: './m.ts', export: 'f' },
      { module: './m.ts', export: 'default' },
    ]);
  });
});

describe('which tables', () => {
  const named = (...names: string[]) =>
    names.map((name) => parseTableName(name) as { schema: string; name: string });
  test('names and patterns: a name wins, then ignore, then the first', () => {
    const blue = ['p.a', 'p.b', 'p.audit_1', 'p.audit_keep', 'q.z'].map((name) =>
      relation(name, { id: 'integer' }),
    );
    const compiled = compile(
      [
        { from: 'p.*' },
        { from: 'p.audit_*', ignore: true },
        { from: 'p.audit_keep' },
        { from: 'p.b', to: [{ table: 'n.b' }] },
      ],
      { blue, green: ['p.a', 'p.audit_keep', 'n.b'].map((name) => relation(name, { id: 'integer' })) },
    );
    expect(
      compiled.plans.map((plan) => plan.to[0]?.relation.table.schema + '.' + plan.from.table.name),
    ).toEqual(['p.audit_keep', 'n.b', 'p.a']);
    expect(compiled.ignored).toEqual(named('p.audit_1'));
    expect(compiled.unmentioned).toEqual(named('q.z'));
  });

  test('quoted names may hold dots and quotes', () => {
    expect(parseTableName('"a.b"."x""; drop table y; --"')).toEqual({
      schema: 'a.b',
      name: 'x"; drop table y; --',
    });
    expect(parseTableName('public.Weiße Tabelle')).toEqual({ schema: 'public', name: 'Weiße Tabelle' });
    expect(parseTableName('users')).toBeNull();
  });

  test('the tables a mapping is about are known before any layout', () => {
    const { source, target } = mappedTables(
      mappingSchema.parse(mapping),
      shop.blue.map((one) => one.table),
    );
    expect(source.map((one) => one.name)).toEqual(['customers', 'products', 'stock', 'orders']);
    expect(target.map((one) => one.name)).toEqual([
      'customer',
      'customer_address',
      'product',
      'sales_order',
      'order_line',
    ]);
  });

  test('a table that is not there is named with the nearest one', () => {
    expect(problems([{ from: 'a.user' }], sides)).toEqual([
      'tables.0.from: blue has no table a.user; did you mean a.users?',
    ]);
    expect(problems([{ from: 'a.users' }], sides)).toEqual(['tables.0.from: green has no table a.users']);
    expect(problems([{ from: 'users' }], sides)).toEqual([
      'tables.0.from: users is no table name: write schema.name',
    ]);
    expect(problems([{ from: 'a.*', when: 'true' }], sides)[0]).toMatch(
      /a pattern can only be copied as it is or ignored/,
    );
  });
});

describe('passing through', () => {
  test('rows that are the same on both sides are not looked at', () => {
    const compiled = compile(to({}), sides);
    const [plan] = compiled.plans;
    expect(plan?.passthrough).toEqual({ columns: [0, 1, 2, 3], from: [0, 1, 2, 3] });
    const after: Tuple[] = [['1', 'a', null, '{x}']];
    const run = plan?.run({ relation: users, op: 'insert', after, before: [null] }).runs[0];
    expect(run?.after).toBe(after);
    expect(compiled.comparables[0]?.direct).toEqual({ columns: [0, 1, 2, 3], from: [0, 1, 2, 3] });
  });

  test('columns may stand in another order, be left behind, or be filled by green', () => {
    const green = [
      relation('b.users', {
        name: 'text',
        id: 'bigint',
        at: ['timestamp', { hasDefault: true }],
        sum: ['text', { generated: true }],
      }),
    ];
    const compiled = compile(to({ drop: ['age', 'tags'] }), { blue: [users], green });
    expect(compiled.plans[0]?.passthrough).toEqual({ columns: [0, 1], from: [1, 0] });
    expect(compiled.report[0]?.to[0]?.kind).toBe('rename');
    const output = compiled.plans[0]?.run({
      relation: users,
      op: 'insert',
      after: [['1', 'a', null, null]],
      before: [null],
    });
    expect(output?.runs[0]).toMatchObject({ after: [['a', '1', U, U]], columns: [0, 1] });
    expect(compiled.comparables[0]?.notCompared).toEqual([
      { column: 'at', reason: 'green fills it' },
      { column: 'sum', reason: 'green computes it' },
    ]);
  });

  test('an insert with a cell that did not come is incomplete, never null', () => {
    const output = compile(to({}), sides).plans[0]?.run({
      relation: users,
      op: 'insert',
      after: [['1', U, null, null]],
      before: [null],
    });
    expect(output).toEqual({
      runs: [],
      rejects: [
        { row: 0, kind: 'incomplete', column: 'name', reason: 'the log did not bring every cell it needs' },
      ],
    });
  });

  test('text that a server would spell otherwise is not digested there', () => {
    const pair = (from: string, into: string) => {
      const blue = relation('a.t', { id: 'integer', x: from });
      const compiled = compile([{ from: 'a.t', to: [{ table: 'b.t' }] }], {
        blue: [blue],
        green: [relation('b.t', { id: 'integer', x: into })],
      });
      return [compiled.plans[0]?.passthrough !== null, compiled.comparables[0]?.direct !== null];
    };
    expect(pair('numeric(12,2)', 'numeric(14,2)')).toEqual([true, true]);
    expect(pair('numeric(12,2)', 'numeric(14,4)')).toEqual([true, false]);
    expect(pair('json', 'jsonb')).toEqual([true, false]);
    expect(pair('character varying(20)', 'text')).toEqual([true, true]);
    expect(pair('integer[]', 'bigint[]')).toEqual([true, false]);
  });
});

describe('problems', () => {
  const green = relation('b.users', {
    id: 'bigint',
    name: 'text',
    age: 'smallint?',
    born: 'date',
    upper: ['text', { generated: true }],
  });
  const bad = (columns: object, more: object = {}) =>
    problems(to({ columns, ...more }), { blue: [users], green: [green] });
  const at = 'tables.0.to.0.columns';

  test('all of them at once, each at its place', () => {
    expect(
      bad({
        id: { from: 'idd' },
        name: { op: 'split', by: ' ' },
        agee: 'copy',
        age: { from: 'age' },
        born: { from: 'name', op: 'timezone', assume: 'Mars/Olympus' },
        upper: 'copy',
      }),
    ).toEqual([
      `${at}.id.from: idd is no column of blue; did you mean id?`,
      `${at}.name.op: split needs by (the separator) and take (first, rest or a number)`,
      `${at}.agee: b.users has no column agee; did you mean age?`,
      `${at}.age: integer does not fit smallint as it is; write cast: smallint, or an operation`,
      `${at}.born.assume: Mars/Olympus is not a known time zone`,
      `${at}.upper: upper is generated by green: it cannot be written`,
    ]);
  });

  test.each([
    [
      'a column that nothing feeds',
      { id: 'copy', name: 'copy' },
      'tables.0.to.0: nothing feeds b.users.born, and it has no default and cannot be null',
    ],
    [
      'a key that nothing feeds',
      { name: 'copy', born: { value: '2024-01-01' } },
      'tables.0.to.0: id is in the key of b.users and nothing feeds it',
    ],
    [
      'a constant that does not fit',
      { id: 'copy', name: 'copy', born: { value: 'soon' } },
      `${at}.born.value: is not a date, and born is date`,
    ],
    [
      'an option of another operation',
      { id: 'copy', name: { op: 'trim', factor: 2 }, born: { value: '2024-01-01' } },
      `${at}.name.factor: factor does nothing here`,
    ],
    [
      'a cast to another kind',
      { id: { cast: 'text' }, name: 'copy', born: { value: '2024-01-01' } },
      `${at}.id.cast: casts to text, but the column is bigint`,
    ],
    [
      'text for a number',
      { id: 'copy', name: { from: 'age' }, born: { value: '2024-01-01' } },
      `${at}.name: integer does not fit text as it is; write cast: text, or an operation`,
    ],
    [
      'an operation for another kind',
      { id: 'copy', name: { from: 'age', op: 'trim' }, born: { value: '2024-01-01' } },
      `${at}.name.op: takes text, not integer; cast it first`,
    ],
    [
      'null where green has none',
      { id: 'copy', name: { op: 'trim', on_error: 'null' }, born: { value: '2024-01-01' } },
      `${at}.name.on_error: name cannot be null`,
    ],
    [
      'absent without a merge',
      { id: 'copy', name: { absent: 'x' }, born: { value: '2024-01-01' } },
      `${at}.name.absent: absent does nothing here: no other table feeds b.users`,
    ],
    [
      'a left column under "*": copy',
      { '*': 'copy', age: { cast: 'smallint' }, born: { value: '2024-01-01' } },
      `${at}.*: b.users has no column tags; to leave it behind map it, or write drop: [tags]; did you mean age?`,
    ],
  ])('%s', (_, columns, message) => {
    expect(bad(columns)).toContain(message);
  });

  test('conditions', () => {
    const when = (text: string) =>
      problems([{ ...to({})[0], when: text }], sides).map((one) => one.replace('tables.0.when: ', ''));
    expect(when('row.ag > 3')).toEqual(['reads row.ag, which is no column of blue; did you mean age?']);
    expect(when('row.age +')).toEqual([expect.stringMatching(/^is not a CEL expression/)]);
    expect(when('row.age + 1')).toEqual(['is int, not true or false']);
    expect(when('row == null')).toEqual(['uses row without naming a column: write row.name or row["name"]']);
    expect(when('rows.age > 3')).toEqual([expect.stringMatching(/^is not a CEL expression/)]);
  });

  test('keys', () => {
    const key = (more: object) =>
      problems([{ from: 'a.users', key: ['name'], to: [{ table: 'b.users', ...more }] }], sides);
    expect(key({ key: { name: 'name' } })).toEqual([
      'tables.0.key: the key of a.users is (id)',
      'tables.0.to.0.key.name: name is not in the key of b.users',
      'tables.0.to.0.key: the key of b.users is (id); id is missing',
    ]);
    expect(problems(to({ key: { id: 'age' }, columns: { '*': 'copy', id: 'copy' } }), sides)).toEqual([
      'tables.0.to.0.key.id: columns makes id from something else',
    ]);
  });

  test('merges', () => {
    const other = relation('a.more', { user_id: 'integer', age: 'integer?', name: 'text' }, ['user_id']);
    const both = (first: object, second: object) =>
      problems([...to(first), { from: 'a.more', to: [{ table: 'b.users', ...second }] }], {
        blue: [users, other],
        green: sides.green,
      });
    const half = { columns: { id: 'copy', name: 'copy', tags: 'copy' } };
    expect(both({ ...half, owner: true }, { columns: { id: { from: 'user_id' }, age: 'copy' } })).toEqual([]);
    expect(both(half, { columns: { id: { from: 'user_id' }, age: 'copy' } })).toEqual([
      expect.stringMatching(
        /^tables.0.to.0: a.users and a.more feed b.users: exactly one of them must say owner: true/,
      ),
      expect.stringMatching(/^tables.1.to.0: /),
    ]);
    expect(both({ ...half, owner: true }, { columns: { id: { from: 'user_id' }, name: 'copy' } })).toEqual([
      'tables.1.to.0.columns.name: a.users also makes name',
    ]);
    expect(
      both(
        { columns: { id: 'copy', tags: 'copy' }, owner: true },
        { columns: { id: { from: 'user_id' }, name: 'copy' } },
      ),
    ).toEqual([
      'tables.1.to.0.columns.name: name cannot be null: say what it is while the row is absent (absent: …)',
    ]);
    expect(
      both({ ...half, owner: true }, { columns: { id: { from: 'age', default: 0 }, age: 'copy' } }),
    ).toEqual([
      'tables.1.to.0: the key of b.users must be made of exactly the key of a.more (user_id)',
      'tables.1.to.0: the first key column of a.more must become the same key column of b.users as that of a.users, without being changed',
    ]);
    expect(both({ owner: true }, { columns: { id: { from: 'user_id' } } })).toEqual([
      'tables.1.to.0: a.more feeds nothing of b.users but the key',
    ]);
  });

  test('the way back names columns of blue', () => {
    expect(problems([{ ...to({})[0], reverse: { columns: { nam: { from: 'name' } } } }], sides)).toEqual([
      'tables.0.reverse.columns.nam: nam is no column of blue; did you mean name?',
    ]);
  });

  test('explodes', () => {
    const parent = relation('a.p', { id: 'integer', list: 'text', items: 'jsonb' });
    const child = relation('b.c', { n: 'integer', id: 'integer', v: 'text?' }, ['n', 'id']);
    const explode = (more: object, columns: object = { id: 'copy', v: { from: 'x.v' } }) =>
      problems(
        [
          {
            from: 'a.p',
            to: [{ table: 'b.c', explode: { array: 'items', as: 'x', ordinal: 'n', ...more }, columns }],
          },
        ],
        { blue: [parent], green: [child] },
      );
    expect(explode({})).toEqual([
      "tables.0.to.0.explode.ordinal: the key of b.c is (n, id); it must be the parent's key, then n",
    ]);
    expect(explode({ array: 'list' })[0]).toBe(
      'tables.0.to.0.explode.array: list is text; only JSON arrays are exploded',
    );
    expect(explode({ as: 'id' })[0]).toBe('tables.0.to.0.explode.as: id is also a column of blue');
    expect(explode({}, { id: { from: 'x.id', cast: 'integer' } })).toContain(
      "tables.0.to.0.columns.id: the parent's part of the key cannot come from the element",
    );
  });
});

describe('conditions on rows', () => {
  const blue = relation(
    'a.t',
    { id: 'bigint', n: 'numeric?', b: 'boolean', t: 'text?', f: 'double precision?' },
    ['id'],
    'full',
  );
  const filter = (when: string, row: Tuple) => {
    const compiled = compile([{ from: 'a.t', when, to: [{ table: 'a.t' }] }], {
      blue: [blue],
      green: [blue],
    });
    return (
      compiled.plans[0]?.run({ relation: blue, op: 'insert', after: [row], before: [null] }).runs.length === 1
    );
  };
  test('values have the type of their kind', () => {
    const row: Tuple = ['9007199254740993', '10.50', 'f', 'x', null];
    expect(filter('row.id == 9007199254740993', row)).toBe(true);
    expect(filter('row.id == 9007199254740992', row)).toBe(false);
    expect(filter('row.n == 10.5 && row.n > 10 && row.n < 10.6', row)).toBe(true);
    expect(filter('!row.b && row["t"] == "x" && row.f == null', row)).toBe(true);
    expect(filter('row.t.startsWith("y")', row)).toBe(false);
    expect(filter('row.f != null && row.f > 1.0', row)).toBe(false);
  });

  test('whether something is there can be asked of any value, also of one without a text', () => {
    const bytes = Uint8Array.of(1, 2);
    expect(filter('row.t != null', ['1', null, 't', bytes, null])).toBe(true);
    expect(filter('row.f != null || null != row.t', ['1', null, 't', bytes, null])).toBe(true);
    expect(filter('row.f != null || row.n != null', ['1', null, 't', bytes, null])).toBe(false);
    expect(filter('row.f != null || row.n != null', ['1', '0', 't', null, null])).toBe(true);
  });

  test('a comparison with null stops with the condition and without the value', () => {
    expect(() => filter('row.f > 1.0', ['1', null, 't', 'canary', null])).toThrow(
      /when cannot be evaluated \(no_such_overload\)/,
    );
  });

  test('when decides for the stream as it does for the copy', () => {
    const compiled = compile([{ from: 'a.t', when: 'row.b', to: [{ table: 'a.t' }] }], {
      blue: [blue],
      green: [blue],
    });
    const run = (before: string, after: string) =>
      compiled.plans[0]
        ?.run({
          relation: blue,
          op: 'update',
          after: [['1', null, after, '2', null]],
          before: [['1', null, before, '1', null]],
        })
        .runs.map((one) => one.op);
    expect([run('t', 't'), run('f', 't'), run('t', 'f'), run('f', 'f')]).toEqual([
      ['update'],
      ['insert'],
      ['delete'],
      [],
    ]);
  });

  test('without whole old rows the stream stops: nothing is guessed', () => {
    const poor = { ...blue, identity: 'key' as const };
    const compiled = compile([{ from: 'a.t', when: 'row.b', to: [{ table: 'a.t' }] }], {
      blue: [poor],
      green: [blue],
    });
    expect(compiled.needsFullImages).toEqual([{ table: blue.table, why: 'when reads b' }]);
    expect(() =>
      compiled.plans[0]?.run({
        relation: poor,
        op: 'update',
        after: [['1', null, 't', null, null]],
        before: [null],
      }),
    ).toThrow(/does not bring the old values that when/);
    const byKey = compile([{ from: 'a.t', when: 'row.id > 5', to: [{ table: 'a.t' }] }], {
      blue: [poor],
      green: [blue],
    });
    expect(byKey.needsFullImages).toEqual([]);
    expect(
      byKey.plans[0]?.run({
        relation: poor,
        op: 'update',
        after: [['7', null, 't', null, null]],
        before: [null],
      }).runs,
    ).toHaveLength(1);
  });
});

describe('tables without a key', () => {
  const blue = relation('a.log', { at: 'timestamp', line: 'text', n: 'integer' }, [], 'full');
  const green = relation(
    'b.log',
    { at: 'timestamp', line: 'text', n: 'bigint', by: ['text', { hasDefault: true }] },
    [],
  );
  const spec = [{ from: 'a.log', to: [{ table: 'b.log', columns: { '*': 'copy', line: { op: 'upper' } } }] }];

  test('a row is found by its whole old image, mapped', () => {
    const plan = compile(spec, { blue: [blue], green: [green] }).plans[0];
    const old: Tuple = ['2024-01-01 00:00:00', 'a', '1'];
    expect(
      plan?.run({ relation: blue, op: 'update', after: [old.with(2, '2')], before: [old] }).runs,
    ).toMatchObject([
      {
        op: 'update',
        after: [['2024-01-01 00:00:00', 'A', '2', U]],
        before: [['2024-01-01 00:00:00', 'A', '1', U]],
      },
    ]);
    expect(plan?.run({ relation: blue, op: 'delete', after: [], before: [old] }).runs).toMatchObject([
      { op: 'delete', before: [['2024-01-01 00:00:00', 'A', '1', U]] },
    ]);
  });

  test('which is why blue must log it', () => {
    const keyed = relation('a.log', { at: 'timestamp', line: 'text', n: 'integer' }, ['n']);
    expect(compile(spec, { blue: [keyed], green: [green] }).needsFullImages).toEqual([
      { table: blue.table, why: 'b.log has no key, so rows are found by their old values' },
    ]);
  });
});

test('a key of green that does not hold the key of blue is a warning', () => {
  const green = [
    relation('b.users', { id: 'bigint', name: 'text', age: 'integer?', tags: 'text[]?' }, ['name']),
  ];
  const compiled = compile(to({}), { blue: [users], green });
  expect(compiled.warnings).toEqual([
    'The key of b.users does not contain id of a.users: two rows of blue may meet on green, and the second is then refused.',
  ]);
  expect(compiled.needsFullImages).toEqual([{ table: users.table, why: 'the key of b.users reads name' }]);
});
