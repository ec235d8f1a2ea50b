import { describe, expect, test } from 'vitest';
import { asPosition, type Position } from '../../../src/core/position.ts';
import type { EngineHarness } from './harness.ts';
import { openBlue } from './blue.ts';
import { writersOf } from './replay.ts';
import { failure } from './side.ts';

/** The laws of positions: a partial order with a distance that fits it. */
export function positionsContract(harness: EngineHarness): void {
  const { positions } = harness.engine;
  const made = harness.positions;

  describe('positions', () => {
    test('a position covers itself and everything before it, and nothing after it', () => {
      expect(made.length).toBeGreaterThanOrEqual(40);
      made.forEach((left, i) =>
        made.forEach((right, j) => expect(positions.covers(left, right), `${left} ${right}`).toBe(i >= j)),
      );
      for (const left of harness.unordered)
        for (const right of harness.unordered)
          expect(positions.covers(left, right), `${left} ${right}`).toBe(left === right);
    });

    test('distance is not negative, 0 to itself, grows with the log, and adds up; or it is never known', () => {
      const from = made[0] as Position;
      const known = positions.distance(from, made.at(-1) as Position);
      let last = -1;
      for (const [index, to] of made.entries()) {
        const distance = positions.distance(from, to);
        if (known === null) {
          expect(distance).toBeNull();
          continue;
        }
        expect(distance).toBeGreaterThan(last);
        last = distance as number;
        expect(positions.distance(to, to)).toBe(0);
        const middle = made[Math.floor(index / 2)] as Position;
        expect(
          (positions.distance(from, middle) as number) + (positions.distance(middle, to) as number),
        ).toBe(distance);
      }
    });

    test('people can read it', () => {
      const shown = made.map((position) => positions.describe(position));
      expect(new Set(shown).size).toBe(made.length);
      for (const text of shown) expect(text).toMatch(/^[\x20-\x7e]{1,400}$/);
    });

    test('what is no position of this engine is refused, not compared', async () => {
      for (const text of ['', 'nonsense', '-1', '{}', '\u0000']) {
        const covers = async (): Promise<boolean> => positions.covers(asPosition(text), made[0] as Position);
        expect(await failure(covers())).toMatchObject({ code: 'STATE_FORMAT' });
      }
    });

    test('those of a real log have the same order: start, marks, commits and head', async () => {
      await using blue = await openBlue(harness);
      const first = await blue.source.mark('first');
      await blue.writer.insert(blue.table, { id: 1, n: 1, v: 'a', big: null });
      const second = await blue.source.mark('second');
      const head = await blue.source.head();
      const reader = await blue.read();
      const batches = await reader.until((batch) => batch.marks.some(({ label }) => label === 'second'));
      const [commit] = writersOf(batches);
      const order = [blue.start, first, commit?.end as Position, second];
      order.forEach((left, i) =>
        order.forEach((right, j) => {
          if (i > j) expect(positions.covers(left, right), `${i} covers ${j}`).toBe(true);
          if (i < j)
            expect(positions.covers(left, right), `${i} covers ${j}`).toBe(
              i === 0 && j === 1 && left === right,
            );
        }),
      );
      expect(positions.covers(head, second)).toBe(true);
      for (const position of [...order, head])
        expect(asPosition(JSON.parse(JSON.stringify(position)))).toBe(position);
    });
  });
}
