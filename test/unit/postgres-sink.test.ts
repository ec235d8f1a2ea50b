import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import type { RowRun } from '../../src/core/change.ts';
import { asPosition } from '../../src/core/position.ts';
import { UNCHANGED, type Column, type Relation, type Tuple } from '../../src/core/table.ts';
import { applicationName } from '../../src/engines/postgres/lease.ts';
import { Durability } from '../../src/engines/postgres/sink-durability.ts';
import { bindMessage } from '../../src/engines/postgres/sink-messages.ts';
import { realPlace, type SinkLayout } from '../../src/engines/postgres/sink-layout.ts';
import { keyOrder } from '../../src/engines/postgres/sink-order.ts';
import { isCopy, stepsFor } from '../../src/engines/postgres/sink-program.ts';
import { textArrayBytes } from '../../src/engines/postgres/sink-binary.ts';
import { copyBytes } from '../../src/engines/postgres/sink-copy-text.ts';
import { cellText, textArray } from '../../src/engines/postgres/sink-text.ts';

/** The text format of COPY, read back as the server's documentation describes it. */
function readCopy(text: string): (string | null)[][] {
  const unescape: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' };
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) =>
      line
        .split('\t')
        .map((cell) =>
          cell === '\\N' ? null : cell.replace(/\\(.)/gs, (_, found: string) => unescape[found] ?? found),
        ),
    );
}

function readArray(text: string): (string | null)[] {
  return [...text.slice(1, -1).matchAll(/"((?:[^"\\]|\\.)*)"|NULL/gs)].map((match) =>
    match[1] === undefined ? null : match[1].replace(/\\(.)/gs, '$1'),
  );
}

/** The binary form of text[], read back as array_recv does. */
function readBytes(bytes: Buffer): (string | null)[] {
  const dimensions = bytes.readInt32BE(0);
  expect(bytes.readInt32BE(8)).toBe(25);
  if (dimensions === 0) return [];
  expect([dimensions, bytes.readInt32BE(16)]).toEqual([1, 1]);
  const found: (string | null)[] = [];
  let at = 20;
  for (let left = bytes.readInt32BE(12); left > 0; left--) {
    const length = bytes.readInt32BE(at);
    at += 4;
    found.push(length === -1 ? null : bytes.toString('utf8', at, at + Math.max(0, length)));
    at += Math.max(0, length);
  }
  expect(at).toBe(bytes.length);
  expect(bytes.readInt32BE(4)).toBe(found.includes(null) ? 1 : 0);
  return found;
}

const cell = fc.option(
  fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('\\N', 'NULL', '', '\\', '"', '\t\n\r', '{}', ',')),
);

/** Half of a surrogate pair is not a character of any text of a database. */
const inUtf8 = (text: string): string => Buffer.from(text).toString();

test('COPY text and arrays give back every text', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(cell, cell), { minLength: 1 }), (rows) => {
      expect(readCopy(copyBytes(rows, [1, 0]).toString())).toEqual(
        rows.map(([left, right]) => [right && inUtf8(right), left && inUtf8(left)]),
      );
      expect(readArray(textArray(rows.map(([left]) => left)))).toEqual(rows.map(([left]) => left));
      expect(readBytes(textArrayBytes(rows, 0))).toEqual(rows.map(([left]) => left && inUtf8(left)));
    }),
  );
});

test('texts that outgrow what the last ones left room for, each special in COPY', () => {
  for (const length of [1, 31, 32, 33, 5_000, 300_000, 7]) {
    const rows = ['\\', '\n', 'ü', '€', '😀', 'x'].map((one) => [one.repeat(length)]);
    expect(readCopy(copyBytes(rows, [0]).toString())).toEqual(rows);
    expect(readBytes(textArrayBytes(rows, 0))).toEqual(rows.map(([text]) => text));
  }
});

test('arrays of long texts, of none and of texts that are longer in bytes', () => {
  const long = ['x'.repeat(70_000), 'ü'.repeat(300), `${'x'.repeat(255)}`, `${'x'.repeat(256)}`, '€'];
  expect(
    readBytes(
      textArrayBytes(
        long.map((text) => [text]),
        0,
      ),
    ),
  ).toEqual(long);
  expect(readBytes(textArrayBytes([], 0))).toEqual([]);
});

test('a Bind message is what the protocol says: lengths, formats and values', () => {
  const bytes = Buffer.concat(bindMessage('v7', ['ü', null, Buffer.from([1, 2, 3])]));
  expect(bytes.toString('latin1', 0, 1)).toBe('B');
  expect(bytes.readInt32BE(1)).toBe(bytes.length - 1);
  expect(bytes.subarray(5).toString('latin1')).toBe(
    [
      '\0v7\0', // portal, statement
      '\0\x03\0\0\0\0\0\x01', // three formats: text, text, binary
      '\0\x03',
      '\0\0\0\x02\xc3\xbc',
      '\xff\xff\xff\xff',
      '\0\0\0\x03\x01\x02\x03',
      '\0\0', // all results as text
    ].join(''),
  );
});

test('cells that are not text are written as the server reads them; an unchanged one is never written', () => {
  expect(
    [true, false, 12n, 1.5, Buffer.from([0, 255]), { a: 1 }, null].map((value) => cellText(value)),
  ).toEqual(['t', 'f', '12', '1.5', '\\x00ff', '{"a":1}', null]);
  expect(() => cellText(UNCHANGED)).toThrow(/not known/);
  expect(() => copyBytes([['1']], [1])).toThrow(/not known/);
});

test('the term of the lease stays in the application name whatever the migration is called', () => {
  expect(applicationName('shop', 'apply', 7)).toBe('verdigris:shop:apply:t7');
  for (const name of ['x'.repeat(200), 'ü'.repeat(40)]) {
    const long = applicationName(name, 'finish', 1_234_567);
    expect(Buffer.byteLength(long)).toBeLessThanOrEqual(63);
    expect(long).toMatch(/^verdigris:[\x20-\x7e]+:finish:t1234567$/);
    expect(long).not.toBe(applicationName(`${name}y`, 'finish', 1_234_567));
  }
});

describe('durability', () => {
  const looked = (end: number, flushed: number) => ({
    tag: 'SELECT 1',
    rows: [[String(end), String(flushed)]],
  });
  const at = asPosition;

  test('a commit counts only when the log is flushed past it', () => {
    const durability = new Durability(false);
    durability.restart(at('0'));
    durability.soft(at('1'), looked(100, 50));
    expect(durability.durable).toBe('0');
    durability.soft(at('2'), looked(200, 100));
    expect(durability.durable).toBe('1');
    durability.soft(at('3'), looked(300, 299));
    expect([durability.durable, durability.committed]).toEqual(['2', '3']);
    durability.hard(at('4'));
    expect(durability.durable).toBe('4');
    expect(durability.due).toBe(false);
    durability.harden();
    expect(durability.due).toBe(true);
  });

  test('a group that was not looked at is durable with a later look, and forced when none comes', () => {
    vi.useFakeTimers();
    try {
      const durability = new Durability(false);
      durability.restart(at('0'));
      expect(durability.lookDue).toBe(true);
      durability.soft(at('1'), looked(100, 100));
      expect([durability.durable, durability.lookDue]).toEqual(['1', false]);
      durability.soft(at('2'), undefined);
      expect([durability.durable, durability.committed, durability.due]).toEqual(['1', '2', false]);
      vi.advanceTimersByTime(50);
      expect(durability.lookDue).toBe(true);
      durability.soft(at('3'), looked(300, 299));
      expect(durability.durable).toBe('1');
      vi.advanceTimersByTime(50);
      durability.soft(at('4'), looked(400, 300));
      expect(durability.durable).toBe('3');
      durability.hard(at('4'));
      durability.soft(at('5'), undefined);
      vi.advanceTimersByTime(1_001);
      expect(durability.due).toBe(true);
    } finally {
      vi.useRealTimers();
    }
  });
});

const column = (name: string): Column => ({
  name,
  type: 'text',
  kind: 'text',
  nullable: true,
  generated: false,
  hasDefault: false,
  exact: true,
  mayBeUnchanged: true,
});
const relation: Relation = {
  table: { schema: 's', name: 't' },
  columns: ['id', 'a', 'b'].map(column),
  key: [0],
  identity: 'key',
  version: '1',
};
const layout: SinkLayout = {
  relation,
  table: relation.table,
  columns: relation.columns.map(({ name }) => ({
    sql: `"${name}"`,
    base: 'text',
    full: 'text',
    generated: false,
    identityAlways: false,
    fallback: null,
  })),
  key: [0],
  writable: [0, 1, 2],
  referenced: false,
  cascades: false,
  members: new Set(),
  late: [],
  compared: new Set([0, 2]),
  merge: null,
  prefix: 0,
  elements: null,
};

test('a run of mixed shapes becomes one statement per shape, never that of its first row', () => {
  const run: RowRun = {
    relation,
    op: 'update',
    before: [null, null, ['3', UNCHANGED, UNCHANGED], null],
    after: [
      ['1', 'x', UNCHANGED],
      ['2', UNCHANGED, 'y'],
      ['4', 'z', UNCHANGED],
      ['5', 'w', UNCHANGED],
    ],
  };
  const steps = [
    ...stepsFor(
      realPlace(layout, () => 'unused'),
      run,
    ),
  ];
  expect(
    steps.map((step) =>
      isCopy(step)
        ? 'copy'
        : [/SET (.*?) FROM/.exec(step.text)?.[1], readBytes(step.values[0] as Buffer), step.values.at(-1)],
    ),
  ).toEqual([
    ['"id" = u.c1, "a" = u.c2', ['3'], '1'],
    ['"a" = u.c1', ['1', '5'], '2'],
    ['"b" = u.c1', ['2'], '1'],
  ]);
});

test('large runs are cut, large inserts are copied, key changes stay together', () => {
  const rows = Array.from({ length: 12_000 }, (_, index) => [String(index), 'a', 'b']);
  const nulls = rows.map(() => null);
  const count = (run: RowRun): string[] =>
    [
      ...stepsFor(
        realPlace(layout, () => 'unused'),
        run,
      ),
    ].map((step) => (isCopy(step) ? 'copy' : 'statement'));
  expect(count({ relation, op: 'update', after: rows, before: nulls, columns: [1] }).length).toBe(3);
  expect(count({ relation, op: 'delete', after: [], before: rows }).length).toBe(3);
  expect(count({ relation, op: 'insert', after: rows, before: nulls, columns: [0, 1, 2] })).toEqual(['copy']);
  expect(
    count({
      relation,
      op: 'update',
      after: rows,
      before: rows.map(([id]) => [`-${id}`, '', '']),
      columns: [0],
    }).length,
  ).toBe(1);
});

describe('rows in the order of their keys', () => {
  const integers = {
    ...relation,
    columns: ['id', 'a', 'b'].map((name) => ({ ...column(name), kind: 'integer' as const })),
  };
  const rowsFrom = (ids: readonly (string | number)[]): Tuple[] => ids.map((id) => [String(id), 'a', 'b']);
  /** Each number below `count` once, none beside its neighbour. */
  const mixed = (count: number): number[] =>
    Array.from({ length: count }, (_, index) => (index * 7_919) % count);
  const written = (run: RowRun): (string | null)[][] =>
    [
      ...stepsFor(
        realPlace({ ...layout, relation: integers }, () => 'unused'),
        run,
      ),
    ].map((step) => (isCopy(step) ? ['copy'] : readBytes(step.values[0] as Buffer)));

  test('updates and deletes are sent in it, so that each statement finds neighbours', () => {
    const rows = rowsFrom(mixed(12_000));
    const before = rows.map(() => null);
    const all = Array.from({ length: 12_000 }, (_, id) => String(id));
    const cut = [all.slice(0, 5_000), all.slice(5_000, 10_000), all.slice(10_000)];
    expect(written({ relation: integers, op: 'update', after: rows, before, columns: [1] })).toEqual(cut);
    expect(written({ relation: integers, op: 'delete', after: [], before: rows })).toEqual(cut);
  });

  test('updates of a value that another row may take keep the order of the source', () => {
    const ids = mixed(1_000);
    const rows = rowsFrom(ids);
    const before = rows.map(() => null);
    expect(written({ relation: integers, op: 'update', after: rows, before, columns: [1, 2] })).toEqual([
      ids.map(String),
    ]);
  });

  test('every row comes once, in the order of all whole numbers that the key begins with', () => {
    const key = { ...integers, key: [0, 1, 2], columns: [...integers.columns.slice(0, 2), column('b')] };
    const number = fc.oneof(fc.integer({ min: -5, max: 5 }), fc.integer({ min: -(2 ** 20), max: 2 ** 20 }));
    fc.assert(
      fc.property(fc.array(fc.tuple(number, number), { minLength: 64, maxLength: 300 }), (pairs) => {
        const rows = pairs.map(([a, b], index): Tuple => [String(a), String(b), `text ${index}`]);
        const order = keyOrder(key, rows) ?? [...rows.keys()];
        const expected = [...rows.keys()].sort((x, y) => {
          const [one, other] = [pairs[x] as [number, number], pairs[y] as [number, number]];
          return one[0] - other[0] || one[1] - other[1] || x - y;
        });
        expect(order).toEqual(expected);
      }),
    );
  });

  test('numbers further apart than a double can tell: every row comes once, and far ones are in order', () => {
    fc.assert(
      fc.property(
        fc.array(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), { minLength: 64, maxLength: 300 }),
        (ids) => {
          const order = keyOrder(integers, rowsFrom(ids.map(String))) ?? [...ids.keys()];
          expect(new Set(order).size).toBe(ids.length);
          for (let at = 1; at < order.length; at++) {
            const step = (ids[order[at] as number] as bigint) - (ids[order[at - 1] as number] as bigint);
            expect(step).toBeGreaterThan(-(2n ** 64n) / 2n ** 40n);
          }
        },
      ),
    );
  });

  test.each([
    ['a key that does not begin with a whole number', { ...integers, key: [0], columns: relation.columns }],
    ['no key', { ...integers, key: [] }],
  ])('%s: as they came', (_, other) => {
    expect(keyOrder(other, rowsFrom(mixed(1_000)))).toBeNull();
  });

  test('cells that are no numbers: as they came', () => {
    expect(keyOrder(integers, rowsFrom([...mixed(100), 'x']))).toBeNull();
  });
});
