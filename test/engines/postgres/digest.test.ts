import { describe, expect, it } from 'vitest';
import type { Digester } from '../../../src/core/digest.ts';
import type { KeyRange } from '../../../src/core/snapshot.ts';
import type { Relation, Tuple } from '../../../src/core/table.ts';
import { describeTarget } from '../../../src/engines/postgres/catalog.ts';
import { createDigester } from '../../../src/engines/postgres/digest.ts';
import { createConnections } from '../../../src/engines/postgres/session-connections.ts';
import { createDatabase, type TestDatabase } from '../../support/databases.ts';
import { MANY_TYPES } from './digest-types.ts';
import { configOf, WHOLE } from './snapshot-setup.ts';

interface Opened extends AsyncDisposable {
  readonly digester: Digester;
  relation(name: string): Promise<Relation>;
}

function openDigester(db: TestDatabase): Opened {
  const connections = createConnections(configOf(db.url), 'test');
  return {
    digester: createDigester(connections.verify, 'sink'),
    relation: (name) => describeTarget(db.client, { schema: 'public', name }),
    [Symbol.asyncDispose]: () => connections[Symbol.asyncDispose](),
  };
}

const all = (relation: Relation): number[] => relation.columns.map((_, index) => index);

describe('digest', () => {
  it('is equal on 16 and 18 for every kind of type, and differs for one byte', async () => {
    await using blue = await createDatabase(16);
    await using green = await createDatabase(18);
    await using left = openDigester(blue);
    await using right = openDigester(green);
    // Settings of a database must not change how values are printed.
    await green.query(`ALTER DATABASE ${green.name} SET DateStyle = 'German'; ALTER DATABASE ${green.name} SET TimeZone = 'Asia/Tokyo';
      ALTER DATABASE ${green.name} SET extra_float_digits = 0; ALTER DATABASE ${green.name} SET bytea_output = 'escape'; ALTER DATABASE ${green.name} SET IntervalStyle = 'iso_8601'`);
    await blue.query(MANY_TYPES);
    await green.query(
      MANY_TYPES.replace('FROM generate_series(1, 300) i;', 'FROM generate_series(300, 1, -1) i;').replace(
        'CREATE TABLE',
        "SET TimeZone = 'UTC'; CREATE TABLE",
      ),
    );
    const relations = [await left.relation('t'), await right.relation('t')] as const;
    for (const range of [WHOLE, { lower: '17', upper: '230' }, { keys: [['5'], ['1001'], ['9999']] }]) {
      const one = await left.digester.digest(relations[0], all(relations[0]), range);
      expect(await right.digester.digest(relations[1], all(relations[1]), range)).toEqual(one);
      expect(one.rows).toBe('keys' in range ? 2 : range.lower === null ? 302 : 213);
    }
    const before = await right.digester.digest(relations[1], all(relations[1]), WHOLE);
    await green.query(`UPDATE t SET by = set_byte(by, 3, get_byte(by, 3) # 1) WHERE id = 200`);
    const after = await right.digester.digest(relations[1], all(relations[1]), WHOLE);
    expect(after.rows).toBe(before.rows);
    expect(after.hash).not.toBe(before.hash);
    const without = all(relations[1]).filter((index) => relations[1].columns[index]?.name !== 'by');
    expect(await right.digester.digest(relations[1], without, WHOLE)).toEqual(
      await left.digester.digest(relations[0], without, WHOLE),
    );
  });

  it('tells apart what a careless text of a row would not', async () => {
    await using db = await createDatabase(16);
    await using opened = openDigester(db);
    const digestOf = async (values: string): Promise<string> => {
      await db.query(
        `DROP TABLE IF EXISTS t; CREATE TABLE t (a text, b text); INSERT INTO t VALUES ${values}`,
      );
      const relation = await opened.relation('t');
      const { hash, rows } = await opened.digester.digest(relation, all(relation), WHOLE);
      return `${rows} ${hash}`;
    };
    const variants = [
      `('a', 'b')`,
      `('a,b', '')`,
      `('', 'a,b')`,
      `('a', NULL)`,
      `('a', '')`,
      `(NULL, 'a')`,
      `('ab', NULL)`,
      `('"a"', 'b')`,
      `('a', 'b'), ('a', 'b')`,
      `('a', 'b'), ('c', 'd')`,
      `('a', 'd'), ('c', 'b')`,
      `('c', 'd'), ('c', 'd')`,
      `('a ', 'b')`,
    ];
    const digests: string[] = [];
    for (const variant of variants) digests.push(await digestOf(variant));
    expect(new Set(digests).size).toBe(variants.length);
    expect(await digestOf(`('c', 'd'), ('a', 'b')`)).toBe(digests[9]);
    // Order of columns counts, order of rows does not.
    const relation = await opened.relation('t');
    expect(await opened.digester.digest(relation, [1, 0], WHOLE)).not.toEqual(
      await opened.digester.digest(relation, [0, 1], WHOLE),
    );
  });

  it('reads in key order, generated columns included, and splits like the copy', async () => {
    await using db = await createDatabase(18);
    await using opened = openDigester(db);
    await db.query(`CREATE TABLE t (b int, a text COLLATE "C", "g;" int GENERATED ALWAYS AS (b * 2) STORED, PRIMARY KEY (b, a));
      INSERT INTO t (b, a) SELECT i / 10, chr(65 + i % 10) FROM generate_series(999, 0, -1) i`);
    const relation = await opened.relation('t');
    const rows: Tuple[] = [];
    for await (const piece of opened.digester.read(relation, { lower: '5', upper: '7' })) rows.push(...piece);
    expect(rows).toHaveLength(20);
    expect(rows[0]).toEqual(['5', 'A', '10']);
    expect(rows.map((row) => `${String(row[0])}${String(row[1])}`)).toEqual(
      rows.map((row) => `${String(row[0])}${String(row[1])}`).toSorted(),
    );
    const boundaries = await opened.digester.split(relation, 200);
    expect(boundaries.length).toBeGreaterThanOrEqual(3);
    let total = 0;
    for (let at = 0; at <= boundaries.length; at++) {
      const range: KeyRange = { lower: boundaries[at - 1] ?? null, upper: boundaries[at] ?? null };
      total += (await opened.digester.digest(relation, [0], range)).rows;
    }
    expect(total).toBe(1000);
  });

  it('of an empty range and of a table without columns to compare is defined', async () => {
    await using db = await createDatabase(16);
    await using opened = openDigester(db);
    await db.query('CREATE TABLE t (a int PRIMARY KEY)');
    const relation = await opened.relation('t');
    expect(await opened.digester.digest(relation, [0], WHOLE)).toEqual({ rows: 0, hash: '0' });
    await db.query('INSERT INTO t VALUES (1)');
    expect((await opened.digester.digest(relation, [], WHOLE)).rows).toBe(1);
  });

  it('says which side and table when the table is gone', async () => {
    await using db = await createDatabase(16);
    await using opened = openDigester(db);
    await db.query('CREATE TABLE t (a int PRIMARY KEY)');
    const relation = await opened.relation('t');
    await db.query('DROP TABLE t');
    await expect(opened.digester.digest(relation, [0], WHOLE)).rejects.toMatchObject({
      code: 'SCHEMA_CHANGED',
      context: expect.objectContaining({ table: 'public.t', sqlstate: '42P01' }) as unknown,
    });
  });
});

describe('hashes', () => {
  it('are those of the digest, per row, the same on 14 and 18, with the key printed as COPY prints it', async () => {
    await using blue = await createDatabase(14);
    await using green = await createDatabase(18);
    await using left = openDigester(blue);
    await using right = openDigester(green);
    for (const db of [blue, green]) {
      await db.query(`CREATE TABLE t (a text, b numeric, c text, PRIMARY KEY (b, a));
        INSERT INTO t SELECT 'Ä' || g, g / 10.0, CASE WHEN g % 2 = 0 THEN 'x' || g END FROM generate_series(1, 500) g`);
    }
    await green.query(`UPDATE t SET c = '' WHERE b = 0.7`);
    const read = async (at: Opened): Promise<Map<string, string>> => {
      const relation = await at.relation('t');
      const found = new Map<string, string>();
      for await (const rows of at.digester.hashes(
        relation,
        { key: relation.key, hashed: all(relation) },
        WHOLE,
      )) {
        for (const [b, a, hash] of rows) found.set(JSON.stringify([a, b]), String(hash));
      }
      return found;
    };
    const [one, two] = [await read(left), await read(right)];
    expect(one.size).toBe(500);
    expect([...one].filter(([key, hash]) => two.get(key) !== hash).map(([key]) => key)).toEqual([
      JSON.stringify(['Ä7', '0.70000000000000000000']),
    ]);
  });

  it('and rows are found by a part of the key', async () => {
    await using db = await createDatabase(18);
    await using at = openDigester(db);
    await db.query(
      `CREATE TABLE t (a text, b int, c int, PRIMARY KEY (a, b)); INSERT INTO t SELECT 'a' || g % 3, g, g FROM generate_series(1, 9) g`,
    );
    const relation = await at.relation('t');
    const found: Tuple[] = [];
    for await (const rows of at.digester.read(relation, { keys: [['4'], ['7'], ['99']], on: [1] }))
      found.push(...rows);
    expect(found).toEqual([
      ['a1', '4', '4'],
      ['a1', '7', '7'],
    ]);
  });
});
