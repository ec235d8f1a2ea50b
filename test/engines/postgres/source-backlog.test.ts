import { describe, expect, test } from 'vitest';
import { positions } from '../../../src/engines/postgres/position.ts';
import { createDatabase, type TestDatabase } from '../../support/databases.ts';
import type { Reader } from '../../support/stream-reader.ts';
import { waitFor } from '../../support/wait.ts';
import { finish, open, rowsOf, sourceOn, type Harness, type Row } from './source-harness.ts';

const fill = (from: number, to: number, bytes = 20): string =>
  `INSERT INTO t SELECT g, repeat('x', ${bytes}) FROM generate_series(${from}, ${to}) g`;

/** One transaction for each id. */
async function single(db: TestDatabase, from: number, to: number): Promise<void> {
  await db.query(
    `DO $$ BEGIN FOR i IN ${from} .. ${to} LOOP INSERT INTO t VALUES (i, 'single'); COMMIT; END LOOP; END $$`,
  );
}

const slots = async (db: TestDatabase): Promise<{ name: string; temporary: boolean; active: boolean }[]> =>
  db.query(
    'SELECT slot_name AS name, temporary, active FROM pg_replication_slots WHERE database = $1 ORDER BY 1',
    [db.name],
  );

/** The walsender has taken over from the copy. */
const takenOver = (db: TestDatabase): Promise<unknown> =>
  waitFor(
    async () => {
      const [slot, ...others] = await slots(db);
      return slot?.active === true && others.length === 0;
    },
    { what: 'the slot read by the walsender, and no copy of it' },
  );

const ids = (rows: readonly Row[]): number[] => rows.map((row) => Number(row.after?.[0]));
const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

describe.each([16, 18] as const)('a backlog of PostgreSQL %i', (version) => {
  const database = async (): Promise<TestDatabase> => {
    const db = await createDatabase(version);
    await db.query('CREATE TABLE t (id int PRIMARY KEY, v text)');
    return db;
  };

  test('brings the batches of the walsender: the same rows, transactions and positions, each once', async () => {
    await using db = await database();
    await using harness = await sourceOn(db, { backlogBytes: 1 << 20 });
    await db.query(fill(1, 100));
    await db.query('UPDATE t SET id = id + 1000 WHERE id <= 10');
    await single(db, 2001, 12_000);
    await db.query('DELETE FROM t WHERE id BETWEEN 3000 AND 3100');
    await db.query('TRUNCATE t');
    await db.query(fill(1, 5));
    const read = async (reader: Reader): Promise<{ rows: Row[]; transactions: object[] }> => {
      const batches = await reader.drain(harness.source);
      await reader.close();
      return {
        rows: batches.flatMap(rowsOf),
        // The mark of the drain is another one each time.
        transactions: batches
          .flatMap((batch) => batch.transactions.map(({ id, end, commitMs }) => ({ id, end, commitMs })))
          .slice(0, 10_005),
      };
    };
    const backlog = await open(harness);
    expect((await slots(db)).map((slot) => slot.temporary)).toEqual([false, true]);
    const ours = await read(backlog);
    await using plain = await sourceOn(db, { backlogBytes: 1 << 20, backlog: 'walsender' });
    const walsender = await open(plain, harness.start);
    expect((await slots(db)).map((slot) => slot.temporary)).toEqual([false]);
    const theirs = await read(walsender);
    expect(ours.rows).toHaveLength(10_000 + 100 + 10 + 101 + 1 + 5);
    expect(ours).toEqual(theirs);
    await finish(harness);
  });

  test('goes over into the walsender under writes: nothing is lost, nothing comes twice, and the copy is gone', async () => {
    await using db = await database();
    await using harness = await sourceOn(db, { backlogBytes: 1 << 20 });
    await single(db, 1, 10_000);
    const reader = await open(harness);
    const writing = single(db, 10_001, 30_000);
    const rows: Row[] = [];
    while (rows.length < 30_000) rows.push(...rowsOf(await reader.next()));
    await writing;
    await takenOver(db);
    await single(db, 30_001, 30_010);
    rows.push(...(await reader.drain(harness.source)).flatMap(rowsOf));
    expect(ids(rows)).toEqual(upTo(30_010));
    await finish(harness, reader);
  });

  test('two copies take turns: each row comes once, in order', async () => {
    await using db = await database();
    await using harness = await sourceOn(db, { backlogBytes: 1 << 20 });
    for (let at = 1; at <= 190_001; at += 10_000) await db.query(fill(at, at + 9_999));
    const reader = await open(harness);
    const rows: Row[] = [];
    let most = 0;
    while (rows.length < 200_000) {
      rows.push(...rowsOf(await reader.next()));
      most = Math.max(most, (await slots(db)).filter(({ temporary }) => temporary).length);
    }
    expect(most).toBe(2);
    expect(ids(rows)).toEqual(upTo(200_000));
    await takenOver(db);
    await finish(harness, reader);
  });

  test('two copies agree with the walsender: a layout that changes, savepoints, rollbacks, and a transaction that is open all the while', async () => {
    await using db = await database();
    await using harness = await sourceOn(db, { backlogBytes: 1 << 20 });
    await using plain = await sourceOn(db, { backlogBytes: 1 << 30 });
    const held = await db.connect();
    await held.query(
      'BEGIN; INSERT INTO t VALUES (-1, $$long$$); SAVEPOINT a; INSERT INTO t VALUES (-2, $$long$$)',
    );
    const some = async (round: number): Promise<void> => {
      const id = round * 10_000;
      await db.query(`BEGIN; ${fill(id, id + 4_999)}; SAVEPOINT a; ${fill(id + 5_000, id + 5_099)}; ROLLBACK TO a;
        SAVEPOINT b; ${fill(id + 5_100, id + 9_999)}; RELEASE b; COMMIT`);
      await db.query(`BEGIN; ${fill(-id - 99, -id)}; ROLLBACK`);
    };
    for (let round = 1; round <= 8; round++) await some(round);
    await held.query('ROLLBACK TO a; INSERT INTO t VALUES (-3, $$long$$); COMMIT');
    // It would have waited for the transaction that was open.
    await db.query('ALTER TABLE t ADD COLUMN w int DEFAULT 7');
    for (let round = 9; round <= 12; round++) await some(round);
    // A commit of ours ends the reading: nothing is acknowledged here, so no idle position comes.
    const end = await harness.source.mark('end');
    const read = async (source: Harness): Promise<unknown[]> => {
      const reader = await open(source, harness.start);
      const batches = await reader.reach(positions, end);
      await reader.close();
      return [
        batches.flatMap(rowsOf),
        batches.flatMap(({ transactions }) => transactions),
        batches.flatMap(({ schemaChanges }) => schemaChanges.map(({ relation }) => relation?.columns)),
      ];
    };
    const ours = await read(harness);
    expect(ours.map((found) => (found as unknown[]).length)).toEqual([12 * 9_900 + 2, 14, 1]);
    expect(ours).toEqual(await read(plain));
    await finish(harness);
  });

  test('a stream that ends while two copies are read leaves none of them', async () => {
    await using db = await database();
    await using harness = await sourceOn(db, { backlogBytes: 1 << 20 });
    for (let at = 1; at <= 190_001; at += 10_000) await db.query(fill(at, at + 9_999));
    const reader = await open(harness);
    while ((await slots(db)).length < 3) await reader.next();
    await reader.close();
    await waitFor(async () => (await slots(db)).length === 1, {
      what: 'the copies gone with their sessions',
    });
    await finish(harness);
  });

  test('a stream that ends inside of it confirms nothing; the next one begins at the checkpoint', async () => {
    await using db = await database();
    await using harness = await sourceOn(db, { backlogBytes: 1 << 20, maxBatchBytes: 16 * 1024 });
    await single(db, 1, 10_000);
    const first = await open(harness);
    const batch = await first.next();
    const seen = rowsOf(batch).length;
    await first.close();
    expect(seen).toBeLessThan(10_000);
    // The session of the copy may notice a little later that nobody is there.
    await waitFor(async () => (await slots(db)).length === 1, { what: 'the copy gone with its session' });
    const second = await open(harness, batch.end ?? harness.start);
    const rows = (await second.drain(harness.source)).flatMap(rowsOf);
    expect(ids(rows)).toEqual(upTo(10_000).slice(seen));
    await finish(harness, second);
  });

  test('large messages are left to the walsender after the first call', async () => {
    await using db = await database();
    // The first call takes all of it where others write much log to the server: nobody consumes until the walsender is there, so it has to fit.
    await using harness = await sourceOn(db, { backlogBytes: 1 << 20, maxBatchBytes: 32 << 20 });
    for (let at = 1; at <= 8_001; at += 1_000) await db.query(fill(at, at + 999, 1_500));
    const reader = await open(harness);
    await takenOver(db);
    const rows = (await reader.drain(harness.source)).flatMap(rowsOf);
    expect(ids(rows)).toEqual(upTo(9_000));
    await finish(harness, reader);
  });

  test('an idle position follows the end of a backlog that holds nothing of ours', async () => {
    await using db = await database();
    await using harness = await sourceOn(db, { backlogBytes: 1 << 20, idleIntervalMs: 50 });
    await db.query('CREATE TABLE other (id int PRIMARY KEY, v text)');
    await db.query(`INSERT INTO other SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g`);
    const end = await harness.source.head();
    const reader = await open(harness);
    const batches = await reader.until((batch) => batch.end !== null && positions.covers(batch.end, end));
    expect(batches.flatMap(rowsOf)).toEqual([]);
    await finish(harness, reader);
  });
});

test('a server that lets nobody copy the slot: the walsender reads the backlog', async () => {
  await using db = await createDatabase(16);
  await db.query('CREATE TABLE t (id int PRIMARY KEY, v text)');
  // Functions of the catalog are per database.
  await db.query('ALTER FUNCTION pg_copy_logical_replication_slot(name, name, bool) RENAME TO nobody_may');
  await using harness = await sourceOn(db, { backlogBytes: 1 << 20 });
  await single(db, 1, 10_000);
  const reader = await open(harness);
  expect((await slots(db)).map((slot) => slot.temporary)).toEqual([false]);
  expect(ids((await reader.drain(harness.source)).flatMap(rowsOf))).toEqual(upTo(10_000));
  await finish(harness, reader);
});

test('half-open connection: a copy that is never made does not outlive an abort (F20)', async () => {
  await using db = await createDatabase(16);
  await db.query('CREATE TABLE t (id int PRIMARY KEY, v text)');
  await db.query('ALTER FUNCTION pg_copy_logical_replication_slot(name, name, bool) RENAME TO nobody_may');
  await db.query(`CREATE FUNCTION pg_catalog.pg_copy_logical_replication_slot(name, name, bool) RETURNS void
    LANGUAGE sql AS 'SELECT pg_sleep(60)'`);
  await using harness = await sourceOn(db, { backlogBytes: 1 << 20 });
  await single(db, 1, 10_000);
  const abort = new AbortController();
  const opening = harness.source.open(harness.start, abort.signal);
  const waiting = `FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`;
  await waitFor(async () => (await db.query(`SELECT 1 ${waiting}`)).length === 1, {
    what: 'the session that makes the copy',
  });
  abort.abort(new Error('given up'));
  await expect(opening).rejects.toThrow('given up');
  await waitFor(async () => (await db.query(`SELECT 1 ${waiting}`)).length === 0, {
    what: 'that session to end, because nobody is there',
  });
  await finish(harness);
});
