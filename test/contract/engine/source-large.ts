import { describe, expect, test } from 'vitest';
import type { Position } from '../../../src/core/position.ts';
import { waitFor } from '../../support/wait.ts';
import { openBlue } from './blue.ts';
import { item, type EngineHarness, type Writer } from './harness.ts';
import { insertedIds } from './replay.ts';
import type { TableName } from '../../../src/core/table.ts';

const CAP = 64 * 1024;
const V = 'x'.repeat(1_000);

/** Rows of about 1 kB with these ids; one transaction when the writer is in one. */
async function insertMany(writer: Writer, table: TableName, first: number, count: number): Promise<void> {
  for (let from = first; from < first + count; from += 200) {
    const ids = Array.from({ length: Math.min(200, first + count - from) }, (_, index) => from + index);
    await writer.insert(table, ...ids.map((id) => item(id, { v: V })));
  }
}

/** Bounded memory: transactions in parts, and a consumer that does not read. */
export function largeSourceContract(harness: EngineHarness): void {
  const { positions } = harness.engine;
  const { rows } = harness;

  describe('source, large transactions and slow consumers', () => {
    test('a transaction beyond the cap comes in parts (end: null), in order, after everything before it', async () => {
      await using blue = await openBlue(harness, { maxBatchBytes: CAP });
      const { writer, table } = blue;
      await writer.insert(table, item(1));
      await writer.begin();
      await insertMany(writer, table, 1_001, 1_000);
      await writer.commit();
      await writer.insert(table, item(5_000));
      const reader = await blue.read();
      const batches = await reader.drain(blue.source);
      const small = batches.flatMap(({ transactions }) => transactions)[0];
      const parts = batches.filter(({ end }) => end === null);
      expect(parts.length).toBeGreaterThan(5);
      for (const part of parts) {
        expect(part.bytes).toBeLessThan(2 * CAP);
        expect(part.transactions).toHaveLength(1);
        expect(part.marks).toEqual([]);
        // After everything that committed before it: so what was decided by position stays decided.
        expect(positions.covers(small?.end as Position, part.transactions[0]?.end as Position)).toBe(false);
      }
      const ids = new Set(parts.map((part) => part.transactions[0]?.id));
      expect(ids.size).toBe(1);
      const last = batches[batches.lastIndexOf(parts.at(-1) as (typeof batches)[0]) + 1];
      expect(last?.end).not.toBeNull();
      expect(last?.transactions[0]?.id).toBe(parts[0]?.transactions[0]?.id);
      expect(
        positions.covers(last?.transactions[0]?.end as Position, parts[0]?.transactions[0]?.end as Position),
      ).toBe(true);
      expect(insertedIds(rows, batches, table)).toEqual([
        1,
        ...Array.from({ length: 1_000 }, (_, index) => 1_001 + index),
        5_000,
      ]);
    });

    test('a consumer that stalls is waited for in bounded memory, and nothing is lost (F09, F10)', async () => {
      const { mostQueuedBytes } = harness.traits;
      await using blue = await openBlue(harness, { maxBatchBytes: CAP });
      const { writer, table } = blue;
      const reader = await blue.read();
      await writer.insert(table, item(1));
      await reader.until(({ runs }) => runs.length > 0);
      const count = Math.ceil((3 * mostQueuedBytes) / 1_000);
      await insertMany(writer, table, 1_001, count);
      let most = 0;
      let same = 0;
      await waitFor(
        () => {
          const { queued } = reader.stream;
          same = queued > 0 && queued <= most ? same + 1 : 0;
          most = Math.max(most, queued);
          return same >= 25;
        },
        { what: 'the stream to receive no more' },
      );
      expect(most).toBeLessThanOrEqual(mostQueuedBytes);
      const batches = await reader.drain(blue.source);
      expect(Math.max(...batches.map(({ bytes }) => bytes))).toBeLessThan(2 * CAP);
      const ids = insertedIds(rows, batches, table);
      expect(ids).toHaveLength(count);
      expect(new Set(ids).size).toBe(count);
    });
  });
}
