import { describe, expect, test } from 'vitest';
import type { WriteFence } from '../../../src/core/fence.ts';
import type { Position } from '../../../src/core/position.ts';
import { waitFor } from '../../support/wait.ts';
import { openBlue, type Blue } from './blue.ts';
import { item, type EngineHarness, type Writer } from './harness.ts';
import { insertedIds } from './replay.ts';
import { connectSide, failure, lease, NO_HOLES, STREAM, targetOf } from './side.ts';

/** A moment of a few milliseconds in each is met by one of them. */
const ROUNDS = 10;

const accepted = (work: Promise<unknown>): Promise<boolean> =>
  work.then(
    () => true,
    () => false,
  );

/** Runs with a prepared fence over a blue database; the fence is taken off in the end. */
async function withFence(
  harness: EngineHarness,
  work: (blue: Blue, fence: WriteFence) => Promise<void>,
): Promise<void> {
  await using blue = await openBlue(harness, { tables: [{ name: 'items' }, { name: 'others' }] });
  const fence = blue.session.fence(blue.tables);
  await fence.prepare();
  try {
    await work(blue, fence);
  } finally {
    await fence.retire();
  }
}

/** The record that decides forward or back, and the wall that stands behind it. */
export function fenceContract(harness: EngineHarness): void {
  const { positions, capabilities } = harness.engine;
  const { rows } = harness;

  describe('fence', () => {
    test('every acknowledged write is before the barrier, and no write comes after it', async () => {
      await withFence(harness, async (blue, fence) => {
        const acknowledged: number[] = [];
        const refused: unknown[] = [];
        const write = async (writer: Writer, first: number): Promise<void> => {
          for (let id = first; ; id += 1) {
            try {
              await writer.insert(blue.tables[id % 2] ?? blue.table, item(id));
            } catch (error) {
              refused.push(error);
              return;
            }
            acknowledged.push(id);
          }
        };
        const writers = await Promise.all([1, 2, 3, 4].map(() => blue.database.writer()));
        const writing = writers.map((writer, index) => write(writer, index * 1_000_000 + 1));
        const reader = await blue.read();
        await waitFor(() => acknowledged.length > 50, { what: 'the writers to be at it' });
        const barrier = await fence.raise(1, 10_000);
        await Promise.all(writing);
        expect(refused).toHaveLength(4);
        const batches = await reader.reach(positions, barrier);
        // The write pause does not wait for the next heartbeat, nor for the time after which an idle source says so.
        expect(batches.at(-1)?.idle).not.toBe(true);
        const delivered = blue.tables.flatMap((table) => insertedIds(rows, batches, table));
        // An acknowledgement may have been lost with the connection that the fence ended; the write is there all the same.
        expect(acknowledged.filter((id) => !delivered.includes(id))).toEqual([]);
        const present: number[] = [];
        for (const table of blue.tables)
          present.push(...(await blue.database.rows(table)).map(({ id }) => id));
        expect(present.toSorted((a, b) => a - b)).toEqual(delivered.toSorted((a, b) => a - b));
        await fence.prove();
        await fence.prove();
        expect(await fence.blockers()).toEqual([]);
        expect(await fence.state()).toEqual({ state: 'raised', epoch: 1 });
        await Promise.all(writers.map((writer) => writer[Symbol.asyncDispose]()));
        await using late = await blue.database.writer();
        expect(await accepted(late.insert(blue.table, item(-1)))).toBe(false);
        expect(await accepted(late.update(blue.table, { id: delivered[0] as number, v: 'late' }))).toBe(
          false,
        );
        expect(await accepted(late.remove(blue.table, delivered[0] as number))).toBe(false);
        expect(await accepted(late.clear(blue.table))).toBe(false);
        const left = await blue.database.rows(blue.table);
        expect(left.map(({ id }) => id)).toEqual(
          insertedIds(rows, batches, blue.table).toSorted((a, b) => a - b),
        );
      });
    });

    test('prove fails while nothing is raised, and after the fence was lowered', async () => {
      await withFence(harness, async (_blue, fence) => {
        expect(await failure(fence.prove())).toMatchObject({ code: 'CUTOVER_FENCE_LEAKS' });
        await fence.raise(1, 10_000);
        await fence.prove();
        expect(await fence.lower(1)).toBe(true);
        expect(await failure(fence.prove())).toMatchObject({ code: 'CUTOVER_FENCE_LEAKS' });
      });
    });

    test('lowered, clients write again on connections old and new, and the stream brings it', async () => {
      await withFence(harness, async (blue, fence) => {
        const reader = await blue.read();
        await fence.raise(1, 10_000);
        expect(await accepted(blue.writer.insert(blue.table, item(1)))).toBe(false);
        expect(await fence.lower(1)).toBe(true);
        expect(await fence.state()).toEqual({ state: 'open', epoch: 1 });
        await using writer = await blue.database.writer();
        await writer.insert(blue.table, item(2));
        const batches = await reader.drain(blue.source);
        expect(insertedIds(rows, batches, blue.table)).toEqual([2]);
      });
    });

    test('the record refuses what does not fit it: other epochs, a lower or raise of a sealed side, a stale open', async () => {
      await withFence(harness, async (blue, fence) => {
        expect(await fence.state()).toMatchObject({ state: 'open' });
        expect([await fence.seal(1), await fence.lower(1)]).toEqual([false, false]);
        const barrier = await fence.raise(4, 10_000);
        expect(positions.covers(await fence.raise(4, 10_000), barrier)).toBe(true);
        expect(await failure(fence.raise(3, 1_000))).toMatchObject({ code: 'CUTOVER_PHASE' });
        expect([await fence.lower(3), await fence.seal(3), await fence.seal(5)]).toEqual([
          false,
          false,
          false,
        ]);
        expect(await fence.state()).toEqual({ state: 'raised', epoch: 4 });
        expect(await fence.seal(4)).toBe(true);
        expect([await fence.seal(4), await fence.lower(4)]).toEqual([false, false]);
        expect(await failure(fence.raise(5, 1_000))).toMatchObject({ code: 'CUTOVER_PHASE' });
        expect(await failure(fence.open(3))).toMatchObject({ code: 'CUTOVER_PHASE' });
        expect(await fence.state()).toEqual({ state: 'sealed', epoch: 4 });
        await using writer = await blue.database.writer();
        expect(await accepted(writer.insert(blue.table, item(1)))).toBe(false);
        await fence.open(5);
        expect(await fence.state()).toEqual({ state: 'open', epoch: 5 });
        await using after = await blue.database.writer();
        await after.insert(blue.table, item(1));
      });
    });

    test('before anything is prepared the record is open, and nothing can be raised', async () => {
      await using blue = await openBlue(harness);
      const fence = blue.session.fence(blue.tables);
      expect(await fence.state()).toEqual({ state: 'open', epoch: 0 });
      expect([await fence.seal(1), await fence.lower(1)]).toEqual([false, false]);
      expect(await failure(fence.raise(1, 1_000))).toMatchObject({ code: 'CUTOVER_PHASE' });
      await fence.prepare();
      await fence.prepare();
      await blue.writer.insert(blue.table, item(1));
      await fence.retire();
      await fence.retire();
    });

    test('of concurrent seal and lower, by two engines, exactly one wins, and both see which', async () => {
      await withFence(harness, async (blue, fence) => {
        await using session = await connectSide(harness, blue.database, {
          side: 'blue',
          migration: blue.migration,
        });
        const other = session.fence(blue.tables);
        for (let round = 1; round <= 12; round += 1) {
          const epoch = 2 * round;
          await fence.raise(epoch, 10_000);
          const acts = [fence.seal(epoch), other.lower(epoch), other.lower(epoch), other.seal(epoch)];
          const won = await Promise.all(round % 2 === 0 ? acts : acts.toReversed());
          expect(won.filter(Boolean), `round ${round}`).toHaveLength(1);
          const states = [await fence.state(), await other.state()];
          expect(states[0]).toEqual(states[1]);
          const winner = (round % 2 === 0 ? won : won.toReversed()).indexOf(true);
          expect(states[0]).toEqual({ state: winner === 0 || winner === 3 ? 'sealed' : 'open', epoch });
          if (states[0]?.state === 'sealed') await fence.open(epoch + 1);
        }
      });
    });

    test('a transaction that wrote and is still open: it keeps the fence down, or is refused at its commit; never both, never none', async () => {
      await withFence(harness, async (blue, fence) => {
        await using writer = await blue.database.writer();
        await writer.begin();
        await writer.insert(blue.table, item(1));
        const raised = await fence.raise(1, 500).then(
          () => null,
          (error: unknown) => error,
        );
        expect(raised !== null).toBe(harness.traits.openTransactionHoldsFence);
        if (raised === null) {
          expect(await accepted(writer.commit())).toBe(false);
          expect(await blue.database.rows(blue.table)).toEqual([]);
          expect(await fence.lower(1)).toBe(true);
          return;
        }
        expect(raised).toMatchObject({ code: 'CUTOVER_UNDONE' });
        // Nothing is left of the attempt: others write, and the transaction ends as it likes.
        expect((await fence.state()).state).toBe('open');
        await blue.writer.insert(blue.table, item(2));
        expect(await fence.blockers()).toHaveLength(1);
        expect(await fence.kill(60_000)).toBe(0);
        expect(await fence.kill(0)).toBe(1);
        await waitFor(async () => (await fence.blockers()).length === 0, { what: 'the writer to be gone' });
        await fence.raise(2, 10_000);
        expect(await accepted(writer.commit())).toBe(false);
        expect((await blue.database.rows(blue.table)).map(({ id }) => id)).toEqual([2]);
      });
    });

    test('our own applier writes through a raised and a sealed fence; marks do as the capabilities say', async () => {
      await withFence(harness, async (blue, fence) => {
        const term = await lease(blue.session, blue.migration);
        await using sink = blue.session.sink({ ...STREAM, direction: 'reverse', term });
        const target = await targetOf(blue.session, blue.table);
        await sink.prepare([target]);
        await sink.begin(harness.positions[0] as Position);
        const apply = (index: number) =>
          sink.apply({
            previous: harness.positions[index - 1] as Position,
            end: harness.positions[index] as Position,
            runs: [rows.insert(target.relation, item(index))],
            holes: NO_HOLES,
            transactions: 1,
            newestCommitMs: null,
          });
        await apply(1);
        await fence.raise(1, 10_000);
        await apply(2);
        const mark = blue.source.mark('while fenced');
        if (capabilities.marksWhileFenced) expect(await mark).not.toBe('');
        else expect(await failure(mark)).toMatchObject({ directive: expect.any(String) });
        await blue.session.state.note(blue.migration, 'noted', {});
        expect(await fence.seal(1)).toBe(true);
        await apply(3);
        expect((await blue.database.rows(blue.table)).map(({ id }) => id)).toEqual([1, 2, 3]);
        await fence.open(2);
      });
    });

    test('what we write ourselves goes through at every moment of a raise: marks and the journal', async () => {
      await withFence(harness, async (blue, fence) => {
        let writing = true;
        const write = async (act: (number: number) => Promise<unknown>): Promise<number> => {
          let number = 0;
          for (; writing; number += 1) await act(number);
          return number;
        };
        const all = Promise.all([
          capabilities.marksWhileFenced ? write((number) => blue.source.mark(`m${number}`)) : ROUNDS,
          write((number) => blue.session.state.note(blue.migration, 'noted', { number })),
        ]);
        all.catch(() => undefined);
        try {
          for (let epoch = 1; epoch <= ROUNDS; epoch += 1) {
            await fence.raise(epoch, 10_000);
            expect(await fence.lower(epoch)).toBe(true);
          }
        } finally {
          writing = false;
        }
        expect(Math.min(...(await all))).toBeGreaterThanOrEqual(ROUNDS);
      });
    });

    test('a raised fence and a sealed one outlive a crash of their server', async () => {
      await using server = await harness.server();
      const blue = await openBlue(harness, { server });
      const fence = blue.session.fence(blue.tables);
      await fence.prepare();
      const restart = async (): Promise<void> => {
        await server.kill();
        expect(await failure(fence.state())).toMatchObject({ directive: 'retry' });
        await server.start();
        await waitFor(() => fence.state(), { what: 'the record to be readable' });
      };
      await blue.writer.insert(blue.table, item(1));
      await fence.raise(1, 10_000);
      await restart();
      expect(await fence.state()).toEqual({ state: 'raised', epoch: 1 });
      await using writer = await blue.database.writer();
      expect(await accepted(writer.insert(blue.table, item(2)))).toBe(false);
      await fence.prove();
      expect(await fence.seal(1)).toBe(true);
      await restart();
      expect(await fence.state()).toEqual({ state: 'sealed', epoch: 1 });
      await using after = await blue.database.writer();
      expect(await accepted(after.insert(blue.table, item(3)))).toBe(false);
      expect(await blue.database.rows(blue.table)).toEqual([item(1)]);
      await fence.open(2);
      await fence.retire();
      await blue.source.retire();
      await blue.session[Symbol.asyncDispose]();
    });

    test('whoever takes the guards away shows in the evidence, where the engine has one', async () => {
      await withFence(harness, async (_blue, fence) => {
        const before = await fence.evidence?.();
        expect(await fence.evidence?.()).toBe(before);
        await fence.raise(1, 10_000);
        const raised = await fence.evidence?.();
        await fence.lower(1);
        const lowered = await fence.evidence?.();
        if (before !== undefined) expect(new Set([before, raised, lowered]).size).toBe(3);
      });
    });
  });
}
