import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import { atProcessEnd } from '../../support/process-end.ts';
import { killNow } from '../../support/server-process.ts';
import type { Ledger } from '../ledger.ts';

/** What the clients are told. */
export interface Orders {
  /** Of the proxy: clients never see the address of a member. */
  readonly url: string;
  readonly count: number;
  readonly thinkMs: number;
  readonly customers: number;
  readonly products: number;
}

/** What they know in the end. Connections that were made anew are no failures. */
export interface ReconnectingLedger extends Ledger {
  readonly reconnects: number;
  /** Committed transactions that moved a tally, by client. */
  readonly tallied: Readonly<Record<number, number>>;
}

export type ToClients = { readonly kind: 'start'; readonly orders: Orders } | { readonly kind: 'hold' };
export type FromClients =
  | { readonly kind: 'connected' }
  | { readonly kind: 'progress'; readonly committed: number; readonly failed: number }
  | { readonly kind: 'ledger'; readonly ledger: ReconnectingLedger };

/** The clients, in a process of their own. */
export class Load implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #connected = Promise.withResolvers<void>();
  readonly #ledger = Promise.withResolvers<ReconnectingLedger>();
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

  /** Resolves when all clients are connected and at work. */
  static async start(orders: Orders): Promise<Load> {
    const child = fork(fileURLToPath(new URL('./clients.ts', import.meta.url)), {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      serialization: 'advanced',
    });
    const { pid } = child;
    if (pid !== undefined)
      atProcessEnd(() => child.exitCode === null && child.signalCode === null && killNow(pid, 'SIGKILL'));
    const load = new Load(child);
    child.send({ kind: 'start', orders } satisfies ToClients);
    await load.#connected.promise;
    return load;
  }

  /** Lets every client end its transaction, and gives what they know. */
  async hold(): Promise<ReconnectingLedger> {
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
