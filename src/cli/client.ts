import { stat } from 'node:fs/promises';
import { request } from 'node:http';
import { asVerdigrisError, CODES, VerdigrisError, type Code } from '../core/errors.ts';
import {
  parseEnvelope,
  actionSchema,
  type Action,
  type ActionKind,
  type Envelope,
  type EnvelopeError,
} from '../app/envelope.ts';

const ANSWER_MS = 60_000;
const NOBODY = new Set(['ENOENT', 'ECONNREFUSED', 'ENOTSOCK']);

/** Talks to a running engine over its control socket. */
export class ControlClient {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** @throws VerdigrisError ENGINE_NOT_RUNNING, and whatever the engine answers */
  async get(path: string): Promise<Envelope> {
    return await this.#call('GET', path);
  }

  /** The answer, or null when no engine runs. */
  async find(path: string): Promise<Envelope | null> {
    try {
      return await this.get(path);
    } catch (error) {
      if (error instanceof VerdigrisError && error.code === 'ENGINE_NOT_RUNNING') return null;
      throw error;
    }
  }

  /**
   * Asks for an act and waits for its end.
   * @throws VerdigrisError TIMED_OUT (the act goes on), and what the act failed with
   */
  async act(kind: ActionKind, body: object, timeoutMs: number | null): Promise<unknown> {
    const until = timeoutMs === null ? Infinity : performance.now() + timeoutMs;
    let action = actionSchema.parse((await this.#call('POST', `/api/v1/actions/${kind}`, body)).data);
    while (action.state === 'running') {
      const left = until - performance.now();
      if (left <= 0) {
        throw new VerdigrisError('TIMED_OUT', `${kind} ${action.id} has not ended; it goes on`, {
          context: { action: action.id },
        });
      }
      const wait = Math.max(0.05, Math.min(20, left / 1_000)).toFixed(2);
      action = actionSchema.parse(
        (await this.#call('GET', `/api/v1/actions/${action.id}?wait=${wait}`)).data,
      );
    }
    return result(action);
  }

  async #call(method: 'GET' | 'POST', path: string, body?: object): Promise<Envelope> {
    await this.#checkOwner();
    const { text, status } = await this.#send(method, path, body);
    let envelope: Envelope;
    try {
      envelope = parseEnvelope(JSON.parse(text));
    } catch (cause) {
      throw new VerdigrisError(
        'INTERNAL',
        `the engine answered ${status} with something that is not an envelope`,
        { cause },
      );
    }
    if (envelope.error) throw errorOf(envelope.error);
    return envelope;
  }

  // A socket in a shared folder could be somebody else's who waits for a typed confirmation.
  async #checkOwner(): Promise<void> {
    const uid = process.getuid?.();
    const found = await stat(this.#path).catch(() => null);
    if (found === null || uid === undefined || uid === 0 || found.uid === uid) return;
    throw new VerdigrisError(
      'ENGINE_NOT_RUNNING',
      `the control socket ${this.#path} belongs to another user (uid ${found.uid})`,
    );
  }

  #send(
    method: 'GET' | 'POST',
    path: string,
    body: object | undefined,
  ): Promise<{ text: string; status: number }> {
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          socketPath: this.#path,
          method,
          path,
          headers: {
            host: 'localhost',
            ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          },
          timeout: ANSWER_MS,
        },
        (answer) => {
          const parts: Buffer[] = [];
          answer.on('data', (part: Buffer) => parts.push(part));
          answer.on('end', () =>
            resolve({ text: Buffer.concat(parts).toString(), status: answer.statusCode ?? 0 }),
          );
          answer.on('error', (error) => reject(this.#unreachable(error)));
        },
      );
      sent.on('timeout', () =>
        sent.destroy(
          new VerdigrisError('TIMED_OUT', `the engine did not answer ${path} in ${ANSWER_MS / 1_000} s`),
        ),
      );
      sent.on('error', (error) => reject(this.#unreachable(error)));
      sent.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  #unreachable(error: Error): VerdigrisError {
    if (error instanceof VerdigrisError) return error;
    const { code } = error as NodeJS.ErrnoException;
    if (code !== undefined && NOBODY.has(code)) {
      return new VerdigrisError('ENGINE_NOT_RUNNING', `no engine answers on ${this.#path}`, {
        context: { socket: this.#path },
      });
    }
    if (code === 'ECONNRESET') {
      return new VerdigrisError('ENGINE_NOT_RUNNING', 'the engine ended before it answered', {
        context: { socket: this.#path },
      });
    }
    return asVerdigrisError(error);
  }
}

function result(action: Action): unknown {
  if (action.error) throw errorOf(action.error);
  return action.result;
}

/** An error of the engine as one of ours, so that exit code and envelope are the same as if it had happened here. */
export function errorOf(error: EnvelopeError): VerdigrisError {
  const code: Code = Object.hasOwn(CODES, error.code) ? error.code : 'INTERNAL';
  return new VerdigrisError(code, error.message, { remedy: error.hint, context: error.context });
}
