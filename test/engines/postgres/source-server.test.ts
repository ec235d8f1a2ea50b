import { execFile } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Position } from '../../../src/core/position.ts';
import { createDatabaseOn } from '../../support/databases.ts';
import { startPostgres, type PostgresServer, type TlsFiles } from '../../support/postgres.ts';
import { waitFor } from '../../support/wait.ts';
import { confirmed, finish, open, rowsOf, sourceOn } from './source-harness.ts';

const run = promisify(execFile);

let directory = '';
let files: TlsFiles;
let server: PostgresServer;

/** A certificate authority and a certificate for `blue.test` signed by it. */
async function certificates(): Promise<TlsFiles> {
  const at = (name: string): string => join(directory, name);
  const openssl = async (...args: string[]): Promise<unknown> =>
    await run('openssl', args, { cwd: directory });
  await openssl(
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-days',
    '2',
    '-subj',
    '/CN=Test CA',
    '-keyout',
    'ca.key',
    '-out',
    'ca.crt',
  );
  await openssl(
    'req',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-subj',
    '/CN=blue.test',
    '-keyout',
    'server.key',
    '-out',
    'server.csr',
  );
  await writeFile(at('san.cnf'), 'subjectAltName=DNS:blue.test');
  await openssl(
    'x509',
    '-req',
    '-in',
    'server.csr',
    '-CA',
    'ca.crt',
    '-CAkey',
    'ca.key',
    '-CAcreateserial',
    '-days',
    '2',
    '-extfile',
    'san.cnf',
    '-out',
    'server.crt',
  );
  return { certFile: at('server.crt'), keyFile: at('server.key'), caFile: at('ca.crt') };
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'verdigris-tls-'));
  files = await certificates();
  server = await startPostgres({ version: 16, tls: files });
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

test('the replication connection is encrypted and its certificate verified in full', async () => {
  await using db = await createDatabaseOn(server);
  await db.query(`CREATE TABLE t (id int PRIMARY KEY)`);
  const tls = { mode: 'verify-full' as const, ca: files.caFile, servername: 'blue.test' };
  await using harness = await sourceOn(db, { tls });
  const reader = await open(harness);
  const [row] = await db.query<{ ssl: boolean }>(
    `SELECT ssl FROM pg_stat_ssl WHERE pid = (SELECT active_pid FROM pg_replication_slots WHERE database = $1)`,
    [db.name],
  );
  expect(row?.ssl).toBe(true);
  await db.query(`INSERT INTO t SELECT generate_series(1, 20000)`);
  expect((await reader.drain(harness.source)).flatMap(rowsOf)).toHaveLength(20_000);
  await reader.stream[Symbol.asyncDispose]();
  await expect(sourceOn(db, { tls: { ...tls, servername: 'green.test' } })).rejects.toThrow(
    /altnames|Hostname/,
  );
  await expect(sourceOn(db, { tls: { mode: 'verify-full', servername: 'blue.test' } })).rejects.toThrow(
    /certificate|issuer/,
  );
  await finish(harness);
});

test('F13, F12: a fast shutdown waits for the acknowledgement, which comes at once; the stream goes on after the restart', async () => {
  await using db = await createDatabaseOn(server);
  await db.query(`CREATE TABLE t (id int PRIMARY KEY)`);
  const harness = await sourceOn(db);
  let reader = await open(harness);
  await db.query(`INSERT INTO t VALUES (1)`);
  let checkpoint = harness.start;
  const seen: unknown[] = [];
  const consume = async (): Promise<void> => {
    for (;;) {
      const batch = await reader.next();
      seen.push(...rowsOf(batch).map((row) => row.after?.[0]));
      checkpoint = batch.end as Position;
      reader.stream.ack(checkpoint);
    }
  };
  const ended = consume().catch((error: unknown) => error);
  await waitFor(() => seen.length === 1, { what: 'the first row' });
  const started = performance.now();
  await server.stop('fast');
  expect(performance.now() - started).toBeLessThan(5_000);
  expect(await ended).toMatchObject({ code: 'SOURCE_LOST' });
  await expect(harness.source.head()).rejects.toMatchObject({ directive: 'retry' });
  await server.start();
  const client = await db.connect();
  await client.query(`INSERT INTO t VALUES (2)`);
  await harness.source.check(checkpoint, harness.relations);
  reader = await open(harness, checkpoint);
  expect((await reader.drain(harness.source)).flatMap(rowsOf).map((row) => row.after)).toEqual([['2']]);
  await finish(harness, reader);
  await harness.source[Symbol.asyncDispose]();
});

test('F14: after a crash the slot may be older than what was acknowledged; nothing is sent twice', async () => {
  await using db = await createDatabaseOn(server);
  await db.query(`CREATE TABLE t (id int PRIMARY KEY); CHECKPOINT`);
  await using harness = await sourceOn(db);
  let reader = await open(harness);
  await db.query(`INSERT INTO t VALUES (1)`);
  const checkpoint = (await reader.drain(harness.source)).at(-1)?.end as Position;
  reader.stream.ack(checkpoint);
  await waitFor(async () => (await confirmed(db)) === checkpoint, { what: 'the slot to be confirmed' });
  await server.stop('immediate');
  await expect(reader.next()).rejects.toMatchObject({ code: 'SOURCE_LOST' });
  await server.start();
  const client = await db.connect();
  await client.query(`INSERT INTO t VALUES (2)`);
  await harness.source.check(checkpoint, harness.relations);
  reader = await open(harness, checkpoint);
  expect((await reader.drain(harness.source)).flatMap(rowsOf).map((row) => row.after)).toEqual([['2']]);
  await finish(harness, reader);
});

test('F15, F17: after a promotion a checkpoint before the switch goes on, one behind it is refused', async () => {
  await using db = await createDatabaseOn(server);
  await db.query(`CREATE TABLE t (id int PRIMARY KEY)`);
  await using harness = await sourceOn(db);
  await server.stop('fast');
  const signal = join(server.dataDir, 'standby.signal');
  await writeFile(signal, '');
  await chmod(signal, 0o666);
  await server.start();
  const client = await db.connect();
  await client.query(`SELECT pg_promote()`);
  await waitFor(
    async () =>
      (await client.query(`SELECT FROM (SELECT pg_is_in_recovery() AS r) x WHERE NOT r`)).rowCount === 1,
    { what: 'the promotion' },
  );
  await client.query(`INSERT INTO t VALUES (1)`);
  const behind = await harness.source.head();
  await expect(harness.source.check(behind, harness.relations)).rejects.toMatchObject({
    code: 'SOURCE_TIMELINE',
  });
  await harness.source.check(harness.start, harness.relations);
  // The new timeline is the accepted one from here on.
  await harness.source.check(behind, harness.relations);
  await finish(harness);
});
