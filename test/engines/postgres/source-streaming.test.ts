import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Position } from '../../../src/core/position.ts';
import { positions } from '../../../src/engines/postgres/position.ts';
import { Spool } from '../../../src/engines/postgres/spool.ts';
import { createDatabase, type TestDatabase } from '../../support/databases.ts';
import { waitFor } from '../../support/wait.ts';
import { finish, open, rowsOf, sourceOn } from './source-harness.ts';

const spools = async (): Promise<string[]> =>
  (await readdir(tmpdir())).filter((name) => name.startsWith('verdigris-spool-'));

/** So little memory for decoding that 500 rows are streamed while their transaction is open. */
async function streamingDatabase(version: 16 | 18): Promise<TestDatabase> {
  const db = await createDatabase(version);
  await db.query(`ALTER DATABASE "${db.name}" SET logical_decoding_work_mem = '64kB'`);
  await db.query(`CREATE TABLE t (id int PRIMARY KEY, v text)`);
  return db;
}

const fill = (from: number, to: number): string =>
  `INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(${from}, ${to}) g`;
const streamed = async (db: TestDatabase): Promise<number> =>
  Number(
    (
      await db.query<{ n: string }>(
        `SELECT stream_count AS n FROM pg_stat_replication_slots WHERE slot_name = $1`,
        [`verdigris_${db.name}`],
      )
    )[0]?.n,
  );

describe.each([16, 18] as const)('transactions in progress, PostgreSQL %i', (version) => {
  test('sub-xid-in-streamed-change: rows name the top-level transaction; aborted subtransactions and transactions leave nothing (F34)', async () => {
    await using db = await streamingDatabase(version);
    await using harness = await sourceOn(db, { streaming: true, maxBatchBytes: 64 * 1024 });
    const reader = await open(harness);
    const [one, two, three] = [await db.connect(), await db.connect(), await db.connect()];
    await one.query('BEGIN');
    const top = (await one.query<{ id: string }>('SELECT pg_current_xact_id()::text AS id')).rows[0]?.id;
    await one.query(fill(1, 500));
    await one.query('SAVEPOINT a');
    await one.query(fill(1001, 1500));
    await one.query('SAVEPOINT b');
    await one.query(fill(2001, 2500));
    await two.query('BEGIN');
    await two.query(fill(10_001, 10_800));
    await one.query('ROLLBACK TO a');
    await one.query(fill(3001, 3500));
    await one.query('SAVEPOINT c');
    await one.query(fill(4001, 4500));
    await one.query('RELEASE c');
    await three.query(`INSERT INTO t VALUES (9999, 'small')`);
    await two.query('ROLLBACK');
    await one.query(
      `UPDATE t SET v = 'y' WHERE id = 1; SELECT pg_logical_emit_message(true, 'verdigris', '{"migration":"${harness.migration}","label":"inside"}')`,
    );
    await one.query('COMMIT');
    const batches = await reader.drain(harness.source, 'end');
    expect(
      await waitFor(() => streamed(db), { what: 'the server to report what it streamed' }),
    ).toBeGreaterThan(0);
    const rows = batches.flatMap(rowsOf);
    const range = (from: number, to: number): number[] =>
      Array.from({ length: to - from + 1 }, (_, index) => from + index);
    const inserted = rows
      .filter((row) => row.op === 'insert' && row.transaction === top)
      .map((row) => Number(row.after?.[0]));
    expect(inserted).toEqual([...range(1, 500), ...range(3001, 3500), ...range(4001, 4500)]);
    expect(new Set(rows.map((row) => row.transaction)).size).toBe(2);
    expect(rows.filter((row) => row.op === 'update').map((row) => row.after)).toEqual([['1', 'y']]);
    expect(batches.some((batch) => batch.end === null)).toBe(true);
    expect(batches.flatMap((batch) => batch.marks.map((mark) => mark.label))).toEqual(['inside', 'end']);
    await finish(harness, reader);
  });

  test('a restart in the middle sends the transaction again in full, and the spool is gone (F07)', async () => {
    await using db = await streamingDatabase(version);
    await using harness = await sourceOn(db, { streaming: true });
    const before = await spools();
    let reader = await open(harness);
    const first = reader.next();
    first.catch(() => undefined);
    const one = await db.connect();
    await one.query('BEGIN');
    await one.query(fill(1, 2000));
    const made = await waitFor(async () => (await spools()).find((name) => !before.includes(name)), {
      what: 'a spool directory',
    });
    await db.query(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = $1`, [
      db.name,
    ]);
    await expect(first).rejects.toMatchObject({ code: 'SOURCE_LOST' });
    expect(existsSync(join(tmpdir(), made))).toBe(false);
    reader = await open(harness);
    const again = reader.until((batch) => batch.marks.length > 0);
    await one.query('COMMIT');
    await harness.source.mark('end');
    expect((await again).flatMap(rowsOf)).toHaveLength(2000);
    await finish(harness, reader);
    expect(existsSync(join(tmpdir(), made))).toBe(false);
  });

  test('an idle position does not pass a transaction that is in the spool', async () => {
    await using db = await streamingDatabase(version);
    await using harness = await sourceOn(db, { streaming: true, idleIntervalMs: 1 });
    const reader = await open(harness);
    const one = await db.connect();
    await one.query('BEGIN');
    await one.query(fill(1, 2000));
    const batches = reader.until((batch) => batch.marks.some((mark) => mark.label === 'end'));
    await waitFor(async () => (await streamed(db)) > 0, { what: 'a streamed block' });
    await db.query(`CREATE TABLE noise AS SELECT repeat('y', 100) FROM generate_series(1, 1000)`);
    const head = await harness.source.head();
    await waitFor(() => positions.covers(reader.stream.received, head), {
      what: 'keepalives beyond the open transaction',
    });
    await one.query('COMMIT');
    await harness.source.mark('end');
    const seen = await batches;
    const at = seen.findIndex((batch) => batch.runs.length > 0);
    for (const batch of seen.slice(0, at)) expect(positions.covers(batch.end as Position, head)).toBe(false);
    expect(seen.flatMap(rowsOf)).toHaveLength(2000);
    await finish(harness, reader);
  });
});

describe('the spool', () => {
  test('subtransactions are cut off where they began, on disk and in memory, nested ones with them', async () => {
    await using spool = new Spool(`test ${process.pid} ${Math.random()}`);
    await spool.block(1);
    const write = (sub: number, text: string): boolean => spool.append(1, sub, Buffer.from(text));
    write(1, 'a');
    write(2, 'b');
    await spool.flush(1);
    write(3, 'c');
    write(2, 'd');
    await spool.abort(1, 3);
    write(4, 'e');
    await spool.abort(1, 99);
    const read = async (): Promise<string[]> => {
      const reader = await spool.read(1);
      const seen: string[] = [];
      do while (reader.next()) seen.push(reader.buffer.toString('utf8', reader.start, reader.end));
      while (await reader.fill());
      return seen;
    };
    expect(await read()).toEqual(['a', 'b', 'e']);
    await spool.abort(1, 2);
    expect(await read()).toEqual(['a']);
    await spool.abort(1, 1);
    expect(spool.open).toBe(0);
  });

  test('messages larger than one read, and many of them, come back whole', async () => {
    await using spool = new Spool(`test ${process.pid} ${Math.random()}`);
    await spool.block(5);
    const sizes = [1, 700_000, 3, 262_140, 262_144, 0, 12];
    for (const [index, size] of sizes.entries())
      if (spool.append(5, 5, Buffer.alloc(size, index))) await spool.flush(5);
    const reader = await spool.read(5);
    const seen: number[] = [];
    do while (reader.next()) seen.push(reader.end - reader.start);
    while (await reader.fill());
    expect(seen).toEqual(sizes);
  });
});
