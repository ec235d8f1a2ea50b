import { chmod, chown, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { type DebianProgram, type DebianProgramOptions } from './debian.ts';
import { freePort } from './free-port.ts';
import { postgresUrl } from './postgres.ts';
import { newDir } from './run-dir.ts';
import { ServerProcess } from './server-process.ts';
import { serverUser } from './server-user.ts';
import { waitFor } from './wait.ts';

export const HAPROXY: DebianProgramOptions = { packages: ['haproxy'], program: 'usr/sbin/haproxy' };

/** The file that operators are shown. Tests run it, with the places of their servers in it. */
const EXAMPLE = fileURLToPath(new URL('../../config/templates/haproxy.cfg', import.meta.url));
const PORT_ATTEMPTS = 4;

export interface HaproxyOptions {
  readonly program: DebianProgram;
  readonly blue: { readonly host: string; readonly port: number };
  readonly green: { readonly host: string; readonly port: number };
  /** Changes the text of the file before it is written. */
  readonly edit?: (text: string) => string;
}

export interface Haproxy extends AsyncDisposable {
  readonly port: number;
  readonly pid: number;
  readonly socket: string;
  readonly stateFile: string;
  readonly configFile: string;
  url(database: string): string;
  log(): string;
  /** One command of the runtime API, from somebody else. */
  command(text: string): Promise<string>;
  kill(signal: NodeJS.Signals): Promise<void>;
  start(): Promise<void>;
}

/** HAProxy with the example file: frontend `crm`, backend `db`, on a free port of 127.0.0.1. */
export async function startHaproxy(options: HaproxyOptions): Promise<Haproxy> {
  const home = await newDir('haproxy');
  const { uid, gid } = serverUser();
  if (uid !== undefined && gid !== undefined) await chown(home, uid, gid);
  for (let attempt = 1; ; attempt += 1) {
    const haproxy = new LocalHaproxy(options.program, home, await freePort());
    await writeFile(haproxy.configFile, await configured(haproxy, options));
    await chmod(haproxy.configFile, 0o644);
    try {
      await haproxy.start();
      return haproxy;
    } catch (error) {
      if (attempt < PORT_ATTEMPTS && /cannot bind socket/i.test(String(error))) continue;
      await haproxy[Symbol.asyncDispose]();
      throw error;
    }
  }
}

async function configured(haproxy: Haproxy, { blue, green, edit }: HaproxyOptions): Promise<string> {
  const places: Readonly<Record<string, string>> = {
    '/run/haproxy/admin.sock': haproxy.socket,
    '/var/lib/haproxy/server-state': haproxy.stateFile,
    '0.0.0.0:5432': `127.0.0.1:${haproxy.port}`,
    '192.0.2.1:5432': `${blue.host}:${blue.port}`,
    '192.0.2.2:5432': `${green.host}:${green.port}`,
  };
  let text = await readFile(EXAMPLE, 'utf8');
  for (const [from, to] of Object.entries(places)) {
    if (!text.includes(from)) throw new Error(`the example file names no ${from}`);
    text = text.replaceAll(from, to);
  }
  return edit?.(text) ?? text;
}

class LocalHaproxy implements Haproxy {
  readonly port: number;
  readonly socket: string;
  readonly stateFile: string;
  readonly configFile: string;
  readonly #program: DebianProgram;
  readonly #home: string;
  #process: ServerProcess | undefined;

  constructor(program: DebianProgram, home: string, port: number) {
    this.#program = program;
    this.#home = home;
    this.port = port;
    this.socket = join(home, 'admin.sock');
    this.stateFile = join(home, 'server-state');
    this.configFile = join(home, 'haproxy.cfg');
  }

  get pid(): number {
    if (this.#process === undefined) throw new Error('HAProxy is not running');
    return this.#process.pid;
  }

  url(database: string): string {
    return postgresUrl({ port: this.port }, database);
  }

  log(): string {
    return this.#process?.log() ?? '';
  }

  async start(): Promise<void> {
    const [program, ...args] = this.#program.command;
    // -db: in the foreground, one process.
    const started = await ServerProcess.launch({
      name: `HAProxy on port ${this.port}`,
      program,
      args: [...args, '-db', '-f', this.configFile],
      cwd: this.#home,
      logFile: join(this.#home, 'haproxy.log'),
      killSignal: 'SIGKILL',
    });
    this.#process = started;
    let ended = false;
    await waitFor(
      async () => {
        ended = !started.running;
        return ended || (await this.command('show info')).includes(`Pid: ${started.pid}`);
      },
      { what: 'HAProxy to answer', timeoutMs: 15_000 },
    );
    if (ended) throw new Error(`HAProxy did not start:\n${started.log()}`);
  }

  command(text: string): Promise<string> {
    return new Promise((resolve, reject) => {
      let answer = '';
      const socket = connect(this.socket, () => socket.write(`${text}\n`));
      socket.on('data', (chunk: Buffer) => (answer += chunk.toString()));
      socket.once('error', reject);
      socket.once('close', () => resolve(answer));
    });
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    await this.#process?.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process?.end('SIGKILL');
    await rm(this.#home, { recursive: true, force: true });
  }
}
