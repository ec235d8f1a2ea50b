import { describe, expect, test } from 'vitest';
import { UNCHANGED } from '../../../src/core/table.ts';
import { createDatabase } from '../../support/databases.ts';
import { finish, open, rowsOf, sourceOn } from './source-harness.ts';

const brief = (rows: ReturnType<typeof rowsOf>) =>
  rows.map(({ op, after, before }) => ({ op, after, before }));

describe.each([16, 18] as const)('reading the log of PostgreSQL %i', (version) => {
  test('every operation: insert, update, key change, delete, truncate of several tables, origin, type, logical messages', async () => {
    await using db = await createDatabase(version);
    await db.query(`CREATE TYPE mood AS ENUM ('sad', 'ok')`);
    await db.query(
      `CREATE TABLE t (id bigint PRIMARY KEY, v text, n numeric(12,2), at timestamptz, g int GENERATED ALWAYS AS (1) STORED, m mood)`,
    );
    await db.query(`CREATE TABLE u (id serial PRIMARY KEY, t bigint REFERENCES t)`);
    await using harness = await sourceOn(db, { tables: ['t', 'u'] });
    const reader = await open(harness);
    await db.query(
      `INSERT INTO t VALUES (9007199254740993, 'é''"\\ ', 1.50, '2026-01-02 03:04:05.123456+00', DEFAULT, 'ok'), (2, NULL, NULL, NULL, DEFAULT, NULL)`,
    );
    await db.query(`UPDATE t SET v = 'x' WHERE id = 2`);
    await db.query(`UPDATE t SET id = 3 WHERE id = 2`);
    await db.query(`DELETE FROM t WHERE id = 3`);
    await db.query(
      `SELECT pg_logical_emit_message(true, 'verdigris', '{"migration":"another","label":"x"}')`,
    );
    await db.query(
      `SELECT pg_logical_emit_message(true, 'somebody', 'else'), pg_logical_emit_message(false, 'verdigris', 'x')`,
    );
    const origin = `o_${db.name}`;
    await db.query(`SELECT pg_replication_origin_create($1)`, [origin]);
    await db.query(`SELECT pg_replication_origin_session_setup($1)`, [origin]);
    await db.query(
      `BEGIN; SELECT pg_replication_origin_xact_setup('0/77', now()); INSERT INTO t (id) VALUES (5); COMMIT`,
    );
    await db.query(`SELECT pg_replication_origin_session_reset()`);
    await db.query(`SELECT pg_replication_origin_drop($1)`, [origin]);
    await db.query(`TRUNCATE t RESTART IDENTITY CASCADE`);
    await db.query(`INSERT INTO u (t) VALUES (NULL)`);
    const batches = await reader.drain(harness.source, 'done');
    const rows = batches.flatMap(rowsOf);
    const none = [UNCHANGED, UNCHANGED, UNCHANGED, UNCHANGED];
    expect(brief(rows.filter((row) => row.table === 't'))).toEqual([
      {
        op: 'insert',
        after: ['9007199254740993', `é'"\\ `, '1.50', '2026-01-02 03:04:05.123456+00', 'ok'],
        before: null,
      },
      { op: 'insert', after: ['2', null, null, null, null], before: null },
      { op: 'update', after: ['2', 'x', null, null, null], before: null },
      { op: 'update', after: ['3', 'x', null, null, null], before: ['2', ...none] },
      { op: 'delete', after: null, before: ['3', ...none] },
      { op: 'insert', after: ['5', null, null, null, null], before: null },
      { op: 'truncate', after: null, before: null },
    ]);
    expect(brief(rows.filter((row) => row.table === 'u'))).toEqual([
      { op: 'truncate', after: null, before: null },
      { op: 'insert', after: ['1', null], before: null },
    ]);
    expect(batches.flatMap((batch) => batch.marks.map((mark) => mark.label))).toEqual(['done']);
    await finish(harness, reader);
  });

  test('an unchanged TOAST value is UNCHANGED, and the whole old row fills it (F53)', async () => {
    await using db = await createDatabase(version);
    await db.query(
      `CREATE TABLE t (id int PRIMARY KEY, a int, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL`,
    );
    await db.query(
      `CREATE TABLE f (a int, big text); ALTER TABLE f ALTER big SET STORAGE EXTERNAL; ALTER TABLE f REPLICA IDENTITY FULL`,
    );
    const big = 'ü'.repeat(5000);
    await db.query(`INSERT INTO t VALUES (1, 1, $1)`, [big]);
    await db.query(`INSERT INTO f VALUES (1, $1)`, [big]);
    await using harness = await sourceOn(db, { tables: ['t', 'f'] });
    const reader = await open(harness);
    await db.query(`UPDATE t SET a = 2`);
    await db.query(`UPDATE t SET id = 7`);
    await db.query(`UPDATE f SET a = 2`);
    await db.query(`DELETE FROM f`);
    const batches = await reader.drain(harness.source);
    const rows = batches.flatMap(rowsOf);
    expect(brief(rows.filter((row) => row.table === 't'))).toEqual([
      { op: 'update', after: ['1', '2', UNCHANGED], before: null },
      { op: 'update', after: ['7', '2', UNCHANGED], before: ['1', UNCHANGED, UNCHANGED] },
    ]);
    // Replica identity full without a primary key: the log flags every column, the relation has no key.
    expect(brief(rows.filter((row) => row.table === 'f'))).toEqual([
      { op: 'update', after: ['2', big], before: ['1', big] },
      { op: 'delete', after: null, before: ['2', big] },
    ]);
    const full = batches
      .flatMap((batch) => batch.runs)
      .find((run) => run.relation.table.name === 'f')?.relation;
    expect(full).toMatchObject({ identity: 'full', key: [] });
    await finish(harness, reader);
  });

  test("runs span transactions; every row names its own; positions are the commits' ends", async () => {
    await using db = await createDatabase(version);
    await db.query(`CREATE TABLE t (id int PRIMARY KEY)`);
    await using harness = await sourceOn(db);
    const ids: string[] = [];
    for (let id = 0; id < 5; id++) {
      await db.query('BEGIN');
      ids.push(
        (
          await db.query<{ id: string }>(
            `INSERT INTO t VALUES (${id}) RETURNING pg_current_xact_id()::text AS id`,
          )
        )[0]?.id ?? '',
      );
      await db.query('COMMIT');
    }
    await harness.source.mark('end');
    const reader = await open(harness);
    const batches = await reader.until((batch) => batch.marks.length > 0);
    expect(batches.flatMap(rowsOf).map((row) => row.transaction)).toEqual(ids);
    for (const batch of batches) {
      expect(batch.end).toBe(batch.transactions.at(-1)?.end);
      expect(batch.oldestCommitMs).toBe(Math.min(...batch.transactions.map((one) => one.commitMs)));
      expect(batch.runs.length).toBeLessThanOrEqual(1);
    }
    const now = await harness.source.clock();
    expect(Math.abs(now - Date.now())).toBeLessThan(60_000);
    expect(batches[0]?.oldestCommitMs).toBeGreaterThan(now - 60_000);
    await finish(harness, reader);
  });

  test('a change of layout ends the batch before it and brings the new layout', async () => {
    await using db = await createDatabase(version);
    await db.query(`CREATE TABLE t (id int PRIMARY KEY, a int)`);
    await using harness = await sourceOn(db);
    const reader = await open(harness);
    await db.query(`INSERT INTO t VALUES (1, 1)`);
    await db.query(
      `BEGIN; INSERT INTO t VALUES (2, 2); ALTER TABLE t ADD b text; INSERT INTO t VALUES (3, 3, 'x'); COMMIT`,
    );
    const batches = await reader.drain(harness.source);
    const at = batches.findIndex((batch) => batch.schemaChanges.length > 0);
    expect(
      batches
        .slice(0, at)
        .flatMap(rowsOf)
        .map((row) => row.after),
    ).toEqual([
      ['1', '1'],
      ['2', '2'],
    ]);
    expect(batches[at - 1]?.end).toBeNull();
    expect(batches[at]?.schemaChanges[0]?.relation?.columns.map((column) => column.name)).toEqual([
      'id',
      'a',
      'b',
    ]);
    expect(rowsOf(batches[at] as (typeof batches)[0])[0]?.after).toEqual(['3', '3', 'x']);
    await finish(harness, reader);
  });

  test('hostile names work', async () => {
    await using db = await createDatabase(version);
    const table = `x"; drop table t; --\\`;
    const long = 'ü'.repeat(31);
    await db.query(`CREATE TABLE "${table.replaceAll('"', '""')}" ("a b" int PRIMARY KEY, "ü'" text)`);
    await db.query(`CREATE TABLE "${long}" (id int PRIMARY KEY)`);
    await using harness = await sourceOn(db, { tables: [table, long] });
    const reader = await open(harness);
    await db.query(`INSERT INTO "${table.replaceAll('"', '""')}" VALUES (1, 'x')`);
    await db.query(`INSERT INTO "${long}" VALUES (1)`);
    const rows = (await reader.drain(harness.source, `label "'\\ ü`)).flatMap(rowsOf);
    expect(rows.map((row) => row.table).toSorted()).toEqual([table, long].toSorted());
    await finish(harness, reader);
  });

  test('a partitioned table is read as one table', async () => {
    await using db = await createDatabase(version);
    await db.query(
      `CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)`,
    );
    await using harness = await sourceOn(db);
    const reader = await open(harness);
    await db.query(`INSERT INTO t VALUES (1)`);
    await db.query(`CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20)`);
    await db.query(`INSERT INTO t VALUES (11)`);
    const rows = (await reader.drain(harness.source)).flatMap(rowsOf);
    expect(rows.map(({ table, after }) => ({ table, after }))).toEqual([
      { table: 't', after: ['1'] },
      { table: 't', after: ['11'] },
    ]);
    await finish(harness, reader);
  });
});
