import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';

import { killNow } from '../support/server-process.ts';
import { atProcessEnd } from '../support/process-end.ts';
import type { ClientOptions, FromClients, Ledger, ToClients } from './ledger.ts';

/** The clients, in a process of their own. */
export class Load implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #connected = Promise.withResolvers<void>();
  readonly #ledger = Promise.withResolvers<Ledger>();
  /** As of half a second ago. */
  progress = { committed: 0, failed: 0 };

  private constructor(child: ChildProcess) {
    this.#child = child;
    for (const { promise } of [this.#connected, this.#ledger]) promise.catch(() => undefined);
    child.on('message', (message: FromClients) => {
      if (message.kind === 'connected') this.#connected.resolve();
      else if (message.kind === 'progress') this.progress = message;
      else this.#ledger.resolve(message.ledger);
    });
    child.once('exit', (code, signal) => {
      const gone = new Error(`the process of the clients ended with ${code ?? signal}`);
      this.#connected.reject(gone);
      this.#ledger.reject(gone);
    });
  }

  /**
   * Resolves when all clients are connected and at work.
   * @param module what their process runs: calls `runClients`
   */
  static async start(module: URL, options: ClientOptions): Promise<Load> {
    const child = fork(module, {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      serialization: 'advanced',
    });
    const { pid } = child;
    if (pid !== undefined)
      atProcessEnd(() => child.exitCode === null && child.signalCode === null && killNow(pid, 'SIGKILL'));
    const load = new Load(child);
    child.send({ kind: 'start', options } satisfies ToClients);
    await load.#connected.promise;
    return load;
  }

  /** Lets every client end its transaction, and gives what they know. */
  async hold(): Promise<Ledger> {
    this.#child.send({ kind: 'hold' } satisfies ToClients);
    return this.#ledger.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}
