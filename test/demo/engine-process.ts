import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { type Envelope, parseEnvelope } from '../../src/app/envelope.ts';
import type { CutoverReport, Status } from '../../src/app/engine.ts';
import { atProcessEnd } from '../support/process-end.ts';
import { killNow } from '../support/server-process.ts';

const CLI = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
const STOP_MS = 20_000;
/** How much of the engine's log is kept, for the message of a failure. */
const LOG_LINES = 40;

export interface EngineOptions {
  readonly config: string;
  /** What the configuration names as `${NAME}`. */
  readonly env: Readonly<Record<string, string>>;
  readonly onStatus: (status: Status) => void;
}

/** Exit code of a cutover that found a gate shut: nothing was changed. */
const GATE_SHUT = 4;
/** `verify show` where both sides differ. */
const DIFFERENT = 5;

/** The engine as an operator runs it: `verdigris start` in a process of its own, and the other commands beside it. */
export class EngineProcess implements AsyncDisposable {
  readonly #options: EngineOptions;
  readonly #children = new Set<ChildProcess>();
  readonly #log: string[] = [];
  readonly #stop = new AbortController();
  /** Rejects when the engine ends before it is stopped. */
  readonly failed = Promise.withResolvers<never>();

  constructor(options: EngineOptions) {
    this.#options = options;
    this.failed.promise.catch(() => undefined);
    atProcessEnd(() => {
      for (const { pid } of this.#children) if (pid !== undefined) killNow(pid, 'SIGKILL');
    });
  }

  /** @param planFile the plan that was looked at: it must still be the plan */
  start(planFile: string): void {
    const child = this.#spawn([
      'start',
      '--plan',
      planFile,
      '--json',
      '--interval',
      '250ms',
      '--log-level',
      'warn',
    ]);
    let last: Envelope | null = null;
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      last = parseEnvelope(JSON.parse(line));
      if (last.kind === 'Status' && last.data !== null) this.#options.onStatus(last.data as Status);
    });
    child.once('close', (code, signal) => {
      if (this.#stop.signal.aborted) return;
      const why = last?.error ? `${last.error.code}: ${last.error.message}` : `code ${code ?? signal}`;
      this.failed.reject(new Error(`the engine ended: ${why}\n${this.log()}`));
    });
  }

  log(): string {
    return this.#log.join('\n');
  }

  async plan(file: string): Promise<Envelope> {
    return this.#ask(['plan', '--out', file]);
  }

  async dryRun(): Promise<CutoverReport> {
    return (await this.#ask(['cutover', '--dry-run'], [0, GATE_SHUT])).data as CutoverReport;
  }

  /** What the verification found, for people: tables, keys and columns. */
  async differences(): Promise<string> {
    return JSON.stringify((await this.#ask(['verify', 'show'], [0, DIFFERENT])).data);
  }

  /** Null when a gate was shut. */
  async turn(
    command: 'cutover' | 'rollback',
    planFile: string,
    migration: string,
  ): Promise<CutoverReport | null> {
    const answer = await this.#ask([command, '--plan', planFile, '--confirm', migration], [0, GATE_SHUT]);
    return answer.error === null ? (answer.data as CutoverReport) : null;
  }

  /** Asks it to end in order; everything it has started ends with it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.all(
      [...this.#children].map(async (child) => {
        const ended = once(child, 'exit');
        child.kill('SIGTERM');
        const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
        await ended;
        clearTimeout(timer);
      }),
    );
  }

  /** One command; gives its envelope. @throws Error with its code and text when it ended with another exit code than these */
  async #ask(args: readonly string[], codes: readonly number[] = [0]): Promise<Envelope> {
    const child = this.#spawn([...args, '--json']);
    let text = '';
    child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
    const [code] = (await once(child, 'close')) as [number | null];
    if (text.trim() === '')
      throw new Error(`verdigris ${args.join(' ')} ended with ${code} and no answer\n${this.log()}`);
    const answer = parseEnvelope(JSON.parse(text));
    if (code !== null && codes.includes(code)) return answer;
    if (answer.error) {
      const steps = (answer.data as { steps?: CutoverReport['steps'] } | null)?.steps ?? [];
      const failed = steps
        .filter(({ outcome }) => outcome === 'failed')
        .map(({ name, detail }) => `${name}: ${detail}`);
      const context = JSON.stringify(answer.error.context);
      throw new Error(
        [
          `verdigris ${args.join(' ')}: ${answer.error.code}: ${answer.error.message}`,
          answer.error.hint,
          context,
          ...failed,
          this.log(),
        ].join('\n'),
      );
    }
    throw new Error(`verdigris ${args.join(' ')} ended with ${code}: ${text}`);
  }

  #spawn(args: readonly string[]): ChildProcess {
    const { config, env } = this.#options;
    const child = spawn(process.execPath, [CLI, '--config', config, ...args], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      // Ctrl-C in the terminal shall reach the demo, which ends its servers last.
      detached: true,
    });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    createInterface({ input: child.stderr as NodeJS.ReadableStream }).on('line', (line) => {
      this.#log.push(line);
      if (this.#log.length > LOG_LINES) this.#log.shift();
    });
    return child;
  }
}
