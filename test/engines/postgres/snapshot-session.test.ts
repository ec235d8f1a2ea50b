import { describe, expect, it } from 'vitest';
import { NO_FAILPOINTS } from '../../../src/core/failpoint.ts';
import { SILENT } from '../../../src/core/log.ts';
import type { Session, SessionEnv } from '../../../src/core/engine.ts';
import { engine } from '../../../src/engines/postgres/index.ts';
import { createDatabase } from '../../support/databases.ts';
import { freePort } from '../../support/free-port.ts';
import { configOf } from './snapshot-setup.ts';

const env = (side: 'blue' | 'green'): SessionEnv => ({
  migration: 'test',
  side,
  stateSchema: 'verdigris',
  log: SILENT,
  failpoints: NO_FAILPOINTS,
});

const open = (url: string, side: 'blue' | 'green' = 'blue'): Promise<Session> =>
  engine.connect(configOf(url), env(side));

describe('session', () => {
  it('says by side that a server cannot be reached, without the password', async () => {
    const url = `postgres://someone:canary-secret@127.0.0.1:${await freePort()}/x`;
    await expect(open(url)).rejects.toMatchObject({ code: 'SOURCE_CONNECT' });
    const failure = open(url, 'green');
    await expect(failure).rejects.toMatchObject({ code: 'SINK_CONNECT', directive: 'retry' });
    await failure.catch((error: unknown) =>
      expect(JSON.stringify([error, String(error)])).not.toContain('canary'),
    );
  });

  it('answers one statement with text, within its time, and hands nothing on to the next', async () => {
    await using db = await createDatabase(18);
    await using session = await open(db.url);
    await db.query('CREATE TABLE public.t (a int); INSERT INTO t VALUES (1), (2)');
    expect(await session.scalar('SELECT count(*) FROM t', 5_000)).toBe('2');
    expect(await session.scalar('SELECT 1 WHERE false', 5_000)).toBeNull();
    await expect(session.scalar('SELECT 1; SELECT 2', 5_000)).rejects.toMatchObject({
      code: 'SOURCE_FAILED',
    });
    await expect(session.scalar('SELECT pg_sleep(30)', 50)).rejects.toMatchObject({
      context: { sqlstate: '57014' },
    });
    await session.scalar('BEGIN', 5_000);
    await session.scalar(`SET search_path = nowhere`, 5_000);
    expect(await session.scalar('SELECT count(*) FROM t', 5_000)).toBe('2');
  });

  it('estimates, and goes on after the server ended its connections', async () => {
    await using db = await createDatabase(16);
    await using session = await open(db.url, 'green');
    await db.query(
      'CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000); ANALYZE t',
    );
    const relation = await session.catalog.target({ schema: 'public', name: 't' });
    expect((await session.estimate(relation)).rows).toBe(1000);
    await db.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'verdigris:test:%'`,
    );
    // The end of a connection may be noticed by the question after it.
    await session
      .snapshot()
      .estimate(relation)
      .catch(() => undefined);
    expect((await session.snapshot().estimate(relation)).rows).toBe(1000);
  });

  it('describes its configuration for editors, with a text for every leaf', () => {
    const described = JSON.stringify(engine.jsonSchema());
    expect(described).toContain('statement_timeout');
    expect(described).not.toContain('"required":["url","tls"');
  });
});

it('takes a sample by a condition of the operator: one statement only, and nothing is written', async () => {
  await using database = await createDatabase(16);
  await database.query('CREATE TABLE public.item (id int PRIMARY KEY, name text)');
  await database.query('CREATE SEQUENCE public.counter');
  await database.query(`INSERT INTO public.item SELECT g, 'n' || g FROM generate_series(1, 5) g`);
  await using session = await open(database.url);
  const relation = await session.catalog.source({ schema: 'public', name: 'item' });
  expect(await session.sample?.(relation, { rows: 2, where: 'id > 2' })).toEqual([
    ['3', 'n3'],
    ['4', 'n4'],
  ]);
  const hostile = 'true) LIMIT 1; DROP TABLE public.item; --';
  await expect(session.sample?.(relation, { rows: 1, where: hostile })).rejects.toThrow();
  const writing = `nextval('public.counter') > 0`;
  await expect(session.sample?.(relation, { rows: 1, where: writing })).rejects.toThrow(/read-only/);
  expect(await session.sample?.(relation, { rows: 9 })).toHaveLength(5);
});
