import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Status } from '../../src/orchestrator/status.ts';
import { waitFor } from './wait.ts';

const MAIN = new URL('../../src/cli/main.ts', import.meta.url).pathname;

/** One `verdigris start` in a process of its own, as an operator runs it. */
export interface EngineProcess {
  readonly pid: number;
  /** Newest status line; null before the first. */
  readonly status: Status | null;
  /** Everything it printed, for what must not be in there. */
  readonly output: () => string;
  /** How it ended: exit code, or the signal. */
  readonly ended: Promise<number | NodeJS.Signals>;
  kill(signal: NodeJS.Signals): Promise<number | NodeJS.Signals>;
  /** Waits until a status line fulfils it; fails when the process ends before. */
  until(what: string, fulfilled: (status: Status) => boolean, timeoutMs?: number): Promise<Status>;
}

/** A folder with a configuration, and the processes that were started on it. */
export class Workplace implements AsyncDisposable {
  readonly dir: string;
  readonly file: string;
  readonly #running = new Set<ChildProcess>();

  constructor(dir: string) {
    this.dir = dir;
    this.file = join(dir, 'verdigris.yaml');
  }

  static async create(files: Readonly<Record<string, string>>): Promise<Workplace> {
    const workplace = new Workplace(await mkdtemp(join(tmpdir(), 'verdigris-e2e-')));
    for (const [name, text] of Object.entries(files))
      await writeFile(join(workplace.dir, name), text, { mode: 0o600 });
    return workplace;
  }

  start(
    options: {
      readonly failpoint?: string;
      readonly args?: readonly string[];
      readonly env?: NodeJS.ProcessEnv;
    } = {},
  ): EngineProcess {
    const child = spawn(
      process.execPath,
      [
        MAIN,
        'start',
        '--config',
        this.file,
        '--json',
        '--interval',
        '100ms',
        '--log-format',
        'json',
        ...(options.args ?? []),
      ],
      {
        cwd: this.dir,
        env: {
          ...process.env,
          XDG_STATE_HOME: this.dir,
          ...(options.failpoint === undefined ? {} : { VERDIGRIS_FAILPOINT: options.failpoint }),
          ...options.env,
        },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    this.#running.add(child);
    let printed = '';
    let status: Status | null = null;
    const keep = (text: string): void => {
      printed += text;
    };
    child.stderr.setEncoding('utf8').on('data', keep);
    createInterface({ input: child.stdout }).on('line', (line) => {
      keep(`${line}\n`);
      const envelope = JSON.parse(line) as { kind: string; data: unknown };
      if (envelope.kind === 'Status') status = envelope.data as Status;
    });
    const ended = new Promise<number | NodeJS.Signals>((resolve) => {
      child.on('exit', (code, signal) => {
        this.#running.delete(child);
        resolve(signal ?? code ?? -1);
      });
    });
    let over = false;
    void ended.then(() => {
      over = true;
    });
    return {
      pid: child.pid as number,
      get status() {
        return status;
      },
      output: () => printed,
      ended,
      kill: (signal) => {
        child.kill(signal);
        return ended;
      },
      until: (what, fulfilled, timeoutMs = 60_000) =>
        waitFor(
          () => {
            if (status !== null && fulfilled(status)) return Promise.resolve(status);
            if (over) throw new Error(`the engine ended before ${what}:\n${printed.slice(-3000)}`);
            return Promise.resolve(null);
          },
          { timeoutMs, what: `${what}; last output:\n${printed.slice(-2000)}` },
        ),
    };
  }

  /** Runs another command of the CLI to its end. */
  async run(...args: string[]): Promise<{
    code: number;
    json: { ok: boolean; data: unknown; error: { code: string; message: string } | null };
    text: string;
  }> {
    const child = spawn(process.execPath, [MAIN, ...args, '--config', this.file, '--json', '--no-input'], {
      cwd: this.dir,
      env: { ...process.env, XDG_STATE_HOME: this.dir },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let out = '';
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (piece: string) => (out += piece));
    child.stderr.setEncoding('utf8').on('data', (piece: string) => (text += piece));
    const code = await new Promise<number>((resolve) => child.on('exit', (status) => resolve(status ?? -1)));
    const line = out.trim().split('\n').at(-1) ?? '';
    return { code, json: JSON.parse(line) as never, text: `${out}${text}` };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      [...this.#running].map(
        (child) =>
          new Promise<void>((resolve) => {
            child.once('exit', () => resolve());
            child.kill('SIGKILL');
          }),
      ),
    );
    await rm(this.dir, { recursive: true, force: true });
  }
}
