import type { Clock } from '../core/clock.ts';
import type { Session } from '../core/engine.ts';
import { asVerdigrisError } from '../core/errors.ts';
import type { Settings } from './settings.ts';

const POLL_MS = 1_000;
const QUERY_TIMEOUT_MS = 5_000;

/** Says when the copy may start its next chunk: not while it is paused, and not while a throttle query is above its limit. */
export class CopyPermit {
  readonly #sessions: { readonly blue: Session; readonly green: Session };
  readonly #rules: Settings['throttle'];
  readonly #clock: Clock;
  #paused: PromiseWithResolvers<undefined> | null = null;
  #checkedAt = Number.NEGATIVE_INFINITY;
  #throttled: string | null = null;

  constructor(options: {
    sessions: { blue: Session; green: Session };
    rules: Settings['throttle'];
    clock: Clock;
  }) {
    this.#sessions = options.sessions;
    this.#rules = options.rules;
    this.#clock = options.clock;
  }

  get paused(): boolean {
    return this.#paused !== null;
  }

  /** Which rule holds the copy back, or null. */
  get throttled(): string | null {
    return this.#throttled;
  }

  pause(): void {
    this.#paused ??= Promise.withResolvers<undefined>();
  }

  resume(): void {
    this.#paused?.resolve(undefined);
    this.#paused = null;
  }

  async wait(signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      if (this.#paused !== null) {
        const aborted = Promise.withResolvers<undefined>();
        const abort = (): void => aborted.resolve(undefined);
        signal.addEventListener('abort', abort, { once: true });
        await Promise.race([this.#paused.promise, aborted.promise]);
        signal.removeEventListener('abort', abort);
        continue;
      }
      await this.#check();
      if (this.#throttled === null) return;
      await this.#clock.sleep(POLL_MS, signal);
    }
  }

  async #check(): Promise<void> {
    if (this.#rules.length === 0 || this.#clock.monotonic() - this.#checkedAt < POLL_MS) return;
    this.#checkedAt = this.#clock.monotonic();
    for (const { name, on, query, max } of this.#rules) {
      try {
        const answer = await this.#sessions[on].scalar(query, QUERY_TIMEOUT_MS);
        if (answer === null || !(Number(answer) <= max)) {
          this.#throttled = `${name}: ${answer ?? 'no value'}, limit ${max}`;
          return;
        }
      } catch (error) {
        // A rule that cannot be asked holds back: it is there to protect something.
        this.#throttled = `${name}: ${asVerdigrisError(error).message}`;
        return;
      }
    }
    this.#throttled = null;
  }
}
