import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RowRun } from '../../../src/core/change.ts';
import type { Position } from '../../../src/core/position.ts';
import type { Relation, Tuple } from '../../../src/core/table.ts';
import { never, NO_HOLES, openSink, targetOf } from '../../contract/engine/side.ts';
import { mysqlHarness } from '../../support/mysql-harness.ts';
import type { MysqlFlavour } from '../../support/mysql-server.ts';

const WHOLE = { lower: null, upper: null };

describe.each<MysqlFlavour>(['mysql', 'mariadb'])('a table without a key on %s', (flavour) => {
  const harness = mysqlHarness(flavour);
  beforeAll(() => harness.start(), 300_000);
  afterAll(() => harness[Symbol.asyncDispose](), 60_000);

  test('what was held while its rows were copied is applied by old images: an updated row is not there twice', async () => {
    await using green = await openSink(harness);
    const table = harness.tableName(green.database, 'log');
    const administrator = await harness.administrator('green');
    await administrator.query(
      `CREATE TABLE \`${table.schema}\`.\`log\` (id int NOT NULL, v varchar(20), detail json, at timestamp(6) NULL)`,
    );
    const target = await targetOf(green.session, table);
    await green.sink.prepare([target]);
    await green.sink.begin(harness.positions[0] as Position);
    await green.sink.defineRanges('log', []);
    const row = (id: string, v: string): Tuple => [id, v, '{"n": 1}', '2026-11-26 20:10:00.123456'];
    const run = (op: RowRun['op'], before: RowRun['before'], after: RowRun['after']): RowRun => ({
      relation: target.relation,
      op,
      before,
      after,
    });
    const chunk = await green.sink.openChunk(
      { unit: 'log', ordinal: 0, range: WHOLE, tables: [target] },
      never,
    );
    const copied = [row('1', 'a'), row('2', 'a'), row('2', 'a'), row('3', 'a')];
    await chunk.write(
      run(
        'insert',
        copied.map(() => null),
        copied,
      ),
    );
    await chunk.close(
      [
        run('update', [row('1', 'a'), row('2', 'a')], [row('1', 'b'), row('2', 'b')]),
        run('insert', [null, null], [row('4', 'a'), row('4', 'a')]),
        run('delete', [row('3', 'a')], []),
      ],
      NO_HOLES,
      harness.positions[1] as Position,
      0,
    );
    expect(await contents(green.session.digester.read(target.relation, WHOLE), target.relation)).toEqual([
      '1 b',
      '2 a',
      '2 b',
      '4 a',
      '4 a',
    ]);
  });
});

async function contents(pieces: AsyncIterable<readonly Tuple[]>, relation: Relation): Promise<string[]> {
  const [id, v] = ['id', 'v'].map((name) => relation.columns.findIndex((column) => column.name === name));
  const rows: string[] = [];
  for await (const piece of pieces)
    for (const row of piece) rows.push(`${String(row[id as number])} ${String(row[v as number])}`);
  return rows.sort();
}
