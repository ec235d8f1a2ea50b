import { describe, expect, test } from 'vitest';
import { UNCHANGED, type Cell } from '../../../src/core/table.ts';
import { compile, problems, relation, type ColumnShort } from './tables.ts';

/** One column of blue into one column of green. */
function through(
  from: ColumnShort,
  to: ColumnShort,
  column: object,
  values: readonly Cell[],
): (Cell | string)[] {
  const blue = relation('a.t', { id: 'integer', x: from });
  const green = relation('b.t', { id: 'integer', y: to });
  const spec = [
    { from: 'a.t', to: [{ table: 'b.t', columns: { id: 'copy', y: { from: 'x', ...column } } }] },
  ];
  const plan = compile(spec, { blue: [blue], green: [green] }).plans[0];
  return values.map((value) => {
    const output = plan?.run({ relation: blue, op: 'insert', after: [['1', value]], before: [null] });
    const reject = output?.rejects[0];
    if (reject !== undefined) return `! ${reject.reason}`;
    return output?.runs[0]?.after[0]?.[1] ?? null;
  });
}

const rejecting = { on_error: 'reject' };

describe('cast', () => {
  const cases: [string, string, ColumnShort, string, [Cell, Cell][]][] = [
    [
      'int to bigint',
      'integer',
      'bigint',
      'bigint',
      [
        ['42', '42'],
        ['-2147483648', '-2147483648'],
      ],
    ],
    [
      'bigint to smallint checks the range',
      'bigint',
      'smallint',
      'smallint',
      [
        ['32767', '32767'],
        ['32768', '! is out of range for smallint'],
        ['-32769', '! is out of range for smallint'],
      ],
    ],
    ['bigint beyond 2^53', 'bigint', 'text', 'text', [['9007199254740993', '9007199254740993']]],
    [
      'numeric to bigint only when nothing is lost',
      'numeric',
      'bigint',
      'bigint',
      [
        ['1.00', '1'],
        ['-0.0', '0'],
        ['1.5', '! has digits after the point'],
        ['NaN', '! is not a number'],
      ],
    ],
    [
      'numeric(12,4) to numeric(12,2) is never rounded',
      'numeric(12,4)',
      'numeric(12,2)',
      'numeric(12,2)',
      [
        ['1.5000', '1.50'],
        ['1.5050', '! has more than 2 digits after the point'],
        ['NaN', 'NaN'],
      ],
    ],
    [
      'text to integer',
      'text',
      'integer',
      'integer',
      [
        ['007', '7'],
        ['+5', '5'],
        ['x', '! is not a number'],
        ['', '! is not a number'],
        ['1e2', '100'],
      ],
    ],
    [
      'integer to float8 while it fits',
      'bigint',
      'double precision',
      'double precision',
      [
        ['9007199254740992', '9007199254740992'],
        ['9007199254740993', '! has more digits than a float keeps'],
      ],
    ],
    [
      'float to numeric',
      'double precision',
      'numeric',
      'numeric',
      [
        ['1e+20', '100000000000000000000'],
        ['1.5e-07', '0.00000015'],
      ],
    ],
    [
      'smallint to boolean',
      'smallint',
      'boolean',
      'boolean',
      [
        ['1', 't'],
        ['0', 'f'],
        ['2', '! is neither 0 nor 1'],
      ],
    ],
    [
      'boolean to text',
      'boolean',
      'text',
      'text',
      [
        ['t', 'true'],
        ['f', 'false'],
      ],
    ],
    [
      'text to boolean',
      'text',
      'boolean',
      'boolean',
      [
        ['YES', 't'],
        ['off', 'f'],
        ['maybe', '! is not a boolean'],
      ],
    ],
    [
      'text to uuid',
      'text',
      'uuid',
      'uuid',
      [
        ['A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'],
        ['a0eebc99', '! is not a uuid'],
      ],
    ],
    [
      'text to date',
      'text',
      'date',
      'date',
      [
        ['2024-02-29', '2024-02-29'],
        ['2023-02-29', '! is not a date'],
        ['0044-03-15 BC', '0044-03-15 BC'],
        ['infinity', 'infinity'],
      ],
    ],
    [
      'text to timestamptz needs an offset',
      'text',
      'timestamp with time zone',
      'timestamptz',
      [
        ['2024-01-01T12:00:00+05:30', '2024-01-01 06:30:00+00'],
        ['2024-01-01 12:00', '! does not name its time zone'],
      ],
    ],
    [
      'timestamp to date',
      'timestamp',
      'date',
      'date',
      [
        ['2024-01-01 23:59:59.9', '2024-01-01'],
        ['-infinity', '-infinity'],
      ],
    ],
    [
      'date to timestamp',
      'date',
      'timestamp',
      'timestamp',
      [
        ['2024-01-01', '2024-01-01 00:00:00'],
        ['0001-01-01 BC', '0001-01-01 00:00:00 BC'],
      ],
    ],
    [
      'timestamp to fewer digits',
      'timestamp',
      'timestamp(3) without time zone',
      'timestamp(3)',
      [
        ['2024-01-01 00:00:00.123', '2024-01-01 00:00:00.123'],
        ['2024-01-01 00:00:00.1234', '! has more than 3 digits of a second'],
      ],
    ],
    [
      'text to jsonb is checked, not parsed',
      'text',
      'jsonb',
      'jsonb',
      [
        [' {"a": 12345678901234567890.10} ', '{"a": 12345678901234567890.10}'],
        ['{a:1}', '! is not JSON'],
        ['01', '! is not JSON'],
        ['[1,]', '! is not JSON'],
      ],
    ],
    ['numeric to json', 'numeric', 'json', 'json', [['12345678901234567890.10', '12345678901234567890.10']]],
    [
      'text to an enum',
      'text',
      ['b.mood', { labels: ['sad', 'ok'] }],
      'mood',
      [
        ['ok', 'ok'],
        ['OK', '! is not a label of b.mood'],
      ],
    ],
    [
      'one-too-long: text to varchar is never cut',
      'text',
      'character varying(3)',
      'varchar(3)',
      [
        ['ä😀c', 'ä😀c'],
        ['abcd', '! is longer than 3 characters'],
        ['abc ', '! is longer than 3 characters'],
      ],
    ],
    [
      'numeric to fewer digits before the point',
      'numeric',
      'numeric(4,2)',
      'numeric(4,2)',
      [
        ['99.990', '99.99'],
        ['-100', '! has more than 2 digits before the point'],
      ],
    ],
    [
      'numeric with a negative scale',
      'bigint',
      'numeric(4,-2)',
      'numeric(4,-2)',
      [
        ['999900', '999900'],
        ['150', '! has more than -2 digits after the point'],
        ['1000000', '! has more than 6 digits before the point'],
      ],
    ],
    ['text to a type the server knows', 'text', 'inet', 'inet', [['10.0.0.1/8', '10.0.0.1/8']]],
    [
      'text to time',
      'text',
      'time',
      'time',
      [
        ['09:30', '09:30:00'],
        ['24:30:00', '! is not a time'],
      ],
    ],
  ];
  test.each(cases)('%s', (_, from, to, word, values) => {
    const got = through(
      from,
      to,
      { cast: word, ...rejecting },
      values.map(([value]) => value),
    );
    expect(got).toEqual(values.map(([, expected]) => expected));
  });

  test('null and UNCHANGED pass every operation', () => {
    expect(through('text?', 'integer?', { cast: 'integer' }, [null])).toEqual([null]);
    expect(through('text', 'integer', { cast: 'integer' }, [UNCHANGED])).toEqual([
      '! the log did not bring every cell it needs',
    ]);
  });
});

describe('one operation', () => {
  const cases: [string, ColumnShort, ColumnShort, object, [Cell, Cell][]][] = [
    [
      'map with null',
      'smallint',
      'text?',
      { op: 'map', values: { 0: 'a', 1: null } },
      [
        ['0', 'a'],
        ['1', null],
        ['2', '! is not among the mapped values'],
      ],
    ],
    [
      'map of booleans',
      'boolean',
      'text',
      { op: 'map', values: { true: 'yes', false: 'no' } },
      [
        ['t', 'yes'],
        ['f', 'no'],
      ],
    ],
    ['map to integers', 'text', 'smallint', { op: 'map', values: { low: 1, high: 2 } }, [['low', '1']]],
    [
      'map with a value for the rest',
      'smallint',
      'text',
      { op: 'map', values: { 0: 'a' }, on_unmapped: { value: 'z' } },
      [['9', 'z']],
    ],
    [
      'map with null for the rest',
      'smallint',
      'text?',
      { op: 'map', values: { 0: 'a' }, on_unmapped: 'null' },
      [['9', null]],
    ],
    ['unmap', 'text', 'smallint', { op: 'unmap', values: { 0: 'a', 1: 'b' } }, [['b', '1']]],
    [
      'scale up',
      'numeric',
      'bigint',
      { op: 'scale', factor: 100, cast: 'bigint' },
      [
        ['0.29', '29'],
        ['1.1', '110'],
        ['0.001', '! has digits after the point'],
        ['92233720368547758.07', '9223372036854775807'],
        ['92233720368547758.08', '! is out of range for bigint'],
      ],
    ],
    [
      'scale down',
      'bigint',
      'numeric(20,2)',
      { op: 'scale', factor: 0.01 },
      [
        ['29', '0.29'],
        ['-5', '-0.05'],
        ['1000', '10.00'],
      ],
    ],
    ['trim keeps other white space', 'text', 'text', { op: 'trim' }, [[' \t a b\u00a0\n', 'a b\u00a0']]],
    ['upper', 'text', 'text', { op: 'upper' }, [['straße', 'STRASSE']]],
    [
      'split first',
      'text',
      'text',
      { op: 'split', by: ' ', take: 'first' },
      [
        ['A B C', 'A'],
        ['A', 'A'],
        [' B', ''],
      ],
    ],
    [
      'split rest',
      'text',
      'text?',
      { op: 'split', by: ' ', take: 'rest' },
      [
        ['A B C', 'B C'],
        ['A', null],
        ['A ', ''],
      ],
    ],
    [
      'split rest, empty as null',
      'text',
      'text?',
      { op: 'split', by: ' ', take: 'rest', empty: null },
      [
        ['A ', null],
        ['A', null],
      ],
    ],
    [
      'split third',
      'text',
      'text?',
      { op: 'split', by: '/', take: 3 },
      [
        ['a/b/c/d', 'c'],
        ['a/b', null],
      ],
    ],
    [
      'mask',
      'text',
      'text',
      { op: 'mask', keep_last: 4, with: '#' },
      [
        ['1234567890', '######7890'],
        ['1234', '####'],
        ['ÄÖ😀ab', '#Ö😀ab'],
      ],
    ],
    [
      'hash',
      'text',
      'text',
      { op: 'hash' },
      [['abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad']],
    ],
    [
      'hash with a key',
      'text',
      'text',
      { op: 'hash', key: 'Jefe' },
      [['what do ya want for nothing?', '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843']],
    ],
    [
      'json_get text',
      'jsonb',
      'text?',
      { op: 'json_get', path: 'a.b.1' },
      [
        ['{"a": {"b": [1, "x\\u00e9"]}}', 'xé'],
        ['{"a": 1}', null],
        ['{"a": {"b": [1, null]}}', null],
      ],
    ],
    [
      'json_get number keeps digits',
      'jsonb',
      'numeric',
      { op: 'json_get', path: ['n'] },
      [['{"n": 12345678901234567890.1200}', '12345678901234567890.1200']],
    ],
    ['json_get boolean', 'jsonb', 'boolean', { op: 'json_get', path: 'a' }, [['{"a": true}', 't']]],
    [
      'json_get json',
      'jsonb',
      'jsonb',
      { op: 'json_get', path: 'a' },
      [['{"a": {"n": 1e400}}', '{"n": 1e400}']],
    ],
    [
      'json_get takes the last of two keys',
      'json',
      'text',
      { op: 'json_get', path: 'a' },
      [['{"a": 1, "a": 2}', '2']],
    ],
    [
      'F61: a NUL out of JSON',
      'json',
      'text',
      { op: 'json_get', path: 'a' },
      [['{"a": "\\u0000"}', '! holds a NUL character']],
    ],
    [
      'default',
      'text?',
      'text',
      { op: 'upper', default: 'DE' },
      [
        [null, 'DE'],
        ['at', 'AT'],
      ],
    ],
    [
      'null where green has none',
      'text?',
      'text',
      {},
      [
        ['a', 'a'],
        [null, '! is null'],
      ],
    ],
    [
      'a list of operations',
      'text',
      'text',
      { op: ['trim', { op: 'split', by: '@', take: 'first' }, 'lower'] },
      [[' ANN@X ', 'ann']],
    ],
  ];
  test.each(cases)('%s', (_, from, to, column, values) => {
    const got = through(
      from,
      to,
      { ...rejecting, ...column },
      values.map(([value]) => value),
    );
    expect(got).toEqual(values.map(([, expected]) => expected));
  });

  test('on_error puts null or a value in the place of what does not fit', () => {
    expect(through('text', 'integer?', { cast: 'integer', on_error: 'null' }, ['x', '1'])).toEqual([
      null,
      '1',
    ]);
    expect(through('text', 'integer', { cast: 'integer', on_error: { value: -1 } }, ['x', '1'])).toEqual([
      '-1',
      '1',
    ]);
    expect(() => through('text', 'integer', { cast: 'integer' }, ['canary'])).toThrow(
      /a\.t does not fit the mapping: y is not a number/,
    );
  });

  test('no message holds the value', () => {
    try {
      through('text', 'integer', { cast: 'integer' }, ['canary-7731']);
      expect.unreachable();
    } catch (error) {
      expect(JSON.stringify([String(error), (error as { context?: unknown }).context])).not.toContain(
        'canary',
      );
    }
  });
});

describe('several inputs', () => {
  const blue = relation('a.t', {
    id: 'integer',
    a: 'text?',
    b: 'text?',
    n: 'numeric?',
    f: 'boolean?',
    j: 'jsonb?',
  });
  const build = (column: object, type: ColumnShort) => {
    const green = relation('b.t', { id: 'integer', y: type });
    const compiled = compile([{ from: 'a.t', to: [{ table: 'b.t', columns: { id: 'copy', y: column } }] }], {
      blue: [blue],
      green: [green],
    });
    return (...rest: Cell[]) =>
      compiled.plans[0]?.run({ relation: blue, op: 'insert', after: [['1', ...rest]], before: [null] })
        .runs[0]?.after[0]?.[1];
  };

  test('concat', () => {
    const strict = build({ op: 'concat', of: ['a', 'b'], with: ' ' }, 'text?');
    expect([strict('A', 'B', null, null, null), strict('A', null, null, null, null)]).toEqual(['A B', null]);
    const loose = build({ op: 'concat', of: ['a', 'b'], with: ' ', skip_null: true }, 'text?');
    expect([loose('A', null, null, null, null), loose(null, null, null, null, null)]).toEqual(['A', null]);
  });

  test('coalesce, then another operation', () => {
    const pick = build({ op: ['coalesce', 'upper'], of: ['a', 'b'], default: '-' }, 'text');
    expect([
      pick(null, 'b', null, null, null),
      pick('a', 'b', null, null, null),
      pick(null, null, null, null, null),
    ]).toEqual(['B', 'A', '-']);
  });

  test('json_build keeps numbers and JSON as they are', () => {
    const json = build({ op: 'json_build', of: { 'a "q"': 'a', n: 'n', f: 'f', j: 'j' } }, 'jsonb');
    expect(json('x\n', null, '12345678901234567890.10', 't', '[1, 2]')).toBe(
      '{"a \\"q\\"": "x\\n", "n": 12345678901234567890.10, "f": true, "j": [1, 2]}',
    );
    expect(() => json(null, null, 'NaN', null, null)).toThrow(/a number that JSON does not have/);
  });

  test('F53: all inputs unchanged is unchanged, some of them is incomplete', () => {
    const green = relation('b.t', { id: 'integer', y: 'text?', z: 'numeric?' });
    const columns = { id: 'copy', y: { op: 'concat', of: ['a', 'b'] }, z: { from: 'n' } };
    const compiled = compile([{ from: 'a.t', to: [{ table: 'b.t', columns }] }], {
      blue: [blue],
      green: [green],
    });
    const plan = compiled.plans[0];
    const run = (a: Cell, b: Cell, before: Cell[] | null) =>
      plan?.run({ relation: blue, op: 'update', after: [['1', a, b, '5', null, null]], before: [before] });
    expect(run(UNCHANGED, UNCHANGED, null)?.runs[0]?.after).toEqual([['1', UNCHANGED, '5']]);
    expect(run('A', UNCHANGED, null)?.rejects).toEqual([
      { row: 0, kind: 'incomplete', column: 'y', reason: 'the log did not bring every cell it needs' },
    ]);
    expect(run('A', UNCHANGED, ['1', 'a', 'b', '5', null, null])?.runs[0]?.after).toEqual([['1', 'Ab', '5']]);
    expect(compiled.needsFullImages.map((one) => one.why)).toEqual([
      'b.t.y is made of several columns, of which the log may leave some out',
    ]);
  });
});

describe('functions of a module', () => {
  const blue = relation('a.t', { id: 'integer', a: 'text', f: 'boolean' });
  const green = relation('b.t', { id: 'integer', y: 'text?' });
  const run = (call: (...args: readonly unknown[]) => unknown, column: object = {}) => {
    const columns = { id: 'copy', y: { module: './m.ts', export: 'go', ...column } };
    const compiled = compile([{ from: 'a.t', to: [{ table: 'b.t', columns, drop: ['f', 'a'] }] }], {
      blue: [blue],
      green: [green],
      modules: { './m.ts#go': call },
    });
    return compiled.plans[0]?.run({ relation: blue, op: 'insert', after: [['7', 'x', 'f']], before: [null] })
      .runs[0]?.after[0]?.[1];
  };

  test('gets the row, or the value and the row', () => {
    expect(
      run((row) =>
        JSON.stringify(row, (_, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value)),
      ),
    ).toBe('{"id":"7n","a":"x","f":false}');
    expect(run((value, row) => `${String(value)} ${JSON.stringify(row)}`, { from: 'a', of: ['f'] })).toBe(
      'x {"a":"x","f":false}',
    );
  });

  test('F44: what throws, gives nothing, waits or answers twice differently is a bad value', () => {
    let calls = 0;
    expect(() =>
      run(() => {
        throw new Error('canary');
      }),
    ).toThrow(/y go threw/);
    expect(() => run(() => undefined)).toThrow(/gave nothing back/);
    expect(() => run(() => Promise.reject(new Error('late')))).toThrow(/must answer at once/);
    expect(() => run(() => ({}))).toThrow(/not text, a number/);
    expect(() => run(() => String(calls++))).toThrow(/two results for one row/);
    expect(run(() => String(calls++), { pure: false })).toMatch(/^\d$/);
  });

  test('one that was not loaded is named', () => {
    expect(
      problems([{ from: 'a.t', to: [{ table: 'b.t', columns: { id: 'copy', y: { module: './m.ts' } } }] }], {
        blue: [blue],
        green: [green],
      }),
    ).toEqual(['tables.0.to.0.columns.y.module: ./m.ts has no function default, or was not loaded']);
  });
});
