import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { describe, expect, test } from 'vitest';
import { createDatabase, createDatabaseOn } from '../../support/databases.ts';
import { startPostgres } from '../../support/postgres.ts';
import { waitFor } from '../../support/wait.ts';
import { FENCED, guardNames } from '../../../src/engines/postgres/guards.ts';
import { fenceOf, inPublic, lsn, outcome } from './fence-setup.ts';

describe.each([16, 18] as const)('fence on PostgreSQL %i', (version) => {
  test('refuses every kind of write of every session, also of a superuser', async () => {
    await using db = await createDatabase(version);
    await db.query(`CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')`);
    await using fence = fenceOf(db, inPublic('t'));
    await fence.prepare();
    expect(await outcome(db.client, `UPDATE t SET v = 'b'`)).toBe('accepted');
    await fence.raise(1, 5_000);
    const statements = [
      `INSERT INTO t VALUES (2, 'x')`,
      `INSERT INTO t VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET v = excluded.v`,
      `UPDATE t SET v = 'c'`,
      `DELETE FROM t`,
      `DELETE FROM t WHERE false`,
      `TRUNCATE t`,
      `MERGE INTO t USING (VALUES (3)) s(id) ON t.id = s.id WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'm')`,
      `WITH x AS (INSERT INTO t VALUES (4, 'y') RETURNING 1) SELECT * FROM x`,
    ];
    for (const role of ['origin', 'replica', 'local']) {
      const client = await db.connect();
      await client.query(`SET session_replication_role = ${role}`);
      for (const sql of statements) expect.soft(await outcome(client, sql), `${role}: ${sql}`).toBe(FENCED);
      const copy = pipeline(Readable.from(['9\tz\n']), client.query(copyFrom('COPY t FROM STDIN')));
      await expect.soft(copy, `${role}: COPY`).rejects.toMatchObject({ code: FENCED });
    }
    expect(await outcome(db.client, 'BEGIN READ WRITE')).toBe('accepted');
    expect(await outcome(db.client, `INSERT INTO t VALUES (5, 'x')`)).toBe(FENCED);
    await db.query('ROLLBACK');
    expect(await db.query('SELECT * FROM t')).toEqual([{ id: 1, v: 'b' }]);
    await fence.prove();
    expect(await fence.state()).toEqual({ state: 'raised', epoch: 1 });
  });

  test('lets our applier through, and nobody who only claims to be it', async () => {
    await using db = await createDatabase(version);
    const role = `other_${db.name}`;
    await db.query(
      `CREATE TABLE t (id int PRIMARY KEY, v text); CREATE ROLE ${role} LOGIN SUPERUSER PASSWORD 'sesame-for-tests'`,
    );
    try {
      await using fence = fenceOf(db, inPublic('t'), { migration: `odd 'name" \\ ü` });
      await fence.prepare();
      await fence.raise(1, 5_000);
      const settings = `SELECT set_config('verdigris.applier', $1, false)`;
      const applier = await db.connect();
      await applier.query(settings, [`odd 'name" \\ ü`]);
      await applier.query(`SET session_replication_role = replica`);
      for (const sql of [
        `INSERT INTO t VALUES (1, 'a'), (2, 'b')`,
        `UPDATE t SET v = 'c' WHERE id = 1`,
        `DELETE FROM t WHERE id = 2`,
      ]) {
        expect(await outcome(applier, sql), sql).toBe('accepted');
      }
      expect(await db.query('SELECT * FROM t')).toEqual([{ id: 1, v: 'c' }]);
      expect(await outcome(applier, 'TRUNCATE t')).toBe('accepted');
      expect((await db.query('SELECT * FROM t')).length).toBe(0);
      await applier.query(settings, ['another migration']);
      expect(await outcome(applier, `INSERT INTO t VALUES (3, 'x')`)).toBe(FENCED);
      const impostor = await db.connect(role);
      await impostor.query(settings, [`odd 'name" \\ ü`]);
      expect(await outcome(impostor, `INSERT INTO t VALUES (3, 'x')`)).toBe(FENCED);
      await impostor.query(`SET ROLE postgres`);
      expect(await outcome(impostor, `INSERT INTO t VALUES (3, 'x')`)).toBe(FENCED);
    } finally {
      await db.query(`DROP ROLE ${role}`);
    }
  });

  test('a repeatable-read transaction and a prepared statement older than the fence cannot write after it', async () => {
    await using db = await createDatabase(version);
    await db.query(`CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int)`);
    await using fence = fenceOf(db, inPublic('t'));
    await fence.prepare();
    const old = await db.connect();
    await old.query(`PREPARE write AS INSERT INTO t VALUES ($1)`);
    await old.query(`EXECUTE write(1)`);
    await old.query(`BEGIN ISOLATION LEVEL REPEATABLE READ`);
    await old.query(`INSERT INTO other VALUES (1)`);
    await old.query(`SELECT count(*) FROM other`);
    await fence.raise(1, 5_000);
    expect(await outcome(old, `EXECUTE write(2)`)).toBe(FENCED);
    await old.query('ROLLBACK');
    expect(await outcome(old, `EXECUTE write(3)`)).toBe(FENCED);
    expect(await db.query('SELECT id FROM t')).toEqual([{ id: 1 }]);
  });

  test('holds partitions, their partitions, inheritance children, and what was attached after the preparation', async () => {
    await using db = await createDatabase(version);
    await db.query(`
      CREATE TABLE p (id int, v text) PARTITION BY RANGE (id);
      CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
      CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20) PARTITION BY LIST (id);
      CREATE TABLE p2a PARTITION OF p2 DEFAULT;
      CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent); CREATE TABLE "Grand ""child" () INHERITS (child)`);
    await using fence = fenceOf(db, inPublic('p', 'parent'));
    await fence.prepare();
    await fence.prepare();
    await db.query(`CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (20) TO (30)`);
    await fence.raise(3, 5_000);
    for (const table of ['p', 'p1', 'p2', 'p2a', 'p3', 'parent', 'child', '"Grand ""child"']) {
      expect.soft(await outcome(db.client, `INSERT INTO ${table} (id) VALUES (15)`), table).toBe(FENCED);
    }
    await fence.prove();
    expect(await fence.lower(3)).toBe(true);
    for (const table of ['p', 'p2a', 'parent', 'child', '"Grand ""child"']) {
      expect.soft(await outcome(db.client, `INSERT INTO ${table} (id) VALUES (15)`), table).toBe('accepted');
    }
  });

  test('a mapped partition is held against an insert through its unmapped root, also without row guards', async () => {
    await using db = await createDatabase(version);
    await db.query(`
      CREATE TABLE p (id int) PARTITION BY RANGE (id);
      CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
      CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20);
      CREATE TABLE t (id int)`);
    await using fence = fenceOf(db, inPublic('p1', 't'), { rowGuards: false });
    await fence.prepare();
    await fence.raise(1, 5_000);
    expect(await outcome(db.client, `INSERT INTO p VALUES (5)`)).toBe(FENCED);
    expect(await outcome(db.client, `INSERT INTO p VALUES (15)`)).toBe('accepted');
    expect(await db.query(`SELECT count(*)::int AS n FROM pg_trigger WHERE tgrelid = 't'::regclass`)).toEqual(
      [{ n: 1 }],
    );
    await fence.prove();
  });

  test('of concurrent seal and lower exactly one wins, and state says which', async () => {
    await using db = await createDatabase(version);
    await db.query(`CREATE TABLE t (id int)`);
    await using fence = fenceOf(db, inPublic('t'));
    await fence.prepare();
    await fence.raise(1, 5_000);
    const wins = { seal: 0, lower: 0 };
    const rounds = version === 16 ? 300 : 60;
    for (let round = 0; round < rounds; round += 1) {
      await db.query(`UPDATE verdigris.fence SET state = 'raised', epoch = 1`);
      const acts =
        round % 2 === 0 ? [fence.seal(1), fence.lower(1)] : [fence.lower(1), fence.seal(1)].reverse();
      const [sealed, lowered] = (await Promise.all(acts)) as [boolean, boolean];
      expect([sealed, lowered].filter(Boolean).length, `round ${round}`).toBe(1);
      expect((await db.query(`SELECT state FROM verdigris.fence`))[0]).toEqual({
        state: sealed ? 'sealed' : 'open',
      });
      wins[sealed ? 'seal' : 'lower'] += 1;
    }
    // Both have been seen to win, or it was no race.
    expect(Math.min(wins.seal, wins.lower)).toBeGreaterThan(0);
  });

  test('the record refuses what does not fit it: other epochs, a raise or lower of a sealed side, a stale open', async () => {
    await using db = await createDatabase(version);
    await db.query(`CREATE TABLE t (id int)`);
    await using fence = fenceOf(db, inPublic('t'));
    expect(await fence.state()).toEqual({ state: 'open', epoch: 0 });
    expect(await fence.seal(1)).toBe(false);
    expect(await fence.lower(1)).toBe(false);
    await expect(fence.raise(1, 1_000)).rejects.toMatchObject({ code: 'CUTOVER_PHASE' });
    await fence.prepare();
    const barrier = await fence.raise(4, 5_000);
    expect(await fence.raise(4, 5_000)).toBe(barrier);
    await expect(fence.raise(3, 1_000)).rejects.toMatchObject({ code: 'CUTOVER_PHASE' });
    expect(await fence.lower(3)).toBe(false);
    expect(await fence.seal(3)).toBe(false);
    expect(await fence.seal(4)).toBe(true);
    expect(await fence.seal(4)).toBe(false);
    expect(await fence.lower(4)).toBe(false);
    await expect(fence.raise(5, 1_000)).rejects.toMatchObject({ code: 'CUTOVER_PHASE' });
    await expect(fence.open(3)).rejects.toMatchObject({ code: 'CUTOVER_PHASE' });
    expect(await outcome(db.client, 'INSERT INTO t VALUES (1)')).toBe(FENCED);
    await fence.open(5);
    expect(await fence.state()).toEqual({ state: 'open', epoch: 5 });
    expect(await outcome(db.client, 'INSERT INTO t VALUES (1)')).toBe('accepted');
    await fence.raise(6, 5_000);
    expect(await outcome(db.client, 'INSERT INTO t VALUES (2)')).toBe(FENCED);
  });

  test('the barrier covers every acknowledged write of 8 direct writers, and the stream delivers it', async () => {
    await using db = await createDatabase(version);
    const names = Array.from({ length: 50 }, (_, index) => `w${index}`);
    await db.query(names.map((name) => `CREATE TABLE ${name} (id text PRIMARY KEY)`).join('; '));
    await db.query(`CREATE PUBLICATION p FOR ALL TABLES`);
    await db.query(`SELECT pg_create_logical_replication_slot('s_${db.name}', 'pgoutput')`);
    await using fence = fenceOf(db, inPublic(...names));
    await fence.prepare();
    const acknowledged = new Set<string>();
    const write = async (writer: number): Promise<string> => {
      const client = await db.connect();
      for (let count = 0; ; count += 1) {
        const id = `${writer}-${count}`;
        try {
          await client.query(`INSERT INTO w${(writer * 7 + count) % 50} VALUES ($1)`, [id]);
        } catch (error) {
          return (error as { code: string }).code;
        }
        acknowledged.add(id);
      }
    };
    const writers = Array.from({ length: 8 }, (_, writer) => write(writer));
    await waitFor(() => acknowledged.size > 400, { what: 'the writers to be at it' });
    const barrier = await fence.raise(1, 5_000);
    expect(await Promise.all(writers)).toEqual(Array.from({ length: 8 }, () => FENCED));
    const { rows } = await db.client.query<{ data: Buffer }>(
      `SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', 'p', 'messages', 'true')`,
      [`s_${db.name}`],
    );
    const before = new Set<string>();
    let pending: string[] = [];
    let message: bigint | null = null;
    let fenceEnd: bigint | null = null;
    for (const { data } of rows) {
      const tag = String.fromCharCode(data[0] as number);
      if (tag === 'B') pending = [];
      if (tag === 'M') message = data.readBigUInt64BE(2);
      if (tag === 'I' && data[8] === 't'.charCodeAt(0)) pending.push(data.subarray(13).toString());
      if (tag !== 'C') continue;
      const end = data.readBigUInt64BE(10);
      if (message !== null && fenceEnd === null) fenceEnd = end;
      if (pending.length === 0) continue;
      const ids = pending.filter((id) => /^\d+-\d+$/.test(id));
      if (ids.length > 0)
        expect(end <= lsn(barrier), `commit of ${ids.join()} lies after the barrier`).toBe(true);
      for (const id of ids) before.add(id);
    }
    expect(message).toBe(lsn(barrier));
    expect(fenceEnd !== null && fenceEnd > lsn(barrier)).toBe(true);
    expect([...acknowledged].filter((id) => !before.has(id))).toEqual([]);
  });

  test('a writer that stays keeps the fence from being raised, is named without its query, and nothing is left behind', async () => {
    await using db = await createDatabase(version);
    await db.query(`CREATE TABLE t (id int, secret text); CREATE TABLE u (id int)`);
    await using fence = fenceOf(db, inPublic('u', 't'));
    await fence.prepare();
    const writer = await db.connect();
    await writer.query(`SET application_name = 'billing'; BEGIN; INSERT INTO t VALUES (1, 'hush')`);
    const error = await fence.raise(1, 300).then(
      () => null,
      (reason: unknown) => reason as Error & { code: string },
    );
    expect(error?.code).toBe('CUTOVER_UNDONE');
    expect(error?.message).toMatch(/pid \d+ \(billing\), idle in transaction.* public\.t;/);
    expect(JSON.stringify(error)).not.toContain('hush');
    expect(await fence.state()).toEqual({ state: 'open', epoch: 0 });
    expect(await outcome(db.client, 'INSERT INTO u VALUES (1)')).toBe('accepted');
    expect(await fence.blockers()).toEqual([expect.stringContaining('billing')]);
    expect(await fence.kill(60_000)).toBe(0);
    expect(await fence.kill(0)).toBe(1);
    await waitFor(async () => (await fence.blockers()).length === 0, { what: 'the writer to be gone' });
    await fence.raise(1, 5_000);
    expect(await fence.blockers()).toEqual([]);
  });

  test('clients that lock tables in the other order do not keep the fence down', async () => {
    await using db = await createDatabase(version);
    await db.query(`CREATE TABLE a (id int); CREATE TABLE b (id int)`);
    await using fence = fenceOf(db, inPublic('a', 'b'));
    await fence.prepare();
    let stop = false;
    const codes = new Set<string>();
    const clients = [0, 1, 2, 3].map(async () => {
      const client = await db.connect();
      while (!stop)
        codes.add(
          await outcome(
            client,
            'BEGIN; INSERT INTO b VALUES (1); SELECT pg_sleep(0.002); INSERT INTO a VALUES (1); COMMIT',
          ),
        );
      await client.query('ROLLBACK');
    });
    await waitFor(async () => (await db.query('SELECT 1 FROM a LIMIT 1')).length > 0, {
      what: 'the clients to write',
    });
    await fence.raise(1, 10_000);
    await waitFor(() => codes.has(FENCED), { what: 'the clients to be refused' });
    stop = true;
    await Promise.all(clients);
    const counts = await db.query('SELECT (SELECT count(*) FROM a) = (SELECT count(*) FROM b) AS equal');
    expect(counts).toEqual([{ equal: true }]);
  });

  test('prove names the table whose guard somebody disabled or dropped', async () => {
    await using db = await createDatabase(version);
    await db.query(`CREATE TABLE t (id int); CREATE TABLE "odd Table" (id int)`);
    await using fence = fenceOf(db, inPublic('t', 'odd Table'));
    await fence.prepare();
    await expect(fence.prove()).rejects.toMatchObject({ code: 'CUTOVER_FENCE_LEAKS' });
    await fence.raise(1, 5_000);
    await fence.prove();
    const names = guardNames('m');
    await db.query(`ALTER TABLE "odd Table" ENABLE TRIGGER ${pg.escapeIdentifier(names.statement)}`);
    await expect(fence.prove()).rejects.toThrow(/public\."odd Table".*not always enabled/);
    await db.query(`ALTER TABLE "odd Table" ENABLE ALWAYS TRIGGER ${pg.escapeIdentifier(names.statement)}`);
    await fence.prove();
    await db.query(
      `CREATE OR REPLACE FUNCTION verdigris.guard_m() RETURNS trigger LANGUAGE plpgsql AS 'begin return null; end'`,
    );
    await expect(fence.prove()).rejects.toThrow(/a write was let through/);
    await fence.prepare();
    await fence.prove();
    await db.query(`DROP TRIGGER ${pg.escapeIdentifier(names.row)} ON t`);
    await expect(fence.prove()).rejects.toThrow(/public\.t.*missing/);
  });

  test('prepare does not wait for ever on a busy table, does not stall its readers, and finishes when it is free', async () => {
    await using db = await createDatabase(version);
    await db.query(`CREATE TABLE t (id int)`);
    await using fence = fenceOf(db, inPublic('t'));
    const writer = await db.connect();
    await writer.query('BEGIN; INSERT INTO t VALUES (1)');
    const prepared = fence.prepare();
    // Attempts come and go: a plain writer gets in between them.
    await waitFor(
      async () =>
        (await db.query(`SELECT 1 FROM pg_locks WHERE relation = 't'::regclass AND NOT granted`)).length > 0,
      {
        what: 'the preparation to wait',
        everyMs: 5,
      },
    );
    expect(await outcome(db.client, `SET statement_timeout = '5s'; INSERT INTO t VALUES (2)`)).toBe(
      'accepted',
    );
    await writer.query('COMMIT');
    await prepared;
    expect(
      await db.query(`SELECT DISTINCT tgenabled::text AS e FROM pg_trigger WHERE tgrelid = 't'::regclass`),
    ).toEqual([{ e: 'D' }]);
  });

  test('two migrations fence one table without knowing each other; retire removes only its own', async () => {
    await using db = await createDatabase(version);
    await db.query(`CREATE TABLE t (id int)`);
    const long = 'm'.repeat(80);
    await using one = fenceOf(db, inPublic('t'), { migration: `${long}1` });
    await using two = fenceOf(db, inPublic('t'), { migration: `${long}2` });
    await one.prepare();
    await two.prepare();
    await one.raise(1, 5_000);
    await one.retire();
    expect(await outcome(db.client, 'INSERT INTO t VALUES (1)')).toBe('accepted');
    await two.raise(1, 5_000);
    expect(await outcome(db.client, 'INSERT INTO t VALUES (1)')).toBe(FENCED);
    await two.retire();
    await two.retire();
    expect(await outcome(db.client, 'INSERT INTO t VALUES (1)')).toBe('accepted');
    expect(
      await db.query(`SELECT proname FROM pg_proc WHERE pronamespace = 'verdigris'::regnamespace`),
    ).toEqual([]);
    expect(
      await db.query(`SELECT relname FROM pg_class WHERE relnamespace = 'verdigris'::regnamespace`),
    ).toEqual([]);
  });

  test('a logical apply worker, which fires only row triggers, is stopped', async () => {
    await using blue = await createDatabase(version);
    await using upstream = await createDatabase(version);
    for (const db of [blue, upstream]) await db.query(`CREATE TABLE t (id int PRIMARY KEY)`);
    await upstream.query(`CREATE PUBLICATION p FOR TABLE t`);
    const slot = `sub_${upstream.name}`;
    await upstream.query(`SELECT pg_create_logical_replication_slot('${slot}', 'pgoutput')`);
    await blue.query(
      `CREATE SUBSCRIPTION s_${blue.name} CONNECTION '${upstream.url}' PUBLICATION p WITH (create_slot = false, slot_name = '${slot}', copy_data = false)`,
    );
    try {
      await upstream.query('INSERT INTO t VALUES (1)');
      await waitFor(async () => (await blue.query('SELECT 1 FROM t')).length === 1, {
        what: 'the subscription to apply',
      });
      await using fence = fenceOf(blue, inPublic('t'));
      await fence.prepare();
      await fence.raise(1, 5_000);
      await upstream.query('INSERT INTO t VALUES (2)');
      await waitFor(
        async () =>
          (
            await blue.query<{ n: string }>(
              `SELECT apply_error_count::text AS n FROM pg_stat_subscription_stats`,
            )
          ).some((row) => Number(row.n) > 0),
        { what: 'the apply worker to be refused' },
      );
      expect(await blue.query('SELECT id FROM t')).toEqual([{ id: 1 }]);
    } finally {
      await blue.query(`ALTER SUBSCRIPTION s_${blue.name} DISABLE`);
      await blue.query(`ALTER SUBSCRIPTION s_${blue.name} SET (slot_name = NONE)`);
      await blue.query(`DROP SUBSCRIPTION s_${blue.name}`);
    }
  });
});

test('a prepared transaction that wrote keeps the fence down until it is decided, and cannot commit behind it', async () => {
  await using server = await startPostgres({ version: 18, settings: { max_prepared_transactions: '5' } });
  await using db = await createDatabaseOn(server);
  await db.query(`CREATE TABLE t (id int)`);
  await using fence = fenceOf(db, inPublic('t'));
  await fence.prepare();
  await db.query(`BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'left over'`);
  await expect(fence.raise(1, 300)).rejects.toThrow(/prepared transaction left over/);
  expect(await fence.blockers()).toEqual([expect.stringContaining('left over')]);
  await db.query(`COMMIT PREPARED 'left over'`);
  await fence.raise(1, 5_000);
  expect(await fence.blockers()).toEqual([]);
  expect(await db.query('SELECT id FROM t')).toEqual([{ id: 1 }]);
});

test('a running vacuum gives way to the fence at once', async () => {
  await using server = await startPostgres({
    version: 18,
    settings: {
      autovacuum_naptime: '1s',
      autovacuum_vacuum_cost_delay: '100ms',
      autovacuum_vacuum_cost_limit: '1',
      autovacuum_vacuum_threshold: '1',
      autovacuum_vacuum_scale_factor: '0',
      deadlock_timeout: '5s',
    },
  });
  await using db = await createDatabaseOn(server);
  await db.query(`CREATE TABLE t (id int, v text)`);
  await using fence = fenceOf(db, inPublic('t'));
  await fence.prepare();
  await db.query(
    `INSERT INTO t SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g; DELETE FROM t WHERE id % 2 = 0`,
  );
  await waitFor(
    async () =>
      (
        await db.query(
          `SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.relation = 't'::regclass AND l.mode = 'ShareUpdateExclusiveLock'
             AND l.granted AND a.backend_type = 'autovacuum worker'`,
        )
      ).length > 0,
    { what: 'an autovacuum of the table' },
  );
  const started = performance.now();
  await fence.raise(1, 4_000);
  expect(performance.now() - started).toBeLessThan(2_000);
});

test('an act goes on when the server ended the connection of the act before it', async () => {
  await using db = await createDatabase(16);
  await db.query(`CREATE TABLE t (id int)`);
  await using fence = fenceOf(db, inPublic('t'));
  await fence.prepare();
  const ours = `FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'verdigris:m:fence'`;
  await db.query(`SELECT pg_terminate_backend(pid) ${ours}`);
  await waitFor(async () => (await db.query(`SELECT 1 ${ours}`)).length === 0, {
    what: 'the connection to be ended',
  });
  await fence.raise(1, 5_000);
  expect(await fence.state()).toEqual({ state: 'raised', epoch: 1 });
});

test('a role that owns the tables but is no superuser can do all of it', async () => {
  await using db = await createDatabase(16);
  const role = `owner_${db.name}`;
  await db.query(
    `CREATE ROLE ${role} LOGIN PASSWORD 'sesame-for-tests'; GRANT CREATE ON DATABASE ${db.name} TO ${role}`,
  );
  await db.query(
    `CREATE TABLE t (id int); CREATE TABLE foreign_one (id int); ALTER TABLE t OWNER TO ${role}`,
  );
  try {
    await using fence = fenceOf(db, inPublic('t'), { user: role });
    await fence.prepare();
    await fence.raise(1, 5_000);
    await fence.prove();
    expect(await outcome(db.client, 'INSERT INTO t VALUES (1)')).toBe(FENCED);
    expect(await fence.lower(1)).toBe(true);
    expect(await outcome(db.client, 'INSERT INTO t VALUES (1)')).toBe('accepted');
    await using refused = fenceOf(db, inPublic('foreign_one'), { user: role, migration: 'n' });
    await expect(refused.prepare()).rejects.toMatchObject({ code: 'SINK_PRIVILEGE' });
    await refused.retire();
    await fence.retire();
  } finally {
    await db.query(`DROP OWNED BY ${role} CASCADE; DROP ROLE ${role}`);
  }
});
