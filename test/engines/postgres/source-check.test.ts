import { describe, expect, test } from 'vitest';
import type { VerdigrisError } from '../../../src/core/errors.ts';
import { createDatabase } from '../../support/databases.ts';
import { startTcpProxy } from '../../support/tcp-proxy.ts';
import { waitFor } from '../../support/wait.ts';
import { confirmed, finish, open, rowsOf, sourceOn } from './source-harness.ts';

const code = (expected: string) => expect.objectContaining({ code: expected }) as VerdigrisError;

describe('prepare', () => {
  test('is idempotent, retire removes everything, and a slot without its publication is refused', async () => {
    await using db = await createDatabase(16);
    await db.query(`CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)`);
    await using harness = await sourceOn(db);
    expect(await harness.source.prepare(harness.relations)).toBe(harness.start);
    const left = async () =>
      await db.query(
        `SELECT slot_name FROM pg_replication_slots WHERE database = $1 UNION ALL SELECT pubname FROM pg_publication`,
        [db.name],
      );
    expect(await left()).toHaveLength(2);
    await db.query(`DROP PUBLICATION "verdigris_${db.name}"`);
    await expect(harness.source.prepare(harness.relations)).rejects.toEqual(
      code('SOURCE_PUBLICATION_CHANGED'),
    );
    await harness.source.retire();
    expect(await left()).toEqual([]);
    await harness.source.retire();
  });

  test('an existing publication with other members, or not ours, is refused and left in place', async () => {
    await using db = await createDatabase(16);
    await db.query(
      `CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION "verdigris_${db.name}" FOR TABLE t`,
    );
    await expect(sourceOn(db)).rejects.toEqual(code('SOURCE_PUBLICATION_CHANGED'));
    expect(await db.query(`SELECT FROM pg_publication`)).toHaveLength(1);
    expect(await db.query(`SELECT FROM pg_replication_slots WHERE database = $1`, [db.name])).toEqual([]);
  });

  test.each([16, 18] as const)(
    'the slot of PostgreSQL %i is a failover slot where there are any',
    async (version) => {
      await using db = await createDatabase(version);
      await db.query(`CREATE TABLE t (id int PRIMARY KEY)`);
      await using harness = await sourceOn(db);
      const [slot] = await db.query<{ slot: Record<string, unknown> }>(
        `SELECT to_jsonb(s) AS slot FROM pg_replication_slots s WHERE database = $1`,
        [db.name],
      );
      expect(slot?.slot['failover']).toBe(version >= 17 ? true : undefined);
      const health = await harness.source.health();
      expect(health).toMatchObject({ state: 'reserved', ok: true, limitBytes: 20 * 2 ** 30 });
      expect(health.retainedBytes).toBeGreaterThanOrEqual(0);
      await finish(harness);
      expect(await harness.source.health()).toMatchObject({ state: 'missing', ok: false });
    },
  );
});

describe('the start check', () => {
  test('slot missing, ahead of the checkpoint, other system, changed publication are refused by name', async () => {
    await using db = await createDatabase(16);
    await db.query(`CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)`);
    await using harness = await sourceOn(db);
    const { source, relations, start } = harness;
    const publication = `"verdigris_${db.name}"`;
    const check = async (): Promise<void> => await source.check(start, relations);
    await check();

    await db.query(`ALTER PUBLICATION ${publication} ADD TABLE other`);
    await expect(check()).rejects.toThrow(/also contains public.other/);
    await db.query(`ALTER PUBLICATION ${publication} SET TABLE t WHERE (id > 1)`);
    await expect(check()).rejects.toThrow(/row filter/);
    await db.query(
      `ALTER PUBLICATION ${publication} SET TABLE t; ALTER PUBLICATION ${publication} SET (publish = 'insert')`,
    );
    await expect(check()).rejects.toEqual(code('SOURCE_PUBLICATION_CHANGED'));
    await db.query(`ALTER PUBLICATION ${publication} SET (publish = 'insert, update, delete, truncate')`);
    await check();

    const [stored] = await db.query<{ comment: string }>(
      `SELECT obj_description(oid, 'pg_publication') AS comment FROM pg_publication`,
    );
    const comment = stored?.comment ?? '';
    const say = async (text: string): Promise<unknown> =>
      await db.query(`COMMENT ON PUBLICATION ${publication} IS '${text}'`);
    await say(comment.replace(/"system":"\d+"/, '"system":"123"'));
    await expect(check()).rejects.toEqual(code('SOURCE_OTHER_SYSTEM'));
    await say(comment.replace(/"timeline":\d+/, '"timeline":99'));
    await expect(check()).rejects.toEqual(code('SOURCE_TIMELINE'));
    await db.query(`DROP PUBLICATION ${publication}; CREATE PUBLICATION ${publication} FOR TABLE t`);
    await say(comment);
    await expect(check()).rejects.toThrow(/dropped and made anew/);

    await db.query(
      `SELECT pg_logical_emit_message(true, 'x', 'y'); SELECT pg_replication_slot_advance('verdigris_${db.name}', pg_current_wal_lsn())`,
    );
    await expect(check()).rejects.toEqual(code('SOURCE_AHEAD'));
    await expect(source.open(start, new AbortController().signal)).rejects.toEqual(code('SOURCE_AHEAD'));
    await db.query(`SELECT pg_drop_replication_slot('verdigris_${db.name}')`);
    await expect(check()).rejects.toEqual(code('SOURCE_SLOT_MISSING'));
    await source.retire();
  });
});

describe.each([16, 18] as const)('while streaming from PostgreSQL %i', (version) => {
  test('publication-dropped-is-fatal: also where the server skips its rows in silence', async () => {
    await using db = await createDatabase(version);
    await db.query(`CREATE TABLE t (id int PRIMARY KEY)`);
    await using harness = await sourceOn(db, { pollIntervalMs: 100 });
    const reader = await open(harness);
    await db.query(`DROP PUBLICATION "verdigris_${db.name}"`);
    await db.query(`INSERT INTO t VALUES (1)`);
    await expect(reader.until(() => false)).rejects.toEqual(code('SOURCE_PUBLICATION_CHANGED'));
    await finish(harness, reader);
  });
});

describe('who reads', () => {
  test('a slot that somebody else reads is SOURCE_BUSY; one that a dead stream of ours holds is taken over (F21)', async () => {
    await using db = await createDatabase(16);
    await db.query(`CREATE TABLE t (id int PRIMARY KEY)`);
    await using old = await sourceOn(db, { term: 1 });
    await using harness = await sourceOn(db, { term: 2 });
    const dead = await open(old);
    const reader = await open(harness);
    await expect(dead.next()).rejects.toMatchObject({ directive: 'retry' });
    await expect(old.source.open(old.start, new AbortController().signal)).rejects.toEqual(
      code('SOURCE_BUSY'),
    );
    await db.query(`INSERT INTO t VALUES (1)`);
    expect((await reader.drain(harness.source)).flatMap(rowsOf)).toHaveLength(1);
    await finish(harness, reader);
  });

  test('an aborted stream ends with the reason and frees the slot', async () => {
    await using db = await createDatabase(16);
    await db.query(`CREATE TABLE t (id int PRIMARY KEY)`);
    await using harness = await sourceOn(db);
    const abort = new AbortController();
    const stream = await harness.source.open(harness.start, abort.signal);
    const read = (async () => {
      for await (const batch of stream) if (batch.end === null) throw new Error('a part');
    })();
    const reason = new Error('enough');
    abort.abort(reason);
    await expect(read).rejects.toBe(reason);
    const [slot] = await db.query<{ active: boolean }>(
      `SELECT active FROM pg_replication_slots WHERE database = $1`,
      [db.name],
    );
    expect(slot?.active).toBe(false);
    await finish(harness);
  });

  test('half-open connection: a source that says nothing for two time-outs is SOURCE_LOST (F20)', async () => {
    await using db = await createDatabase(16);
    await db.query(`ALTER DATABASE "${db.name}" SET wal_sender_timeout = '1s'`);
    await db.query(`CREATE TABLE t (id int PRIMARY KEY)`);
    await using proxy = await startTcpProxy({ host: '127.0.0.1', port: db.server.port });
    const url = new URL(db.url);
    url.port = String(proxy.port);
    {
      await using harness = await sourceOn(db, { url: url.href });
      const reader = await open(harness);
      const idle = reader.next();
      // Quiet, but alive: our own questions are answered, so three time-outs pass without a false alarm.
      await waitFor(
        async () =>
          (
            await db.query(
              `SELECT FROM pg_stat_replication WHERE pid = (SELECT active_pid FROM pg_replication_slots WHERE database = $1) AND clock_timestamp() - backend_start > '3s'`,
              [db.name],
            )
          ).length > 0,
        { what: 'three seconds of silence' },
      );
      proxy.blackhole();
      const started = performance.now();
      await expect(idle).rejects.toEqual(code('SOURCE_LOST'));
      expect(performance.now() - started).toBeLessThan(7_000);
      await proxy.restore();
      proxy.cut();
    }
    await using again = await sourceOn(db);
    expect(await confirmed(db)).toBe(again.start);
    await finish(again);
  });
});
