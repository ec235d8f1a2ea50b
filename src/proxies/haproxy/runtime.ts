import { once } from 'node:events';
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { VerdigrisError } from '../../core/errors.ts';

/** An answer is some kilobytes for each backend; more than this is not HAProxy. */
const MAX_ANSWER = 16 * 1024 * 1024;

/** The runtime API: one connection for each command, which HAProxy closes after its answer. */
export class RuntimeApi {
  readonly address: string;
  readonly #to: NetConnectOpts;
  /** Connections of changes whose caller has gone. */
  readonly #unanswered = new Set<Socket>();

  constructor(socket: string) {
    this.address = socket;
    const cut = socket.lastIndexOf(':');
    this.#to = socket.startsWith('/')
      ? { path: socket }
      : { host: socket.slice(0, cut).replace(/^\[|\]$/g, ''), port: Number(socket.slice(cut + 1)) };
  }

  /**
   * A command that changes nothing.
   * @throws VerdigrisError PROXY_UNREACHABLE, PROXY_TIMEOUT, PROXY_UNEXPECTED
   */
  ask(command: string, signal: AbortSignal): Promise<string> {
    return this.#send(command, signal, (socket) => socket.destroy());
  }

  /**
   * A command that changes something. A HAProxy that stood still carries out what it had received when it goes on, and commands of several
   * connections in no order (seen on 2.6: a `state ready` after the `state maint` that was sent later, and traffic was held for ever): so the
   * next change waits until none is under way.
   * @returns a sentence about what changed, or nothing
   * @throws VerdigrisError PROXY_UNREACHABLE, PROXY_TIMEOUT, PROXY_UNEXPECTED
   */
  async change(command: string, signal: AbortSignal): Promise<string> {
    for (const socket of this.#unanswered) await this.#closed(socket, command, signal);
    return this.#send(command, signal, (socket) => {
      // From another host what has not arrived may be thrown away, and has to be: it could arrive much later.
      if (!('path' in this.#to)) return socket.resetAndDestroy();
      this.#unanswered.add(socket);
      return socket.unref();
    });
  }

  /** A change whose answer is empty when it was done. */
  async act(command: string, signal: AbortSignal): Promise<void> {
    const answer = (await this.change(command, signal)).trim();
    if (answer === '') return;
    const said = answer.split('\n', 1)[0]?.slice(0, 200) ?? '';
    throw new VerdigrisError('PROXY_UNEXPECTED', `HAProxy at ${this.address} refused ${command}: ${said}`, {
      ...(said.startsWith('Permission denied') ? { remedy: 'Give the stats socket `level admin`.' } : {}),
      context: { address: this.address, answer: said },
    });
  }

  close(): void {
    for (const socket of this.#unanswered) socket.destroy();
  }

  async #closed(socket: Socket, next: string, signal: AbortSignal): Promise<void> {
    if (!socket.closed) {
      socket.ref();
      try {
        await once(socket, 'close', { signal });
      } catch (cause) {
        socket.unref();
        throw this.#error('PROXY_TIMEOUT', `has not carried out what it was told before ${next}`, cause);
      }
    }
    this.#unanswered.delete(socket);
  }

  /** @param leave what becomes of the connection when the caller does not wait any longer */
  #send(command: string, signal: AbortSignal, leave: (socket: Socket) => unknown): Promise<string> {
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let size = 0;
      const socket = connect(this.#to);
      const late = (): void => {
        reject(
          this.#error('PROXY_TIMEOUT', `did not answer ${JSON.stringify(command)} in time`, signal.reason),
        );
        // Not connected: nothing was sent.
        if (socket.connecting) socket.destroy();
        else leave(socket);
      };
      const fail = (code: 'PROXY_UNREACHABLE' | 'PROXY_UNEXPECTED', what: string, cause?: unknown): void => {
        signal.removeEventListener('abort', late);
        socket.destroy();
        reject(this.#error(code, what, cause));
      };
      socket.on('connect', () => socket.write(`${command}\n`));
      socket.on('data', (chunk) => {
        chunks.push(chunk);
        size += chunk.length;
        if (size > MAX_ANSWER) fail('PROXY_UNEXPECTED', 'answers without end');
      });
      socket.on('error', (error: NodeJS.ErrnoException) =>
        fail('PROXY_UNREACHABLE', `cannot be reached (${error.code ?? error.name})`, error),
      );
      socket.on('close', () => {
        // What is shown ends with an empty line, what was done is one: less means that the process died over it, and half of
        // the counters must not pass for all of them.
        const answer = Buffer.concat(chunks).toString('utf8');
        if (answer !== '\n' && !answer.endsWith('\n\n'))
          return fail('PROXY_UNREACHABLE', 'closed its runtime socket before its answer was complete');
        signal.removeEventListener('abort', late);
        return resolve(answer);
      });
      if (signal.aborted) late();
      else signal.addEventListener('abort', late, { once: true });
    });
  }

  #error(
    code: 'PROXY_TIMEOUT' | 'PROXY_UNREACHABLE' | 'PROXY_UNEXPECTED',
    what: string,
    cause: unknown,
  ): VerdigrisError {
    const context = { address: this.address };
    return new VerdigrisError(code, `HAProxy at ${this.address} ${what}.`, { context, cause });
  }
}
