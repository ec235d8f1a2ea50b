import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { CutoverReport } from '../../../src/app/engine.ts';
import { waitFor } from '../../support/wait.ts';
import type { FromEngine, ToEngine } from './engine-messages.ts';

const CHILD = fileURLToPath(new URL('./engine-child.ts', import.meta.url));

type Failed = FromEngine & { readonly kind: 'failed' };

/** One engine in its process, as the test sees it. */
export class TestEngine implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | NodeJS.Signals>;
  over = false;
  status: (FromEngine & { readonly kind: 'status' }) | null = null;
  /** A turn was asked of it. */
  asked = false;
  reached: string | null = null;
  report: CutoverReport | null = null;
  failed: Failed | null = null;
  #errors = '';

  constructor(config: string) {
    this.#child = fork(CHILD, [config], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#errors += text));
    this.#ended = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => {
        this.over = true;
        resolve(signal ?? code ?? -1);
      });
    });
    this.#child.on('message', (message: FromEngine) => {
      if (message.kind === 'status') this.status = message;
      else if (message.kind === 'reached') this.reached = message.point;
      else if (message.kind === 'outcome') this.report = message.report;
      else if (message.kind === 'failed') this.failed = message;
    });
  }

  /** Its turn is over: it may be asked for another one. */
  reset(): void {
    this.asked = false;
    this.reached = null;
    this.report = null;
    this.failed = null;
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  tell(message: ToEngine): void {
    if (message.kind === 'turn') this.asked = true;
    if (!this.over) this.#child.send(message, () => undefined);
  }

  /** Waits until the point is reached; fails with what happened instead. */
  async at(point: string): Promise<void> {
    await waitFor(() => this.reached === point || this.report !== null || this.failed !== null || this.over, {
      what: `the engine to reach ${point}`,
      timeoutMs: 100_000,
      everyMs: 5,
    }).catch((error: unknown) => {
      throw new Error(`${String(error)}; now ${this.told()}`, { cause: error });
    });
    if (this.reached !== point) throw new Error(`the engine did not reach ${point}: ${this.told()}`);
  }

  /** For messages of failures. */
  told(): string {
    const { status, report, failed, over } = this;
    return JSON.stringify({
      status,
      report: report && { ...report, gates: undefined },
      failed,
      over,
      stderr: this.#errors.slice(-1_000),
    });
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.#child.kill(signal);
    if (signal === 'SIGKILL') await this.#ended;
  }

  async close(): Promise<void> {
    this.tell({ kind: 'close' });
    await this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.over) await this.kill();
  }
}
