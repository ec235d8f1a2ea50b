import { readFileSync } from 'node:fs';

import pg from 'pg';
import { describe, expect, it } from 'vitest';

import { makeCertificates } from '../certificates.ts';
import { createDatabase, sharedServer } from '../databases.ts';
import { POSTGRES_VERSIONS, startPostgres } from '../postgres.ts';

describe('shared servers', () => {
  it.each(POSTGRES_VERSIONS)('PostgreSQL %d is there, with logical replication', async (version) => {
    await using db = await createDatabase(version);
    const rows = await db.query<{ v: number; wal: string }>(
      `SELECT current_setting('server_version_num')::int / 10000 AS v, current_setting('wal_level') AS wal`,
    );
    expect(rows).toEqual([{ v: version, wal: 'logical' }]);
    await db.query(`SELECT pg_create_logical_replication_slot('s_${db.name}', 'pgoutput')`);
  });

  it('gives the same server to everybody, and nobody may stop it', async () => {
    const server = await sharedServer(16);
    expect((await sharedServer(16)).port).toBe(server.port);
    await expect(server.stop()).rejects.toThrow('shared');
  });
});

describe('a database of the test', () => {
  it('goes with a prepared transaction in it', async () => {
    await using db = await createDatabase(18);
    await db.query('CREATE TABLE t (a int)');
    await db.client.query(`BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION '${db.name}'`);
  });

  it('refuses to go while a connection is left open, and goes all the same', async () => {
    const db = await createDatabase(16);
    const stray = new pg.Client({ connectionString: db.url, application_name: 'stray' });
    stray.on('error', () => undefined);
    await stray.connect();
    await expect(db[Symbol.asyncDispose]()).rejects.toThrow('connection of "stray"');
    await expect(stray.query('SELECT 1')).rejects.toThrow();
    await stray.end().catch(() => undefined);
  });
});

describe('a server of the test', () => {
  it('survives a crash: same port, same committed data', async () => {
    await using server = await startPostgres({ version: 17, settings: { work_mem: '5MB' } });
    const query = async (sql: string): Promise<unknown[]> => {
      const client = new pg.Client({ connectionString: server.url() });
      client.on('error', () => undefined);
      await client.connect();
      try {
        return (await client.query<Record<string, unknown>>(sql)).rows;
      } finally {
        await client.end();
      }
    };
    await query('CREATE TABLE t AS SELECT 1 AS a');
    const before = server.pid;
    await server.stop('immediate');
    await expect(query('SELECT 1')).rejects.toThrow('ECONNREFUSED');
    await server.start();
    expect(server.pid).not.toBe(before);
    expect(await query('SELECT a FROM t')).toEqual([{ a: 1 }]);
    expect(await query('SHOW work_mem')).toEqual([{ work_mem: '5MB' }]);
  });

  it('speaks TLS with a certificate that a client can check', async () => {
    const { otherCaFile, ...tls } = await makeCertificates();
    await using server = await startPostgres({
      version: 18,
      tls,
      hba: ['hostssl all all 127.0.0.1/32 scram-sha-256'],
    });
    const open = async (ca: string | undefined): Promise<boolean> => {
      const ssl = ca === undefined ? false : { ca: readFileSync(ca, 'utf8'), rejectUnauthorized: true };
      const client = new pg.Client({ connectionString: server.url(), ssl });
      client.on('error', () => undefined);
      try {
        await client.connect();
        const { rows } = await client.query<{ ssl: boolean }>(
          'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()',
        );
        return rows[0]?.ssl === true;
      } finally {
        await client.end().catch(() => undefined);
      }
    };
    expect(await open(tls.caFile)).toBe(true);
    await expect(open(otherCaFile)).rejects.toThrow(/certificate/);
    await expect(open(undefined)).rejects.toThrow('no encryption');
  });

  it('prints the log when it does not start', async () => {
    await expect(startPostgres({ version: 16, settings: { shared_buffers: 'many' } })).rejects.toThrow(
      'invalid value for parameter "shared_buffers"',
    );
  });
});
