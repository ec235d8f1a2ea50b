import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseConfig } from '../../../src/engines/mysql/config.ts';
import { connect, type Link } from '../../../src/engines/mysql/connect.ts';
import { startMysql, type MysqlFlavour, type MysqlServer } from '../../support/mysql-server.ts';
import { waitFor } from '../../support/wait.ts';

const LONG = 'SELECT SLEEP(600)';
/** More than the sockets between server and client hold. */
const ROWS = `SELECT REPEAT('x', 1000000) FROM ${Array.from({ length: 6 }, (_, at) => `(SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3) t${at}`).join(', ')}`;

describe.each<MysqlFlavour>(['mysql', 'mariadb'])('a connection to %s that we end ourselves', (flavour) => {
  let server: MysqlServer;
  beforeAll(async () => {
    server = await startMysql({ flavour });
    await server.query('CREATE DATABASE app');
  }, 300_000);
  afterAll(() => server[Symbol.asyncDispose]());

  const open = (where: 'source' | 'sink'): Promise<Link> => {
    const parsed = parseConfig({ url: server.url('app') });
    if ('issues' in parsed) throw new Error(JSON.stringify(parsed.issues));
    return connect(parsed.config, { name: 'link', where });
  };
  const drain = async (link: Link, sql: string, onPiece = (): void => undefined): Promise<void> => {
    for await (const rows of link.stream(sql)) if (rows.length > 0) onPiece();
  };
  const runs = (id: number): Promise<boolean> =>
    server
      .query(`SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = ${id} AND COMMAND = 'Query'`)
      .then((rows) => rows.length > 0);

  test.each(['source', 'sink'] as const)('rows of a %s that are asked for afterwards fail', async (where) => {
    const link = await open(where);
    link.destroy();
    await expect(drain(link, 'SELECT 1')).rejects.toThrow('closed');
    await expect(link.run('SELECT 1')).rejects.toThrow('closed');
  });

  test('rows that are waited for fail, whether the server answers or not', async () => {
    for (const where of ['source', 'sink'] as const) {
      const link = await open(where);
      const failed = expect(drain(link, LONG)).rejects.toThrow('closed');
      await waitFor(() => runs(link.id), { what: 'the statement to run' });
      link.destroy();
      await failed;
      await server.query(`KILL ${link.id}`);
    }
  });

  test('an answer of a source is not waited for; one of a sink is, until its server has ended the connection', async () => {
    const source = await open('source');
    const failed = expect(source.run(LONG)).rejects.toThrow('closed');
    await waitFor(() => runs(source.id), { what: 'the statement to run' });
    source.destroy();
    await failed;
    await server.query(`KILL ${source.id}`);
    const sink = await open('sink');
    let over = false;
    const ended = sink
      .run(LONG)
      .catch(() => undefined)
      .finally(() => {
        over = true;
      });
    await waitFor(() => runs(sink.id), { what: 'the statement to run' });
    sink.destroy();
    expect(await runs(sink.id)).toBe(true);
    expect(over).toBe(false);
    await server.query(`KILL ${sink.id}`);
    await ended;
  });

  test.each(['source', 'sink'] as const)(
    'a server that sends rows of a %s which nobody reads any more gets rid of the session',
    async (where) => {
      const link = await open(where);
      await expect(drain(link, ROWS, () => link.destroy())).rejects.toThrow('closed');
      await waitFor(async () => !(await runs(link.id)), { what: 'the session to end' });
    },
  );
});
