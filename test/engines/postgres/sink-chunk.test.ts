import { expect, test } from 'vitest';
import type { RowRun } from '../../../src/core/change.ts';
import type { VerdigrisError } from '../../../src/core/errors.ts';
import type { TargetTable } from '../../../src/core/plan.ts';
import { asPosition } from '../../../src/core/position.ts';
import type { ChunkTarget } from '../../../src/core/sink.ts';
import { green, insert, NO_HOLES, remove, U, update } from './sink-setup.ts';

const failure = async (work: Promise<unknown>): Promise<VerdigrisError> =>
  await work.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => error as VerdigrisError,
  );

const chunk = (tables: readonly TargetTable[], ordinal: number | null = 0): ChunkTarget => ({
  unit: 'public.t',
  ordinal,
  range: { lower: null, upper: null },
  tables,
});
const never = new AbortController().signal;

async function* bytes(...parts: string[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield await Promise.resolve(Buffer.from(part));
}

test('a chunk: raw bytes and mapped rows, held changes on top, done with the rows in one commit', async () => {
  await using g = await green(
    `CREATE TABLE t (id int PRIMARY KEY, v text, up text GENERATED ALWAYS AS (upper(v)) STORED)`,
  );
  const t = await g.target('t');
  await g.sink.prepare([t]);
  await g.sink.begin(g.at);
  await g.sink.defineRanges('public.t', ['100', '200']);
  expect(await failure(g.sink.defineRanges('public.t', []))).toMatchObject({ code: 'STATE_CONFLICT' });
  const writer = await g.sink.openChunk(chunk([t]), never);
  // Chunks of bytes are not row boundaries.
  expect(await writer.raw(t, [0, 1], bytes('1\ta\\t\n2', '\t\\N\n3\tc', '\n'), false)).toBe(3);
  await writer.write(insert(t.relation, ['4', `d\t\\"`, U], ['5', null, U]));
  await writer.write(insert(t.relation, ['6', 'f', U]));
  expect(await g.rows('SELECT * FROM t')).toEqual([]);
  await writer.close(
    [
      remove(t.relation, ['1', U, U]),
      update(t.relation, [1], ['2', 'held', U]),
      insert(t.relation, ['7', 'new', U]),
    ],
    {
      opened: [
        { table: { schema: 's', name: 'b' }, key: ['8'], kind: 'incomplete', column: 'v', reason: 'r' },
      ],
      closed: [],
    },
    asPosition('p1'),
    123,
  );
  expect(await g.rows('SELECT id, v, up FROM t ORDER BY id')).toEqual([
    '2|held|HELD',
    '3|c|C',
    '4|d\t\\"|D\t\\"',
    '5|∅|∅',
    '6|f|F',
    '7|new|NEW',
  ]);
  expect(await g.sink.ranges()).toEqual([
    { unit: 'public.t', ordinal: 0, lower: null, upper: '100', upto: 'p1', rows: 6, bytes: 123 },
    { unit: 'public.t', ordinal: 1, lower: '100', upper: '200', upto: null, rows: 0, bytes: 0 },
    { unit: 'public.t', ordinal: 2, lower: '200', upper: null, upto: null, rows: 0, bytes: 0 },
  ]);
  expect((await g.sink.holes()).length).toBe(1);
  await writer.cancel();
  // A range that is done is not done again.
  const again = await g.sink.openChunk(chunk([t]), never);
  await again.write(insert(t.relation, ['50', 'x', U]));
  expect(await failure(again.close([], NO_HOLES, asPosition('p2'), 0))).toMatchObject({
    code: 'SINK_FENCED',
  });
  expect(await failure(again.write(insert(t.relation, ['51', 'x', U])))).toMatchObject({ code: 'INTERNAL' });
  expect(await g.rows('SELECT count(*) FROM t')).toEqual(['6']);
});

test('a chunk that is cancelled, aborted, or loses its session leaves nothing', async () => {
  await using g = await green(`CREATE TABLE t (id int PRIMARY KEY, v text)`);
  const t = await g.target('t');
  await g.sink.prepare([t]);
  await g.sink.begin(g.at);
  await g.sink.defineRanges('public.t', []);
  const cancelled = await g.sink.openChunk(chunk([t]), never);
  await cancelled.raw(t, [0, 1], bytes('1\ta\n'), false);
  await cancelled.cancel();
  await cancelled.cancel();

  const stop = new AbortController();
  const aborted = await g.sink.openChunk(chunk([t]), stop.signal);
  await aborted.write(insert(t.relation, ['1', 'a']));
  stop.abort(new Error('window cancelled'));
  expect((await failure(aborted.close([], NO_HOLES, asPosition('p'), 0))).message).toBe('window cancelled');

  const killed = await g.sink.openChunk(chunk([t]), never);
  await killed.write(insert(t.relation, ['1', 'a']));
  await g.db.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'verdigris:shop:chunk:t1'`,
  );
  expect(await failure(killed.close([], NO_HOLES, asPosition('p'), 0))).toMatchObject({ code: 'SINK_LOST' });

  const bad = await g.sink.openChunk(chunk([t]), never);
  expect(await failure(bad.raw(t, [0, 1], bytes('1\ta\n', 'secret\tb\n'), false))).toMatchObject({
    code: 'SINK_FAILED',
  });
  expect(await g.rows('SELECT count(*) FROM t')).toEqual(['0']);
  expect((await g.sink.ranges()).map((range) => range.upto)).toEqual([null]);
  await using writer = await g.sink.openChunk(chunk([t]), never);
  await writer.raw(t, [0, 1], bytes('1\ta\n'), false);
  await writer.close([], NO_HOLES, asPosition('p'), 0);
  expect(await g.rows('SELECT count(*) FROM t')).toEqual(['1']);
});

test('lost lease: a chunk cannot open, and a takeover ends the one that is open', async () => {
  await using g = await green(`CREATE TABLE t (id int PRIMARY KEY, v text)`);
  const t = await g.target('t');
  await g.sink.prepare([t]);
  await g.sink.begin(g.at);
  await g.sink.defineRanges('public.t', []);
  const writer = await g.sink.openChunk(chunk([t]), never);
  await writer.write(insert(t.relation, ['1', 'a']));
  // The open chunk holds the lease row, yet the lease can be renewed.
  expect(await g.state.renew('shop', g.term)).toBe(true);
  expect(await g.state.acquire('shop', 'other', { ttlMs: 1_000, takeover: true })).toBe(2);
  expect(await failure(writer.close([], NO_HOLES, asPosition('p'), 0))).toMatchObject({ code: 'SINK_LOST' });
  expect(await failure(g.sink.openChunk(chunk([t]), never))).toMatchObject({ code: 'SINK_FENCED' });
  expect(await g.rows('SELECT count(*) FROM t')).toEqual(['0']);
});

test('a group is never blocked by an open chunk under a live unique index, and re-read keys replace what is there', async () => {
  await using g = await green(`CREATE TABLE t (id int PRIMARY KEY, u text UNIQUE, d int DEFAULT 7)`);
  const t = await g.target('t');
  await g.sink.prepare([t]);
  await g.apply(insert(t.relation, ['1', 'old', '1']));
  await g.sink.defineRanges('public.t', []);
  const writer = await g.sink.openChunk(chunk([t]), never);
  await writer.raw(t, [0, 1], bytes('10\tten\n'), false);
  await writer.write({ ...insert(t.relation, ['11', 'eleven', U]), columns: [0, 1] });
  await g.apply(insert(t.relation, ['2', 'ten', '2']));
  await g.apply(remove(t.relation, ['2', U, U]));
  await writer.close([], NO_HOLES, asPosition('p'), 0);
  expect(await g.rows('SELECT * FROM t ORDER BY id')).toEqual(['1|old|1', '10|ten|7', '11|eleven|7']);

  const key = await g.sink.openChunk({ ...chunk([t], null), range: { keys: [['1'], ['12']] } }, never);
  await key.write(insert(t.relation, ['1', 'new', '3'], ['12', 'old', '4']));
  await key.close([update(t.relation, [2], ['12', U, '5'])], NO_HOLES, asPosition('p'), 0);
  expect(await g.rows('SELECT * FROM t ORDER BY id')).toEqual([
    '1|new|3',
    '10|ten|7',
    '11|eleven|7',
    '12|old|5',
  ]);
});

test('merge-half-first: a part waits for its owner, survives it, and fills absent values', async () => {
  await using g = await green(
    `CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL, city text NOT NULL, zip text, score json, n int NOT NULL DEFAULT 5)`,
  );
  const plain = await g.target('t');
  const t: TargetTable = {
    ...plain,
    merge: {
      owner: [0, 1, 5],
      parts: [
        { columns: [2, 3], absent: [`no 'city'`, null] },
        { columns: [4], absent: ['{"none": 1}'] },
      ],
    },
  };
  const r = t.relation;
  const own = (id: string, name: string) => ({ ...insert(r, [id, name, U, U, U, '1']), columns: [0, 1, 5] });
  const put = (columns: number[], ...after: Parameters<typeof update>[2][]) => ({
    ...update(r, columns, ...after),
    op: 'put' as const,
  });
  await g.sink.prepare([t]);
  await g.apply(put([0, 2, 3], ['1', U, 'Rome', '00100', U, U], ['2', U, 'Oslo', null, U, U]));
  expect(await g.rows('SELECT count(*) FROM t')).toEqual(['0']);
  await g.apply(put([0, 4], ['1', U, U, U, '{"a":1}', U]), own('1', 'Ann'));
  await g.apply(own('3', 'Cid'), put([0, 3], ['2', U, U, '0150', U, U]));
  expect(await g.rows('SELECT * FROM t ORDER BY id')).toEqual([
    '1|Ann|Rome|00100|[object Object]|1',
    `3|Cid|no 'city'|∅|[object Object]|1`,
  ]);
  expect(await g.rows('SELECT score::text FROM t ORDER BY id')).toEqual(['{"a":1}', '{"none": 1}']);
  // The owner goes and comes back: the parts stayed.
  await g.apply(remove(r, ['1', U, U, U, U, U], ['3', U, U, U, U, U]));
  const half = (await g.rows(`SELECT storage FROM verdigris.halves`))[0] as string;
  expect(await g.rows(`SELECT id, city, zip, score::text FROM ${half} ORDER BY id`)).toEqual([
    `1|Rome|00100|{"a":1}`,
    `2|Oslo|0150|{"none": 1}`,
  ]);
  await g.apply(own('1', 'Ann2'), own('2', 'Bob'));
  expect(await g.rows('SELECT id, name, city, zip FROM t ORDER BY id')).toEqual([
    '1|Ann2|Rome|00100',
    '2|Bob|Oslo|0150',
  ]);
  // A part that goes is a part at its absent values; waiting, it leaves nothing behind.
  await g.apply(put([0, 2, 3], ['2', U, `no 'city'`, null, U, U], ['9', U, 'X', 'Y', U, U]));
  await g.apply(put([0, 2, 3], ['9', U, `no 'city'`, null, U, U]));
  expect(await g.rows(`SELECT count(*) FROM ${half}`)).toEqual(['0']);
  expect(await g.rows('SELECT city FROM t WHERE id = 2')).toEqual([`no 'city'`]);
  await g.sink.retire();
  expect(await g.rows(`SELECT to_regclass('${half}')::text`)).toEqual(['∅']);
});

test('merged and exploded rows in a chunk; shrink-exploded-array: replace removes the children that are gone', async () => {
  await using g = await green(
    `CREATE TABLE m (id int PRIMARY KEY, a text, b text UNIQUE); CREATE TABLE c (p text, n int, v text, PRIMARY KEY (p, n))`,
  );
  const m: TargetTable = {
    ...(await g.target('m')),
    merge: { owner: [0, 1], parts: [{ columns: [2], absent: [null] }] },
  };
  const c = await g.target('c', { prefix: 1 });
  const replace = (parents: string[], ...after: string[][]): RowRun => ({
    relation: c.relation,
    op: 'replace',
    before: parents.map((parent) => [parent, U, U]),
    after,
    columns: [0, 1, 2],
  });
  await g.sink.prepare([m, c]);
  await g.sink.begin(g.at);
  await g.sink.defineRanges('public.t', []);
  const writer = await g.sink.openChunk(chunk([m, c]), never);
  await writer.write({ ...insert(m.relation, ['1', 'A', U]), columns: [0, 1] });
  await writer.write({ ...update(m.relation, [0, 2], ['1', U, 'B'], ['2', U, 'W']), op: 'put' });
  await writer.write(replace(['x', 'y'], ['x', '0', 'x0'], ['x', '1', 'x1'], ['y', '0', 'y0']));
  await writer.close([replace(['y'])], NO_HOLES, asPosition('p'), 0);
  expect(await g.rows('SELECT * FROM m')).toEqual(['1|A|B']);
  expect(await g.rows('SELECT * FROM c ORDER BY p, n')).toEqual(['x|0|x0', 'x|1|x1']);
  const group = g.group([replace(['x', 'z'], ['x', '0', 'new'], ['z', '0', 'z0'])]);
  await g.sink.apply(group);
  expect(await g.rows('SELECT * FROM c ORDER BY p, n')).toEqual(['x|0|new', 'z|0|z0']);
});

test('a chunk that writes to two tables by turns, neither of them known before', async () => {
  await using g = await green(
    `CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text)`,
  );
  const [a, b] = [await g.target('a'), await g.target('b')];
  await g.sink.prepare([a, b]);
  await g.sink.begin(g.at);
  await g.sink.defineRanges('public.t', []);
  await using writer = await g.sink.openChunk(chunk([a, b]), AbortSignal.timeout(20_000));
  for (const id of ['1', '2']) {
    await writer.write(insert(a.relation, [id, 'a']));
    await writer.write(insert(b.relation, [id, 'b']));
  }
  await writer.close([], NO_HOLES, asPosition('p1'), 1);
  expect(await g.rows('SELECT id, v FROM a ORDER BY id')).toEqual(['1|a', '2|a']);
  expect(await g.rows('SELECT id, v FROM b ORDER BY id')).toEqual(['1|b', '2|b']);
});

test('a row that the server refuses in the copy: the error names the table, raw and mapped', async () => {
  await using g = await green('CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL)');
  const t = await g.target('t');
  await g.sink.prepare([t]);
  await g.sink.begin(g.at);
  await g.sink.defineRanges('public.t', ['100']);
  const named = { code: 'SINK_CONFLICT', context: { table: 'public.t', sqlstate: '23502' } };
  await using raw = await g.sink.openChunk(chunk([t]), never);
  expect(await failure(raw.raw(t, [0, 1], bytes('1\t\\N\n'), false))).toMatchObject(named);
  await using mapped = await g.sink.openChunk(chunk([t]), never);
  await mapped.write(insert(t.relation, ['1', null]));
  expect(await failure(mapped.close([], NO_HOLES, asPosition('p'), 0))).toMatchObject(named);
});
