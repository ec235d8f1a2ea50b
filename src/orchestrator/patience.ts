import type { Clock } from '../core/clock.ts';
import { asVerdigrisError, type VerdigrisError } from '../core/errors.ts';
import type { Logger } from '../core/log.ts';
import { unlessStopped } from './unless-stopped.ts';

const POLL_MS = 200;

export interface PatienceOptions {
  /** Of the run. */
  readonly signal: AbortSignal;
  readonly clock: Clock;
  readonly log: Logger;
  /** It waits for the operator because of this; null: it goes on. */
  readonly onBlocked: (error: VerdigrisError | null) => void;
}

/** How a run tries again after an error. */
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
        await unlessStopped(this.#retry.promise, this.#o.signal);
        this.#o.onBlocked(null);
      }
    }
  }
}
