import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BatchBuilder } from '../../src/core/batch-builder.ts';
import type { ChangeBatch } from '../../src/core/change.ts';
import { asPosition, type Position } from '../../src/core/position.ts';
import type { Relation } from '../../src/core/table.ts';

const relations = ['a', 'b'].map((name): Relation => ({
  table: { schema: 'public', name },
  columns: [],
  key: [],
  identity: 'key',
  version: '1',
}));
const at = (place: number) => (): Position => asPosition(String(place));

const row = fc.record({
  table: fc.nat(1),
  op: fc.constantFrom('insert' as const, 'update' as const, 'delete' as const, 'truncate' as const),
});
const transactions = fc.array(fc.array(row, { maxLength: 6 }), { maxLength: 12 });

describe('runs that span transactions', () => {
  test('in any batch size: order inside a table, transaction of every row, whole transactions or parts of one', () => {
    fc.assert(
      fc.property(transactions, fc.integer({ min: 1, max: 8 }), fc.boolean(), (history, cap, eager) => {
        const builder = new BatchBuilder();
        const batches: ChangeBatch[] = [];
        const expected: string[][] = [[], []];
        let serial = 0;
        for (const [index, rows] of history.entries()) {
          builder.begin(`x${index}`, index);
          for (const { table, op } of rows) {
            builder.count(1);
            const relation = relations[table] as Relation;
            serial++;
            expected[table]?.push(`${op} x${index}${op === 'truncate' ? '' : ` ${serial}`}`);
            if (op === 'truncate') builder.truncate(relation);
            else {
              const tuple = [String(serial)];
              builder.add(relation, op, op === 'delete' ? tuple : null, op === 'delete' ? null : tuple);
            }
            if (builder.bytes >= cap) {
              const batch = builder.takeWhole() ?? builder.takePart(at(100 * index + 11));
              if (batch !== null) batches.push(batch);
            }
          }
          builder.commit(at(100 * index + 20));
          const whole = eager || builder.bytes >= cap ? builder.takeWhole() : null;
          if (whole !== null) batches.push(whole);
        }
        const rest = builder.takeWhole();
        if (rest !== null) batches.push(rest);

        const seen: string[][] = [[], []];
        for (const batch of batches) {
          if (batch.end === null) expect(batch.transactions).toHaveLength(1);
          else expect(batch.end).toBe(batch.transactions.at(-1)?.end);
          for (const run of batch.runs) {
            const table = relations.indexOf(run.relation);
            expect(run.transaction).toEqual(run.transaction.toSorted((left, right) => left - right));
            for (const [index, transaction] of run.transaction.entries()) {
              const cell = run.op === 'delete' ? run.before[index]?.[0] : run.after[index]?.[0];
              seen[table]?.push(
                `${run.op} ${batch.transactions[transaction]?.id}${run.op === 'truncate' ? '' : ` ${String(cell)}`}`,
              );
            }
            if (run.op === 'truncate') expect([run.after, run.before]).toEqual([[], []]);
            else if (run.op === 'delete') expect(run.after).toEqual([]);
            else expect(run.after).toHaveLength(run.transaction.length);
          }
        }
        expect(seen).toEqual(expected);
        // A transaction that began in parts ends with a batch that has its real end.
        const open = new Set<string>();
        for (const batch of batches) {
          for (const { id } of batch.transactions) {
            if (batch.end === null) open.add(id);
            else open.delete(id);
          }
          if (batch.end === null) expect(open.size).toBe(1);
        }
        expect(open.size).toBe(0);
        expect(builder.bytes).toBe(0);
      }),
      { numRuns: 800 },
    );
  });

  test('a transaction without anything of ours leaves nothing', () => {
    const builder = new BatchBuilder();
    builder.begin('1', 0);
    builder.count(100);
    expect(builder.commit(at(20))).toBe(false);
    expect(builder.bytes).toBe(0);
    expect(builder.takeWhole()).toBeNull();
  });
});
