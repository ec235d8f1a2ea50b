import { setTimeout as sleep } from 'node:timers/promises';

export interface WaitOptions {
  /** How long the fact may take to become true, in milliseconds. Default 30 s. */
  timeoutMs?: number;
  /** What is waited for, named in the error. */
  what: string;
  /** Pause between two looks, in milliseconds. Default 20. */
  everyMs?: number;
}

/**
 * Polls a fact until it holds and returns its value; `undefined`, `null` and `false` mean "not yet". An error thrown by the fact
 * counts as "not yet" too, and is the cause of the time-out error when nothing better came.
 */
export async function waitFor<T>(
  fact: () => Promise<T | undefined | false | null> | T | undefined | false | null,
  options: WaitOptions,
): Promise<T> {
  const timeoutMs = options.timeoutMs ?? 30_000;
  const started = performance.now();
  let last: unknown;
  for (;;) {
    try {
      const value = await fact();
      if (value !== undefined && value !== null && value !== false) return value;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (performance.now() - started >= timeoutMs) {
      const why = last instanceof Error ? `: ${last.message}` : '';
      throw new Error(`gave up after ${timeoutMs} ms waiting for ${options.what}${why}`, { cause: last });
    }
    await sleep(options.everyMs ?? 20);
  }
}
