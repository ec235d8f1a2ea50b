import { describe, expect, test } from 'vitest';
import { item, type EngineHarness } from './harness.ts';
import { connectSide, failure, newMigration } from './side.ts';

/** What gives out numbers, on both sides. */
export function countersContract(harness: EngineHarness): void {
  describe('counters', () => {
    test('after an advance green gives numbers that neither side has given, and is never moved back', async () => {
      const counted = harness.traits.counters;
      await using blue = await harness.database('blue');
      await using green = await harness.database('green');
      const spec = { name: 'items', counted };
      const [from, to] = [await blue.table(spec), await green.table(spec)];
      const migration = newMigration();
      await using left = await connectSide(harness, blue, { side: 'blue', migration });
      await using right = await connectSide(harness, green, { side: 'green', migration });
      const others = await left.counters.list();
      const own = await right.counters.list();
      if (!counted) {
        expect([others, own, await right.counters.advance([], 1_000)]).toEqual([[], [], []]);
        return;
      }
      await using onBlue = await blue.writer();
      await using onGreen = await green.writer();
      let last = 0;
      for (let count = 0; count < 7; count += 1) last = await onBlue.insertCounted(from);
      // Copied rows: no counter gave their keys.
      await onGreen.insert(to, item(last), item(50));
      expect(own).toHaveLength(1);
      const here = own[0]?.name as string;
      expect(own[0]?.owner).toMatchObject({ table: to.name, column: 'id' });
      const pairs = async () => [{ here, other: (await left.counters.list())[0] ?? null }];
      expect((await pairs())[0]?.other).toMatchObject({ increment: 1n });
      expect((await pairs())[0]?.other?.last).toBeGreaterThanOrEqual(BigInt(last));
      const [move] = await right.counters.advance(await pairs(), 1_000);
      expect(move).toMatchObject({ name: here, warning: null });
      expect(await onGreen.insertCounted(to)).toBeGreaterThan(50 + 999);
      const [again] = await right.counters.advance(await pairs(), 0);
      expect(again?.to).toBeGreaterThanOrEqual(move?.to as bigint);
      expect(await failure(right.counters.advance([{ here: 'gone.gone', other: null }], 1))).toMatchObject({
        code: 'SCHEMA_TABLE_MISSING',
      });
    });
  });
}
