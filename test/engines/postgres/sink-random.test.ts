import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { RowRun } from '../../../src/core/change.ts';
import type { Position } from '../../../src/core/position.ts';
import type { Relation, Tuple } from '../../../src/core/table.ts';
import { green, insert, move, only, remove, U, update } from './sink-setup.ts';

interface Row {
  readonly id: number;
  readonly u: number;
  readonly v: string;
  readonly big: string;
}

/** One step of a history: who goes, who comes, how keys and unique values are shuffled, and whether the transaction goes on. */
const change = fc.record({
  drop: fc.array(fc.nat(7), { maxLength: 3 }),
  add: fc.nat(3),
  keys: fc.array(fc.nat(1_000), { minLength: 8, maxLength: 8 }),
  uniques: fc.array(fc.nat(1_000), { minLength: 8, maxLength: 8 }),
  moveKeys: fc.boolean(),
  open: fc.boolean(),
});

/** Distinct numbers of 1…9 in an order that the seeds decide. */
const deal = (seeds: readonly number[], count: number): number[] => {
  const pool = Array.from({ length: 9 }, (_, index) => index + 1);
  return Array.from(
    { length: count },
    (_, index) => pool.splice((seeds[index % seeds.length] as number) % pool.length, 1)[0] as number,
  );
};

function step(
  t: Relation,
  rows: readonly Row[],
  what: typeof change extends fc.Arbitrary<infer T> ? T : never,
  mark: string,
): { rows: Row[]; runs: RowRun[] } {
  const kept = rows.filter((_, index) => !what.drop.includes(index)).slice(0, 6);
  const dropped = rows.filter((row) => !kept.includes(row));
  const total = Math.min(kept.length + what.add, 8);
  const ids = deal(what.keys, total);
  const uniques = deal(what.uniques, total);
  const free = ids.filter((id) => !kept.some((row) => row.id === id));
  const after = kept.map((row, index): Row => {
    const id = what.moveKeys ? (ids[index] as number) : row.id;
    return { id, u: uniques[index] as number, v: `${mark}.${index}`, big: row.big };
  });
  const added = Array.from({ length: total - kept.length }, (_, index): Row | null => {
    const id = what.moveKeys ? ids[kept.length + index] : free[index];
    return id === undefined
      ? null
      : { id, u: uniques[kept.length + index] as number, v: 'new', big: `${mark}${'B'.repeat(3_000)}` };
  }).filter((row) => row !== null);
  const pairs = kept.map((row, index) => [row, after[index] as Row] as const);
  const tuple = (row: Row): string[] => [String(row.id), String(row.u), row.v];
  const moved = pairs.filter(([old, now]) => old.id !== now.id);
  const stayed = pairs.filter(([old, now]) => old.id === now.id);
  const runs = [
    remove(t, ...dropped.map((row) => only(t, { 0: String(row.id) }))),
    move(
      t,
      [0, 1, 2],
      ...moved.map(([old, now]) => [only(t, { 0: String(old.id) }), [...tuple(now), U] as Tuple] as const),
    ),
    update(t, [0, 1, 2], ...stayed.map(([, now]): Tuple => [...tuple(now), U])),
    insert(t, ...added.map((row): Tuple => [...tuple(row), row.big])),
  ].filter((run) => run.before.length > 0);
  return { rows: [...after, ...added], runs };
}

test.each(['int', 'int GENERATED ALWAYS AS IDENTITY'])(
  'any shuffle of keys and unique values ends as the plain result (%s)',
  async (type) => {
    await using g = await green(`CREATE TABLE t (id ${type} PRIMARY KEY, u int UNIQUE, v text, big text)`);
    const { relation: t } = await g.target('t');
    await g.sink.prepare([]);
    await g.apply();
    let rows: Row[] = [];
    let count = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (history) => {
        for (const [index, what] of history.entries()) {
          count += 1;
          const next = step(t, rows, what, String(count));
          const group = g.group(next.runs, what.open && index < history.length - 1 ? { end: null } : {});
          await g.sink.apply(group);
          rows = next.rows;
          if (group.end === null) continue;
          g.at = group.end as Position;
          const expected = [...rows]
            .sort((a, b) => a.id - b.id)
            .map((row) => `${row.id}|${row.u}|${row.v}|${row.big}`);
          expect(await g.rows('SELECT id, u, v, big FROM t ORDER BY id')).toEqual(expected);
        }
      }),
      // Each run builds on the table that the one before left.
      { numRuns: 60, endOnFailure: true },
    );
    expect(g.sink.fallbacks).toBeGreaterThan(10);
  },
);
