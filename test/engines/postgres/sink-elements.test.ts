import { expect, test } from 'vitest';
import type { RowRun } from '../../../src/core/change.ts';
import type { TargetTable } from '../../../src/core/plan.ts';
import type { Tuple } from '../../../src/core/table.ts';
import { elementsRelation } from '../../../src/transform/element.ts';
import { green, insert, move, only, remove, update } from './sink-setup.ts';

/** Orders with an array of items, which come one by one. */
async function orders(type: 'jsonb' | 'json' | 'text', key = 'ordinal') {
  const g = await green(
    `CREATE TABLE o (${key} int PRIMARY KEY, note text UNIQUE, items ${type}, extra text DEFAULT 'none')`,
  );
  const { relation: o, ...plain } = await g.target('o');
  const items: TargetTable = {
    ...plain,
    relation: elementsRelation(o, 2),
    elements: { of: o, array: 2, ordinal: 1, element: 2 },
  };
  await g.sink.prepare([{ ...plain, relation: o }, items]);
  const item = items.relation;
  const at = (order: string, ordinal: string): Tuple => only(item, { 0: order, 1: ordinal });
  return {
    g,
    order: (id: string, note = id): RowRun => ({
      ...insert(o, only(o, { 0: id, 1: note, 2: '[]' })),
      columns: [0, 1, 2],
    }),
    gone: (...ids: string[]): RowRun => remove(o, ...ids.map((id) => only(o, { 0: id }))),
    moves: (...pairs: (readonly [string, string])[]): RowRun =>
      move(o, [0], ...pairs.map(([from, to]) => [only(o, { 0: from }), only(o, { 0: to })] as const)),
    noted: (id: string, note: string): RowRun => update(o, [1], only(o, { 0: id, 1: note })),
    add: (...rows: Tuple[]): RowRun => insert(item, ...rows),
    set: (...rows: Tuple[]): RowRun => update(item, [0, 1, 2], ...rows),
    drop: (...rows: (readonly [string, string])[]): RowRun =>
      remove(item, ...rows.map(([order, ordinal]) => at(order, ordinal))),
    shift: (...rows: (readonly [Tuple, Tuple])[]): RowRun => move(item, [0, 1, 2], ...rows),
    at,
    item,
    rows: () => g.rows(`SELECT ${key}, note, items::text, extra FROM o ORDER BY 1`),
    kept: () => g.rows(`SELECT storage FROM verdigris.halves`).then((names) => keptIn(g, names)),
  };
}

const keptIn = async (
  g: { rows(sql: string): Promise<string[]> },
  names: readonly string[],
): Promise<string[]> =>
  (
    await Promise.all(
      names.map((name) => g.rows(`SELECT k1, ordinal, element::text FROM ${name} ORDER BY 1, 2`)),
    )
  ).flat();

test.each(['jsonb', 'json', 'text'] as const)(
  'elements are folded back into their array (%s)',
  async (type) => {
    const { g, order, add, set, drop, noted, rows, kept } = await orders(type);
    await using _ = g;
    await g.db.query(
      `INSERT INTO o VALUES (1, 'a', '[{"n": 1}, {"n": 2}, 12345678901234567890.10]'), (2, 'b', '[ ]'), (3, 'c', NULL)`,
    );
    await g.apply(noted('1', 'A'), noted('3', 'C'));
    expect(await rows()).toEqual([
      '1|A|[{"n": 1}, {"n": 2}, 12345678901234567890.10]|none',
      `2|b|${type === 'jsonb' ? '[]' : '[ ]'}|none`,
      '3|C|∅|none',
    ]);

    await g.apply(order('4'), add(['4', '1', '"x"'], ['2', '1', '{"k": "ü\\""}']), set(['1', '2', '[2, 2]']));
    expect(await rows()).toEqual([
      '1|A|[{"n": 1}, [2, 2], 12345678901234567890.10]|none',
      '2|b|[{"k": "ü\\""}]|none',
      '3|C|∅|none',
      '4|4|["x"]|none',
    ]);
    expect(await kept()).toEqual([]);

    // A gap stays a gap, so that later changes by ordinal find their element.
    await g.apply(drop(['1', '1']));
    expect((await rows())[0]).toBe('1|A|[[2, 2], 12345678901234567890.10]|none');
    expect(await kept()).toEqual(['1|2|[2, 2]', '1|3|12345678901234567890.10']);
    await g.apply(set(['1', '3', '"third"']));
    expect((await rows())[0]).toBe('1|A|[[2, 2], "third"]|none');
    await g.apply(add(['1', '1', '"first"']), drop(['4', '1']));
    expect(await rows()).toEqual([
      '1|A|["first", [2, 2], "third"]|none',
      '2|b|[{"k": "ü\\""}]|none',
      '3|C|∅|none',
      '4|4|[]|none',
    ]);
    expect(await kept()).toEqual([]);
  },
);

test('elements stay at their key when parents go, come back, move and swap', async () => {
  const { g, order, gone, moves, add, drop, rows, kept } = await orders('jsonb');
  await using _ = g;
  await g.apply(order('1'), order('2'), add(['1', '1', '"a"'], ['1', '2', '"b"'], ['2', '1', '"c"']));
  await g.apply(gone('1'));
  expect(await kept()).toEqual(['1|1|"a"', '1|2|"b"']);
  await g.apply(order('1', 'again'));
  expect((await rows())[0]).toBe('1|again|["a", "b"]|none');

  await g.apply(moves(['1', '2'], ['2', '1']));
  expect(g.sink.fallbacks).toBeGreaterThan(0);
  expect(await rows()).toEqual(['1|2|["a", "b"]|none', '2|again|["c"]|none']);
  // With its elements, as a foreign key would have it.
  await g.apply(moves(['2', '9']), drop(['2', '1']), add(['9', '1', '"c"']));
  expect(await rows()).toEqual(['1|2|["a", "b"]|none', '9|again|["c"]|none']);
  await g.apply(gone('1', '9'), drop(['1', '1'], ['1', '2'], ['9', '1']));
  expect(await rows()).toEqual([]);
  expect(await kept()).toEqual([]);
});

test('ordinals are shifted in any order, and a transaction may come in parts', async () => {
  const { g, order, add, shift, at, set, rows, kept } = await orders('json');
  await using _ = g;
  await g.apply(order('1'), add(['1', '1', '1'], ['1', '2', '2'], ['1', '3', '3']));
  const first = g.group(
    [
      shift(
        [at('1', '1'), ['1', '2', '1']],
        [at('1', '2'), ['1', '3', '2']],
        [at('1', '3'), ['1', '4', '3']],
      ),
    ],
    { end: null },
  );
  await g.sink.apply(first);
  const second = g.group([add(['1', '1', '0']), set(['1', '4', '"last"'])]);
  await g.sink.apply(second);
  g.at = second.end ?? g.at;
  expect(await rows()).toEqual(['1|1|[0, 1, 2, "last"]|none']);
  expect(await kept()).toEqual([]);
});

test('a unique value that swaps sends the parents through the fallback, and their arrays with them', async () => {
  const { g, order, add, noted, drop, rows } = await orders('jsonb');
  await using _ = g;
  await g.apply(order('1'), order('2'), add(['1', '1', '1'], ['2', '1', '2']));
  await g.apply(noted('1', '2'), noted('2', '1'), add(['1', '2', '"more"']), drop(['2', '1']));
  expect(g.sink.fallbacks).toBeGreaterThan(0);
  expect(await rows()).toEqual(['1|2|[1, "more"]|none', '2|1|[]|none']);
});

test('an element that is there already, or is not, is a conflict and nothing is written', async () => {
  const { g, order, add, set, rows } = await orders('jsonb', 'element');
  await using _ = g;
  await g.apply(order('1'), add(['1', '1', '1']));
  for (const run of [add(['1', '1', '2']), set(['1', '7', '2'])]) {
    expect(await g.apply(run).catch((error: unknown) => error)).toMatchObject({ code: 'SINK_CONFLICT' });
    expect(await rows()).toEqual(['1|1|[1]|none']);
  }
});

test('what was kept of arrays goes with the stream', async () => {
  const { g, order, add } = await orders('jsonb');
  await using _ = g;
  await g.apply(order('1'), add(['1', '2', '1']));
  await g.sink.retire();
  expect(await g.rows(`SELECT relname FROM pg_class WHERE relname LIKE 'half\\_%'`)).toEqual([]);
});

test('what was kept of an array is given up when the application has written it meanwhile', async () => {
  const { g, order, add, drop, kept, rows } = await orders('jsonb');
  await using _ = g;
  await g.apply(order('1'), order('2'), add(['1', '2', '"a"'], ['2', '2', '"b"'], ['3', '1', '"waits"']));
  await g.db.query(`UPDATE o SET items = '["new", "a"]' WHERE ordinal = 1`);
  expect(await g.sink.checkpoint()).toBe(g.at);
  expect(await kept()).toEqual(['2|2|"b"', '3|1|"waits"']);
  await g.apply(drop(['1', '1']));
  expect((await rows())[0]).toBe('1|1|["a"]|none');
});
