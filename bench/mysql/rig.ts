import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import mysql from 'mysql2/promise';
import { ENGINE_USER, startMysqlWithAccounts } from '../../test/support/mysql-harness.ts';
import { MYSQL_PASSWORD, type MysqlServer } from '../../test/support/mysql-server.ts';
import { waitFor } from '../../test/support/wait.ts';
import { Sampler } from '../sampler.ts';

const run = promisify(execFile);

/** The server's own defaults where the test servers are made quicker: every commit of both sides is on the disk, in the binary log too. */
const SETTINGS: Readonly<Record<string, string>> = {
  'innodb-flush-log-at-trx-commit': '1',
  'sync-binlog': '1',
  'innodb-doublewrite': 'ON',
  'innodb-flush-method': 'O_DIRECT',
  'innodb-buffer-pool-size': '512M',
  'innodb-redo-log-capacity': '512M',
};

export const DURABILITY =
  'sync_binlog = 1 and innodb_flush_log_at_trx_commit = 1 on both sides (the defaults of the server), binary log on both';

export const DATABASE = 'app';

/** Blue and green. Green's data folder can be put aside and brought back, so that every run meets the very same rows. */
export class MysqlRig implements AsyncDisposable {
  readonly blue: MysqlServer;
  readonly green: MysqlServer;
  readonly #saved: string[] = [];

  private constructor(blue: MysqlServer, green: MysqlServer) {
    this.blue = blue;
    this.green = green;
  }

  static async start(): Promise<MysqlRig> {
    const blue = await startMysqlWithAccounts('mysql', SETTINGS);
    try {
      return new MysqlRig(blue, await startMysqlWithAccounts('mysql', SETTINGS));
    } catch (error) {
      await blue[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Address for the engine. */
  url(side: 'blue' | 'green'): string {
    return this[side].url(DATABASE, ENGINE_USER);
  }

  /** A connection as root that takes several statements at once. The caller ends it. */
  connect(side: 'blue' | 'green'): Promise<mysql.Connection> {
    return mysql.createConnection({
      host: '127.0.0.1',
      port: this[side].port,
      user: 'root',
      password: MYSQL_PASSWORD,
      database: DATABASE,
      multipleStatements: true,
      dateStrings: true,
      supportBigNumbers: true,
      bigNumberStrings: true,
    });
  }

  /** Puts the data of a side aside under a name. Of blue it becomes the data of another server: one without blue's identity. */
  async save(side: 'blue' | 'green', name: string): Promise<void> {
    const server = this[side];
    const target = this.#folder(name);
    await server.stop();
    await run('cp', ['-a', '--reflink=auto', server.dataDir, target]);
    this.#saved.push(target);
    if (side === 'blue') await rm(join(target, 'auto.cnf'));
    await server.start();
  }

  /** Starts green on what was put aside. */
  async restore(name: string): Promise<void> {
    await this.green.stop();
    await rm(this.green.dataDir, { recursive: true });
    await run('cp', ['-a', '--reflink=auto', this.#folder(name), this.green.dataDir]);
    await this.green.start();
  }

  #folder(name: string): string {
    return `${this.green.dataDir}-${name}`;
  }

  /** Sessions on blue that read its binary log. */
  async readers(connection: mysql.Connection): Promise<number[]> {
    const [rows] = await connection.query<mysql.RowDataPacket[]>(
      `SELECT ID AS id FROM performance_schema.processlist WHERE COMMAND LIKE 'Binlog Dump%'`,
    );
    return rows.map((row) => Number(row['id']));
  }

  /** Ends the readers of an earlier run: the server notices late that nobody is there any more. */
  async endReaders(connection: mysql.Connection): Promise<void> {
    for (const id of await this.readers(connection))
      await connection.query(`KILL ${id}`).catch((error: { errno?: number }) => {
        if (error.errno !== 1094) throw error;
      });
    await waitFor(async () => (await this.readers(connection)).length === 0, {
      what: 'the readers of the binary log to leave',
      everyMs: 5,
    });
  }

  /** Follows both servers and what `own` names by then. */
  sampler(own: () => readonly { readonly pid: number; readonly name: string }[]): Sampler {
    const servers = [
      { pid: this.blue.pid, name: 'blue' },
      { pid: this.green.pid, name: 'green' },
    ];
    return new Sampler(() => Promise.resolve([...servers, ...own()]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.green[Symbol.asyncDispose]();
    await this.blue[Symbol.asyncDispose]();
    for (const folder of this.#saved) await rm(folder, { recursive: true, force: true });
  }
}
