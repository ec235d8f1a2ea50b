import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Session } from '../../../src/core/engine.ts';
import { asPosition } from '../../../src/core/position.ts';
import type { Cell, Relation, Tuple } from '../../../src/core/table.ts';
import { connectSide, NO_HOLES, never, newMigration, STREAM } from '../../contract/engine/side.ts';
import { mysqlHarness } from '../../support/mysql-harness.ts';
import type { MysqlFlavour } from '../../support/mysql-server.ts';
import { typeCases } from './values.ts';

const ALL = { lower: null, upper: null };

async function collect(pieces: AsyncIterable<readonly Tuple[]>): Promise<Map<number, Tuple>> {
  const rows = new Map<number, Tuple>();
  for await (const piece of pieces) for (const row of piece) rows.set(Number(row[0]), row);
  return rows;
}

/** Inserts and updates of a log up to a mark, by id. */
async function follow(
  session: Session,
  relation: Relation,
  write: () => Promise<void>,
): Promise<Record<'insert' | 'update', Map<number, Tuple>>> {
  const source = session.changes({ ...STREAM, term: 1 });
  const start = await source.prepare([relation]);
  await write();
  await source.mark('all');
  const found = { insert: new Map<number, Tuple>(), update: new Map<number, Tuple>() };
  const stop = new AbortController();
  await using stream = await source.open(start, stop.signal);
  for await (const batch of stream) {
    for (const run of batch.runs)
      if (run.op === 'insert' || run.op === 'update')
        for (const row of run.after) found[run.op].set(Number(row[0]), row);
    if (batch.marks.some(({ label }) => label === 'all')) break;
  }
  await source.retire();
  return found;
}

describe.each<MysqlFlavour>(['mysql', 'mariadb'])('values of %s', (flavour) => {
  const harness = mysqlHarness(flavour);
  const cases = typeCases(flavour);
  const most = Math.max(...cases.map(([, , ...values]) => values.length));
  const names = cases.map(([name]) => name);
  beforeAll(() => harness.start(), 300_000);
  afterAll(() => harness[Symbol.asyncDispose](), 60_000);

  test('a value is the same text from a snapshot, from an insert and from an update, and arrives on green as it is', async () => {
    await using database = await harness.database('blue');
    const migration = newMigration();
    const { schema } = harness.tableName(database, 'v');
    const administrator = await harness.administrator('blue');
    const run = (sql: string): Promise<unknown> => administrator.query(sql);
    await run(`USE ${schema}`);
    // Another zone than ours, and zero and invalid dates.
    await run("SET SESSION sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+03:00'");
    const columns = cases.map(([name, type]) => `${name} ${type}${type.endsWith('NULL') ? '' : ' NULL'}`);
    await run(
      `CREATE TABLE v (id INT PRIMARY KEY, ${columns.join(', ')}, made_virtual INT GENERATED ALWAYS AS (id * 2) VIRTUAL,
        made_stored INT GENERATED ALWAYS AS (id * 3) STORED, hidden INT INVISIBLE DEFAULT 7) CHARACTER SET utf8mb4`,
    );
    await run('CREATE TABLE w LIKE v');
    const insert = (id: number, index: number): Promise<unknown> =>
      run(
        `INSERT INTO v (id, ${names.join(', ')}, hidden) VALUES (${id}, ${cases.map(([, , ...values]) => values[index] ?? 'NULL').join(', ')}, ${index})`,
      );
    for (let index = 0; index < most; index += 1) await insert(index, index);

    await using session = await connectSide(harness, database, { side: 'blue', migration });
    const relation = await session.catalog.source({ schema, name: 'v' });
    expect(relation.columns.map(({ name }) => name)).not.toContain('made_virtual');
    const log = await follow(session, relation, async () => {
      for (let index = 0; index < most; index += 1) {
        await insert(1_000 + index, index);
        await run(`INSERT INTO v (id) VALUES (${2_000 + index})`);
        const set = [...names, 'hidden'].map((name) => `a.${name} = b.${name}`);
        await run(
          `UPDATE v a JOIN v b ON b.id = ${index} SET ${set.join(', ')} WHERE a.id = ${2_000 + index}`,
        );
      }
    });
    const reader = await session.snapshot().open({ relations: [relation], range: ALL }, never);
    const snapshot = await collect(reader.rows(relation));
    await reader[Symbol.asyncDispose]();
    for (let index = 0; index < most; index += 1) {
      relation.columns.slice(1).forEach((column, at) => {
        const place = at + 1;
        const expected = snapshot.get(index)?.[place];
        expect(log.insert.get(1_000 + index)?.[place], `insert, ${column.name} ${index}`).toEqual(expected);
        expect(log.update.get(2_000 + index)?.[place], `update, ${column.name} ${index}`).toEqual(expected);
      });
    }

    await using green = await connectSide(harness, database, { side: 'green', migration });
    const target = await green.catalog.target({ schema, name: 'w' });
    const rows = [...snapshot.values()]
      .filter(([id]) => Number(id) < 1_000)
      .map((row) =>
        target.columns.map(
          ({ name }): Cell => row[relation.columns.findIndex((one) => one.name === name)] ?? null,
        ),
      );
    await green.state.prepare();
    const term = await green.state.acquire(migration, 'test', { ttlMs: 60_000, takeover: false });
    await using sink = green.sink({ ...STREAM, term });
    await sink.prepare([{ relation: target, merge: null, prefix: 0 }]);
    const [first, second] = [harness.positions[0], harness.positions[1]].map((position) =>
      asPosition(String(position)),
    );
    await sink.begin(first as NonNullable<typeof first>);
    await sink.apply({
      previous: first as NonNullable<typeof first>,
      end: second as NonNullable<typeof second>,
      runs: [
        {
          relation: target,
          op: 'insert',
          after: rows,
          before: rows.map(() => null),
          columns: target.columns.flatMap(({ generated }, index) => (generated ? [] : [index])),
        },
      ],
      holes: NO_HOLES,
      transactions: 1,
      newestCommitMs: null,
    });
    const written = await collect(green.digester.read(target, ALL));
    for (const row of rows)
      target.columns.forEach(({ name, generated }, index) => {
        if (!generated)
          expect(written.get(Number(row[0]))?.[index], `green, ${name} ${String(row[0])}`).toEqual(
            row[index],
          );
      });
    const original = await green.catalog.target({ schema, name: 'v' });
    const all = target.columns.map((_, index) => index);
    expect(await green.digester.digest(target, all, ALL)).toEqual(
      await green.digester.digest(original, all, { lower: null, upper: '1000' }),
    );
  });
});
