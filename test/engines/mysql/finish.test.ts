import type mysql from 'mysql2/promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Position } from '../../../src/core/position.ts';
import { never, openSink, targetOf } from '../../contract/engine/side.ts';
import { mysqlHarness } from '../../support/mysql-harness.ts';
import type { MysqlFlavour } from '../../support/mysql-server.ts';
import { waitFor } from '../../support/wait.ts';

const ROWS = 100_000;

describe.each<MysqlFlavour>(['mysql', 'mariadb'])('what is built after the copy on %s', (flavour) => {
  const harness = mysqlHarness(flavour);
  let administrator: mysql.Connection;
  beforeAll(async () => {
    await harness.start();
    administrator = await harness.administrator('green');
  }, 300_000);
  afterAll(() => harness[Symbol.asyncDispose](), 60_000);

  /** A table whose indexes were put off, and that is full now; `others` are like it. */
  async function full(...others: readonly string[]) {
    const green = await openSink(harness);
    const { schema } = harness.tableName(green.database, 'item');
    await administrator.query(`USE ${schema}`);
    await administrator.query(
      'CREATE TABLE item (id int PRIMARY KEY, code varchar(40) NOT NULL, n int NOT NULL, UNIQUE KEY code (code), KEY n (n))',
    );
    const target = await targetOf(green.session, { schema, name: 'item' });
    const targets = [target];
    for (const name of others) {
      await administrator.query(`CREATE TABLE ${name} LIKE item`);
      targets.push(await targetOf(green.session, { schema, name }));
    }
    await green.sink.prepare(targets);
    await green.sink.begin(harness.positions[0] as Position);
    await green.sink.prepareCopy(targets);
    await administrator.query(
      `INSERT INTO item WITH RECURSIVE g (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM g WHERE i < 999), h (j) AS (SELECT 1 UNION ALL SELECT j + 1 FROM h WHERE j < ${ROWS / 1000})
       SELECT i * ${ROWS / 1000} + j, CONCAT('code ', i * ${ROWS / 1000} + j), j FROM g, h`,
    );
    for (const name of others) await administrator.query(`INSERT INTO ${name} SELECT * FROM item`);
    return { green, target, targets };
  }

  const indexes = async (): Promise<unknown[]> => {
    const [rows] = await administrator.query<mysql.RowDataPacket[]>('SHOW INDEX FROM item');
    return rows.map((row) => `${String(row['Key_name'])} ${String(row['Non_unique'])}`).sort();
  };

  /** Builds while a client does something again and again. */
  async function buildUnder(change: (id: number) => readonly string[]): Promise<number> {
    const { green, target } = await full();
    await using _ = green;
    const client = await harness.administrator('green');
    await client.query(`USE ${target.relation.table.schema}`);
    let building = true;
    let times = 0;
    const changing = (async () => {
      for (let id = 1; building; id = (id % (ROWS - 1)) + 1) {
        for (const sql of ['START TRANSACTION', ...change(id), 'COMMIT']) await client.query(sql);
        times += 1;
      }
    })().catch(async (error: unknown) => {
      // It stands, and holds for clients as well.
      await client.query('ROLLBACK');
      if ((error as { errno?: number }).errno !== 1062) throw error;
    });
    changing.catch(() => undefined);
    await waitFor(() => Promise.resolve(times > 0), { what: 'the first change' });
    try {
      await green.sink.finishCopy([target], () => undefined, never);
    } finally {
      building = false;
      await changing;
    }
    expect(await indexes()).toEqual(['PRIMARY 0', 'code 0', 'n 1']);
    return times;
  }

  test('rows that exchange a unique value while its index is built are no duplicate', async () => {
    // As the stream writes: where no index stands, the order inside a transaction is free.
    const times = await buildUnder((id) => [
      `UPDATE item SET code = 'code ${id + 1}' WHERE id = ${id}`,
      `UPDATE item SET code = 'code ${id}' WHERE id = ${id + 1}`,
      `UPDATE item SET code = 'code ${id}' WHERE id = ${id}`,
      `UPDATE item SET code = 'code ${id + 1}' WHERE id = ${id + 1}`,
    ]);
    expect(times).toBeGreaterThan(10);
  }, 60_000);

  test('a group beside the rest of the work, right after an index is there: rows that exchange its value are no violation', async () => {
    const { green, target, targets } = await full('second', 'third', 'fourth');
    await using _ = green;
    const [first, second, third] = harness.positions as readonly [Position, Position, Position];
    const apply = (previous: Position, end: Position, codes: readonly (readonly [string, string])[]) =>
      green.sink.apply({
        previous,
        end,
        runs: [
          {
            relation: target.relation,
            op: 'update',
            columns: [0, 1, 2],
            after: codes.map(([id, code]) => [id, `code ${code}`, '1']),
            before: codes.map(() => null),
          },
        ],
        holes: { opened: [], closed: [] },
        transactions: 1,
        newestCommitMs: null,
      });
    // The layout is known from here on, without the index.
    await apply(first, second, [['1', '1']]);
    let beside: Promise<unknown> = Promise.resolve();
    let seen = 0;
    await green.sink.finishCopy(
      targets,
      ({ kind, table }) => {
        if (kind !== 'index' || table.name !== 'item') return;
        seen += 1;
        if (seen > 1) return;
        beside = apply(second, third, [
          ['1', '2'],
          ['2', '1'],
        ]);
        beside.catch(() => undefined);
      },
      never,
    );
    expect(seen).toBe(2);
    await beside;
    const [rows] = await administrator.query('SELECT code FROM item WHERE id IN (1, 2) ORDER BY id');
    expect(rows).toEqual([{ code: 'code 2' }, { code: 'code 1' }]);
  }, 60_000);

  test('rows with the same value are one: table and index are named', async () => {
    const { green, target } = await full();
    await using _ = green;
    await administrator.query("UPDATE item SET code = 'code 7' WHERE id = 8");
    const finish = (): Promise<void> => green.sink.finishCopy([target], () => undefined, never);
    await expect(finish()).rejects.toMatchObject({
      code: 'SINK_CONFLICT',
      message: expect.stringMatching(/\.item.*code/),
      context: { constraint: 'code, n' },
    });
    await administrator.query("UPDATE item SET code = 'code 8' WHERE id = 8");
    await finish();
    expect(await indexes()).toEqual(['PRIMARY 0', 'code 0', 'n 1']);
  }, 60_000);
});
