import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createEngine } from '../../../src/app/engine.ts';
import { loadConfig } from '../../../src/app/load.ts';
import { debianProgram } from '../../support/debian.ts';
import { HAPROXY, startHaproxy } from '../../support/haproxy.ts';
import { ENGINE_USER, startMysqlWithAccounts } from '../../support/mysql-harness.ts';
import type { MysqlServer } from '../../support/mysql-server.ts';
import { newDir } from '../../support/run-dir.ts';
import { turn } from '../../support/turn.ts';
import { waitFor } from '../../support/wait.ts';
import { ShopClients } from './switch-clients.ts';

const CLIENTS = 6;
const GATES_MS = 60_000;
const DATABASE = 'shop';

const BLUE = `CREATE TABLE orders (id int NOT NULL AUTO_INCREMENT PRIMARY KEY, code varchar(40) NOT NULL UNIQUE, client int NOT NULL, note varchar(200));
  CREATE TABLE tally (client int NOT NULL PRIMARY KEY, count int NOT NULL);
  CREATE TABLE contact (client int NOT NULL PRIMARY KEY, mail varchar(60) NOT NULL)`;
/** Wider, with room for what only green knows, and with contacts in the tallies: the clients need not notice. */
const GREEN = `CREATE TABLE orders (id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, code varchar(80) NOT NULL UNIQUE, client bigint NOT NULL, note text, rating int);
  CREATE TABLE tally (client bigint NOT NULL PRIMARY KEY, count bigint NOT NULL, mail varchar(60) NULL)`;
const TABLES = [
  {
    from: `${DATABASE}.orders`,
    to: [
      {
        table: `${DATABASE}.orders`,
        columns: {
          id: { from: 'id', cast: 'bigint' },
          code: { from: 'code' },
          client: { from: 'client', cast: 'bigint' },
          note: { from: 'note' },
        },
      },
    ],
  },
  {
    from: `${DATABASE}.tally`,
    to: [
      {
        table: `${DATABASE}.tally`,
        owner: true,
        columns: {
          client: { from: 'client', cast: 'bigint' },
          count: { from: 'count', cast: 'bigint' },
        },
      },
    ],
  },
  {
    from: `${DATABASE}.contact`,
    to: [
      {
        table: `${DATABASE}.tally`,
        key: { client: 'client' },
        columns: { client: { from: 'client', cast: 'bigint' }, mail: 'copy' },
      },
    ],
  },
];

describe.each(['mysql', 'mariadb'] as const)('%s behind HAProxy', (flavour) => {
  test('a switch under load, and a rollback: every acknowledged order is on the serving side once', async () => {
    await using blue = await startMysqlWithAccounts(flavour);
    await using green = await startMysqlWithAccounts(flavour);
    for (const server of [blue, green]) await server.query(`CREATE DATABASE ${DATABASE}`);
    for (const statement of BLUE.split(';')) await blue.query(statement, DATABASE);
    for (let client = 0; client < CLIENTS; client += 1)
      await blue.query(`INSERT INTO tally VALUES (${client}, 0)`, DATABASE);
    await blue.query("INSERT INTO contact VALUES (0, 'a@b'), (1, 'c@d'), (2, 'e@f')", DATABASE);
    const place = (server: MysqlServer) => ({ host: '127.0.0.1', port: server.port });
    await using proxy = await startHaproxy({
      program: await debianProgram(HAPROXY),
      blue: place(blue),
      green: place(green),
    });
    const dir = await newDir('switch');
    const side = (server: MysqlServer) => ({ engine: 'mysql', url: server.url(DATABASE, ENGINE_USER) });
    const config = {
      version: 1,
      migration: `shop_${flavour}`,
      blue: side(blue),
      green: { ...side(green), schema_file: './green.sql' },
      verify: { after_copy: 'full' },
      apply: { heartbeat: '200ms' },
      gates: { stable_for: '1ms' },
      server: { state_dir: dir },
      cutover: {
        max_write_pause: '20s',
        proxies: [
          {
            adapter: 'haproxy',
            socket: proxy.socket,
            backends: ['db'],
            blue: { server: 'blue', ...place(blue) },
            green: { server: 'green', ...place(green) },
            state_file: proxy.stateFile,
            holds_for_ms: 120_000,
            drain_ms: 200,
          },
        ],
      },
      tables: TABLES,
    };
    const file = join(dir, 'verdigris.yaml');
    await writeFile(join(dir, 'green.sql'), GREEN);
    await writeFile(file, JSON.stringify(config));
    await using clients = new ShopClients({ port: proxy.port, database: DATABASE }, CLIENTS);
    await clients.more();
    await using engine = createEngine(await loadConfig(file));
    // It would have to stay: MySQL commits every statement that makes a table.
    await expect(engine.plan()).rejects.toMatchObject({
      code: 'SCHEMA_UNSUPPORTED',
      remedy: expect.stringContaining('Run it on green yourself'),
    });
    for (const statement of GREEN.split(';')) await green.query(statement, DATABASE);
    const { hash } = await engine.plan();
    await engine.start({ plan: { hash } });
    await clients.more();

    expect(
      await turn(engine, { act: 'cutover', migration: config.migration, gatesMs: GATES_MS }),
    ).toMatchObject({
      outcome: 'switched',
      error: null,
    });
    await clients.more();
    expect(Number(await count(green))).toBeGreaterThan(100);
    // One contact changes, one goes, one comes: on blue they are rows of another table.
    for (const [client, mail] of [
      [0, "'new'"],
      [1, 'NULL'],
      [3, "'first'"],
    ])
      await green.query(`UPDATE tally SET mail = ${mail} WHERE client = ${client}`, DATABASE);
    expect(
      await turn(engine, { act: 'rollback', migration: config.migration, gatesMs: GATES_MS }),
    ).toMatchObject({
      outcome: 'switched',
      error: null,
    });
    await clients.more();
    await clients.stop();
    expect(clients.failures).toEqual([]);
    // Each client's connection was ended at the switch and at the rollback, and at nothing else.
    expect(clients.reconnects).toBe(2 * CLIENTS);
    const rows = await blue.query('SELECT code, client FROM orders', DATABASE);
    expect(new Set(rows.map(({ code }) => String(code)))).toEqual(clients.acknowledged);
    expect(rows).toHaveLength(clients.acknowledged.size);
    const tally = await blue.query('SELECT client, count FROM tally ORDER BY client', DATABASE);
    for (const { client, count: counted } of tally)
      expect(Number(counted)).toBe(rows.filter((row) => row['client'] === client).length);
    expect(await blue.query('SELECT client, mail FROM contact ORDER BY client', DATABASE)).toEqual([
      { client: 0, mail: 'new' },
      { client: 2, mail: 'e@f' },
      { client: 3, mail: 'first' },
    ]);
    await blue.query("INSERT INTO contact VALUES (4, 'after')", DATABASE);
    await waitFor(async () => (await contents(green, 'tally')) === (await contents(blue, CONTACTS)), {
      what: 'green to follow blue again',
      everyMs: 500,
    });
    // The round that a rollback asks for.
    await waitFor(async () => (await engine.status()).verify.state === 'pass', {
      what: 'a clean verification',
      everyMs: 200,
    });
  }, 240_000);
});

const CONTACTS = '(SELECT tally.*, mail FROM tally LEFT JOIN contact USING (client)) tally';

/** As text: green's integers are wider. */
const contents = async (server: MysqlServer, tallies: string): Promise<string> =>
  JSON.stringify([
    await server.query(
      'SELECT CAST(id AS CHAR) AS id, code, CAST(client AS CHAR) AS client, note FROM orders ORDER BY orders.id',
      DATABASE,
    ),
    await server.query(
      `SELECT CAST(client AS CHAR) AS client, CAST(count AS CHAR) AS n, mail FROM ${tallies} ORDER BY tally.client`,
      DATABASE,
    ),
  ]);

const count = async (server: MysqlServer): Promise<unknown> =>
  (await server.query('SELECT count(*) AS n FROM orders', DATABASE))[0]?.['n'];
