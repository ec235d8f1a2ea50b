import { expect, test } from 'vitest';
import type { VerdigrisError } from '../../../src/core/errors.ts';
import type { RunRecord } from '../../../src/core/state.ts';
import { asPosition } from '../../../src/core/position.ts';
import { createStateStore } from '../../../src/engines/postgres/state.ts';
import { STATE_FORMAT } from '../../../src/engines/postgres/state-tables.ts';
import { waitFor } from '../../support/wait.ts';
import { green, insert } from './sink-setup.ts';

const failure = async (work: Promise<unknown>): Promise<VerdigrisError> =>
  await work.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => error as VerdigrisError,
  );

const record = (change: Partial<RunRecord> = {}): RunRecord => ({
  id: 'shop',
  phase: 'preparing',
  epoch: 0,
  activeSide: 'blue',
  planHash: 'h',
  detail: { a: ['x', null] },
  revision: 0,
  ...change,
});

test('the record is compared and set by revision and term', async () => {
  await using g = await green('');
  expect(await g.state.load('shop')).toBe(null);
  const first = await g.state.save(record(), g.term);
  expect(first.revision).toBe(1);
  expect(await g.state.load('shop')).toEqual(first);
  expect(await failure(g.state.save(record(), g.term))).toMatchObject({ code: 'STATE_CONFLICT' });
  const second = await g.state.save({ ...first, phase: 'copying' }, g.term);
  expect(await failure(g.state.save({ ...first, phase: 'aborted' }, g.term))).toMatchObject({
    code: 'STATE_CONFLICT',
  });
  expect(await failure(g.state.save(second, g.term + 1))).toMatchObject({ code: 'STATE_CONFLICT' });
  expect(await g.state.load('shop')).toEqual({ ...record(), phase: 'copying', revision: 2 });
});

test('the lease: refused while fresh, taken when it ran out or was released, renewed only under its term', async () => {
  await using g = await green('');
  await using other = createStateStore({ config: g.config, env: g.env });
  expect(await failure(other.acquire('shop', 'other', { ttlMs: 1_000, takeover: false }))).toMatchObject({
    code: 'STATE_LEASE_HELD',
    context: { holder: 'test' },
  });
  await g.state.release('shop', g.term);
  expect(await other.acquire('shop', 'other', { ttlMs: 50, takeover: false })).toBe(g.term + 1);
  expect(await g.state.renew('shop', g.term)).toBe(false);
  expect(await other.renew('shop', g.term + 1)).toBe(true);
  const again = async (): Promise<boolean> =>
    await g.state.acquire('shop', 'test', { ttlMs: 1_000, takeover: false }).then(
      (term) => term === g.term + 2,
      () => false,
    );
  await waitFor(again, { what: 'the lease of 50 ms to run out', timeoutMs: 10_000 });
  const terms = await Promise.all(
    [g.state, other].map((store, index) =>
      store.acquire('shop', `engine ${index}`, { ttlMs: 60_000, takeover: true }),
    ),
  );
  expect(terms.toSorted((a, b) => a - b)).toEqual([g.term + 3, g.term + 4]);
});

test('a takeover ends the sessions of a frozen holder and its open transaction', async () => {
  await using g = await green('CREATE TABLE t (id int PRIMARY KEY)');
  const { relation: t } = await g.target('t');
  await g.sink.prepare([]);
  await g.apply(insert(t, ['1']));
  await g.sink.apply(g.group([insert(t, ['2'])], { end: null }));
  await using other = createStateStore({ config: g.config, env: g.env });
  const term = await other.acquire('shop', 'other', { ttlMs: 60_000, takeover: true });
  expect(term).toBe(g.term + 1);
  expect(await failure(g.sink.apply(g.group([insert(t, ['3'])])))).toMatchObject({ code: 'SINK_LOST' });
  expect(await g.rows('SELECT id FROM t')).toEqual(['1']);
  const next = g.another(term);
  await next.prepare([]);
  expect(await next.checkpoint()).toBe(g.at);
  await next.apply(g.group([insert(t, ['2'])]));
  // The old one may reconnect and read, never write.
  expect(await g.sink.checkpoint()).not.toBe(null);
  expect(await failure(g.sink.apply(g.group([insert(t, ['9'])])))).toMatchObject({ code: 'SINK_FENCED' });
});

test('the journal is ordered, durable and timed by the database', async () => {
  await using g = await green('');
  await g.state.note('shop', 'started', { n: 1 });
  await g.state.note('other', 'started', {});
  await g.state.note('shop', 'copied', { n: 2 });
  const events = await g.state.events('shop', 0, 10);
  expect(events.map(({ event, detail }) => [event, detail])).toEqual([
    ['started', { n: 1 }],
    ['copied', { n: 2 }],
  ]);
  expect(events[0]?.at).toMatch(/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
  expect(await g.state.events('shop', events[0]?.sequence as number, 10)).toEqual(events.slice(1));
});

test('state that is damaged, partial or of another format is refused', async () => {
  await using g = await green('');
  await g.sink.prepare([]);
  await g.sink.begin(g.at);
  expect(await failure(g.sink.begin(g.at))).toMatchObject({ code: 'STATE_CONFLICT' });
  await g.db.query(`UPDATE verdigris.checkpoint SET position = '5'`);
  expect(await failure(g.sink.checkpoint())).toMatchObject({ code: 'STATE_FORMAT' });
  await g.db.query('UPDATE verdigris.format SET version = version + 1');
  expect(await failure(g.state.prepare())).toMatchObject({ code: 'STATE_FORMAT' });
  await g.db.query('UPDATE verdigris.format SET version = version - 1; DROP TABLE verdigris.checkpoint');
  expect(await failure(g.sink.prepare([]))).toMatchObject({ code: 'STATE_FORMAT' });
});

test('retire removes one run, and with the last one everything', async () => {
  await using g = await green('');
  await g.sink.prepare([]);
  await g.sink.begin(asPosition('1'));
  await g.sink.defineRanges('u', ['1']);
  await g.state.save(record(), g.term);
  await g.state.acquire('second', 'test', { ttlMs: 1_000, takeover: false });
  await g.sink.retire();
  expect(await g.sink.checkpoint()).toBe(null);
  await g.state.retire('shop');
  expect(await g.rows('SELECT id FROM verdigris.lease')).toEqual(['second']);
  await g.state.retire('second');
  await g.state.retire('second');
  expect(await g.rows(`SELECT count(*) FROM pg_namespace WHERE nspname = 'verdigris'`)).toEqual(['0']);
  await Promise.all([g.state.prepare(), createAndPrepare(g)]);
  expect(await g.rows(`SELECT version FROM verdigris.format`)).toEqual([String(STATE_FORMAT)]);
});

async function createAndPrepare(g: Awaited<ReturnType<typeof green>>): Promise<void> {
  await using store = createStateStore({ config: g.config, env: g.env });
  await store.prepare();
}
