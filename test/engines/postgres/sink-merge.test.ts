import { expect, test } from 'vitest';
import type { RowRun } from '../../../src/core/change.ts';
import type { Relation, Tuple } from '../../../src/core/table.ts';
import { green, insert, move, only, remove } from './sink-setup.ts';

const put = (relation: Relation, columns: readonly number[], ...after: Tuple[]): RowRun => ({
  relation,
  op: 'put',
  after,
  before: after.map(() => null),
  columns,
});

/** A customer of the owner (id, name), with a city that another table sets. */
async function customers(type = 'int') {
  const g = await green(
    `CREATE TABLE c (id ${type} PRIMARY KEY, name text, city text, legacy text DEFAULT 'none')`,
  );
  const target = await g.target('c', {
    merge: { owner: [0, 1], parts: [{ columns: [2], absent: [null] }] },
  });
  await g.sink.prepare([target]);
  const c = target.relation;
  const owner = (id: string, name: string): RowRun => ({
    ...insert(c, only(c, { 0: id, 1: name })),
    columns: [0, 1],
  });
  const city = (id: string, name: string | null): RowRun => put(c, [0, 2], only(c, { 0: id, 2: name }));
  const gone = (id: string): RowRun => remove(c, only(c, { 0: id }));
  const moves = (...pairs: (readonly [string, string])[]): RowRun =>
    move(c, [0], ...pairs.map(([from, to]) => [only(c, { 0: from }), only(c, { 0: to })] as const));
  const rows = (): Promise<string[]> => g.rows('SELECT * FROM c ORDER BY id');
  return { g, owner, city, gone, moves, rows };
}

test.each(['int', 'int GENERATED ALWAYS AS IDENTITY'])(
  'F88: a row that moves leaves what parts set at the old key, and takes what waits at the new one (%s)',
  async (type) => {
    const { g, owner, city, gone, moves, rows } = await customers(type);
    await using _ = g;
    await g.apply(owner('1', 'one'), owner('4', 'four'), city('1', ' Ulm '));
    await g.db.query(`UPDATE c SET legacy = 'kept' WHERE id = 4`);

    // 1 is deleted and 4 takes its key; the part at 1 goes by itself. Its value must not wait for the next row at 1.
    await g.apply(gone('1'), moves(['4', '1']), city('1', null));
    expect(await rows()).toEqual(['1|four|∅|kept']);
    await g.apply(gone('1'), owner('1', 'again'));
    expect(await rows()).toEqual(['1|again|∅|none']);

    await g.apply(city('7', 'Kiel'), city('1', 'Bonn'));
    await g.apply(moves(['1', '7']));
    expect(await rows()).toEqual(['7|again|Kiel|none']);
    await g.apply(owner('1', 'new'));
    expect(await rows()).toEqual(['1|new|Bonn|none', '7|again|Kiel|none']);
  },
);

test('F88: rows of merged tables that swap keys leave their parts where they are', async () => {
  const { g, owner, city, moves, rows } = await customers();
  await using _ = g;
  await g.apply(owner('1', 'one'), owner('2', 'two'), owner('3', 'three'), city('1', 'A'), city('3', 'C'));
  await g.apply(moves(['1', '2'], ['2', '1'], ['3', '9']));
  expect(await rows()).toEqual(['1|two|A|none', '2|one|∅|none', '9|three|∅|none']);
  expect(g.sink.fallbacks).toBeGreaterThan(0);
  await g.apply(owner('3', 'late'));
  expect(await rows()).toContain('3|late|C|none');
});
