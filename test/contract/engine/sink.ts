import { describe, expect, test } from 'vitest';
import type { RowRun } from '../../../src/core/change.ts';
import type { TargetTable } from '../../../src/core/plan.ts';
import type { Position } from '../../../src/core/position.ts';
import type { SinkGroup } from '../../../src/core/sink.ts';
import type { TableName } from '../../../src/core/table.ts';
import { item, type EngineHarness, type TableSpec } from './harness.ts';
import { failure, lease, NO_HOLES, openSink, STREAM, targetOf, type Filled } from './side.ts';

export interface Applying extends Filled {
  readonly table: TableName;
  readonly target: TargetTable;
  /** A group that builds on the last one that {@link Applying.apply} applied. */
  group(runs: readonly RowRun[], change?: Partial<SinkGroup>): SinkGroup;
  apply(...runs: RowRun[]): Promise<Position | null>;
  /** The group was applied otherwise: the next one builds on it. */
  applied(group: SinkGroup): void;
  readonly at: Position;
}

/** A sink with one empty table, prepared, and begun at the first position. */
export async function openApplying(harness: EngineHarness, spec: Partial<TableSpec> = {}): Promise<Applying> {
  const filled = await openSink(harness);
  try {
    const table = await filled.database.table({ name: 'items', ...spec });
    const target = await targetOf(filled.session, table);
    await filled.sink.prepare([target]);
    let next = 1;
    let at = harness.positions[0] as Position;
    await filled.sink.begin(at);
    const group: Applying['group'] = (runs, change = {}) => ({
      previous: at,
      end: harness.positions[next++] as Position,
      runs,
      holes: NO_HOLES,
      transactions: 1,
      newestCommitMs: 1_700_000_000_000,
      ...change,
    });
    const applied: Applying['applied'] = ({ end }) => {
      if (end !== null) at = end;
    };
    return {
      ...filled,
      table,
      target,
      group,
      applied,
      get at() {
        return at;
      },
      apply: async (...runs) => {
        const one = group(runs);
        const durable = await filled.sink.apply(one);
        applied(one);
        return durable;
      },
    };
  } catch (error) {
    await Promise.resolve(filled[Symbol.asyncDispose]()).catch(() => undefined);
    throw error;
  }
}

const BIG = 'ü"\\\n\t\\N'.repeat(2_000);

/** Groups: what they do to rows, and that rows and checkpoint are one. */
export function sinkContract(harness: EngineHarness): void {
  const { rows } = harness;

  describe('sink', () => {
    test('insert, update, delete, key change and clear; what an update does not name stays', async () => {
      await using green = await openApplying(harness);
      const { database, table } = green;
      const { relation } = green.target;
      await green.apply(
        rows.insert(relation, item(1, { big: BIG }), item(2), item(3), item(4, { v: null, n: null })),
      );
      await green.apply(
        rows.remove(relation, 2),
        rows.move(relation, { from: 3, to: item(30, { v: 'moved' }) }),
        rows.update(relation, { id: 1, v: `'"\\ ü\u0001` }),
        rows.update(relation, { id: 4, n: -7, v: '' }),
        rows.insert(relation, item(2, { v: 'new' }), item(5)),
      );
      expect(await database.rows(table)).toEqual([
        item(1, { v: `'"\\ ü\u0001`, big: BIG }),
        item(2, { v: 'new' }),
        item(4, { n: -7, v: '' }),
        item(5),
        item(30, { v: 'moved' }),
      ]);
      await green.apply(rows.update(relation, { id: 1, big: null }));
      expect((await database.rows(table))[0]).toEqual(item(1, { v: `'"\\ ü\u0001`, big: null }));
      await green.apply(rows.clear(relation), rows.insert(relation, item(9)));
      expect(await database.rows(table)).toEqual([item(9)]);
      expect(await green.sink.checkpoint()).toBe(green.at);
    });

    test('many rows of several tables in one group', async () => {
      await using green = await openApplying(harness);
      const other = await targetOf(green.session, await green.database.table({ name: 'others' }));
      const ids = Array.from({ length: 3_000 }, (_, index) => index + 1);
      await green.apply(
        rows.insert(green.target.relation, ...ids.map((id) => item(id, { v: 'x'.repeat(id % 300) }))),
        rows.insert(other.relation, ...ids.map((id) => item(id))),
      );
      await green.apply(
        rows.update(green.target.relation, ...ids.map((id) => ({ id, n: -id }))),
        rows.remove(other.relation, ...ids.filter((id) => id % 2 === 0)),
      );
      expect(await green.database.rows(green.table)).toEqual(
        ids.map((id) => item(id, { n: -id, v: 'x'.repeat(id % 300) })),
      );
      expect(await green.database.rows(other.relation.table)).toEqual(
        ids.filter((id) => id % 2 === 1).map((id) => item(id)),
      );
    });

    test('two rows that exchange a unique value, and a shift of all, work as they did on the source (F42)', async () => {
      await using green = await openApplying(harness, { unique: true });
      const { relation } = green.target;
      await green.apply(rows.insert(relation, item(1, { big: BIG }), item(2), item(3), item(4)));
      await green.apply(rows.update(relation, { id: 1, n: 2 }, { id: 2, n: 1 }));
      await green.apply(rows.update(relation, { id: 1, n: 3 }, { id: 3, n: 4 }, { id: 4, n: 2 }));
      // One leaves its value, another takes it; and the other way round in the same group.
      await green.apply(rows.remove(relation, 2), rows.insert(relation, item(5, { n: 1 })));
      await green.apply(
        rows.move(relation, { from: 5, to: item(6, { n: 4 }) }),
        rows.update(relation, { id: 3, n: 1 }),
      );
      expect(await green.database.rows(green.table)).toEqual([
        item(1, { n: 3, big: BIG }),
        item(3, { n: 1 }),
        item(4, { n: 2 }),
        item(6, { n: 4 }),
      ]);
    });

    test('keys that change in a ring and along a chain keep their rows', async () => {
      await using green = await openApplying(harness);
      const { relation } = green.target;
      await green.apply(rows.insert(relation, item(1, { big: BIG }), item(2), item(3)));
      await green.apply(
        rows.move(
          relation,
          { from: 1, to: item(2, { n: 1, v: 'v1', big: BIG }) },
          { from: 2, to: item(3, { n: 2, v: 'v2' }) },
          { from: 3, to: item(1, { n: 3, v: 'v3' }) },
        ),
      );
      expect(await green.database.rows(green.table)).toEqual([
        item(1, { n: 3, v: 'v3' }),
        item(2, { n: 1, v: 'v1', big: BIG }),
        item(3, { n: 2, v: 'v2' }),
      ]);
    });

    test('strict: an insert that exists, an update or delete that misses are conflicts; the group leaves nothing, the next one goes on', async () => {
      await using green = await openApplying(harness, { unique: true });
      const { relation } = green.target;
      await green.apply(rows.insert(relation, item(1, { v: 'secret-old' }), item(2)));
      const before = await green.database.rows(green.table);
      const wrong = [
        [rows.insert(relation, item(7), item(1, { n: 70, v: 'secret-new' }))],
        [rows.update(relation, { id: 1, v: 'secret-new' }, { id: 8, v: 'secret-new' })],
        [rows.remove(relation, 1, 9)],
        [rows.move(relation, { from: 11, to: item(12, { v: 'secret-new' }) })],
        // A unique value that is taken by a row that nobody touches.
        [rows.insert(relation, item(3)), rows.update(relation, { id: 1, n: 2 })],
      ];
      for (const [index, runs] of wrong.entries()) {
        const error = await failure(green.sink.apply(green.group(runs)));
        expect(error, String(index)).toMatchObject({ code: 'SINK_CONFLICT', directive: 'operator' });
        expect(JSON.stringify([error.message, error.context, error.remedy])).not.toContain('secret');
        expect(JSON.stringify(error.context)).toContain(relation.table.name);
        expect(error.remedy).not.toBe('');
        expect(await green.database.rows(green.table)).toEqual(before);
        expect(await green.sink.checkpoint()).toBe(green.at);
      }
      await green.apply(rows.insert(relation, item(3)));
      expect(await green.database.rows(green.table)).toEqual([...before, item(3)]);
    });

    test('the checkpoint: none, then the first, then that of the last group, and never a second first one', async () => {
      await using filled = await openSink(harness);
      const target = await targetOf(filled.session, await filled.database.table({ name: 'items' }));
      await filled.sink.prepare([target]);
      await filled.sink.prepare([target]);
      expect(await filled.sink.checkpoint()).toBeNull();
      const [first, second, third] = harness.positions as readonly Position[] as [
        Position,
        Position,
        Position,
      ];
      await filled.sink.begin(first);
      expect(await failure(filled.sink.begin(second))).toMatchObject({ code: 'STATE_CONFLICT' });
      expect(await filled.sink.checkpoint()).toBe(first);
      const idle = { runs: [], holes: NO_HOLES, transactions: 0, newestCommitMs: null };
      await filled.sink.apply({ ...idle, previous: first, end: second });
      expect(await filled.sink.flush()).toBe(second);
      const elsewhere = await failure(filled.sink.apply({ ...idle, previous: first, end: third }));
      expect(elsewhere).toMatchObject({ code: 'SINK_FENCED' });
      expect(await filled.sink.checkpoint()).toBe(second);
      await filled.sink.apply({ ...idle, previous: second, end: third });
      await filled.sink.harden?.();
      expect(await filled.sink.flush()).toBe(third);
      // Another stream of the same run has a checkpoint of its own.
      await using back = filled.session.sink({ ...STREAM, direction: 'reverse', term: filled.term });
      await back.prepare([target]);
      expect(await back.checkpoint()).toBeNull();
      await filled.sink.retire();
      expect(await filled.sink.checkpoint()).toBeNull();
    });

    test('a transaction in parts is there with its last part, or not at all', async () => {
      await using green = await openApplying(harness);
      const { relation } = green.target;
      await green.apply(rows.insert(relation, item(1)));
      const part = (runs: readonly RowRun[]): SinkGroup => green.group(runs, { end: null, transactions: 0 });
      await green.sink.apply(part([rows.insert(relation, item(2))]));
      await green.sink.apply(part([rows.update(relation, { id: 2, v: 'x' }), rows.remove(relation, 1)]));
      expect(await green.database.rows(green.table)).toEqual([item(1)]);
      await green.sink.abandon();
      expect(await green.sink.checkpoint()).toBe(green.at);
      expect(await green.database.rows(green.table)).toEqual([item(1)]);

      await green.sink.apply(part([rows.insert(relation, item(3))]));
      await green.sink.apply(part([rows.remove(relation, 1)]));
      await green.apply(rows.update(relation, { id: 3, v: 'last' }));
      expect(await green.database.rows(green.table)).toEqual([item(3, { v: 'last' })]);
      expect(await green.sink.checkpoint()).toBe(green.at);
    });

    test('holes open and close with the rows of their group', async () => {
      await using green = await openApplying(harness);
      const { relation } = green.target;
      const key = (id: number) => [rows.key(id)];
      const hole = (id: number) => ({
        table: green.table,
        key: key(id),
        kind: 'rejected' as const,
        column: 'v',
        reason: 'does not fit',
      });
      const opening = green.group([rows.insert(relation, item(1))], {
        holes: { opened: [hole(7), hole(8)], closed: [] },
      });
      await green.sink.apply(opening);
      green.applied(opening);
      expect(
        (await green.sink.holes()).toSorted(
          (a, b) => rows.id(a.key[0] as string) - rows.id(b.key[0] as string),
        ),
      ).toEqual([hole(7), hole(8)]);
      const wrong = green.group([rows.insert(relation, item(1))], {
        holes: { opened: [hole(9)], closed: [{ table: green.table, key: key(7) }] },
      });
      expect(await failure(green.sink.apply(wrong))).toMatchObject({ code: 'SINK_CONFLICT' });
      expect(await green.sink.checkpoint()).toBe(green.at);
      expect(await green.sink.holes()).toHaveLength(2);
      const closing = green.group([], {
        holes: { opened: [], closed: [{ table: green.table, key: key(7) }] },
      });
      await green.sink.apply(closing);
      green.applied(closing);
      expect(await green.sink.holes()).toEqual([hole(8)]);
    });

    test('F43: an engine whose term is over writes nothing: no group, no part, no chunk, no first checkpoint, no state', async () => {
      await using green = await openApplying(harness);
      const { relation } = green.target;
      await green.apply(rows.insert(relation, item(1)));
      // Frozen in the middle of a transaction: the takeover does not wait for it.
      await green.sink.apply(green.group([rows.insert(relation, item(2))], { end: null, transactions: 0 }));
      const term = await lease(green.session, green.migration, true);
      expect(term).toBeGreaterThan(green.term);
      const first = await failure(green.sink.apply(green.group([rows.insert(relation, item(3))])));
      expect(['SINK_FENCED', 'SINK_LOST']).toContain(first.code);
      await green.sink.checkpoint();
      const again = await failure(green.sink.apply(green.group([rows.insert(relation, item(3))])));
      expect(again).toMatchObject({ code: 'SINK_FENCED', directive: 'fatal' });
      const chunk = { unit: 'unit', ordinal: null, range: { keys: [[rows.key(4)]] }, tables: [green.target] };
      const opened = async (): Promise<void> => {
        await using writer = await green.sink.openChunk(chunk, AbortSignal.timeout(20_000));
        await writer.write(rows.insert(relation, item(4)));
        await writer.close([], NO_HOLES, green.at, 0);
      };
      expect(await failure(opened())).toMatchObject({ code: 'SINK_FENCED' });
      await using back = green.session.sink({ ...STREAM, direction: 'reverse', term: green.term });
      expect(['SINK_FENCED', 'STATE_CONFLICT']).toContain(
        (await failure(back.prepare([green.target]).then(() => back.begin(green.at)))).code,
      );
      expect(await green.database.rows(green.table)).toEqual([item(1)]);

      await using next = green.session.sink({ ...STREAM, term });
      await next.prepare([green.target]);
      expect(await next.checkpoint()).toBe(green.at);
      await next.apply(green.group([rows.insert(relation, item(2))]));
      expect(await green.database.rows(green.table)).toEqual([item(1), item(2)]);
    });
  });
}
