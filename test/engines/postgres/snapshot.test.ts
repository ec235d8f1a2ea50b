import pg from 'pg';
import { describe, expect, it } from 'vitest';
import type { KeyRange } from '../../../src/core/snapshot.ts';
import { columnIndex, type Cell, type Relation, type Tuple } from '../../../src/core/table.ts';
import { createDatabase, type TestDatabase } from '../../support/databases.ts';
import { startPostgres } from '../../support/postgres.ts';
import { waitFor } from '../../support/wait.ts';
import { openSnapshot, readRange, WHOLE, type Opened } from './snapshot-setup.ts';

const neverAborted = new AbortController().signal;

async function rowsOf(read: AsyncIterable<readonly Tuple[]>): Promise<Tuple[]> {
  const rows: Tuple[] = [];
  for await (const piece of read) rows.push(...piece);
  return rows;
}

/** Reads range by range and holds comparator and server against the ranges that the rows came in. */
async function readAll(
  opened: Opened,
  relation: Relation,
  perRange: number,
): Promise<{ rows: Tuple[]; sizes: number[] }> {
  const { snapshot } = opened;
  const boundaries = await snapshot.split(relation, perRange);
  const compare = snapshot.comparator(relation);
  const first = relation.key[0] as number;
  const rows: Tuple[] = [];
  const sizes: number[] = [];
  for (let at = 0; at <= boundaries.length; at++) {
    const range: KeyRange = { lower: boundaries[at - 1] ?? null, upper: boundaries[at] ?? null };
    const part = await readRange(snapshot, relation, range);
    const keys = part.map((row) => row[first] as Cell);
    expect([...new Set(await snapshot.bucket(relation, boundaries, keys))]).toEqual(
      part.length === 0 ? [] : [at],
    );
    if (compare !== null) {
      for (const key of keys)
        expect(boundaries.filter((boundary) => compare(boundary, key) <= 0)).toHaveLength(at);
    }
    rows.push(...part);
    sizes.push(part.length);
  }
  if (compare !== null) expect([...boundaries].toSorted(compare)).toEqual(boundaries);
  expect(new Set(boundaries).size).toBe(boundaries.length);
  return { rows, sizes };
}

const TABLES: readonly [what: string, sql: string, options?: { noComparator: boolean }][] = [
  ['dense integers', `CREATE TABLE t AS SELECT i::bigint AS k FROM generate_series(-500, 499) i`],
  [
    'integers with a far end',
    `CREATE TABLE t AS SELECT CASE WHEN i = 1000 THEN 9223372036854775807 WHEN i = 1 THEN -9223372036854775808 ELSE i END AS k FROM generate_series(1, 1000) i`,
  ],
  ['uuids', `CREATE TABLE t AS SELECT md5(i::text)::uuid AS k FROM generate_series(1, 1000) i`],
  [
    'text by bytes',
    `CREATE TABLE t (k text COLLATE "C"); INSERT INTO t SELECT chr((ARRAY[65, 97, 228, 55295, 57344, 65535, 65536, 120033])[1 + i % 8]) || i FROM generate_series(1, 1000) i; INSERT INTO t VALUES (''), (E'a\\tb\\\\N')`,
  ],
  [
    'text under a linguistic collation',
    `CREATE TABLE t (k text COLLATE "und-x-icu"); INSERT INTO t SELECT (ARRAY['a', 'A', 'ä', 'b', 'Z', '-'])[1 + i % 6] || i FROM generate_series(1, 1000) i`,
    { noComparator: true },
  ],
  [
    'dates with BC, infinity and years beyond four digits',
    `CREATE TABLE t AS SELECT 'epoch'::date + i * 2500 AS k FROM generate_series(-900, 900) i UNION ALL SELECT unnest('{infinity,-infinity,0001-01-01,"0001-12-31 BC"}'::date[])`,
  ],
  [
    'timestamps',
    `CREATE TABLE t AS SELECT 'epoch'::timestamp + i * interval '123456789.12345 s' AS k FROM generate_series(-900, 900) i UNION ALL SELECT unnest('{infinity,-infinity}'::timestamp[])`,
  ],
  [
    'timestamps with zone',
    `CREATE TABLE t AS SELECT 'epoch'::timestamptz + i * interval '987654321.5 s' AS k FROM generate_series(-90, 900) i UNION ALL SELECT '2000-01-01 00:00:00.25'::timestamptz`,
  ],
  [
    'bytea',
    `CREATE TABLE t AS SELECT decode(left(md5(i::text), 2 * (i % 17)), 'hex') || decode(lpad(to_hex(i), 8, '0'), 'hex') AS k FROM generate_series(1, 1000) i`,
  ],
  [
    'numeric',
    `CREATE TABLE t AS SELECT (i / 7.0)::numeric AS k FROM generate_series(1, 1000) i UNION ALL SELECT 'NaN'`,
    { noComparator: true },
  ],
  [
    'an enum',
    `CREATE TYPE mood AS ENUM ('z', 'a', 'm'); CREATE TABLE t AS SELECT (ARRAY['z', 'a', 'm'])[1 + i]::mood AS k FROM generate_series(0, 2) i`,
    { noComparator: true },
  ],
  [
    'char(n)',
    `CREATE TABLE t AS SELECT (CASE WHEN i % 2 = 0 THEN i::text ELSE 'x' || i END)::char(9) AS k FROM generate_series(1, 1000) i`,
    { noComparator: true },
  ],
  [
    'bits',
    `CREATE TABLE t AS SELECT i::bit(12) AS k FROM generate_series(1, 1000) i`,
    { noComparator: true },
  ],
  [
    'a domain over a domain',
    `CREATE DOMAIN d1 AS int; CREATE DOMAIN d2 AS d1 CHECK (VALUE > 0); CREATE TABLE t AS SELECT i::d2 AS k FROM generate_series(1, 1000) i`,
  ],
];

async function withTable(db: TestDatabase, opened: Opened, sql: string): Promise<Relation> {
  await db.query(`${sql}; ALTER TABLE t ADD PRIMARY KEY (k)`);
  return opened.relation('t');
}

describe('ranges cover every row exactly once', () => {
  it.each(TABLES)('%s', async (_what, sql, options) => {
    await using db = await createDatabase(16);
    await using opened = openSnapshot(db);
    const relation = await withTable(db, opened, sql);
    expect(opened.snapshot.comparator(relation) === null).toBe(options?.noComparator ?? false);
    const { rows, sizes } = await readAll(opened, relation, 100);
    const [counted] = await db.query<{ n: string; d: string }>(
      `SELECT count(*) AS n, count(DISTINCT k::text) AS d FROM t`,
    );
    expect(rows).toHaveLength(Number(counted?.n));
    expect(new Set(rows.map((row) => row[0])).size).toBe(rows.length);
    if (rows.length > 100) expect(Math.max(...sizes)).toBeLessThanOrEqual(101);
  });

  it('a composite key whose first column is skewed', async () => {
    await using db = await createDatabase(18);
    await using opened = openSnapshot(db);
    await db.query(`CREATE TABLE t (tenant int, id int, v text, PRIMARY KEY (tenant, id));
      INSERT INTO t SELECT CASE WHEN i <= 5000 THEN 7 ELSE i / 100 END, i, 'v' FROM generate_series(1, 6000) i`);
    const relation = await opened.relation('t');
    const { rows, sizes } = await readAll(opened, relation, 500);
    expect(new Set(rows.map((row) => row[1])).size).toBe(6000);
    expect(sizes.length).toBeGreaterThan(2);
    // Ranges go by the first column only: the 5,000 rows of one tenant stay together, and nothing else gets worse for it.
    expect(sizes.filter((size) => size > 1000)).toHaveLength(1);
  });

  it('a table whose statistics lie', async () => {
    await using db = await createDatabase(16);
    await using opened = openSnapshot(db);
    await db.query(`CREATE TABLE t (k int PRIMARY KEY) WITH (autovacuum_enabled = off); INSERT INTO t SELECT generate_series(1, 100); ANALYZE t;
      INSERT INTO t SELECT generate_series(1000001, 1003000)`);
    const { rows, sizes } = await readAll(opened, await opened.relation('t'), 500);
    expect(rows).toHaveLength(3100);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(501);
  });

  it('a large skewed table by a sample', async () => {
    await using db = await createDatabase(16);
    await using opened = openSnapshot(db);
    await db.query(`CREATE TABLE t (k int PRIMARY KEY, pad text) WITH (autovacuum_enabled = off, fillfactor = 20);
      ALTER TABLE t ALTER pad SET STORAGE PLAIN;
      INSERT INTO t SELECT CASE WHEN i % 2 = 0 THEN i ELSE 1000000000 + i END, repeat('x', 900) FROM generate_series(1, 24000) i`);
    const relation = await opened.relation('t');
    const boundaries = await opened.snapshot.split(relation, 1000);
    const size = await opened.snapshot.estimate(relation);
    expect(size.bytes).toBeGreaterThan(64 * 1024 * 1024);
    const counts = await db.query<{ n: string }>(
      `SELECT count(*) AS n FROM t GROUP BY width_bucket(k, $1::int[])`,
      [boundaries],
    );
    expect(counts.reduce((sum, { n }) => sum + Number(n), 0)).toBe(24000);
    expect(Math.max(...counts.map(({ n }) => Number(n)))).toBeLessThan(24000 / 4);
  });

  it('a small table and one without a key are one range', async () => {
    await using db = await createDatabase(16);
    await using opened = openSnapshot(db);
    await db.query(`CREATE TABLE t (k int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100); CREATE TABLE bare (a int); INSERT INTO bare VALUES (1), (1), (NULL);
      CREATE TABLE empty (k int PRIMARY KEY)`);
    expect(await opened.snapshot.split(await opened.relation('t'), 100)).toEqual([]);
    expect(await opened.snapshot.split(await opened.relation('bare'), 1)).toEqual([]);
    expect(await opened.snapshot.split(await opened.relation('empty'), 10)).toEqual([]);
    expect(await readRange(opened.snapshot, await opened.relation('bare'), WHOLE)).toEqual([
      ['1'],
      ['1'],
      [null],
    ]);
  });

  it('an extension type with operators outside pg_catalog is read by its own order', async () => {
    await using db = await createDatabase(16);
    await using opened = openSnapshot(db);
    // What citext does, without the extension: a type of its own with operators in its own schema.
    await db.query(`CREATE SCHEMA ext; CREATE TYPE ext.num;
      CREATE FUNCTION ext.num_in(cstring) RETURNS ext.num LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
      CREATE FUNCTION ext.num_out(ext.num) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
      CREATE TYPE ext.num (INPUT = ext.num_in, OUTPUT = ext.num_out, LIKE = int4);
      CREATE FUNCTION ext.cmp(ext.num, ext.num) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'btint4cmp';
      ${(['<', '<=', '=', '>=', '>'] as const)
        .map((operator, index) => {
          const name = ['int4lt', 'int4le', 'int4eq', 'int4ge', 'int4gt'][index] as string;
          return `CREATE FUNCTION ext.${name}(ext.num, ext.num) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS '${name}';
            CREATE OPERATOR ext.${operator} (LEFTARG = ext.num, RIGHTARG = ext.num, FUNCTION = ext.${name});`;
        })
        .join('')}
      CREATE OPERATOR CLASS ext.num_ops DEFAULT FOR TYPE ext.num USING btree AS OPERATOR 1 ext.<, OPERATOR 2 ext.<=, OPERATOR 3 ext.=,
        OPERATOR 4 ext.>=, OPERATOR 5 ext.>, FUNCTION 1 ext.cmp(ext.num, ext.num)`);
    const relation = await withTable(
      db,
      opened,
      `CREATE TABLE t AS SELECT i::text::ext.num AS k FROM generate_series(1, 1000) i`,
    );
    const { rows } = await readAll(opened, relation, 100);
    expect(new Set(rows.map((row) => row[0])).size).toBe(1000);
    expect(await readRange(opened.snapshot, relation, { keys: [['7'], ['1000']] })).toHaveLength(2);
  });
});

describe('whole keys', () => {
  it('reads each named key once, whatever its text', async () => {
    await using db = await createDatabase(16);
    await using opened = openSnapshot(db);
    await db.query(`CREATE TABLE t (a text, b timestamptz, v int, PRIMARY KEY (a, b))`);
    const odd = [`'`, `"`, `\\`, `{},`, `NULL`, ``, ` `, `\t\n`, `$$`];
    for (const [index, text] of odd.entries())
      await db.query(`INSERT INTO t VALUES ($1, '2020-01-01 00:00:00.5Z', $2)`, [text, index]);
    const relation = await opened.relation('t');
    const keys = odd.map((text) => [text, '2020-01-01 00:00:00.5+00']);
    const rows = await readRange(opened.snapshot, relation, {
      keys: [...keys, ...keys, ['missing', '2020-01-01 00:00:00+00']],
    });
    expect(rows).toHaveLength(odd.length);
    expect(new Set(rows.map((row) => row[0]))).toEqual(new Set(odd));
    expect(await readRange(opened.snapshot, relation, { keys: [] })).toEqual([]);
  });

  it('does not cut a key that is longer than the column', async () => {
    await using db = await createDatabase(16);
    await using opened = openSnapshot(db);
    await db.query(`CREATE TABLE t (k varchar(3) PRIMARY KEY); INSERT INTO t VALUES ('abc')`);
    expect(await readRange(opened.snapshot, await opened.relation('t'), { keys: [['abcdef']] })).toEqual([]);
  });
});

describe('reads', () => {
  it('COPY text survives with every character that it escapes', async () => {
    await using db = await createDatabase(18);
    await using opened = openSnapshot(db);
    const texts = [
      '\b\f\n\r\t\v\\',
      '\\N',
      '\\.',
      '',
      ' ',
      '\ufeff',
      '𝄞\uffff',
      "'",
      'a\\tb',
      '\u0001\u007f',
    ];
    await db.query(`CREATE TABLE t (k int PRIMARY KEY, v text, "we ""ird" bytea)`);
    for (const [index, text] of texts.entries())
      await db.query('INSERT INTO t VALUES ($1, $2, $3)', [index, text, Buffer.from(text)]);
    await db.query('INSERT INTO t VALUES (100, NULL, NULL)');
    const rows = await readRange(opened.snapshot, await opened.relation('t'), WHOLE);
    expect(rows).toEqual([
      ...texts.map((text, index) => [String(index), text, `\\x${Buffer.from(text).toString('hex')}`]),
      ['100', null, null],
    ]);
  });

  it('raw bytes are COPY text of the chosen columns, and take no turn through strings', async () => {
    await using db = await createDatabase(16);
    await using opened = openSnapshot(db);
    await db.query(
      `CREATE TABLE t (k int PRIMARY KEY, a text, b text); INSERT INTO t SELECT i, 'a' || i, E'b\\t' || i FROM generate_series(1, 5000) i`,
    );
    const relation = await opened.relation('t');
    await using reader = await opened.snapshot.open(
      { relations: [relation], range: { lower: '10', upper: '12' } },
      neverAborted,
    );
    const parts: Uint8Array[] = [];
    for await (const part of reader.raw(relation, [columnIndex(relation, 'b'), 0], false)) parts.push(part);
    expect(Buffer.concat(parts).toString()).toBe('b\\t10\t10\nb\\t11\t11\n');
  });

  it('partitioned tables are read whole by their root, inheritance parents without their children', async () => {
    await using db = await createDatabase(16);
    await using opened = openSnapshot(db);
    await db.query(`CREATE TABLE root (k int PRIMARY KEY) PARTITION BY RANGE (k); CREATE TABLE leaf1 PARTITION OF root FOR VALUES FROM (0) TO (10);
      CREATE TABLE leaf2 PARTITION OF root DEFAULT; INSERT INTO root SELECT generate_series(5, 14);
      CREATE TABLE parent (k int PRIMARY KEY); CREATE TABLE child () INHERITS (parent); INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2);
      ANALYZE`);
    const root = await opened.relation('root');
    expect(await readRange(opened.snapshot, root, WHOLE)).toHaveLength(10);
    expect(await opened.snapshot.split(root, 5)).toEqual(['10']);
    expect((await opened.snapshot.estimate(root)).rows).toBe(10);
    expect(await readRange(opened.snapshot, await opened.relation('parent'), WHOLE)).toEqual([['1']]);
  });

  it('several tables of a unit come from one snapshot', async () => {
    await using db = await createDatabase(16);
    await using opened = openSnapshot(db);
    await db.query('CREATE TABLE a (k int PRIMARY KEY); CREATE TABLE b (k int PRIMARY KEY)');
    const relations = [await opened.relation('a'), await opened.relation('b')];
    await using reader = await opened.snapshot.open({ relations, range: WHOLE }, neverAborted);
    expect(await rowsOf(reader.rows(relations[0] as Relation))).toEqual([]);
    await db.query('INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)');
    expect(await rowsOf(reader.rows(relations[1] as Relation))).toEqual([]);
    const [{ xid } = { xid: '' }] = await db.query<{ xid: string }>('SELECT xmin::text AS xid FROM b');
    expect(reader.visibility.sees(xid)).toBe(false);
    expect((await opened.snapshot.visibility()).sees(xid)).toBe(true);
  });

  it('a reader that is left half-way gives its connection back closed, and the next one works', async () => {
    await using db = await createDatabase(16);
    await using opened = openSnapshot(db);
    await db.query(
      `CREATE TABLE t (k int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 50000) i`,
    );
    const relation = await opened.relation('t');
    {
      await using reader = await opened.snapshot.open({ relations: [relation], range: WHOLE }, neverAborted);
      for await (const piece of reader.rows(relation)) {
        expect(piece.length).toBeGreaterThan(0);
        break;
      }
      await expect(rowsOf(reader.rows(relation))).rejects.toMatchObject({ code: 'INTERNAL' });
    }
    expect(await readRange(opened.snapshot, relation, { lower: '1', upper: '3' })).toHaveLength(2);
  });

  it('names the table and holds no value when the server refuses', async () => {
    await using db = await createDatabase(16);
    await using opened = openSnapshot(db);
    await db.query('CREATE TABLE t (k int PRIMARY KEY)');
    const relation = await opened.relation('t');
    const failure = readRange(opened.snapshot, relation, { lower: 'canary-4711', upper: null });
    await expect(failure).rejects.toMatchObject({ code: 'SOURCE_FAILED' });
    await failure.catch((error: unknown) =>
      expect(JSON.stringify([error, String(error)])).not.toContain('canary'),
    );
  });
});

describe('rewrite-between-snapshot-and-read', () => {
  it('an open chunk keeps a rewrite out until it is closed', async () => {
    await using db = await createDatabase(18);
    await using opened = openSnapshot(db);
    await db.query(
      'CREATE TABLE t (k int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 1000) i',
    );
    const relation = await opened.relation('t');
    const other = await db.connect();
    let altered: Promise<unknown>;
    {
      await using reader = await opened.snapshot.open({ relations: [relation], range: WHOLE }, neverAborted);
      altered = other.query('ALTER TABLE t ALTER v TYPE bigint');
      await waitFor(
        async () =>
          (await db.query(`SELECT FROM pg_locks WHERE relation = 't'::regclass AND NOT granted`)).length > 0,
        { what: 'the ALTER to wait' },
      );
      expect(await rowsOf(reader.rows(relation))).toHaveLength(1000);
    }
    await altered;
    await expect(readRange(opened.snapshot, relation, WHOLE)).rejects.toMatchObject({
      code: 'SCHEMA_CHANGED',
      message: expect.stringContaining('v bigint') as string,
    });
  });

  it('a chunk that waited behind a rewrite reads the rows as they are after it', async () => {
    await using db = await createDatabase(16);
    await using opened = openSnapshot(db);
    await db.query(
      'CREATE TABLE t (k int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 1000) i',
    );
    const relation = await opened.relation('t');
    // Names of types and operators are known by now, so that nothing but the lock stands between BEGIN and the snapshot.
    await readRange(opened.snapshot, relation, WHOLE);
    const other = await db.connect();
    await other.query(
      'BEGIN; ALTER TABLE t ALTER v TYPE bigint; ALTER TABLE t ALTER v TYPE int USING (v * 2)',
    );
    const opening = readRange(opened.snapshot, relation, WHOLE);
    await waitFor(
      async () =>
        (await db.query(`SELECT FROM pg_locks WHERE relation = 't'::regclass AND NOT granted`)).length > 0,
      { what: 'the chunk to wait' },
    );
    await other.query('COMMIT');
    const rows = await opening;
    expect(rows).toHaveLength(1000);
    expect(rows.every((row) => Number(row[1]) === 2 * Number(row[0]))).toBe(true);
  });

  it('a chunk that waits for a lock is given up at once, and its backend ends', async () => {
    await using db = await createDatabase(16);
    await using opened = openSnapshot(db);
    await db.query('CREATE TABLE t (k int PRIMARY KEY)');
    const relation = await opened.relation('t');
    const other = await db.connect();
    await other.query('BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE');
    const control = new AbortController();
    const opening = opened.snapshot.open({ relations: [relation], range: WHOLE }, control.signal);
    const waiting = async (): Promise<number> =>
      (await db.query(`SELECT FROM pg_locks WHERE relation = 't'::regclass AND NOT granted`)).length;
    await waitFor(async () => (await waiting()) === 1, { what: 'the chunk to wait' });
    control.abort(new Error('given up'));
    await expect(opening).rejects.toThrow('given up');
    await waitFor(async () => (await waiting()) === 0, { what: 'the backend to end' });
    await other.query('ROLLBACK');
    expect(await readRange(opened.snapshot, relation, WHOLE)).toEqual([]);
  });
});

describe('visibility', () => {
  it('commit-streamed-before-visible: a commit that is in the log but not visible yet is not seen', async () => {
    await using server = await startPostgres({
      version: 16,
      settings: { synchronous_standby_names: 'nobody' },
    });
    const admin = new pg.Client({ connectionString: server.url() });
    await admin.connect();
    await admin.query('SET synchronous_commit = local');
    await admin.query('CREATE TABLE t (k int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t');
    await admin.query(`SELECT pg_create_logical_replication_slot('s', 'pgoutput')`);
    const writer = new pg.Client({ connectionString: server.url() });
    await writer.connect();
    const opened = openSnapshot({ url: server.url() });
    try {
      const relation = await opened.relation('t');
      const written = writer.query('INSERT INTO t VALUES (1)');
      const begin = await waitFor(
        async () => {
          const { rows } = await admin.query<{ data: Buffer }>(
            `SELECT data FROM pg_logical_slot_peek_binary_changes('s', NULL, NULL, 'proto_version', '1', 'publication_names', 'p')`,
          );
          return rows.map((row) => row.data).find((data) => data.toString('latin1', 0, 1) === 'B');
        },
        { what: 'the transaction in the log' },
      );
      const xid = String(begin.readUInt32BE(17));
      expect((await opened.snapshot.visibility()).sees(xid)).toBe(false);
      {
        await using reader = await opened.snapshot.open(
          { relations: [relation], range: WHOLE },
          neverAborted,
        );
        expect(reader.visibility.sees(xid)).toBe(false);
        expect(await rowsOf(reader.rows(relation))).toEqual([]);
      }
      await admin.query(`ALTER SYSTEM SET synchronous_standby_names = ''`);
      await admin.query('SELECT pg_reload_conf()');
      await written;
      expect((await opened.snapshot.visibility()).sees(xid)).toBe(true);
      expect(await readRange(opened.snapshot, relation, WHOLE)).toEqual([['1']]);
    } finally {
      await opened[Symbol.asyncDispose]();
      await writer.end();
      await admin.query(`SELECT pg_drop_replication_slot('s')`);
      await admin.end();
    }
  });

  it('sub-xid-in-streamed-change: only the top-level id tells that a transaction is still open', async () => {
    await using db = await createDatabase(16);
    await using opened = openSnapshot(db);
    await db.query('CREATE TABLE t (k int PRIMARY KEY)');
    const writer = await db.connect();
    const top = await writer.query<{ xid: string }>('BEGIN; SELECT pg_current_xact_id()::text AS xid');
    const topXid = (top as unknown as { rows: { xid: string }[] }[])[1]?.rows[0]?.xid as string;
    await writer.query('SAVEPOINT s; INSERT INTO t VALUES (1)');
    const { rows } = await writer.query<{ xid: string }>('SELECT xmin::text AS xid FROM t');
    const other = await db.connect();
    await other.query('CREATE TABLE after (a int)');
    const visibility = await opened.snapshot.visibility();
    expect(visibility.sees(topXid)).toBe(false);
    expect(rows[0]?.xid).not.toBe(topXid);
    expect(visibility.sees(rows[0]?.xid as string)).toBe(true);
    await writer.query('ROLLBACK');
  });

  it('standby-snapshot-refused: a server in recovery is neither asked nor read', async () => {
    await using server = await startPostgres({ version: 16 });
    const admin = new pg.Client({ connectionString: server.url() });
    await admin.connect();
    await admin.query('CREATE TABLE t (k int PRIMARY KEY)');
    // The file makes the server start in recovery, as a standby does; no second server is needed to ask it.
    const { rows } = await admin.query<{ data_directory: string }>('SHOW data_directory');
    await admin.query(`COPY (SELECT WHERE false) TO '${rows[0]?.data_directory ?? ''}/standby.signal'`);
    await admin.end();
    await server.stop();
    await server.start();
    await using opened = openSnapshot({ url: server.url() });
    const relation = await opened.relation('t');
    await expect(opened.snapshot.visibility()).rejects.toMatchObject({ code: 'SOURCE_FAILED' });
    await expect(readRange(opened.snapshot, relation, WHOLE)).rejects.toMatchObject({
      code: 'SOURCE_FAILED',
    });
  });
});
