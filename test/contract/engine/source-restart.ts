import { describe, expect, test } from 'vitest';
import type { Position } from '../../../src/core/position.ts';
import { startTcpProxy } from '../../support/tcp-proxy.ts';
import { waitFor } from '../../support/wait.ts';
import { openBlue } from './blue.ts';
import { item, type EngineHarness } from './harness.ts';
import { Reader } from '../../support/stream-reader.ts';
import { insertedIds, writersOf } from './replay.ts';
import { connectSide, failure, never, STREAM } from './side.ts';

/** Acknowledgement, restart and the end of a stream. */
export function restartContract(harness: EngineHarness): void {
  const { positions } = harness.engine;
  const { rows } = harness;

  describe('source, restart', () => {
    test('what was handed out and not acknowledged comes again, all of it', async () => {
      await using blue = await openBlue(harness);
      await blue.writer.insert(blue.table, item(1));
      await blue.writer.insert(blue.table, item(2));
      for (let round = 0; round < 3; round += 1) {
        await blue.source.check(blue.start, blue.relations);
        const reader = await blue.read(blue.start);
        expect(insertedIds(rows, await reader.drain(blue.source, `round ${round}`), blue.table)).toEqual([
          1, 2,
        ]);
      }
    });

    test('adjacent commits: from each checkpoint the next transaction comes, and none before it', async () => {
      await using blue = await openBlue(harness);
      const writers = await Promise.all(Array.from({ length: 6 }, () => blue.database.writer()));
      await Promise.all(
        writers.map(async (writer, index) => {
          for (let round = 0; round < 4; round += 1)
            await writer.insert(blue.table, item(10 * index + round + 1));
          await writer[Symbol.asyncDispose]();
        }),
      );
      let reader = await blue.read();
      const batches = await reader.drain(blue.source);
      const all = insertedIds(rows, batches, blue.table);
      expect(all).toHaveLength(24);
      const commits = writersOf(batches).map(({ end }) => end);
      expect(commits).toHaveLength(24);
      for (const at of [0, 1, 2, 9, 10, 22]) {
        const checkpoint = commits[at] as Position;
        reader.stream.ack(checkpoint);
        await blue.source.check(checkpoint, blue.relations);
        reader = await blue.read(checkpoint);
        const rest = insertedIds(rows, await reader.drain(blue.source, `from ${at}`), blue.table);
        expect(rest).toEqual(all.slice(at + 1));
      }
    });

    test('an acknowledgement beyond what was handed out does not count, nor does one backwards', async () => {
      await using blue = await openBlue(harness);
      await blue.writer.insert(blue.table, item(1));
      let reader = await blue.read();
      const first = await reader.until(({ runs }) => runs.length > 0);
      const handedOut = first.at(-1)?.end as Position;
      await blue.writer.insert(blue.table, item(2));
      const later = await blue.source.mark('later');
      reader.stream.ack(later);
      reader.stream.ack(blue.start);
      await reader.close();
      await blue.source.check(handedOut, blue.relations);
      reader = await blue.read(handedOut);
      expect(insertedIds(rows, await reader.drain(blue.source), blue.table)).toEqual([2]);
    });

    test('idle: the position goes on by itself behind all that was handed out, and a start from there misses nothing (F32)', async () => {
      await using blue = await openBlue(harness);
      const bystander = await blue.database.table({ name: 'bystander' });
      let reader = await blue.read();
      for (let id = 1; id <= 20; id += 1) await blue.writer.insert(bystander, item(id));
      const head = await blue.source.mark('seen');
      const batches = await reader.reach(positions, head);
      expect(batches.flatMap(({ runs }) => runs)).toEqual([]);
      const checkpoint = batches.at(-1)?.end as Position;
      reader.stream.ack(checkpoint);
      await blue.source.check(checkpoint, blue.relations);
      reader = await blue.read(checkpoint);
      await blue.writer.insert(blue.table, item(1));
      expect(insertedIds(rows, await reader.drain(blue.source), blue.table)).toEqual([1]);
    });

    test('the end of a stream: closed, left by break, aborted', async () => {
      await using blue = await openBlue(harness);
      await blue.writer.insert(blue.table, item(1));
      const closed = await blue.read();
      const ended = closed.end();
      await closed.close();
      expect(await ended).toBeNull();
      await closed.close();

      await blue.read().then((reader) => reader.close());
      const stream = await blue.source.open(blue.start, never);
      for await (const batch of stream) if (batch.runs.length > 0) break;

      const stop = new AbortController();
      const aborted = await blue.read(blue.start, stop.signal);
      const over = aborted.end();
      const reason = new Error('stopped by the test');
      stop.abort(reason);
      expect([null, reason]).toContain(await over);
      await expect(blue.source.open(blue.start, stop.signal)).rejects.toBe(reason);
      const reader = await blue.read();
      expect(insertedIds(rows, await reader.drain(blue.source), blue.table)).toEqual([1]);
    });

    test('F01: a connection that is cut ends the iterator with an error to retry, and the stream goes on from the checkpoint', async () => {
      await using blue = await openBlue(harness);
      await using proxy = await startTcpProxy(blue.database.address);
      await using far = await connectSide(harness, blue.database, {
        side: 'blue',
        migration: blue.migration,
        through: proxy,
      });
      const source = far.changes({ ...STREAM, term: 1 });
      await source.check(blue.start, blue.relations);
      const reader = new Reader(await source.open(blue.start, never));
      await blue.writer.insert(blue.table, item(1));
      const [batch] = (await reader.until(({ runs }) => runs.length > 0)).slice(-1);
      const checkpoint = batch?.end as Position;
      reader.stream.ack(checkpoint);
      const over = reader.end();
      await proxy.refuse();
      proxy.cut();
      expect(await over).toMatchObject({ code: 'SOURCE_LOST', directive: 'retry' });
      expect(await failure(source.head())).toMatchObject({ directive: 'retry' });
      await reader.close();
      await proxy.restore();
      await blue.writer.insert(blue.table, item(2));
      const again = await waitFor(
        async () => {
          await source.check(checkpoint, blue.relations);
          return new Reader(await source.open(checkpoint, never));
        },
        { what: 'the stream to open again' },
      );
      expect(insertedIds(rows, await again.drain(blue.source), blue.table)).toEqual([2]);
      await again.close();
    });

    test('F14: a source that crashes ends the iterator; after its restart everything from the checkpoint comes, once', async () => {
      await using server = await harness.server();
      const blue = await openBlue(harness, { server });
      await blue.writer.insert(blue.table, item(1));
      let reader = await blue.read();
      const [batch] = (await reader.until(({ runs }) => runs.length > 0)).slice(-1);
      const checkpoint = batch?.end as Position;
      await blue.writer.insert(blue.table, item(2));
      await reader.drain(blue.source);
      reader.stream.ack(checkpoint);
      const over = reader.end();
      await server.kill();
      expect(await over).toMatchObject({ directive: 'retry' });
      expect(await failure(blue.source.mark('dead'))).toMatchObject({ directive: 'retry' });
      await server.start();
      await waitFor(() => blue.source.check(checkpoint, blue.relations).then(() => true), {
        what: 'the source to be back',
      });
      reader = await blue.read(checkpoint);
      expect(insertedIds(rows, await reader.drain(blue.source), blue.table)).toEqual([2]);
      await reader.close();
      await blue.source.retire();
      await blue.session[Symbol.asyncDispose]();
    });
  });
}
