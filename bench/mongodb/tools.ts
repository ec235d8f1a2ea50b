import { spawn, type ChildProcess } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Timestamp } from 'mongodb';
import { npmPackage } from '../../test/support/npm-package.ts';
import { newDir } from '../../test/support/run-dir.ts';
import { DATABASE, type MongoRig } from './rig.ts';

const PACKAGE = {
  spec: 'distribution-linux-mongo-command-line-tools@100.13.0',
  sha512: 'gMnGvUhYP+CT8IY0bKwoH3xkDZzp9/KxpBDJjhPgd2NaYyOZoL7kcHEWkCOoC5H0yTqQOQzMnscasn2Yjuau/g==',
  programs: ['mongodump', 'mongorestore'],
};

export type Track = (pid: number, name: string) => void;

const MAJORITY = '--writeConcern={w: "majority", j: true}';

/** mongodump and mongorestore. */
export class DatabaseTools {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** @throws Error where npm does not have them */
  static async get(): Promise<DatabaseTools> {
    return new DatabaseTools(await npmPackage(PACKAGE));
  }

  /** One into the other; indexes are built behind the documents. */
  async copy(rig: MongoRig, track: Track): Promise<void> {
    const dump = this.#start('mongodump', track, [
      `--uri=${rig.uri('blue')}`,
      `--db=${DATABASE}`,
      '--archive',
    ]);
    const restore = this.#start('mongorestore', track, [
      `--uri=${rig.uri('green')}`,
      '--archive',
      `--nsInclude=${DATABASE}.*`,
      MAJORITY,
    ]);
    const { stdout } = dump;
    const { stdin } = restore;
    if (stdout === null || stdin === null) throw new Error('a tool has no pipes');
    await Promise.all([ends(dump, 'mongodump'), ends(restore, 'mongorestore'), pipeline(stdout, stdin)]);
  }

  /** Takes the log of blue behind a moment and runs it on green. `user` of green's address may run any command. */
  async replay(rig: MongoRig, since: Timestamp, greenUri: string, track: Track): Promise<void> {
    const folder = await newDir('oplog');
    try {
      const query = {
        ts: { $gt: { $timestamp: { t: since.getHighBits(), i: since.getLowBits() } } },
        ns: { $regex: `^${DATABASE}\\.` },
      };
      const dump = this.#start('mongodump', track, [
        `--uri=${rig.uri('blue')}`,
        ...['--db=local', '--collection=oplog.rs', `--query=${JSON.stringify(query)}`],
        `--out=${folder}`,
      ]);
      dump.stdout?.resume();
      await ends(dump, 'mongodump');
      const empty = join(folder, 'empty');
      await mkdir(empty);
      const restore = this.#start('mongorestore', track, [
        `--uri=${greenUri}`,
        ...['--oplogReplay', `--oplogFile=${join(folder, 'local/oplog.rs.bson')}`, MAJORITY, empty],
      ]);
      restore.stdout?.resume();
      await ends(restore, 'mongorestore');
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  #start(name: string, track: Track, args: readonly string[]): ChildProcess {
    const child = spawn(join(this.#folder, name), args, { stdio: ['pipe', 'pipe', 'pipe'] });
    if (child.pid !== undefined) track(child.pid, name);
    return child;
  }
}

/** @throws Error with what it said when it does not end well */
function ends(child: ChildProcess, name: string): Promise<void> {
  let said = '';
  child.stderr?.on('data', (piece: Buffer) => (said += piece.toString()));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error(`${name} ended with ${code ?? signal}:\n${said.slice(-3000)}`));
    });
  });
}
