import { connect, type NetConnectOpts } from 'node:net';
import { VerdigrisError } from '../../core/errors.ts';

/** An answer is some kilobytes for each backend; more than this is not HAProxy. */
const MAX_ANSWER = 16 * 1024 * 1024;

/** The runtime API: one connection for each command, which HAProxy closes after its answer. */
export class RuntimeApi {
  readonly address: string;
  readonly #to: NetConnectOpts;

  constructor(socket: string) {
    this.address = socket;
    const cut = socket.lastIndexOf(':');
    this.#to = socket.startsWith('/')
      ? { path: socket }
      : { host: socket.slice(0, cut).replace(/^\[|\]$/g, ''), port: Number(socket.slice(cut + 1)) };
  }

  /** @throws VerdigrisError PROXY_UNREACHABLE, PROXY_TIMEOUT, PROXY_UNEXPECTED */
  ask(command: string, signal: AbortSignal): Promise<string> {
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let size = 0;
      const socket = connect(this.#to);
      const late = (): void =>
        fail('PROXY_TIMEOUT', `did not answer ${JSON.stringify(command)} in time`, signal.reason);
      const settle = (): void => {
        signal.removeEventListener('abort', late);
        socket.destroy();
      };
      const fail = (
        code: 'PROXY_TIMEOUT' | 'PROXY_UNREACHABLE' | 'PROXY_UNEXPECTED',
        what: string,
        cause?: unknown,
      ): void => {
        settle();
        const context = { address: this.address };
        reject(new VerdigrisError(code, `HAProxy at ${this.address} ${what}.`, { context, cause }));
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
        settle();
        return resolve(answer);
      });
      if (signal.aborted) late();
      else signal.addEventListener('abort', late, { once: true });
    });
  }

  /** A command whose answer is empty when it was done. */
  async act(command: string, signal: AbortSignal): Promise<void> {
    const answer = (await this.ask(command, signal)).trim();
    if (answer === '') return;
    const said = answer.split('\n', 1)[0]?.slice(0, 200) ?? '';
    throw new VerdigrisError('PROXY_UNEXPECTED', `HAProxy at ${this.address} refused ${command}: ${said}`, {
      ...(said.startsWith('Permission denied') ? { remedy: 'Give the stats socket `level admin`.' } : {}),
      context: { address: this.address, answer: said },
    });
  }
}
