import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { CopyOut } from '../../../src/engines/postgres/copy-out.ts';
import { createDatabase, type TestDatabase } from '../../support/databases.ts';
import { waitFor } from '../../support/wait.ts';

async function connected(db: Pick<TestDatabase, 'url'>): Promise<pg.Client & AsyncDisposable> {
  const client = new pg.Client({ connectionString: db.url });
  await client.connect();
  return Object.assign(client, {
    [Symbol.asyncDispose]: () => client.end().catch(() => undefined),
  });
}

async function textOf(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all).toString();
}

const copy = (client: pg.Client, query: string): CopyOut =>
  client.query(new CopyOut(`COPY (${query}) TO STDOUT`));

describe('the answer to a COPY', () => {
  it('is the rows byte for byte, however they lie in what is read: empty, one byte, of megabytes', async () => {
    await using db = await createDatabase(18);
    await using client = await connected(db);
    for (const sizes of [
      '0',
      '(g * 7919) % 300',
      '65500 + g % 80',
      'CASE WHEN g % 50 = 7 THEN 3000000 ELSE g % 3 END',
    ]) {
      const query = `SELECT g, repeat(chr(97 + g % 26), ${sizes}) FROM generate_series(1, 400) g`;
      const { rows } = await client.query<{ text: string }>(
        `SELECT md5(string_agg(concat(g, E'\\t', r, E'\\n'), '' ORDER BY g)) AS text FROM (${query}) AS x(g, r)`,
      );
      await using other = await connected(db);
      const { rows: own } = await other.query<{ text: string }>('SELECT md5($1) AS text', [
        await textOf(copy(client, query)),
      ]);
      expect(own).toEqual(rows);
    }
  });

  it('leaves the connection usable: after no row, after many, after several one behind the other', async () => {
    await using db = await createDatabase(16);
    await using client = await connected(db);
    expect(await textOf(copy(client, 'SELECT 1 WHERE false'))).toBe('');
    const both = [copy(client, 'SELECT generate_series(1, 3)'), copy(client, 'SELECT 4')];
    const after = client.query<{ n: number }>('SELECT 5 AS n');
    expect(await Promise.all(both.map(textOf))).toEqual(['1\n2\n3\n', '4\n']);
    expect((await after).rows).toEqual([{ n: 5 }]);
  });

  it('hands messages between the rows to the driver', async () => {
    await using db = await createDatabase(16);
    await using client = await connected(db);
    await client.query(
      `CREATE FUNCTION said(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', repeat('x', n); RETURN n; END $$`,
    );
    const notices: number[] = [];
    client.on('notice', (notice) => notices.push(notice.message?.length ?? -1));
    const rows = await textOf(copy(client, `SELECT said(g * 400) FROM generate_series(1, 500) g`));
    expect(rows.split('\n').slice(0, -1).map(Number)).toEqual(notices);
    expect(notices).toHaveLength(500);
  });

  it('ends with the error of the server, before the first row and behind many, and the connection lives', async () => {
    await using db = await createDatabase(16);
    await using client = await connected(db);
    await expect(textOf(copy(client, 'SELECT nowhere'))).rejects.toMatchObject({ code: '42703' });
    await expect(
      textOf(copy(client, 'SELECT 1 / (90000 - g) FROM generate_series(1, 100000) g')),
    ).rejects.toMatchObject({ code: '22012' });
    expect((await client.query<{ n: number }>('SELECT 5 AS n')).rows).toEqual([{ n: 5 }]);
  });

  it('ends with an error when the connection is cut in the middle', async () => {
    await using db = await createDatabase(16);
    await using client = await connected(db);
    await using other = await connected(db);
    client.on('error', () => undefined);
    const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    const read = async (): Promise<void> => {
      let first = true;
      const query = `SELECT generate_series(1, 100000000), repeat('x', 1000)`;
      for await (const piece of copy(client, query)) {
        if (first && piece.length > 0) await other.query('SELECT pg_terminate_backend($1)', [rows[0]?.pid]);
        first = false;
      }
    };
    await expect(read()).rejects.toThrow();
  });

  it('lets the server wait while nobody takes the rows', async () => {
    await using db = await createDatabase(16);
    await using client = await connected(db);
    await using other = await connected(db);
    const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    let bytes = 0;
    for await (const piece of copy(client, `SELECT g, repeat('x', 1000) FROM generate_series(1, 60000) g`)) {
      if (bytes === 0) {
        const waits = `SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'ClientWrite'`;
        await waitFor(async () => (await other.query(waits, [rows[0]?.pid])).rows.length > 0, {
          what: 'the server waits for us',
        });
        const before = process.memoryUsage().arrayBuffers;
        await sleep(200);
        expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1024 * 1024);
      }
      bytes += piece.length;
    }
    expect(bytes).toBeGreaterThan(60_000 * 1000);
  });
});
