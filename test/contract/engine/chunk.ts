import { describe, expect, test } from 'vitest';
import type { ChangeRun, RowRun } from '../../../src/core/change.ts';
import type { Position } from '../../../src/core/position.ts';
import type { ChunkTarget, FinishStep } from '../../../src/core/sink.ts';
import type { TargetTable } from '../../../src/core/plan.ts';
import type { Relation, Tuple } from '../../../src/core/table.ts';
import { openBlue, type Blue } from './blue.ts';
import { item, type EngineHarness } from './harness.ts';
import { failure, lease, never, NO_HOLES, STREAM } from './side.ts';
import { openApplying, type Applying } from './sink.ts';
import { WHOLE } from './snapshot.ts';

const UNIT = 'contract unit';

const chunkOf = (target: TargetTable, ordinal: number | null = 0): ChunkTarget => ({
  unit: UNIT,
  ordinal,
  range: WHOLE,
  tables: [target],
});

/** The same rows under the sink's relation, whose layout is the source's. */
const onto = (relation: Relation, run: RowRun): RowRun => ({
  relation,
  op: run.op,
  after: run.after,
  before: run.before,
});

const BIG = 'ü"\\\n\t\\N'.repeat(2_000);

type Way = 'rows' | 'raw' | 'raw between equal types';

/**
 * Copies the whole table while clients write: a snapshot, changes before and after it, a mark, and the held changes on top. Returns when
 * green holds what blue held at the mark.
 */
async function copyUnderWrites(
  harness: EngineHarness,
  { blue, green, way }: { blue: Blue; green: Applying; way: Way },
): Promise<Position> {
  const { writer, table, relation } = blue;
  const stream = await blue.read();
  // Before the snapshot, and read after the window was opened: to be held, and then to be left out.
  await writer.update(table, { id: 2, v: 'before' });
  await writer.insert(table, item(50, { v: 'before' }));
  await using reader = await blue.session.snapshot().open({ relations: [relation], range: WHOLE }, never);
  await writer.update(table, { id: 3, v: 'after' });
  await writer.update(table, { id: 2, n: -2 });
  await writer.remove(table, 4);
  await writer.insert(table, item(51, { v: 'after' }));
  await writer.move(table, 5, 55);
  const chunk = await green.sink.openChunk(chunkOf(green.target), never);
  if (way !== 'rows') {
    const alike = way === 'raw between equal types';
    const columns = relation.columns.map((_, index) => index);
    const into = relation.columns.map(({ name }) =>
      green.target.relation.columns.findIndex((one) => one.name === name),
    );
    expect(await chunk.raw(green.target, into, reader.raw(relation, columns, alike), alike)).toBe(7);
  } else {
    for await (const piece of reader.rows(relation)) await chunk.write(inserts(green.target.relation, piece));
  }
  expect(await green.database.rows(green.table)).toEqual([]);
  const batches = await stream.drain(blue.source, 'close');
  const held = batches.flatMap(({ runs, transactions }) =>
    runs.flatMap((run) =>
      split(run).filter((one) => !reader.visibility.sees(transactions[one.transaction]?.id as string)),
    ),
  );
  const upto = batches.at(-1)?.end as Position;
  await chunk.close(folded(held.map((one) => onto(green.target.relation, one.run))), NO_HOLES, upto, 4_711);
  return upto;
}

const inserts = (relation: Relation, after: readonly Tuple[]): RowRun => ({
  relation,
  op: 'insert',
  after,
  before: after.map(() => null),
});

/** One run per row, with its transaction. */
const split = (run: ChangeRun) =>
  run.transaction.map((transaction, index) => ({
    transaction,
    run: {
      relation: run.relation,
      op: run.op,
      after: run.after.slice(index, index + 1),
      before: run.before.slice(index, index + 1),
    },
  }));

/** In the order that a group has: deletes, then updates, then inserts. No row of these tests changes twice. */
const folded = (runs: readonly RowRun[]): RowRun[] =>
  (['delete', 'update', 'insert'] as const).flatMap((op) => runs.filter((run) => run.op === op));

/** Ranges on the sink: rows, held changes and `done` in one transaction; what the copy puts off. */
export function chunkContract(harness: EngineHarness): void {
  const { rows } = harness;
  const ways: Way[] = harness.engine.capabilities.rawCopy
    ? ['rows', 'raw', 'raw between equal types']
    : ['rows'];

  describe('sink, chunks', () => {
    test.each(ways)(
      'a range copied under writes (%s) is exactly what blue holds at its mark',
      async (way) => {
        await using blue = await openBlue(harness, {
          fill: (writer, table) =>
            writer.insert(
              table,
              item(1, { big: BIG }),
              item(2, { big: BIG }),
              item(3, { big: BIG }),
              item(4),
              item(5),
              item(6, { v: null, n: null }),
            ),
        });
        await using green = await openApplying(harness);
        await green.sink.defineRanges(UNIT, []);
        const upto = await copyUnderWrites(harness, { blue, green, way });
        expect(await green.database.rows(green.table)).toEqual(await blue.database.rows(blue.table));
        expect(await green.sink.ranges()).toEqual([
          { unit: UNIT, ordinal: 0, lower: null, upper: null, upto, rows: expect.any(Number), bytes: 4_711 },
        ]);
      },
    );

    test('ranges are stored once, with their edges, and done with the rows', async () => {
      await using green = await openApplying(harness);
      const edge = rows.key(100);
      await green.sink.defineRanges(UNIT, [edge]);
      expect(await failure(green.sink.defineRanges(UNIT, []))).toMatchObject({ code: 'STATE_CONFLICT' });
      const todo = (await green.sink.ranges()).map(({ lower, upper, upto }) => [lower, upper, upto]);
      expect(todo).toEqual([
        [null, edge, null],
        [edge, null, null],
      ]);
      const chunk = await green.sink.openChunk(chunkOf(green.target, 1), never);
      await chunk.write(rows.insert(green.target.relation, item(100), item(101)));
      await chunk.write(rows.insert(green.target.relation, item(102)));
      await chunk.close([], NO_HOLES, green.at, 0);
      await chunk.cancel();
      expect((await green.sink.ranges()).map(({ upto }) => upto)).toEqual([null, green.at]);
      expect((await green.database.rows(green.table)).map(({ id }) => id)).toEqual([100, 101, 102]);
      const again = await green.sink.openChunk(chunkOf(green.target, 1), never);
      await again.write(rows.insert(green.target.relation, item(103)));
      expect(await failure(again.close([], NO_HOLES, green.at, 0))).toMatchObject({ code: 'SINK_FENCED' });
      expect(await green.database.rows(green.table)).toHaveLength(3);
    });

    test('a unit that is on the sink already begins with its ranges done up to there', async () => {
      await using green = await openApplying(harness);
      await green.sink.defineRanges(UNIT, [rows.key(100)], green.at);
      expect((await green.sink.ranges()).map(({ upto }) => upto)).toEqual([green.at, green.at]);
    });

    test('a chunk that is cancelled, aborted, or disposed without close leaves nothing', async () => {
      await using green = await openApplying(harness);
      await green.sink.defineRanges(UNIT, []);
      const { relation } = green.target;
      const cancelled = await green.sink.openChunk(chunkOf(green.target), never);
      await cancelled.write(rows.insert(relation, item(1)));
      await cancelled.cancel();
      await cancelled.cancel();
      expect(await failure(cancelled.close([], NO_HOLES, green.at, 0))).toMatchObject({
        directive: expect.any(String),
      });

      const stop = new AbortController();
      const aborted = await green.sink.openChunk(chunkOf(green.target), stop.signal);
      await aborted.write(rows.insert(relation, item(1)));
      stop.abort(new Error('stopped by the test'));
      await expect(aborted.close([], NO_HOLES, green.at, 0)).rejects.toThrow('stopped by the test');
      await aborted.cancel();
      {
        await using left = await green.sink.openChunk(chunkOf(green.target), never);
        await left.write(rows.insert(relation, item(1)));
      }
      expect(await green.database.rows(green.table)).toEqual([]);
      expect((await green.sink.ranges()).map(({ upto }) => upto)).toEqual([null]);
      await green.apply(rows.insert(relation, item(1)));
    });

    test('groups go on beside an open chunk, and a takeover does not wait for it', async () => {
      await using green = await openApplying(harness);
      await green.sink.defineRanges(UNIT, [rows.key(100)]);
      const { relation } = green.target;
      await using chunk = await green.sink.openChunk(chunkOf(green.target, 1), never);
      await chunk.write(rows.insert(relation, item(100)));
      await green.apply(rows.insert(relation, item(1)));
      await green.apply(rows.update(relation, { id: 1, v: 'x' }));
      expect(await green.session.state.renew(green.migration, green.term)).toBe(true);
      expect(await green.database.rows(green.table)).toEqual([item(1, { v: 'x' })]);
      const term = await lease(green.session, green.migration, true);
      const late = await failure(chunk.close([], NO_HOLES, green.at, 0));
      expect(['SINK_FENCED', 'SINK_LOST']).toContain(late.code);
      expect(await green.database.rows(green.table)).toEqual([item(1, { v: 'x' })]);
      await using next = green.session.sink({ ...STREAM, term });
      await next.prepare([green.target]);
      expect((await next.ranges()).map(({ upto }) => upto)).toEqual([null, null]);
    });

    test('a group of most rows of a table does not wait for rows that an open chunk has written there', async () => {
      await using green = await openApplying(harness);
      await green.sink.defineRanges(UNIT, [rows.key(3_001)]);
      const { relation } = green.target;
      const ids = Array.from({ length: 3_000 }, (_, index) => index + 1);
      await green.apply(rows.insert(relation, ...ids.map((id) => item(id))));
      await using chunk = await green.sink.openChunk(chunkOf(green.target, 1), never);
      await chunk.write(rows.insert(relation, ...ids.slice(0, 500).map((id) => item(3_000 + id))));
      await green.apply(
        rows.remove(relation, ...ids.filter((id) => id % 3 === 0)),
        rows.update(relation, ...ids.filter((id) => id % 3 !== 0).map((id) => ({ id, v: 'x' }))),
      );
      await green.apply(
        rows.move(relation, ...ids.filter((id) => id % 3 === 1).map((id) => ({ from: id, to: item(-id) }))),
      );
      await chunk.close([], NO_HOLES, green.at, 0);
      expect(await green.database.rows(green.table)).toHaveLength(2_500);
    });

    test('single keys are read again over what stands there, with their hole', async () => {
      await using green = await openApplying(harness);
      const { relation } = green.target;
      await green.apply(rows.insert(relation, item(1, { v: 'old' }), item(2)));
      const hole = {
        table: green.table,
        key: [rows.key(7)],
        kind: 'incomplete' as const,
        column: 'v',
        reason: 'r',
      };
      const opening = green.group([], { holes: { opened: [hole], closed: [] } });
      await green.sink.apply(opening);
      green.applied(opening);
      const keys = [[rows.key(1)], [rows.key(7)]];
      const chunk = await green.sink.openChunk({ ...chunkOf(green.target, null), range: { keys } }, never);
      await chunk.write(rows.insert(relation, item(1, { v: 'new' }), item(7)));
      await chunk.close(
        [rows.update(relation, { id: 7, v: 'held' })],
        { opened: [], closed: [{ table: hole.table, key: hole.key }] },
        green.at,
        0,
      );
      expect(await green.database.rows(green.table)).toEqual([
        item(1, { v: 'new' }),
        item(2),
        item(7, { v: 'held' }),
      ]);
      expect(await green.sink.holes()).toEqual([]);
    });

    test('finishCopy builds what prepareCopy put off, says how far it is, and may be asked twice', async () => {
      await using green = await openApplying(harness, { unique: true });
      const { relation } = green.target;
      await green.sink.prepareCopy([green.target]);
      await green.sink.prepareCopy([green.target]);
      await green.sink.defineRanges(UNIT, []);
      const chunk = await green.sink.openChunk(chunkOf(green.target), never);
      await chunk.write(rows.insert(relation, ...Array.from({ length: 300 }, (_, index) => item(index + 1))));
      await chunk.close([], NO_HOLES, green.at, 0);
      const steps: FinishStep[] = [];
      await green.sink.finishCopy([green.target], (step) => steps.push(step), never);
      await green.sink.finishCopy([green.target], () => undefined, never);
      for (const step of steps) expect(step.done).toBeLessThanOrEqual(step.total);
      // Unique from here on, for everybody.
      await using writer = await green.database.writer();
      await expect(writer.insert(green.table, item(1_000, { n: 7 }))).rejects.toThrow();
      await writer.insert(green.table, item(1_000));
      expect((await green.session.readiness.read([green.table])).invalidIndexes).toEqual([]);
      await green.apply(rows.update(relation, { id: 1, n: 2 }, { id: 2, n: 1 }));
    });

    test('duplicates that came in during the copy are found by finishCopy, by name, and no row is lost', async () => {
      await using green = await openApplying(harness, { unique: true });
      const { relation } = green.target;
      await green.sink.prepareCopy([green.target]);
      await green.apply(rows.insert(relation, item(1, { n: 7 }), item(2, { n: 8 })));
      await using writer = await green.database.writer();
      const taken = await writer.insert(green.table, item(3, { n: 7 })).then(
        () => true,
        () => false,
      );
      // An engine that keeps the constraint during the copy has refused the row; one that put it off must notice.
      const finished = green.sink.finishCopy([green.target], () => undefined, never);
      if (taken) {
        const error = await failure(finished);
        expect(error.directive).toBe('operator');
        expect(JSON.stringify([error.message, error.context])).toContain(green.table.name);
      } else await finished;
      expect(await green.database.rows(green.table)).toHaveLength(taken ? 3 : 2);
    });
  });
}
