import type { Clock } from '../core/clock.ts';
import { asVerdigrisError, type VerdigrisError } from '../core/errors.ts';
import type { Logger } from '../core/log.ts';

const POLL_MS = 200;

export interface PatienceOptions {
  /** Of the run. */
  readonly signal: AbortSignal;
  readonly clock: Clock;
  readonly log: Logger;
  /** It waits for the operator because of this; null: it goes on. */
  readonly onBlocked: (error: VerdigrisError | null) => void;
}

/** How a run waits: until it is stopped, and once more after an error. */
export class Patience {
  readonly #o: PatienceOptions;
  #retry: PromiseWithResolvers<void> | null = null;

  constructor(options: PatienceOptions) {
    this.#o = options;
  }

  /** What waits for the operator is tried again. */
  retry(): void {
    this.#retry?.resolve();
  }

  /** The promise, or the reason why the run stopped. */
  async unlessStopped<T>(promise: Promise<T>): Promise<T> {
    const { signal } = this.#o;
    const stopped = Promise.withResolvers<never>();
    const stop = (): void => stopped.reject(asVerdigrisError(signal.reason));
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    stopped.promise.catch(() => undefined);
    try {
      return await Promise.race([promise, stopped.promise]);
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  /** Tries again after transient errors; an error that needs the operator waits for `resume`. */
  async retried<T>(act: () => Promise<T>): Promise<T> {
    for (;;) {
      this.#o.signal.throwIfAborted();
      try {
        return await act();
      } catch (raw) {
        this.#o.signal.throwIfAborted();
        const error = asVerdigrisError(raw);
        if (error.directive === 'fatal') throw error;
        this.#o.log.warn({ code: error.code, ...error.context }, error.message);
        if (error.directive === 'retry') {
          await this.#o.clock.sleep(POLL_MS, this.#o.signal);
          continue;
        }
        this.#o.onBlocked(error);
        this.#retry = Promise.withResolvers<void>();
        await this.unlessStopped(this.#retry.promise);
        this.#o.onBlocked(null);
      }
    }
  }
}
