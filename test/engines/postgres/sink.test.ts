import { expect, test } from 'vitest';
import type { VerdigrisError } from '../../../src/core/errors.ts';
import type { TargetTable } from '../../../src/core/plan.ts';
import { asPosition } from '../../../src/core/position.ts';
import type { Tuple } from '../../../src/core/table.ts';
import { green, insert, move, only, remove, truncate, U, update } from './sink-setup.ts';

const failure = async (work: Promise<unknown>): Promise<VerdigrisError> =>
  await work.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => error as VerdigrisError,
  );

test('every statement shape: insert, update by mask, delete, key change, truncate', async () => {
  await using g = await green(`CREATE TABLE t (a int, b text, c text, d numeric(6,2), PRIMARY KEY (a, b))`);
  const { relation: t } = await g.target('t');
  await g.sink.prepare([await g.target('t')]);
  await g.apply(insert(t, ['1', 'x', 'one', '1.50'], ['2', 'y', null, null], ['3', 'z', 'three', '3']));
  await g.apply(
    remove(t, ['2', 'y', U, U]),
    move(t, [0, 1, 3], [only(t, { 0: '3', 1: 'z' }), ['4', 'w', U, '4']]),
    update(t, [0, 1, 2], ['1', 'x', 'uno', U]),
    insert(t, ['5', 'v', 'five', '5.25']),
  );
  expect(await g.rows('SELECT * FROM t ORDER BY a')).toEqual([
    '1|x|uno|1.50',
    '4|w|three|4.00',
    '5|v|five|5.25',
  ]);
  await g.apply(truncate(t), insert(t, ['9', 'n', 'nine', '9']));
  expect(await g.rows('SELECT * FROM t')).toEqual(['9|n|nine|9.00']);
  expect(await g.sink.checkpoint()).toBe(g.at);
  expect(await g.rows('SELECT transactions, newest_commit_ms, term FROM verdigris.checkpoint')).toEqual([
    '3|1700000000000|1',
  ]);
});

test('unchanged cells keep the old value and never become NULL', async () => {
  await using g = await green(`CREATE TABLE t (id int PRIMARY KEY, a text, big text)`);
  const { relation: t } = await g.target('t');
  const big = 'x'.repeat(20_000);
  await g.sink.prepare([]);
  await g.apply(insert(t, ['1', 'a', big], ['2', 'b', big]));
  await g.apply(update(t, [0, 1], ['1', 'A', U]), move(t, [0, 1], [only(t, { 0: '2' }), ['3', 'B', U]]));
  // Without a mask the shapes are found row by row, never from the first row.
  await g.apply({
    relation: t,
    op: 'update',
    before: [null, null],
    after: [
      ['1', U, 'short'],
      ['3', 'C', U],
    ],
  });
  expect(await g.rows(`SELECT id, a, left(big, 5), length(big) FROM t ORDER BY id`)).toEqual([
    '1|A|short|5',
    '3|C|xxxxx|20000',
  ]);
});

test('text with quotes, backslashes, newlines, tabs and NULL-like words passes through unnest and COPY', async () => {
  await using g = await green(`CREATE TABLE t (id int PRIMARY KEY, v text, b bytea, a text[])`);
  const { relation: t } = await g.target('t');
  const nasty = [
    `"`,
    `\\`,
    `\\N`,
    `NULL`,
    ``,
    ` `,
    `a\tb\nc\rd\be\ff\vg`,
    `{a,"b"}`,
    `\\.`,
    `'; drop table t; --`,
    'ü€😀',
    '\\x00',
  ];
  await g.sink.prepare([]);
  await g.apply(
    insert(t, ...nasty.map((v, i) => [String(i), v, '\\x00ff5c22', '{"a\\"b",NULL,"NULL","c\\\\d"}'])),
  );
  const filler = 'f'.repeat(1_000);
  const many = Array.from({ length: 400 }, (_, i) => [
    String(100 + i),
    `${nasty[i % nasty.length]}${filler}`,
    null,
    null,
  ]);
  await g.apply(insert(t, ...many));
  const { rows } = await g.db.client.query<{ id: number; v: string; a: string[] | null; b: Buffer | null }>(
    'SELECT * FROM t ORDER BY id',
  );
  expect(rows.length).toBe(nasty.length + 400);
  nasty.forEach((v, i) =>
    expect(rows[i]).toEqual({
      id: i,
      v,
      b: Buffer.from([0, 255, 0x5c, 0x22]),
      a: ['a"b', null, 'NULL', 'c\\d'],
    }),
  );
  many.forEach((row, i) => expect(rows[nasty.length + i]?.v).toBe(row[1]));
});

test('NUL in text is refused with table, key and column, and nothing is written', async () => {
  await using g = await green(`CREATE TABLE t (id int PRIMARY KEY, v text)`);
  const { relation: t } = await g.target('t');
  await g.sink.prepare([]);
  await g.apply();
  const error = await failure(g.sink.apply(g.group([insert(t, ['1', 'fine'], ['2', 'a\0b'])])));
  expect(error.code).toBe('SINK_FAILED');
  expect(await g.rows('SELECT * FROM t')).toEqual([]);
});

test('stale-pipelined-group-writes-nothing: the whole group of an old term is refused by the server', async () => {
  await using g = await green(`CREATE TABLE t (id int PRIMARY KEY)`);
  const { relation: t } = await g.target('t');
  await g.sink.prepare([]);
  await g.apply(insert(t, ['1']));
  const old = g.another(g.term);
  await old.prepare([]);
  await old.checkpoint();
  // The lease moves on without ending sessions, as after a takeover over another network path.
  await g.db.query('UPDATE verdigris.lease SET term = term + 1');
  const error = await failure(old.apply(g.group([insert(t, ['2'])])));
  expect(error).toMatchObject({ code: 'SINK_FENCED', directive: 'fatal' });
  expect(await failure(old.begin(asPosition('7')))).toMatchObject({ code: 'SINK_FENCED' });
  expect(await g.rows('SELECT * FROM t')).toEqual(['1']);
  expect(await g.rows('SELECT position FROM verdigris.checkpoint')).toEqual([g.at]);
});

test('a group on top of another position is refused by the server', async () => {
  await using g = await green(`CREATE TABLE t (id int PRIMARY KEY)`);
  const { relation: t } = await g.target('t');
  await g.sink.prepare([]);
  await g.apply(insert(t, ['1']));
  const error = await failure(
    g.sink.apply(g.group([insert(t, ['2'])], { previous: asPosition('elsewhere') })),
  );
  expect(error.code).toBe('SINK_FENCED');
  expect(await g.rows('SELECT * FROM t')).toEqual(['1']);
  await g.apply(insert(t, ['2']));
});

test('strict: an insert that exists, an update and a delete that miss are conflicts that name table, key and constraint', async () => {
  await using g = await green(
    `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'secret-old')`,
  );
  const { relation: t } = await g.target('t');
  await g.sink.prepare([]);
  await g.apply();
  const cases = [
    [insert(t, ['7', 'secret'], ['1', 'secret']), { id: '1' }],
    [update(t, [0, 1], ['1', 'secret'], ['8', 'secret']), { id: '8' }],
    [remove(t, ['1', U], ['9', U]), { id: '9' }],
    [move(t, [0], [only(t, { 0: '1' }), ['2', U]], [only(t, { 0: '11' }), ['12', U]]), { id: '11' }],
  ] as const;
  for (const [run, key] of cases) {
    const error = await failure(g.sink.apply(g.group([run])));
    expect(error, run.op).toMatchObject({
      code: 'SINK_CONFLICT',
      context: { table: 'public.t', keyColumns: ['id'], key, previous: g.at },
    });
    expect(`${error.message} ${JSON.stringify(error.context)}`).not.toContain('secret');
    expect(await g.rows('SELECT * FROM t')).toEqual(['1|secret-old']);
  }
  const taken = await failure(g.sink.apply(g.group([insert(t, ['1', 'x'])])));
  expect(taken.context['constraint']).toBe('t_pkey');
  await g.apply(insert(t, ['2', 'after']));
});

test('a COPY behind a failure, in its own data and before one: nothing is written, the row is named, and the connection goes on', async () => {
  await using g = await green(
    `CREATE TABLE a (id int PRIMARY KEY, v varchar(600)); CREATE TABLE b (LIKE a INCLUDING ALL)`,
  );
  const [a, b] = (await g.targets('a', 'b')) as [TargetTable, TargetTable];
  await g.sink.prepare([a, b]);
  const rows = (from: number, last: string): Tuple[] =>
    Array.from({ length: 1_000 }, (_, n) => [String(from + n), n === 999 ? last : 'x'.repeat(500)]);
  await g.apply(insert(a.relation, ['0', 'zero']));
  const before = g.at;
  // An update that misses, and behind it half a megabyte of COPY that the server has to read over.
  const missed = await failure(
    g.apply(update(a.relation, [0, 1], ['77', 'x']), insert(b.relation, ...rows(1, 'last'))),
  );
  expect(missed.context).toMatchObject({ table: 'public.a' });
  const long = await failure(
    g.apply(insert(b.relation, ...rows(1, 'y'.repeat(601))), insert(a.relation, ['5', 'five'])),
  );
  expect(long.context).toMatchObject({ table: 'public.b' });
  const after = await failure(
    g.apply(insert(b.relation, ...rows(1, 'last')), update(a.relation, [0, 1], ['78', 'x'])),
  );
  expect(after.context).toMatchObject({ table: 'public.a' });
  expect(g.at).toBe(before);
  expect(await g.rows('SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)')).toEqual(['1|0']);
  await g.apply(insert(b.relation, ...rows(1, 'last')), insert(a.relation, ...rows(1, 'end')));
  expect(
    await g.rows(
      'SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b), (SELECT v FROM b WHERE id = 1000)',
    ),
  ).toEqual(['1001|1000|last']);
});

test('F56: of three identical rows without a key exactly one is changed or deleted', async () => {
  await using g = await green(
    `CREATE TABLE t (a int, j json, f float8, b bool, c char(4), n numeric(5,2)); ALTER TABLE t REPLICA IDENTITY FULL`,
  );
  const { relation } = await g.target('t');
  const t = { ...relation, key: [] };
  const row = ['1', '{"a": 1}', '-0', 't', 'ab', '1.5'];
  await g.sink.prepare([]);
  await g.apply(insert(t, row, row, row), insert(t, [null, null, 'NaN', null, '', null]));
  await g.apply(remove(t, row));
  expect(await g.rows('SELECT count(*) FROM t')).toEqual(['3']);
  await g.apply({
    relation: t,
    op: 'update',
    before: [row],
    after: [['2', '{"a": 1}', '0', 'f', 'ab', '1.50']],
    columns: [0, 1, 2, 3, 4, 5],
  });
  expect(await g.rows('SELECT a, f::text FROM t ORDER BY a')).toEqual(['1|-0', '2|0', '∅|NaN']);
  await g.apply(remove(t, [null, null, 'NaN', null, '', null]));
  const error = await failure(g.sink.apply(g.group([remove(t, ['2', '{"a": 1}', '-0', 'f', 'ab', '1.50'])])));
  expect(error.code).toBe('SINK_CONFLICT');
  expect(await g.rows('SELECT count(*) FROM t')).toEqual(['2']);
});
