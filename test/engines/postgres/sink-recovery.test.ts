import { expect, test } from 'vitest';
import type { VerdigrisError } from '../../../src/core/errors.ts';
import type { TargetTable } from '../../../src/core/plan.ts';
import { asPosition, type Position } from '../../../src/core/position.ts';
import { createSink } from '../../../src/engines/postgres/sink.ts';
import { startTcpProxy } from '../../support/tcp-proxy.ts';
import { waitFor } from '../../support/wait.ts';
import { green, insert, move, NO_HOLES, only, remove, U, update, type Green } from './sink-setup.ts';

const failure = async (work: Promise<unknown>): Promise<VerdigrisError> =>
  await work.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => error as VerdigrisError,
  );

const never = new AbortController().signal;

async function throughProxy(g: Green) {
  const url = new URL(g.db.url);
  const proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
  url.port = String(proxy.port);
  const sink = createSink({
    config: { ...g.config, url: url.href },
    env: g.env,
    options: { direction: 'forward', term: g.term, maxBatchBytes: 1 << 20 },
  });
  return {
    proxy,
    sink,
    async [Symbol.asyncDispose]() {
      await sink[Symbol.asyncDispose]();
      await proxy.close();
    },
  };
}

test('F05: the reply to COMMIT is lost; the checkpoint says that the group is there', async () => {
  await using g = await green('CREATE TABLE t (id int PRIMARY KEY)');
  const { relation: t } = await g.target('t');
  await using far = await throughProxy(g);
  await far.sink.prepare([]);
  await far.sink.begin(g.at);
  await far.sink.apply(g.group([], { end: g.at }));
  far.proxy.delay(300);
  const group = g.group([insert(t, ['1'])]);
  const lost = failure(far.sink.apply(group));
  await waitFor(async () => (await g.rows('SELECT position FROM verdigris.checkpoint'))[0] === group.end, {
    what: 'the commit',
  });
  far.proxy.cut();
  expect(await lost).toMatchObject({ code: 'SINK_LOST', directive: 'retry' });
  far.proxy.delay(0);
  // Until somebody has looked at the checkpoint nothing is written.
  expect(await failure(far.sink.apply(group))).toMatchObject({ code: 'SINK_LOST' });
  expect(await far.sink.checkpoint()).toBe(group.end);
  await far.sink.apply(g.group([insert(t, ['2'])], { previous: group.end as Position }));
  expect(await g.rows('SELECT id FROM t ORDER BY id')).toEqual(['1', '2']);
});

test('a group that was sent whole and lost its connection cannot commit behind the checkpoint that is read after', async () => {
  await using g = await green('CREATE TABLE t (id int PRIMARY KEY, v text)');
  const target = await g.target('t');
  const t = target.relation;
  await using far = await throughProxy(g);
  await far.sink.prepare([]);
  await far.sink.begin(g.at);
  await far.sink.defineRanges('public.t', []);
  await far.sink.apply(g.group([insert(t, ['1', 'a'])], { end: g.at }));
  const other = await g.db.connect();
  await other.query('BEGIN; LOCK TABLE t');
  const group = g.group([update(t, [1], ['1', 'b'])]);
  const lost = failure(far.sink.apply(group));
  const blocked = async () =>
    (
      await g.rows(
        `SELECT 1 FROM pg_stat_activity WHERE application_name = 'verdigris:shop:apply:t1' AND wait_event_type = 'Lock'`,
      )
    ).length > 0;
  await waitFor(blocked, { what: 'the group to wait for the lock' });
  far.proxy.cut();
  expect(await lost).toMatchObject({ code: 'SINK_LOST' });
  expect(await far.sink.checkpoint()).toBe(g.at);
  await other.query('COMMIT');
  await far.sink.apply(group);
  expect(await g.rows('SELECT v FROM t')).toEqual(['b']);

  // The same for a chunk: what it had sent must not turn the range done after the ranges were read.
  const writer = await far.sink.openChunk(
    { unit: 'public.t', ordinal: 0, range: { lower: null, upper: null }, tables: [target] },
    never,
  );
  await writer.write(insert(t, ['2', 'c']));
  await other.query('BEGIN; SELECT * FROM verdigris.ranges FOR UPDATE');
  const gone = failure(writer.close([], NO_HOLES, asPosition('p'), 0));
  await waitFor(
    async () =>
      (
        await g.rows(
          `SELECT 1 FROM pg_stat_activity WHERE application_name = 'verdigris:shop:chunk:t1' AND wait_event_type = 'Lock'`,
        )
      ).length > 0,
    {
      what: 'the chunk to wait for the lock',
    },
  );
  far.proxy.cut();
  expect(await gone).toMatchObject({ code: 'SINK_LOST' });
  expect(await far.sink.checkpoint()).toBe(group.end);
  expect((await far.sink.ranges())[0]?.upto).toBe(null);
  await other.query('COMMIT');
  expect(await g.rows('SELECT count(*) FROM t')).toEqual(['1']);
});

test('F40: a deadlock or lock timeout is retried with the same group', async () => {
  await using g = await green('CREATE TABLE t (id int PRIMARY KEY, v text)');
  const { relation: t } = await g.target('t');
  await g.sink.prepare([]);
  await g.apply(insert(t, ['1', 'a'], ['2', 'b']));
  const other = await g.db.connect();
  await other.query(`SET deadlock_timeout = '1h'; BEGIN; UPDATE t SET v = 'x' WHERE id = 2`);
  const group = g.group([update(t, [1], ['1', 'A']), remove(t, ['2', U])]);
  const work = failure(g.sink.apply(group));
  await waitFor(
    async () =>
      (
        await g.rows(
          `SELECT 1 FROM pg_stat_activity WHERE application_name = 'verdigris:shop:apply:t1' AND wait_event_type = 'Lock'`,
        )
      ).length > 0,
    {
      what: 'the group to wait for the row',
    },
  );
  // The other session waits for our row in turn; ours finds the deadlock.
  const theirs = other.query('UPDATE t SET v = v WHERE id = 1');
  expect(await work).toMatchObject({ code: 'SINK_TRANSIENT', directive: 'retry' });
  await theirs;
  await other.query('ROLLBACK');
  await g.sink.apply(group);
  expect(await g.rows('SELECT * FROM t')).toEqual(['1|A']);
});

test('durability: flush and harden force what was committed; with synchronous commits every group is durable', async () => {
  await using g = await green('CREATE TABLE t (id int PRIMARY KEY)');
  const { relation: t } = await g.target('t');
  await g.sink.prepare([]);
  await g.apply(insert(t, ['1']));
  expect(await g.sink.flush()).toBe(g.at);
  await g.apply(insert(t, ['2']));
  await g.sink.harden();
  expect(await g.apply(insert(t, ['3']))).toBe(g.at);
  await using on = await green('CREATE TABLE t (id int PRIMARY KEY)', {
    session: { synchronous_commit: 'on' },
  });
  await on.sink.prepare([]);
  expect(await on.apply(insert((await on.target('t')).relation, ['1']))).toBe(on.at);
});

test('hostile names of schemas, tables, columns, constraints and types', async () => {
  const name = `x"; drop table y; -- ${'ü'.repeat(20)}`;
  const q = `"${name.replaceAll('"', '""')}"`;
  await using g = await green(
    `CREATE TYPE ${q.replace('üü', '€')} AS ENUM ('a', 'b'); CREATE TABLE ${q} (${q} int, "u.c0" ${q.replace('üü', '€')}, "g" text UNIQUE, PRIMARY KEY (${q}, "u.c0"))`,
  );
  const target = await g.target(name);
  const t = target.relation;
  await g.sink.prepare([target]);
  await g.sink.prepareCopy([target]);
  await g.apply(insert(t, ['1', 'a', 'p'], ['2', 'b', 'q']));
  await g.sink.finishCopy([target], () => undefined, never);
  await g.apply(update(t, [2], ['1', 'a', 'q'], ['2', 'b', 'p']));
  await g.apply(move(t, [0, 1], [only(t, { 0: '1', 1: 'a' }), ['3', 'b', U]]), remove(t, ['2', 'b', U]));
  expect(await g.rows(`SELECT * FROM ${q}`)).toEqual(['3|b|q']);
});

test('without replica role: guards of the server fire, and rows are not moved where a delete would cascade', async () => {
  await using g = await green(
    `CREATE TABLE p (id int PRIMARY KEY, u int UNIQUE);
     CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE DEFERRABLE, own int REFERENCES p DEFERRABLE)`,
    { session: { session_replication_role: 'origin' } },
  );
  const [p, c] = (await g.targets('p', 'c')).map((target: TargetTable) => target.relation) as [never, never];
  await g.sink.prepare([]);
  await g.apply(insert(c, ['1', '1', '1']), insert(p, ['1', '1'], ['2', '2']));
  const error = await failure(g.sink.apply(g.group([update(p, [1], ['1', '2'], ['2', '1'])])));
  expect(error).toMatchObject({
    code: 'SINK_CONFLICT',
    context: { table: 'public.p', constraint: 'p_u_key' },
  });
  expect(await g.rows('SELECT * FROM c')).toEqual(['1|1|1']);
});
