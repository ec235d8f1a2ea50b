import { expect, test } from 'vitest';
import { asPosition } from '../../../src/core/position.ts';
import type { Relation } from '../../../src/core/table.ts';
import { describeSource } from '../../../src/engines/postgres/catalog.ts';
import { createSource } from '../../../src/engines/postgres/source.ts';
import { createSink } from '../../../src/engines/postgres/sink.ts';
import { green, insert, NO_HOLES, remove, update, type Green } from './sink-setup.ts';
import { Reader } from '../../support/stream-reader.ts';
import { rowsOf } from './source-harness.ts';

const DDL = 'CREATE TABLE t (id int PRIMARY KEY, v text)';

type Direction = 'forward' | 'reverse';

/** A stream over the side that the sink writes. */
async function reading(
  g: Green,
  direction: Direction = 'reverse',
  config: { readonly streaming?: boolean; readonly maxBatchBytes?: number; readonly migration?: string } = {},
): Promise<{ readonly reader: Reader; values(): Promise<string[]> } & AsyncDisposable> {
  const describe = () => describeSource(g.db.client, { schema: 'public', name: 't' });
  const name = `${g.db.name}_${direction}_${config.migration ?? ''}`;
  const source = createSource({
    config: {
      ...g.config,
      replication: {
        ...g.config.replication,
        streaming: config.streaming ?? false,
        slot: name,
        publication: name,
      },
    },
    env: { ...g.env, migration: config.migration ?? g.env.migration },
    options: { direction, term: 1, maxBatchBytes: config.maxBatchBytes ?? 1 << 20 },
    describe,
  });
  const start = await source.prepare([await describe()]);
  const reader = new Reader(await source.open(start, new AbortController().signal));
  return {
    reader,
    values: async () =>
      (await reader.drain(source)).flatMap(rowsOf).map((row) => String((row.after ?? row.before)?.[0])),
    [Symbol.asyncDispose]: async () => {
      await reader.stream[Symbol.asyncDispose]();
      await source.retire();
      await source[Symbol.asyncDispose]();
    },
  };
}

const relationOf = async (g: Green): Promise<Relation> => {
  const target = await g.target('t');
  await g.sink.prepare([target]);
  return target.relation;
};

const many = (from: number, count: number): [string, string][] =>
  Array.from({ length: count }, (_, index) => [String(from + index), `${index} `.padEnd(200, 'x')]);

test('F89: what the sink wrote does not come back: groups, transactions in parts, chunks, and what a constraint made it try again', async () => {
  await using g = await green(`${DDL}; CREATE UNIQUE INDEX ON t (v)`);
  const t = await relationOf(g);
  await using read = await reading(g);

  await g.apply(insert(t, ['1', 'a'], ['2', 'b']));
  await g.db.query(`INSERT INTO t VALUES (100, 'foreign')`);
  // Swapped unique values: the savepoint of the exact fallback.
  await g.apply(update(t, [0, 1], ['1', 'b'], ['2', 'a']));
  expect(g.sink.fallbacks).toBe(1);

  await g.sink.apply(g.group([insert(t, ['3', 'c'])], { end: null }));
  await g.sink.apply(g.group([insert(t, ['4', 'd'])], { end: null }));
  const last = g.group([remove(t, ['4', null])]);
  await g.sink.apply(last);
  g.at = last.end ?? g.at;

  const target = { relation: t, merge: null, prefix: 0 };
  await g.sink.defineRanges('u', []);
  const signal = new AbortController().signal;
  for (const ordinal of [0, null]) {
    const range = { lower: null, upper: null };
    const chunk = await g.sink.openChunk({ unit: 'u', ordinal, range, tables: [target] }, signal);
    await chunk.write(insert(t, [ordinal === null ? '6' : '5', `${ordinal}`]));
    await chunk.close([insert(t, [ordinal === null ? '8' : '7', `held ${ordinal}`])], NO_HOLES, g.at, 0);
  }
  await g.db.query(`UPDATE t SET v = 'foreign too' WHERE id = 3`);
  expect(await read.values()).toEqual(['100', '3']);
}, 60_000);

test.each([false, true])(
  'F89: a large apply of ours is dropped whole, and layouts it announced are known afterwards (streaming %s)',
  async (streaming) => {
    await using g = await green(DDL);
    // Little, so that the transaction is sent while it is still in progress.
    await g.db.query(`ALTER DATABASE "${g.db.name}" SET logical_decoding_work_mem = '64kB'`);
    const t = await relationOf(g);
    await using read = await reading(g, 'reverse', { streaming, maxBatchBytes: 64 * 1024 });
    await g.apply(insert(t, ...many(1, 2_000)));
    await g.db.query(`INSERT INTO t VALUES (9001, 'foreign')`);
    await g.db.query('BEGIN');
    await g.db.query(`INSERT INTO t SELECT g, 'foreign' FROM generate_series(9002, 9004) g`);
    await g.apply(update(t, [0, 1], ...many(1, 2_000)));
    await g.db.query('COMMIT');
    expect(await read.values()).toEqual(['9001', '9002', '9003', '9004']);
  },
  60_000,
);

test('F89: a transaction that names us only after its first row, or another migration, or the same direction, is foreign', async () => {
  await using g = await green(DDL);
  const t = await relationOf(g);
  await using read = await reading(g);
  const sign = (migration: string, direction: Direction): string =>
    `SELECT pg_logical_emit_message(true, 'verdigris.apply', '${JSON.stringify([migration, direction])}')`;
  await g.db.query(`BEGIN; INSERT INTO t VALUES (1, 'late'); ${sign('shop', 'forward')}; COMMIT`);
  await g.db.query(`BEGIN; ${sign('other', 'forward')}; INSERT INTO t VALUES (2, 'other'); COMMIT`);
  await g.db.query(`BEGIN; ${sign('shop', 'reverse')}; INSERT INTO t VALUES (3, 'same'); COMMIT`);
  await g.apply(insert(t, ['4', 'ours']));
  expect(await read.values()).toEqual(['1', '2', '3']);
}, 60_000);

test('F89: blue forgets what came back from green, and in a chain of two migrations of one name nothing is taken for an echo', async () => {
  await using g = await green(DDL);
  const t = await relationOf(g);
  await using forward = await reading(g, 'forward');
  await using other = await reading(g, 'reverse', { migration: 'other' });
  const back = createSink({
    config: g.config,
    env: g.env,
    options: { direction: 'reverse', term: g.term, maxBatchBytes: 1 << 20 },
  });
  await back.prepare([{ relation: t, merge: null, prefix: 0 }]);
  await back.begin(asPosition('0'));
  await back.apply({ ...g.group([insert(t, ['1', 'back'])]), previous: asPosition('0') });
  await back[Symbol.asyncDispose]();
  await g.apply(insert(t, ['2', 'forth']));
  expect(await forward.values()).toEqual(['2']);
  expect(await other.values()).toEqual(['1', '2']);
}, 60_000);
