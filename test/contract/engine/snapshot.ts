import { describe, expect, test } from 'vitest';
import type { KeyRange, SnapshotSource } from '../../../src/core/snapshot.ts';
import type { Cell, Relation } from '../../../src/core/table.ts';
import { waitFor } from '../../support/wait.ts';
import { openBlue, type Blue } from './blue.ts';
import { item, type EngineHarness, type Item } from './harness.ts';
import { writersOf } from './replay.ts';
import { never } from './side.ts';

export const WHOLE: KeyRange = { lower: null, upper: null };

export async function readRange(
  harness: EngineHarness,
  snapshot: SnapshotSource,
  relation: Relation,
  range: KeyRange,
): Promise<Item[]> {
  await using reader = await snapshot.open({ relations: [relation], range }, never);
  const items: Item[] = [];
  for await (const piece of reader.rows(relation))
    items.push(...piece.map((tuple) => harness.rows.item(relation, tuple)));
  return items;
}

const COUNT = 500;

const filled = (harness: EngineHarness): Promise<Blue> =>
  openBlue(harness, {
    fill: (writer, table) =>
      writer.insert(
        table,
        ...Array.from({ length: COUNT }, (_, index) => item((index * 7_919) % 10_007, { n: index })),
      ),
  });

const sorted = (items: readonly Item[]): Item[] => items.toSorted((left, right) => left.id - right.id);

/** Ranges of a table, each read in one snapshot whose content is known. */
export function snapshotContract(harness: EngineHarness): void {
  describe('snapshot', () => {
    test('the ranges between the boundaries hold every row once, and the engine orders keys as the server does', async () => {
      await using blue = await filled(harness);
      const snapshot = blue.session.snapshot();
      const boundaries = await snapshot.split(blue.relation, 100);
      expect(boundaries.length).toBeGreaterThanOrEqual(2);
      expect(boundaries.length).toBeLessThanOrEqual(12);
      const edges: Cell[] = [null, ...boundaries, null];
      const all: Item[] = [];
      for (let index = 0; index + 1 < edges.length; index += 1) {
        const range = { lower: edges[index] as Cell, upper: edges[index + 1] as Cell };
        const part = await readRange(harness, snapshot, blue.relation, range);
        const keys = part.map(({ id }) => harness.rows.key(id));
        const buckets = await snapshot.bucket(blue.relation, boundaries, keys);
        expect(new Set(buckets)).toEqual(part.length === 0 ? new Set() : new Set([index]));
        const compare = snapshot.comparator(blue.relation);
        for (const key of compare === null ? [] : keys) {
          if (range.lower !== null) expect(compare?.(key, range.lower)).toBeGreaterThanOrEqual(0);
          if (range.upper !== null) expect(compare?.(key, range.upper)).toBeLessThan(0);
        }
        all.push(...part);
      }
      expect(all).toHaveLength(COUNT);
      expect(sorted(all)).toEqual(await blue.database.rows(blue.table));
      expect(await snapshot.split(blue.relation, 10 * COUNT)).toEqual([]);
    });

    test('single keys, an empty range, a key that is not there', async () => {
      await using blue = await openBlue(harness, {
        fill: (writer, table) => writer.insert(table, item(1), item(2), item(3)),
      });
      const snapshot = blue.session.snapshot();
      const keys = [1, 3, 99].map((id) => [harness.rows.key(id)]);
      const read = (range: KeyRange): Promise<Item[]> => readRange(harness, snapshot, blue.relation, range);
      expect(sorted(await read({ keys }))).toEqual([item(1), item(3)]);
      expect(await read({ lower: harness.rows.key(50), upper: null })).toEqual([]);
      expect(await read({ keys: [] })).toEqual([]);
      const edge = harness.rows.key(2);
      expect((await read({ lower: null, upper: edge })).map(({ id }) => id)).toEqual([1]);
      expect((await read({ lower: edge, upper: null })).map(({ id }) => id).toSorted()).toEqual([2, 3]);
    });

    test('what is read is the snapshot: commits after it are not in the rows, and visibility says so', async () => {
      await using blue = await filled(harness);
      const snapshot = blue.session.snapshot();
      const stream = await blue.read();
      await using open = await blue.database.writer();
      await blue.writer.insert(blue.table, item(20_001));
      await open.begin();
      await open.insert(blue.table, item(20_002));
      await blue.source.mark('before');
      const before = await stream.until(({ marks }) => marks.some(({ label }) => label === 'before'));
      const seenBefore = writersOf(before);
      expect(seenBefore).toHaveLength(1);
      await waitFor(async () => (await snapshot.visibility()).sees(seenBefore[0]?.id as string), {
        what: 'the first commit to be visible',
      });

      const reader = await snapshot.open({ relations: [blue.relation], range: WHOLE }, never);
      await open.commit();
      await blue.writer.insert(blue.table, item(20_003));
      const after = await stream.drain(blue.source, 'after');
      const later = writersOf(after);
      expect(later).toHaveLength(2);
      const rows: Item[] = [];
      for await (const piece of reader.rows(blue.relation))
        rows.push(...piece.map((tuple) => harness.rows.item(blue.relation, tuple)));
      await reader[Symbol.asyncDispose]();
      expect(reader.visibility.sees(seenBefore[0]?.id as string)).toBe(true);
      expect(later.map(({ id }) => reader.visibility.sees(id))).toEqual([false, false]);
      expect(reader.visibility.describe()).not.toBe('');
      const ids = rows.map(({ id }) => id);
      expect(ids).toContain(20_001);
      if (harness.traits.exactSnapshots) expect(ids.filter((id) => id > 20_001)).toEqual([]);
      await waitFor(
        async () => {
          const now = await snapshot.visibility();
          return later.every(({ id }) => now.sees(id));
        },
        { what: 'the later commits to be visible' },
      );
      expect((await readRange(harness, snapshot, blue.relation, WHOLE)).length).toBe(COUNT + 3);
    });

    test('sizes are known well enough to plan with, and an aborted open ends', async () => {
      await using blue = await filled(harness);
      const { rows, bytes } = await blue.session.snapshot().estimate(blue.relation);
      expect(rows).toBeGreaterThanOrEqual(0);
      expect(bytes).toBeGreaterThan(0);
      const estimate = await blue.session.estimate(blue.relation);
      expect(estimate.bytes).toBeGreaterThan(0);
      const stop = new AbortController();
      stop.abort(new Error('stopped by the test'));
      const request = { relations: [blue.relation], range: WHOLE };
      await expect(blue.session.snapshot().open(request, stop.signal)).rejects.toThrow();
      expect(await readRange(harness, blue.session.snapshot(), blue.relation, WHOLE)).toHaveLength(COUNT);
    });
  });
}
