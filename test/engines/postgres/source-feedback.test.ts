import { describe, expect, test } from 'vitest';
import type { Position } from '../../../src/core/position.ts';
import { positions } from '../../../src/engines/postgres/position.ts';
import { createDatabase, type TestDatabase } from '../../support/databases.ts';
import { waitFor } from '../../support/wait.ts';
import type { Reader } from '../../support/stream-reader.ts';
import { confirmed, finish, open, rowsOf, sourceOn } from './source-harness.ts';

/** Log written by a database that is none of our business. */
const neighbourWrites = async (neighbour: TestDatabase, rows = 20_000): Promise<void> => {
  await neighbour.query(`CREATE TABLE IF NOT EXISTS noise (v text)`);
  await neighbour.query(`INSERT INTO noise SELECT repeat('x', 100) FROM generate_series(1, ${rows})`);
};

const confirmedIs = (db: TestDatabase, position: Position): Promise<unknown> =>
  waitFor(async () => (await confirmed(db)) === position, {
    what: `the slot to be confirmed at ${position}`,
  });

describe('acknowledgement', () => {
  test('adjacent commits: acknowledging the end of the first does not confirm the second', async () => {
    await using db = await createDatabase(16);
    await db.query(`CREATE TABLE t (id int PRIMARY KEY)`);
    await using harness = await sourceOn(db, { idleIntervalMs: 600_000 });
    const clients = await Promise.all(Array.from({ length: 8 }, () => db.connect()));
    let reader = await open(harness);
    for (let attempt = 1; ; attempt++) {
      await Promise.all(
        clients.map((client, index) =>
          client.query(`BEGIN; INSERT INTO t VALUES (${100 * attempt + index})`),
        ),
      );
      await Promise.all(clients.map((client) => client.query('COMMIT')));
      const committed = (await reader.drain(harness.source)).flatMap((batch) => batch.transactions);
      // A commit record takes 48 bytes here: nothing can lie between two ends that are no farther apart.
      const at = committed.findIndex(
        (one, index) =>
          index > 0 && (positions.distance(committed[index - 1]?.end as Position, one.end) as number) <= 56,
      );
      const [first, second] = [committed[at - 1], committed[at]];
      if (first === undefined || second === undefined) {
        if (attempt === 40) throw new Error('the server never wrote two commit records side by side');
        continue;
      }
      reader.stream.ack(first.end);
      await confirmedIs(db, first.end);
      await reader.stream[Symbol.asyncDispose]();
      reader = await open(harness, first.end);
      const again = (await reader.drain(harness.source)).flatMap((batch) => batch.transactions);
      expect(again.map((transaction) => transaction.end)).toContain(second.end);
      expect(again.map((transaction) => transaction.end)).not.toContain(first.end);
      break;
    }
    await finish(harness, reader);
  });

  test('keepalive never passes unapplied work', async () => {
    await using db = await createDatabase(16);
    await using neighbour = await createDatabase(16);
    await db.query(
      `ALTER DATABASE "${db.name}" SET wal_sender_timeout = '2s'; CREATE TABLE t (id int PRIMARY KEY)`,
    );
    await using harness = await sourceOn(db, { idleIntervalMs: 100 });
    const reader = await open(harness);
    await db.query(`INSERT INTO t VALUES (1)`);
    const [batch] = await reader.until((one) => one.runs.length > 0);
    const end = batch?.end as Position;
    const next = reader.next();
    await neighbourWrites(neighbour);
    const head = await harness.source.head();
    await waitFor(() => positions.covers(reader.stream.received, head), {
      what: 'keepalives beyond the unapplied row',
    });
    // Our status, as the server has it: received beyond the row, confirmed before it.
    const status = await waitFor(
      async () =>
        (
          await db.query<{ flush: Position }>(
            `SELECT flush_lsn::text AS flush FROM pg_stat_replication WHERE write_lsn >= $2::pg_lsn
             AND pid = (SELECT active_pid FROM pg_replication_slots WHERE database = $1)`,
            [db.name, head],
          )
        )[0],
      { what: 'a status message sent after those keepalives' },
    );
    expect(status.flush).toBe(harness.start);
    expect(await confirmed(db)).toBe(harness.start);
    // Only now may an idle position come, and even that is confirmed only when it is acknowledged.
    reader.stream.ack(end);
    await confirmedIs(db, end);
    const idle = await next;
    expect(idle).toMatchObject({ idle: true, runs: [] });
    expect(positions.covers(idle.end as Position, head)).toBe(true);
    expect(await confirmed(db)).toBe(end);
    await finish(harness, reader);
  });

  test('an idle database advances its slot, never beyond what was acknowledged, and starts again there (F32)', async () => {
    await using db = await createDatabase(16);
    await using neighbour = await createDatabase(16);
    await db.query(`CREATE TABLE t (id int PRIMARY KEY)`);
    await using harness = await sourceOn(db, { idleIntervalMs: 100 });
    const reader = await open(harness);
    await neighbourWrites(neighbour);
    const head = await harness.source.head();
    const batches = await reader.until(
      (batch) => batch.idle && positions.covers(batch.end as Position, head),
    );
    expect(batches.every((batch) => batch.idle)).toBe(true);
    expect(await confirmed(db)).toBe(harness.start);
    const checkpoint = batches.at(-1)?.end as Position;
    reader.stream.ack(checkpoint);
    await confirmedIs(db, checkpoint);
    await reader.stream[Symbol.asyncDispose]();
    await harness.source.check(checkpoint, harness.relations);
    const again = await open(harness, checkpoint);
    await db.query(`INSERT INTO t VALUES (1)`);
    expect((await again.drain(harness.source)).flatMap(rowsOf)).toHaveLength(1);
    await finish(harness, again);
  });

  test('an acknowledgement only moves forward and not beyond what was handed out', async () => {
    await using db = await createDatabase(16);
    await db.query(`CREATE TABLE t (id int PRIMARY KEY)`);
    await using harness = await sourceOn(db);
    const reader = await open(harness);
    await db.query(`INSERT INTO t VALUES (1)`);
    const end = (await reader.drain(harness.source)).at(-1)?.end as Position;
    reader.stream.ack('FFFFFFF/0' as Position);
    reader.stream.ack(harness.start);
    await confirmedIs(db, end);
    await finish(harness, reader);
  });

  test.each([false, true])(
    'rows after a kill are sent again exactly from the checkpoint (streaming %s)',
    async (streaming) => {
      await using db = await createDatabase(16);
      await db.query(`CREATE TABLE t (id int PRIMARY KEY)`);
      await using harness = await sourceOn(db, { streaming });
      let reader: Reader = await open(harness);
      await db.query(`INSERT INTO t VALUES (1)`);
      const [first] = await reader.until((batch) => batch.runs.length > 0);
      await db.query(`INSERT INTO t VALUES (2)`);
      await reader.drain(harness.source);
      await db.query(
        `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = $1`,
        [db.name],
      );
      await expect(reader.next()).rejects.toMatchObject({ code: 'SOURCE_LOST', directive: 'retry' });
      reader = await open(harness, first?.end as Position);
      expect((await reader.drain(harness.source)).flatMap(rowsOf).map((row) => row.after)).toEqual([['2']]);
      await finish(harness, reader);
    },
  );
});

describe('a consumer that stalls', () => {
  test('feedback lives on, memory stays bounded, nothing is lost (F09, F10)', async () => {
    await using db = await createDatabase(16);
    await db.query(`ALTER DATABASE "${db.name}" SET wal_sender_timeout = '3s'`);
    await db.query(`CREATE TABLE t (id int PRIMARY KEY, v text)`);
    await using harness = await sourceOn(db, { maxBatchBytes: 64 * 1024 });
    const reader = await open(harness);
    await db.query(`INSERT INTO t VALUES (0, 'first')`);
    await reader.next();
    const look = async (): Promise<{ pid: number; age: number }> => {
      const [row] = await db.query<{ pid: number; age: string }>(
        `SELECT pid, extract(epoch FROM clock_timestamp() - backend_start) AS age FROM pg_stat_replication
         WHERE pid = (SELECT active_pid FROM pg_replication_slots WHERE database = $1)`,
        [db.name],
      );
      return { pid: row?.pid ?? 0, age: Number(row?.age) };
    };
    const started = await look();
    await db.query(`INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 10000) g`);
    let largest = 0;
    await waitFor(
      async () => {
        largest = Math.max(largest, reader.stream.queued);
        const now = await look();
        expect(now.pid).toBe(started.pid);
        return now.age - started.age > 5;
      },
      { what: 'five seconds of a stalled consumer with a time-out of three' },
    );
    // The budget is 1 MiB; one read of the socket may come on top.
    expect(largest).toBeGreaterThan(1 << 20);
    expect(largest).toBeLessThan((1 << 20) + 256 * 1024);
    const rows = (await reader.drain(harness.source)).flatMap(rowsOf);
    expect(rows).toHaveLength(10_000);
    expect(new Set(rows.map((row) => row.after?.[0])).size).toBe(10_000);
    await finish(harness, reader);
  });

  test('a transaction beyond the cap comes in parts, after everything earlier and covered by nothing earlier', async () => {
    await using db = await createDatabase(16);
    await db.query(`CREATE TABLE t (id int PRIMARY KEY, v text)`);
    await using harness = await sourceOn(db, { maxBatchBytes: 64 * 1024 });
    await db.query(`INSERT INTO t VALUES (0, 'small')`);
    await db.query(`INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 5000) g`);
    await db.query(`INSERT INTO t VALUES (6000, 'small')`);
    const reader = await open(harness);
    const batches = await reader.drain(harness.source);
    const [small] = batches.flatMap((batch) => batch.transactions);
    const parts = batches.filter((batch) => batch.end === null);
    expect(parts.length).toBeGreaterThan(5);
    for (const part of parts) {
      expect(part.bytes).toBeLessThan(80 * 1024);
      expect(part.transactions).toHaveLength(1);
      expect(positions.covers(small?.end as Position, part.transactions[0]?.end as Position)).toBe(false);
    }
    const last = batches[batches.lastIndexOf(parts.at(-1) as (typeof batches)[0]) + 1];
    expect(last?.transactions[0]?.id).toBe(parts[0]?.transactions[0]?.id);
    expect(
      positions.covers(last?.transactions[0]?.end as Position, parts[0]?.transactions[0]?.end as Position),
    ).toBe(true);
    expect(batches.flatMap(rowsOf).map((row) => Number(row.after?.[0]))).toEqual([
      ...Array(5001).keys(),
      6000,
    ]);
    await finish(harness, reader);
  });
});
