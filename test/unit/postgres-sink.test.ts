import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { RowRun } from '../../src/core/change.ts';
import { asPosition } from '../../src/core/position.ts';
import { UNCHANGED, type Column, type Relation } from '../../src/core/table.ts';
import { applicationName } from '../../src/engines/postgres/lease.ts';
import { Durability } from '../../src/engines/postgres/sink-durability.ts';
import { realPlace, type SinkLayout } from '../../src/engines/postgres/sink-layout.ts';
import { isCopy, stepsFor } from '../../src/engines/postgres/sink-program.ts';
import { arrayLiteral, cellText, copyText } from '../../src/engines/postgres/sink-text.ts';

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

const cell = fc.option(
  fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('\\N', 'NULL', '', '\\', '"', '\t\n\r', '{}', ',')),
);

test('COPY text and array literals give back every text', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(cell, cell), { minLength: 1 }), (rows) => {
      expect(readCopy(copyText(rows, [1, 0]))).toEqual(rows.map(([left, right]) => [right, left]));
      expect(readArray(arrayLiteral(rows, 0))).toEqual(rows.map(([left]) => left));
    }),
  );
});

test('cells that are not text are written as the server reads them; an unchanged one is never written', () => {
  expect(
    [true, false, 12n, 1.5, Buffer.from([0, 255]), { a: 1 }, null].map((value) => cellText(value)),
  ).toEqual(['t', 'f', '12', '1.5', '\\x00ff', '{"a":1}', null]);
  expect(() => cellText(UNCHANGED)).toThrow(/not known/);
  expect(() => copyText([['1']], [1])).toThrow(/not known/);
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
  const steps = [...stepsFor(realPlace(layout, 'unused'), run)];
  expect(
    steps.map((step) =>
      isCopy(step) ? 'copy' : [/SET (.*?) FROM/.exec(step.text)?.[1], step.values[0], step.values.at(-1)],
    ),
  ).toEqual([
    ['"id" = u.c1::text, "a" = u.c2::text', '{"3"}', '1'],
    ['"a" = u.c1::text', '{"1","5"}', '2'],
    ['"b" = u.c1::text', '{"2"}', '1'],
  ]);
});

test('large runs are cut, large inserts are copied, key changes stay together', () => {
  const rows = Array.from({ length: 12_000 }, (_, index) => [String(index), 'a', 'b']);
  const nulls = rows.map(() => null);
  const count = (run: RowRun): string[] =>
    [...stepsFor(realPlace(layout, 'unused'), run)].map((step) => (isCopy(step) ? 'copy' : 'statement'));
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
