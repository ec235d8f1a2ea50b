import { spawn, type ChildProcess } from 'node:child_process';
import { constants } from 'node:fs';
import { access, mkdir, rm } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { mysqlClientProgram, MYSQL_PASSWORD, type MysqlServer } from '../../test/support/mysql-server.ts';
import { newDir } from '../../test/support/run-dir.ts';
import { DATABASE } from './rig.ts';

type Track = (pid: number, name: string) => void;

const there = (file: string, mode = constants.X_OK): Promise<boolean> =>
  access(file, mode).then(
    () => true,
    () => false,
  );

/** A client program of the server's own packages. @throws Error where they do not hold it */
export async function client(name: 'mysqldump' | 'mysql'): Promise<readonly string[]> {
  const command = await mysqlClientProgram('mysql', `usr/bin/${name}`);
  const file = command.at(-1) as string;
  if (!(await there(file))) throw new Error(`the packages of the server hold no ${name}`);
  return command;
}

/** A program that is installed, or null. */
async function installed(name: string): Promise<string | null> {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    if (folder !== '' && (await there(join(folder, name)))) return join(folder, name);
  }
  return null;
}

/** mydumper and myloader where they are installed, or null. */
export async function mydumper(): Promise<{ readonly dump: string; readonly load: string } | null> {
  const [dump, load] = [await installed('mydumper'), await installed('myloader')];
  return dump === null || load === null ? null : { dump, load };
}

const address = (server: MysqlServer): string[] => [
  '--host=127.0.0.1',
  `--port=${server.port}`,
  '--user=root',
];

const env = { ...process.env, MYSQL_PWD: MYSQL_PASSWORD };

/** `mysqldump | mysql`: one snapshot of blue, its statements run on green. */
export async function dumpIntoClient(
  servers: { readonly blue: MysqlServer; readonly green: MysqlServer },
  programs: { readonly dump: readonly string[]; readonly mysql: readonly string[] },
  track: Track,
): Promise<void> {
  const start = (command: readonly string[], args: readonly string[]): ChildProcess => {
    const [file, ...before] = command as [string, ...string[]];
    return spawn(file, [...before, ...args], { env, stdio: ['pipe', 'pipe', 'pipe'] });
  };
  const dump = start(programs.dump, [
    '--no-defaults',
    ...address(servers.blue),
    ...['--single-transaction', '--set-gtid-purged=OFF', DATABASE],
  ]);
  const load = start(programs.mysql, ['--no-defaults', ...address(servers.green), DATABASE]);
  track(dump.pid as number, 'mysqldump');
  track(load.pid as number, 'mysql');
  const { stdout } = dump;
  const { stdin } = load;
  if (stdout === null || stdin === null) throw new Error('a client has no pipes');
  await Promise.all([ends(dump, 'mysqldump'), ends(load, 'mysql'), pipeline(stdout, stdin)]);
}

export async function dumpThenLoad(
  servers: { readonly blue: MysqlServer; readonly green: MysqlServer },
  programs: { readonly dump: string; readonly load: string },
  jobs: number,
  track: Track,
): Promise<void> {
  const folder = join(await newDir('mydumper'), 'dump');
  await mkdir(folder);
  const secret = `--password=${MYSQL_PASSWORD}`;
  const threads = `--threads=${jobs}`;
  try {
    for (const [name, file, args] of [
      [
        'mydumper',
        programs.dump,
        [...address(servers.blue), `--database=${DATABASE}`, `--outputdir=${folder}`, '--clear'],
      ],
      [
        'myloader',
        programs.load,
        [...address(servers.green), `--database=${DATABASE}`, `--directory=${folder}`, '--enable-binlog'],
      ],
    ] as const) {
      const child = spawn(file, [...args, secret, threads], { env, stdio: ['ignore', 'pipe', 'pipe'] });
      track(child.pid as number, name);
      await ends(child, name);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
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
