import { chmod, chown, copyFile, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { type DebianProgram, type DebianProgramOptions } from './debian.ts';
import { freePort } from './free-port.ts';
import { postgresUrl } from './postgres.ts';
import { newDir } from './run-dir.ts';
import { ServerProcess } from './server-process.ts';
import { serverUser } from './server-user.ts';
import { waitFor } from './wait.ts';

export const NGINX: DebianProgramOptions = {
  packages: ['nginx', 'libnginx-mod-stream'],
  program: 'usr/sbin/nginx',
};

/** The files that operators are shown. Tests run them, with their own paths and ports in them. */
const EXAMPLES = new URL('../../config/templates/', import.meta.url);
const PORT_ATTEMPTS = 4;

export interface NginxOptions {
  readonly program: DebianProgram;
  /** The first file: the template as it reads for this place. */
  readonly blue: { readonly host: string; readonly port: number };
}

export interface Nginx extends AsyncDisposable {
  readonly port: number;
  readonly statusPort: number;
  readonly template: string;
  readonly configFile: string;
  /** What makes it read its file again, and what says whether old workers are left. */
  readonly reload: readonly string[];
  readonly drained: readonly string[];
  readonly version: readonly string[];
  url(database: string): string;
  log(): string;
  kill(signal: NodeJS.Signals): Promise<void>;
  start(): Promise<void>;
}

/** nginx as a stream proxy with the example template, on free ports of 127.0.0.1. */
export async function startNginx(options: NginxOptions): Promise<Nginx> {
  const home = await newDir('nginx');
  const { uid, gid } = serverUser();
  if (uid !== undefined && gid !== undefined) await chown(home, uid, gid);
  for (let attempt = 1; ; attempt += 1) {
    const nginx = new LocalNginx(options.program, home, {
      port: await freePort(),
      statusPort: await freePort(),
    });
    await nginx.configure(options);
    try {
      await nginx.start();
      return nginx;
    } catch (error) {
      if (attempt < PORT_ATTEMPTS && String(error).includes('Address already in use')) continue;
      await nginx[Symbol.asyncDispose]();
      throw error;
    }
  }
}

class LocalNginx implements Nginx {
  readonly port: number;
  readonly statusPort: number;
  readonly template: string;
  readonly configFile: string;
  readonly #program: DebianProgram;
  readonly #home: string;
  #process: ServerProcess | undefined;

  constructor(program: DebianProgram, home: string, ports: { port: number; statusPort: number }) {
    this.#program = program;
    this.#home = home;
    this.port = ports.port;
    this.statusPort = ports.statusPort;
    this.template = join(home, 'nginx.template');
    this.configFile = join(home, 'nginx.conf');
  }

  get #argv(): string[] {
    return [...this.#program.command, '-p', this.#home, '-e', 'stderr', '-c', this.configFile];
  }

  get reload(): readonly string[] {
    return [...this.#argv, '-s', 'reload'];
  }

  get drained(): readonly string[] {
    return [join(this.#home, 'nginx-drained.sh'), join(this.#home, 'nginx.pid'), '1'];
  }

  get version(): readonly string[] {
    return [...this.#program.command, '-v'];
  }

  url(database: string): string {
    return postgresUrl({ port: this.port }, database);
  }

  log(): string {
    return this.#process?.log() ?? '';
  }

  async configure({ blue }: NginxOptions): Promise<void> {
    const ours: Readonly<Record<string, string>> = {
      'modules/ngx_stream_module.so': join(this.#program.root, 'usr/lib/nginx/modules/ngx_stream_module.so'),
      '/run/nginx.pid': join(this.#home, 'nginx.pid'),
      '127.0.0.1:9101;': `127.0.0.1:${this.statusPort};`,
      '0.0.0.0:5432': `127.0.0.1:${this.port}`,
      'worker_shutdown_timeout 1s;': 'worker_shutdown_timeout 600ms;',
    };
    let template = await readFile(new URL('nginx.conf', EXAMPLES), 'utf8');
    for (const [from, to] of Object.entries(ours)) {
      if (!template.includes(from)) throw new Error(`the example file names no ${from}`);
      template = template.replaceAll(from, to);
    }
    await writeFile(this.template, template);
    const open = template
      .replaceAll(/^ *\{\{[#/]open\}\}\n/gm, '')
      .replaceAll('{{host}}', blue.host)
      .replaceAll('{{port}}', String(blue.port))
      .replaceAll('{{side}}', 'blue')
      .replaceAll('{{state}}', 'open');
    await writeFile(this.configFile, open);
    await chmod(this.configFile, 0o644);
    const [script] = this.drained;
    await copyFile(fileURLToPath(new URL('nginx-drained.sh', EXAMPLES)), script as string);
    await chmod(script as string, 0o755);
  }

  async start(): Promise<void> {
    const [program, ...args] = this.#argv;
    const started = await ServerProcess.launch({
      name: `nginx on port ${this.port}`,
      program: program as string,
      args: [...args, '-g', 'daemon off;'],
      cwd: this.#home,
      logFile: join(this.#home, 'nginx.log'),
      // Its workers end with it only when it is asked.
      killSignal: 'SIGTERM',
    });
    this.#process = started;
    let ended = false;
    await waitFor(
      async () => {
        ended = !started.running;
        return (
          ended || (await readFile(join(this.#home, 'nginx.pid'), 'utf8')).trim() === String(started.pid)
        );
      },
      { what: 'nginx to start', timeoutMs: 15_000 },
    );
    if (ended) throw new Error(`nginx did not start:\n${started.log()}`);
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    await this.#process?.end(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process?.end('SIGTERM');
    await rm(this.#home, { recursive: true, force: true });
  }
}
