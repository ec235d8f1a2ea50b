import { expect, test } from 'vitest';
import type { VerdigrisError } from '../../../src/core/errors.ts';
import type { Position } from '../../../src/core/position.ts';
import { green, insert, move, NO_HOLES, only, remove, truncate, U, update } from './sink-setup.ts';

const failure = async (work: Promise<unknown>): Promise<VerdigrisError> =>
  await work.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => error as VerdigrisError,
  );

const big = 'T'.repeat(9_000);

test('deferrable-shift: SET pos = pos + 1 under a plain unique constraint of green', async () => {
  await using g = await green(
    `CREATE TABLE t (id int PRIMARY KEY, pos int UNIQUE, big text, up int GENERATED ALWAYS AS (pos * 2) STORED);
     CREATE TABLE other (id int PRIMARY KEY, n int)`,
  );
  const { relation: t } = await g.target('t');
  const { relation: other } = await g.target('other');
  await g.sink.prepare([]);
  await g.apply(
    insert(t, ['1', '1', big, U], ['2', '2', big, U], ['3', '3', big, U]),
    insert(other, ['1', '1']),
  );
  await g.apply(
    update(t, [0, 1], ['1', '2', U, U], ['2', '3', U, U], ['3', '4', U, U]),
    update(other, [1], ['1', '2']),
  );
  expect(await g.rows('SELECT id, pos, length(big), up FROM t ORDER BY id')).toEqual([
    '1|2|9000|4',
    '2|3|9000|6',
    '3|4|9000|8',
  ]);
  expect(await g.rows('SELECT n FROM other')).toEqual(['2']);
  expect(g.sink.fallbacks).toBe(1);
});

test('two rows swap a unique value; a deleted row hands its value to an inserted one; only the named table goes to the shadow', async () => {
  await using g = await green(
    `CREATE TABLE t (id int PRIMARY KEY, email text UNIQUE, v text DEFAULT 'dflt', EXCLUDE USING btree (v WITH =) WHERE (v <> 'dflt'))`,
  );
  const { relation: t } = await g.target('t');
  await g.sink.prepare([]);
  await g.apply(insert(t, ['1', 'a', 'x'], ['2', 'b', 'y'], ['3', 'c', 'z']));
  await g.apply(remove(t, ['3', U, U]), update(t, [1, 2], ['1', 'b', 'y'], ['2', 'a', 'x']), {
    relation: t,
    op: 'insert',
    after: [['4', 'c', U]],
    before: [null],
    columns: [0, 1],
  });
  expect(await g.rows('SELECT * FROM t ORDER BY id')).toEqual(['1|b|y', '2|a|x', '4|c|dflt']);
  await g.apply(update(t, [2], ['1', U, 'x'], ['2', U, 'y']));
  expect(await g.rows('SELECT v FROM t ORDER BY id')).toEqual(['x', 'y', 'dflt']);
  expect(g.sink.fallbacks).toBe(2);
});

test('key swap and a chain of key changes, with unchanged TOAST values', async () => {
  await using g = await green(`CREATE TABLE t (id int PRIMARY KEY, v text, big text)`);
  const { relation: t } = await g.target('t');
  await g.sink.prepare([]);
  await g.apply(insert(t, ...[1, 2, 3, 4].map((id) => [String(id), `v${id}`, `${id}${big}`])));
  const key = (id: string) => only(t, { 0: id });
  await g.apply(
    move(
      t,
      [0, 1],
      [key('1'), ['2', 'was1', U]],
      [key('2'), ['1', 'was2', U]],
      [key('3'), ['4', 'was3', U]],
      [key('4'), ['5', 'was4', U]],
    ),
  );
  expect(await g.rows('SELECT id, v, left(big, 1), length(big) FROM t ORDER BY id')).toEqual([
    '1|was2|2|9001',
    '2|was1|1|9001',
    '4|was3|3|9001',
    '5|was4|4|9001',
  ]);
});

test('identity-always-key-change: the key moves in place of an UPDATE that the server refuses', async () => {
  await using g = await green(
    `CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, big text);
     CREATE TABLE n (k int PRIMARY KEY, id int GENERATED ALWAYS AS IDENTITY, v text)`,
  );
  const { relation: t } = await g.target('t');
  const { relation: n } = await g.target('n');
  await g.sink.prepare([]);
  await g.apply(insert(t, ['1', 'a', big], ['2', 'b', big]), insert(n, ['1', '10', 'a'], ['2', '20', 'b']));
  await g.apply(update(t, [0, 1], ['1', 'A', U]), move(t, [0, 1], [only(t, { 0: '2' }), ['7', 'B', U]]));
  expect(await g.rows('SELECT id, v, length(big) FROM t ORDER BY id')).toEqual(['1|A|9000', '7|B|9000']);
  expect(g.sink.fallbacks).toBe(0);
  await g.apply(move(t, [0], [only(t, { 0: '1' }), ['7', U, U]], [only(t, { 0: '7' }), ['1', U, U]]));
  expect(await g.rows('SELECT id, v, length(big) FROM t ORDER BY id')).toEqual(['1|B|9000', '7|A|9000']);
  await g.apply(update(n, [0, 1, 2], ['1', '10', 'same'], ['2', '21', 'moved']));
  expect(await g.rows('SELECT * FROM n ORDER BY k')).toEqual(['1|10|same', '2|21|moved']);
});

test('a value that an untouched row holds is a conflict that names table, constraint and key', async () => {
  await using g = await green(
    `CREATE TABLE t (id int PRIMARY KEY, email text UNIQUE DEFERRABLE INITIALLY DEFERRED)`,
  );
  const { relation: t } = await g.target('t');
  await g.sink.prepare([]);
  await g.apply(insert(t, ['1', 'secret1'], ['2', 'secret2'], ['3', 'secret3']));
  // Deferred, so the server reports it only at COMMIT.
  const error = await failure(g.sink.apply(g.group([update(t, [1], ['1', 'secret4'], ['2', 'secret3'])])));
  expect(error).toMatchObject({
    code: 'SINK_CONFLICT',
    context: { table: 'public.t', constraint: 't_email_key', key: { id: '2' } },
  });
  expect(`${error.message} ${JSON.stringify(error.context)}`).not.toContain('secret');
  await g.apply(update(t, [1], ['1', 'secret2'], ['2', 'secret1']));
  expect(await g.rows('SELECT email FROM t ORDER BY id')).toEqual(['secret2', 'secret1', 'secret3']);
});

test('a transaction in parts: one commit, fallback across parts, and a part that is tried again', async () => {
  await using g = await green(`CREATE TABLE t (id int PRIMARY KEY, pos int UNIQUE, v text)`);
  const { relation: t } = await g.target('t');
  await g.sink.prepare([]);
  await g.apply(insert(t, ['1', '1', 'a'], ['2', '2', 'b'], ['3', '3', 'c'], ['4', '4', 'd']));
  const part = (runs: Parameters<typeof g.group>[0]) => g.sink.apply(g.group(runs, { end: null }));
  await part([update(t, [1], ['1', '2', U], ['2', '3', U])]);
  expect(g.sink.fallbacks).toBe(1);
  expect(await g.rows('SELECT pos FROM t ORDER BY id')).toEqual(['1', '2', '3', '4']);
  expect(await failure(part([remove(t, ['99', U, U])]))).toMatchObject({
    code: 'SINK_CONFLICT',
    context: { key: { id: '99' } },
  });
  await part([update(t, [1], ['3', '4', U], ['4', '1', U]), insert(t, ['5', '5', 'e'])]);
  await part([update(t, [1, 2], ['5', '6', 'E'])]);
  const last = g.group([remove(t, ['2', U, U])]);
  await g.sink.apply(last);
  g.at = last.end as Position;
  expect(await g.rows('SELECT * FROM t ORDER BY id')).toEqual(['1|2|a', '3|4|c', '4|1|d', '5|6|E']);
  expect(await g.sink.checkpoint()).toBe(g.at);
  await part([truncate(t)]);
  await g.sink.abandon();
  await g.apply(insert(t, ['9', '9', 'z']));
  expect(await g.rows('SELECT count(*) FROM t')).toEqual(['5']);
});

test('a partition that is named by the server belongs to its table', async () => {
  await using g = await green(
    `CREATE TABLE t (id int, day int, u int, PRIMARY KEY (id, day), UNIQUE (u, day)) PARTITION BY LIST (day);
     CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE t2 PARTITION OF t FOR VALUES IN (2)`,
  );
  const { relation: t } = await g.target('t');
  await g.sink.prepare([]);
  await g.apply(insert(t, ['1', '1', '1'], ['2', '1', '2'], ['3', '2', '1']));
  await g.apply(update(t, [2], ['1', '1', '2'], ['2', '1', '1'], ['3', '2', '5']));
  await g.apply(move(t, [0, 1, 2], [only(t, { 0: '3', 1: '2' }), ['3', '1', '7']]));
  expect(await g.rows('SELECT * FROM t ORDER BY id')).toEqual(['1|1|2', '2|1|1', '3|1|7']);
  const error = await failure(g.sink.apply(g.group([insert(t, ['8', '9', '9'])])));
  expect(error).toMatchObject({ code: 'SINK_CONFLICT', context: { key: { id: '8', day: '9' } } });
});

test('one-too-long-per-type: a value that does not fit is an error that names table, key and column, never cut', async () => {
  const types = {
    a: 'varchar(3)',
    b: 'char(3)',
    c: 'bit(4)',
    d: 'varbit(4)',
    e: 'numeric(5,2)',
    f: 'varchar(3)[]',
    g: 'short',
  };
  const columns = Object.entries(types).map(([name, type]) => `${name} ${type}`);
  await using g = await green(
    `CREATE DOMAIN short AS varchar(3); CREATE TABLE t (id int PRIMARY KEY, ${columns.join(', ')})`,
  );
  const { relation: t } = await g.target('t');
  await g.sink.prepare([]);
  const good = ['1', 'abc', 'abc', '1010', '1010', '999.99', '{abc}', 'abc'];
  const bad = ['', 'abcd', 'abcd', '10101', '10101', '9999.99', '{abcd}', 'abcd'];
  await g.apply(insert(t, good));
  for (let column = 1; column < good.length; column += 1) {
    const row = ['2', ...good.slice(1)];
    row[column] = bad[column] as string;
    const name = Object.keys(types)[column - 1];
    for (const run of [
      insert(t, ['3', ...good.slice(1)], row),
      update(t, [column], ['1', ...row.slice(1)]),
    ]) {
      const error = await failure(g.sink.apply(g.group([run])));
      expect(error, `${name} ${run.op}`).toMatchObject({
        code: 'SINK_FAILED',
        directive: 'operator',
        context: { table: 'public.t', column: name, key: { id: run.op === 'insert' ? '2' : '1' } },
      });
      expect(error.message + JSON.stringify(error.context)).not.toContain(bad[column]);
    }
  }
  await g.apply(insert(t, ['2', ...good.slice(1)]));
  expect(await g.rows('SELECT * FROM t ORDER BY id')).toEqual(
    ['1', '2'].map((id) => `${id}|abc|abc|1010|1010|999.99|abc|abc`),
  );
});

test('not null and check violations name row and constraint; holes open and close with the rows', async () => {
  await using g = await green(`CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL, n int CHECK (n > 0))`);
  const { relation: t } = await g.target('t');
  await g.sink.prepare([]);
  await g.apply();
  expect(await failure(g.sink.apply(g.group([insert(t, ['1', 'a', '1'], ['2', null, '1'])])))).toMatchObject({
    code: 'SINK_CONFLICT',
    context: { key: { id: '2' }, column: 'v' },
  });
  expect(await failure(g.sink.apply(g.group([insert(t, ['1', 'a', '1'], ['3', 'a', '0'])])))).toMatchObject({
    code: 'SINK_CONFLICT',
    context: { key: { id: '3' }, constraint: 't_n_check' },
  });
  const table = { schema: 'sh"op', name: 'blue, {t}' };
  const hole = (key: string[], kind: 'rejected' | 'incomplete', reason: string) => ({
    table,
    key,
    kind,
    column: 'c',
    reason,
  });
  const keys = [
    ['a"b', '{}'],
    ['c\\,d', 'NULL'],
  ];
  const open = g.group([], {
    holes: { opened: keys.map((key) => hole(key, 'rejected', 'no room')), closed: [] },
  });
  await g.sink.apply(open);
  g.at = open.end as Position;
  expect(await g.sink.holes()).toEqual(keys.map((key) => hole(key, 'rejected', 'no room')));
  expect(await g.rows('SELECT key, reason FROM verdigris.rejects')).toHaveLength(2);
  const close = g.group([], {
    holes: {
      opened: [hole(keys[1] as string[], 'incomplete', 'toast')],
      closed: [{ table, key: keys[0] as string[] }],
    },
  });
  await g.sink.apply(close);
  g.at = close.end as Position;
  expect(await g.sink.holes()).toEqual([hole(keys[1] as string[], 'incomplete', 'toast')]);
  await g.sink.apply(g.group([], { holes: NO_HOLES }));
});
