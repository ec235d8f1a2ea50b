import type mysql from 'mysql2/promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Session } from '../../../src/core/engine.ts';
import type { TargetTable } from '../../../src/core/plan.ts';
import type { Position } from '../../../src/core/position.ts';
import type { ChunkWriter } from '../../../src/core/sink.ts';
import type { ChunkReader } from '../../../src/core/snapshot.ts';
import type { Relation } from '../../../src/core/table.ts';
import {
  connectSide,
  never,
  newMigration,
  NO_HOLES,
  openSink,
  targetOf,
} from '../../contract/engine/side.ts';
import type { MysqlConfig } from '../../../src/engines/mysql/config.ts';
import { connect } from '../../../src/engines/mysql/connect.ts';
import { engine } from '../../../src/engines/mysql/index.ts';
import { mysqlHarness } from '../../support/mysql-harness.ts';
import type { MysqlFlavour } from '../../support/mysql-server.ts';
import { typeCases } from './values.ts';

const WHOLE = { lower: null, upper: null };

describe.each<MysqlFlavour>(['mysql', 'mariadb'])('the bulk format of %s', (flavour) => {
  const harness = mysqlHarness(flavour);
  let administrators: Readonly<Record<'blue' | 'green', mysql.Connection>>;
  beforeAll(async () => {
    await harness.start();
    administrators = {
      blue: await harness.administrator('blue'),
      green: await harness.administrator('green'),
    };
  }, 300_000);
  afterAll(() => harness[Symbol.asyncDispose](), 60_000);

  /** A table on either side, an open reader of blue's and an open chunk of green's. */
  async function open(definition: { blue: string; green?: string; fill: readonly string[] }) {
    const parts: AsyncDisposable[] = [];
    const keep = <T extends AsyncDisposable>(part: T): T => {
      parts.push(part);
      return part;
    };
    const green = keep(await openSink(harness));
    const database = keep(await harness.database('blue'));
    const from = harness.tableName(database, 'v');
    const to = harness.tableName(green.database, 'v');
    const { blue: blueSql, green: greenSql } = administrators;
    await blueSql.query(`USE ${from.schema}`);
    await greenSql.query(`USE ${to.schema}`);
    await blueSql.query("SET SESSION sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+03:00'");
    await blueSql.query(`CREATE TABLE v (${definition.blue}) CHARACTER SET utf8mb4`);
    await greenSql.query(`CREATE TABLE v (${definition.green ?? definition.blue}) CHARACTER SET utf8mb4`);
    for (const sql of definition.fill) await blueSql.query(sql);
    const blue: Session = keep(
      await connectSide(harness, database, { side: 'blue', migration: newMigration() }),
    );
    const relation: Relation = await blue.catalog.source(from);
    const target: TargetTable = await targetOf(green.session, to);
    await green.sink.prepare([target]);
    await green.sink.begin(harness.positions[0] as Position);
    await green.sink.defineRanges('v', []);
    const reader: ChunkReader = keep(
      await blue.snapshot().open({ relations: [relation], range: WHOLE }, never),
    );
    const chunk: ChunkWriter = keep(
      await green.sink.openChunk({ unit: 'v', ordinal: 0, range: WHOLE, tables: [target] }, never),
    );
    const columns = relation.columns.map((_, index) => index);
    const into = relation.columns.map(({ name }) =>
      target.relation.columns.findIndex((column) => column.name === name),
    );
    return {
      load: () => chunk.raw(target, into, reader.raw(relation, columns, true), true),
      /** The exact way, in the same chunk and of the same snapshot. */
      write: async () => {
        for await (const rows of reader.rows(relation))
          await chunk.write({
            relation: target.relation,
            op: 'insert',
            before: rows.map(() => null),
            after: rows.map((row) =>
              target.relation.columns.map((_, index) => row[into.indexOf(index)] ?? null),
            ),
            columns: into,
          });
      },
      close: () => chunk.close([], NO_HOLES, harness.positions[1] as Position, 0),
      rows: () => contents(green.session, target.relation),
      expected: async () => {
        const found: Record<string, unknown>[] = [];
        for await (const rows of reader.rows(relation))
          for (const row of rows)
            found.push(Object.fromEntries(relation.columns.map(({ name }, index) => [name, row[index]])));
        return found;
      },
      [Symbol.asyncDispose]: async () => {
        for (const part of parts.toReversed()) await part[Symbol.asyncDispose]();
      },
    };
  }

  test('a value of every type arrives as it is, NULL and the word NULL too', async () => {
    const cases = typeCases(flavour).filter(([name]) => name !== 'j');
    const most = Math.max(...cases.map(([, , ...values]) => values.length));
    const names = cases.map(([name]) => name);
    const columns = cases.map(([name, type]) => `${name} ${type}${type.endsWith('NULL') ? '' : ' NULL'}`);
    await using run = await open({
      blue: `id INT PRIMARY KEY, word VARCHAR(20) NOT NULL, maybe TEXT, ${columns.join(', ')},
        made INT GENERATED ALWAYS AS (id * 2) VIRTUAL, hidden INT INVISIBLE DEFAULT 7`,
      fill: [
        "INSERT INTO v (id, word, maybe) VALUES (1000, 'NULL', 'NULL'), (1001, '\\\\N', ''), (1002, '', NULL), (1003, '\"', '\\0\\t\\n')",
        ...Array.from(
          { length: most },
          (_, index) =>
            `INSERT INTO v (id, word, ${names.join(', ')}, hidden) VALUES (${index}, 'w', ${cases.map(([, , ...values]) => values[index] ?? 'NULL').join(', ')}, ${index})`,
        ),
      ],
    });
    expect(await run.load()).toBe(most + 4);
    await run.close();
    const found = await run.rows();
    for (const [index, row] of (await run.expected()).entries())
      for (const [name, value] of Object.entries(row))
        expect(found[index]?.[name], `${name} of ${String(row['id'])}`).toEqual(value);
    expect(found.map(({ made, hidden }) => [made, hidden]).slice(0, 2)).toEqual([
      ['0', '0'],
      ['2', '1'],
    ]);
  });

  test('a key that is there already, a value that is too long and a NULL that may not be there are not skipped, clipped or replaced: nothing is written', async () => {
    for (const green of ['id INT PRIMARY KEY, v VARCHAR(5)', 'id INT PRIMARY KEY, v VARCHAR(20) NOT NULL']) {
      await using run = await open({
        blue: 'id INT PRIMARY KEY, v VARCHAR(20)',
        green,
        fill: ["INSERT INTO v VALUES (1, 'a'), (2, 'six on'), (3, NULL)"],
      });
      expect(await run.load()).toBeNull();
      await run.close();
      expect(await run.rows()).toEqual([]);
    }
    await using run = await open({
      blue: 'id INT PRIMARY KEY, v VARCHAR(20)',
      fill: ["INSERT INTO v VALUES (1, 'a'), (2, 'b')"],
    });
    await administrators.green.query("INSERT INTO v VALUES (2, 'there')");
    expect(await run.load()).toBeNull();
    await expect(run.write()).rejects.toMatchObject({ code: 'SINK_CONFLICT' });
    expect(await run.rows()).toEqual([{ id: '2', v: 'there' }]);
  });

  test('a value that does not fit into a packet of the server as digits is not taken for NULL', async () => {
    await administrators.blue.query('SET GLOBAL max_allowed_packet = 1048576');
    try {
      await using run = await open({
        blue: 'id INT PRIMARY KEY, v LONGBLOB',
        fill: ["INSERT INTO v VALUES (1, 'a'), (2, repeat('x', 700000))"],
      });
      expect(await run.load()).toBeNull();
      await run.write();
      await run.close();
      expect(await run.rows()).toEqual([
        { id: '1', v: '\\x61' },
        { id: '2', v: `\\x${'78'.repeat(700_000)}` },
      ]);
    } finally {
      await administrators.blue.query('SET GLOBAL max_allowed_packet = DEFAULT');
    }
  });

  test('a server that takes no LOAD DATA LOCAL gets its rows in the exact way', async () => {
    await administrators.green.query('SET GLOBAL local_infile = OFF');
    try {
      await using run = await open({
        blue: 'id INT PRIMARY KEY, v BIT(12)',
        fill: ['INSERT INTO v VALUES (1, 4095), (2, NULL)'],
      });
      expect(await run.load()).toBeNull();
      expect(await run.load()).toBeNull();
      await run.write();
      await run.close();
      expect(await run.rows()).toEqual([
        { id: '1', v: '4095' },
        { id: '2', v: null },
      ]);
    } finally {
      await administrators.green.query('SET GLOBAL local_infile = ON');
    }
  });

  test('rows that are read come in pieces of a megabyte, however large each is', async () => {
    await using database = await harness.database('blue');
    const parsed = engine.parseConfig(database.config());
    if (!('config' in parsed)) throw new Error(JSON.stringify(parsed.issues));
    await using link = await connect(parsed.config as MysqlConfig, { name: 'test', where: 'source' });
    const sizes: number[] = [];
    const sql = `WITH RECURSIVE g (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < 100) SELECT i, REPEAT('x', 200000) FROM g`;
    for await (const rows of link.stream(sql))
      sizes.push(rows.reduce((sum, row) => sum + (row[1]?.length ?? 0), 0));
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(20_000_000);
    expect(Math.max(...sizes)).toBeLessThan(1_500_000);
  });

  test.runIf(flavour === 'mysql')(
    'a JSON document goes as its text, one with a DECIMAL that the text would make a double does not',
    async () => {
      const table = 'id INT PRIMARY KEY, j JSON, k JSON NOT NULL';
      await using plain = await open({
        blue: table,
        fill: [
          `INSERT INTO v VALUES (1, '{"a": [1.5, "x\\\\n", null], "n": 18446744073709551615}', '"NULL"'), (2, NULL, 'null'), (3, '1e16', '[0.1, -0.0, "1.10"]')`,
        ],
      });
      expect(await plain.load()).toBe(3);
      await plain.close();
      expect(await plain.rows()).toEqual(await plain.expected());
      await using decimal = await open({
        blue: table,
        fill: ["INSERT INTO v VALUES (1, NULL, JSON_ARRAY(CAST(1.10 AS DECIMAL(5,2)))), (2, NULL, 'null')"],
      });
      expect(await decimal.load()).toBeNull();
      await decimal.write();
      await decimal.close();
      expect(await decimal.rows()).toEqual([
        { id: '1', j: null, k: '[1.10]' },
        { id: '2', j: null, k: 'null' },
      ]);
    },
  );
});

async function contents(session: Session, relation: Relation): Promise<Record<string, unknown>[]> {
  const found: Record<string, unknown>[] = [];
  for await (const rows of session.digester.read(relation, WHOLE))
    for (const row of rows)
      found.push(Object.fromEntries(relation.columns.map(({ name }, index) => [name, row[index]])));
  return found.sort((left, right) => Number(left['id']) - Number(right['id']));
}
