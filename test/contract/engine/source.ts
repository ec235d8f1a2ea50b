import { describe, expect, test } from 'vitest';
import type { Position } from '../../../src/core/position.ts';
import { tableId } from '../../../src/core/table.ts';
import { openBlue } from './blue.ts';
import { item, type EngineHarness } from './harness.ts';
import { eventsOf, insertedIds, replay } from './replay.ts';
import { connectSide, newMigration, STREAM } from './side.ts';

const BIG = 'ü"\\\n\t'.repeat(2_000);

/** What a stream delivers while nothing goes wrong. */
export function sourceContract(harness: EngineHarness): void {
  const { positions } = harness.engine;
  const { rows } = harness;

  describe('source', () => {
    test('insert, update, key change, delete and clear, replayed in order, give the rows of the table', async () => {
      await using blue = await openBlue(harness);
      const reader = await blue.read();
      const { writer, table } = blue;
      await writer.insert(table, item(1, { v: `é'"\\ ` }), item(2, { v: null, n: null }), item(3), item(4));
      await writer.insert(table, item(5, { n: 9_007_199_254_740_991, v: '' }));
      await writer.update(table, { id: 2, v: 'two' });
      await writer.update(table, { id: 5, v: null });
      await writer.remove(table, 3);
      await writer.move(table, 4, 40);
      const before = replay(eventsOf(rows, await reader.drain(blue.source, 'before'), table));
      expect(before).toEqual(await blue.database.rows(table));
      expect(before.map(({ id }) => id)).toEqual([1, 2, 5, 40]);
      await writer.clear(table);
      await writer.insert(table, item(1, { v: 'again' }));
      const after = replay(eventsOf(rows, await reader.drain(blue.source, 'after'), table), before);
      expect(after).toEqual([item(1, { v: 'again' })]);
    });

    test('a large value that an update leaves alone is whole or UNCHANGED, never null (F53)', async () => {
      await using blue = await openBlue(harness);
      const { writer, table } = blue;
      const reader = await blue.read();
      await writer.insert(table, item(1, { big: BIG }), item(2, { big: BIG }), item(3, { big: null }));
      await writer.update(table, { id: 1, v: 'other' });
      await writer.update(table, { id: 2, big: null });
      await writer.update(table, { id: 3, big: BIG });
      await writer.move(table, 1, 10);
      const state = replay(eventsOf(rows, await reader.drain(blue.source), table));
      expect(state).toEqual([
        item(2, { big: null }),
        item(3, { big: BIG }),
        item(10, { n: 1, v: 'other', big: BIG }),
      ]);
      expect(state).toEqual(await blue.database.rows(table));
    });

    test('transactions come whole and in commit order; what is rolled back does not come', async () => {
      await using blue = await openBlue(harness, { tables: [{ name: 'items' }, { name: 'others' }] });
      const { table } = blue;
      const other = blue.tables[1] ?? table;
      await using early = await blue.database.writer();
      await using gone = await blue.database.writer();
      await early.begin();
      await early.insert(table, item(1));
      await gone.begin();
      await gone.insert(table, item(2));
      await blue.writer.insert(table, item(3));
      await gone.rollback();
      await early.insert(other, item(11));
      await early.update(table, { id: 1, v: 'twice' });
      await early.commit();
      await blue.writer.insert(table, item(4));
      const reader = await blue.read();
      const batches = await reader.drain(blue.source);
      expect(insertedIds(rows, batches, table)).toEqual([3, 1, 4]);
      expect(insertedIds(rows, batches, other)).toEqual([11]);
      const owners = new Map<string, Set<number>>();
      for (const { runs, transactions } of batches) {
        for (const run of runs) {
          rows.read(run).forEach((event, index) => {
            const transaction = transactions[run.transaction[index] as number];
            const id = event.op === 'insert' ? event.set.id : event.op === 'update' ? event.from : -1;
            const ids = owners.get(transaction?.id as string) ?? new Set();
            owners.set(transaction?.id as string, ids.add(id));
          });
        }
      }
      expect([...owners.values()].map((ids) => [...ids].toSorted((a, b) => a - b))).toEqual(
        expect.arrayContaining([[3], [1, 11], [4]]),
      );
      expect(owners.size).toBe(3);
    });

    test('batches keep their promises: ends, indexes ascending, one relation a run, times by the source clock', async () => {
      await using blue = await openBlue(harness);
      const began = await blue.source.clock();
      for (let id = 1; id <= 12; id += 1) await blue.writer.insert(blue.table, item(id), item(100 + id));
      const reader = await blue.read();
      const batches = await reader.drain(blue.source);
      const now = await blue.source.clock();
      let last: Position = blue.start;
      for (const batch of batches) {
        expect(batch.end).not.toBeNull();
        expect(positions.covers(batch.end as Position, last)).toBe(true);
        for (const transaction of batch.transactions) {
          expect(positions.covers(transaction.end, last)).toBe(true);
          last = transaction.end;
        }
        expect(positions.covers(batch.end as Position, last)).toBe(true);
        last = batch.end as Position;
        const times = batch.transactions.map(({ commitMs }) => commitMs);
        expect(batch.oldestCommitMs).toBe(times.length === 0 ? null : Math.min(...times));
        // Some servers say the time of a commit in whole seconds.
        for (const time of times) expect(time).toBeGreaterThan(began - 2_000);
        for (const time of times) expect(time).toBeLessThan(now + 2_000);
        if (batch.runs.length > 0) expect(batch.bytes).toBeGreaterThan(0);
        for (const run of batch.runs) {
          const events = rows.read(run);
          expect(run.transaction.length).toBe(events.length);
          expect(run.transaction).toEqual(run.transaction.toSorted((left, right) => left - right));
          for (const index of run.transaction) expect(batch.transactions[index]).toBeDefined();
          expect(run.before.length).toBe(events.length);
          expect(tableId(run.relation.table)).toBe(tableId(blue.table));
        }
      }
      const ends = batches.flatMap(({ transactions }) => transactions.map(({ end }) => end));
      expect(new Set(ends).size).toBe(ends.length);
      expect(reader.stream.queued).toBeGreaterThanOrEqual(0);
      expect(positions.covers(reader.stream.received, last)).toBe(true);
      expect(reader.stream.lastReceivedMs).not.toBeNull();
    });

    test('a mark comes back through the stream after all that was committed before it, and to its own migration only', async () => {
      await using blue = await openBlue(harness);
      const migration = newMigration();
      await using other = await connectSide(harness, blue.database, { side: 'blue', migration });
      await other.state.prepare();
      const reader = await blue.read();
      await blue.writer.insert(blue.table, item(1));
      const label = `label "'\\ ü {}`;
      const position = await blue.source.mark(label);
      await other.changes({ ...STREAM, term: 1 }).mark('not ours');
      const first = await reader.until(({ marks }) => marks.length > 0);
      expect(first.at(-1)?.marks.map((mark) => mark.label)).toEqual([label]);
      expect(insertedIds(rows, first, blue.table)).toEqual([1]);
      expect(positions.covers(first.at(-1)?.end as Position, position)).toBe(true);
      expect(positions.covers(first.at(-1)?.marks[0]?.position as Position, position)).toBe(true);
      const rest = await reader.drain(blue.source, 'last');
      expect(rest.flatMap(({ marks }) => marks.map((mark) => mark.label))).toEqual(['last']);
    });

    test('tables that were not asked for do not come, whatever their names', async () => {
      await using blue = await openBlue(harness);
      const bystander = await blue.database.table({ name: 'Items' });
      const reader = await blue.read();
      await blue.writer.insert(bystander, item(1));
      await blue.writer.insert(blue.table, item(2));
      const batches = await reader.drain(blue.source);
      expect(insertedIds(rows, batches, blue.table)).toEqual([2]);
      for (const run of batches.flatMap(({ runs }) => runs)) expect(run.relation.table).toEqual(blue.table);
    });

    test('prepare and retire are idempotent, and what is prepared after a retire begins anew', async () => {
      await using blue = await openBlue(harness);
      await blue.writer.insert(blue.table, item(1));
      const again = await blue.source.prepare(blue.relations);
      expect(positions.covers(again, blue.start)).toBe(true);
      const reader = await blue.read(blue.start);
      expect(insertedIds(rows, await reader.drain(blue.source), blue.table)).toEqual([1]);
      const health = await blue.source.health();
      expect(health.ok).toBe(true);
      expect(health.state).not.toBe('');
      await reader.close();
      await blue.source.retire();
      await blue.source.retire();
      await blue.writer.insert(blue.table, item(2));
      const anew = await blue.source.prepare(blue.relations);
      expect(positions.covers(anew, again)).toBe(true);
      await blue.writer.insert(blue.table, item(3));
      const next = await blue.read(anew);
      expect(insertedIds(rows, await next.drain(blue.source), blue.table)).toEqual([3]);
    });
  });
}
