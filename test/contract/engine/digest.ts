import { describe, expect, test } from 'vitest';
import type { Session } from '../../../src/core/engine.ts';
import type { KeyRange } from '../../../src/core/snapshot.ts';
import type { Cell, Relation, TableName } from '../../../src/core/table.ts';
import { item, type EngineDatabase, type EngineHarness, type Item } from './harness.ts';
import { connectSide, newMigration } from './side.ts';
import { WHOLE } from './snapshot.ts';

interface Compared extends AsyncDisposable {
  readonly database: EngineDatabase;
  readonly session: Session;
  readonly table: TableName;
  readonly relation: Relation;
}

async function openCompared(
  harness: EngineHarness,
  side: 'blue' | 'green',
  items: readonly Item[],
): Promise<Compared> {
  const database = await harness.database(side);
  const table = await database.table({ name: 'items' });
  await using writer = await database.writer();
  await writer.insert(table, ...items);
  const session = await connectSide(harness, database, { side, migration: newMigration() });
  return {
    database,
    session,
    table,
    relation: await session.catalog[side === 'blue' ? 'source' : 'target'](table),
    [Symbol.asyncDispose]: async () => {
      await session[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
    },
  };
}

const all = (relation: Relation): number[] => relation.columns.map((_, index) => index);
const ITEMS = Array.from({ length: 400 }, (_, index) =>
  item(index + 1, {
    v: index % 7 === 0 ? null : `é'"\\${index}`,
    big: index % 50 === 0 ? 'x'.repeat(9_000) : null,
  }),
);

/** Digests, hashes and rows of ranges, as verification asks for them. */
export function digestContract(harness: EngineHarness): void {
  const { rows } = harness;
  const digest = ({ session, relation }: Compared, range: KeyRange, columns = all(relation)) =>
    session.digester.digest(relation, columns, range);

  describe('digest', () => {
    test('equal rows have equal digests on both sides whatever their order; one changed value, a row less or more have not', async () => {
      await using blue = await openCompared(harness, 'blue', ITEMS);
      await using green = await openCompared(harness, 'green', ITEMS.toReversed());
      const ranges: KeyRange[] = [
        WHOLE,
        { lower: rows.key(17), upper: rows.key(230) },
        { keys: [[rows.key(5)], [rows.key(51)], [rows.key(9_999)]] },
        { lower: rows.key(9_000), upper: null },
      ];
      const counts = [400, 213, 2, 0];
      for (const [index, range] of ranges.entries()) {
        const left = await digest(blue, range);
        expect(left.rows).toBe(counts[index]);
        expect(await digest(green, range)).toEqual(left);
      }
      const before = await digest(green, WHOLE);
      await using writer = await green.database.writer();
      for (const change of [
        { id: 200, v: null },
        { id: 200, v: '' },
        { id: 200, v: 'V200' },
        { id: 200, v: ITEMS[199]?.v ?? null, n: 7 },
      ]) {
        await writer.update(green.table, change);
        const after = await digest(green, WHOLE);
        expect(after.rows).toBe(before.rows);
        expect(after.hash).not.toBe(before.hash);
      }
      await writer.update(green.table, { id: 200, n: 200 });
      expect(await digest(green, WHOLE)).toEqual(before);
      await writer.remove(green.table, 200);
      expect(await digest(green, WHOLE)).toMatchObject({ rows: 399 });
      // The same difference twice must not cancel out.
      await writer.insert(green.table, item(1_001, { v: 'same' }), item(1_002, { v: 'same' }));
      const twice = await digest(green, WHOLE);
      await writer.remove(green.table, 1_001, 1_002);
      expect((await digest(green, WHOLE)).hash).not.toBe(twice.hash);
    });

    test('split cuts into ranges whose digests and rows add up; read gives rows in order of the key', async () => {
      await using blue = await openCompared(harness, 'blue', ITEMS);
      const { session, relation } = blue;
      const boundaries = await session.digester.split(relation, 100);
      expect(boundaries.length).toBeGreaterThanOrEqual(2);
      const edges: Cell[] = [null, ...boundaries, null];
      const ids: number[] = [];
      let counted = 0;
      for (let index = 0; index + 1 < edges.length; index += 1) {
        const range = { lower: edges[index] as Cell, upper: edges[index + 1] as Cell };
        counted += (await digest(blue, range)).rows;
        for await (const piece of session.digester.read(relation, range))
          ids.push(...piece.map((tuple) => rows.item(relation, tuple).id));
      }
      expect(counted).toBe(400);
      expect(ids).toEqual(ITEMS.map(({ id }) => id));
    });

    test('hashes tell which rows differ, row by row, without moving them', async () => {
      await using blue = await openCompared(harness, 'blue', ITEMS);
      await using green = await openCompared(harness, 'green', ITEMS);
      await using writer = await green.database.writer();
      await writer.update(green.table, { id: 7, v: 'other' });
      await writer.remove(green.table, 8);
      const hashes = async ({ session, relation }: Compared): Promise<Map<number, unknown>> => {
        const found = new Map<number, unknown>();
        const columns = { key: relation.key, hashed: all(relation) };
        for await (const piece of session.digester.hashes(relation, columns, WHOLE))
          for (const tuple of piece) found.set(rows.id(tuple[0] ?? null), tuple[1]);
        return found;
      };
      const [left, right] = [await hashes(blue), await hashes(green)];
      expect(left.size).toBe(400);
      const different = [...left].filter(([id, hash]) => right.get(id) !== hash).map(([id]) => id);
      expect(different.toSorted((a, b) => a - b)).toEqual([7, 8]);
    });
  });
}
