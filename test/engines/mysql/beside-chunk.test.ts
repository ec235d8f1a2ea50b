import type mysql from 'mysql2/promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RowRun } from '../../../src/core/change.ts';
import type { Position } from '../../../src/core/position.ts';
import type { Relation, Tuple } from '../../../src/core/table.ts';
import { never, NO_HOLES, openSink, targetOf } from '../../contract/engine/side.ts';
import { mysqlHarness } from '../../support/mysql-harness.ts';
import type { MysqlFlavour } from '../../support/mysql-server.ts';

const DONE = 3_500;
const OPEN = 500;

/** In no order, as the keys of a group are. */
const KEYS = Array.from({ length: 2_500 }, (_, index) => ((index * 1_009) % DONE) + 1);

const insert = (relation: Relation, rows: readonly Tuple[]): RowRun => ({
  relation,
  op: 'insert',
  after: rows,
  before: rows.map(() => null),
});
const remove = (relation: Relation, rows: readonly Tuple[]): RowRun => ({
  relation,
  op: 'delete',
  after: [],
  before: rows,
});
const update = (relation: Relation, rows: readonly Tuple[]): RowRun => ({
  relation,
  op: 'update',
  after: rows,
  before: rows.map(() => null),
  columns: relation.columns.map((_, index) => index),
});

const TABLES = [
  {
    what: 'short rows, of which the key is a large part',
    definition: 'id int PRIMARY KEY, code varchar(40) NOT NULL, n int NOT NULL, note text NOT NULL',
    row: (id: number, n: number): Tuple => [String(id), `code ${id}`, String(n), 'seed'],
    updates: true,
  },
  {
    what: 'a key of two columns',
    definition: 'a int, b int, n int, PRIMARY KEY (a, b)',
    row: (id: number, n: number): Tuple => [String(id), '1', String(n)],
    updates: true,
  },
  {
    what: 'rows that are nothing but a key',
    definition: 'a int, b int, PRIMARY KEY (a, b)',
    row: (id: number): Tuple => [String(id), '1'],
    updates: false,
  },
];

describe.each<MysqlFlavour>(['mysql', 'mariadb'])('groups beside an open chunk on %s', (flavour) => {
  const harness = mysqlHarness(flavour);
  let administrator: mysql.Connection;
  beforeAll(async () => {
    await harness.start();
    administrator = await harness.administrator('green');
  }, 300_000);
  afterAll(() => harness[Symbol.asyncDispose](), 60_000);

  test.each(TABLES)('$what: thousands of keys do not wait for rows of the chunk', async (table) => {
    await using green = await openSink(harness);
    const name = harness.tableName(green.database, 'v');
    const sql = `${name.schema}.${name.name}`;
    await administrator.query(`CREATE TABLE ${sql} (${table.definition})`);
    const target = await targetOf(green.session, name);
    const { relation } = target;
    const [start, ...positions] = harness.positions as [Position, ...Position[]];
    let at = start;
    const apply = async (...runs: readonly RowRun[]): Promise<void> => {
      const end = positions.shift() as Position;
      await green.sink.apply({
        previous: at,
        end,
        runs,
        holes: NO_HOLES,
        transactions: 1,
        newestCommitMs: null,
      });
      at = end;
    };
    await green.sink.prepare([target]);
    await green.sink.begin(start);
    await green.sink.defineRanges('v', [String(DONE + 1)]);
    const rows = (from: number, count: number): Tuple[] =>
      Array.from({ length: count }, (_, index) => table.row(from + index, 0));
    await apply(insert(relation, rows(1, DONE)));
    await administrator.query(`ANALYZE TABLE ${sql}`);

    const range = { lower: String(DONE + 1), upper: null };
    await using chunk = await green.sink.openChunk({ unit: 'v', ordinal: 1, range, tables: [target] }, never);
    await chunk.write(insert(relation, rows(DONE + 1, OPEN)));
    if (table.updates)
      await apply(
        update(
          relation,
          KEYS.map((id) => table.row(id, 1)),
        ),
      );
    await apply(
      remove(
        relation,
        KEYS.map((id) => table.row(id, 1)),
      ),
    );
    await chunk.close([], NO_HOLES, at, 0);
    const [left] = await administrator.query(`SELECT count(*) AS count FROM ${sql}`);
    expect(left).toEqual([{ count: String(DONE + OPEN - KEYS.length) }]);
  });
});
