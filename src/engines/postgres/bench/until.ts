import { setTimeout as sleep } from 'node:timers/promises';
import type { VerdigrisError } from '../../../core/errors.ts';

/** Longest time of one measured run. */
export const MOST_MS = 20 * 60_000;

export interface UntilOptions {
  readonly everyMs: number;
  readonly timeoutMs: number;
  /** What is thrown when it takes longer. */
  readonly late: VerdigrisError;
  readonly signal?: AbortSignal;
}

/** Looks again and again until a fact holds. @throws what the look throws, `late`, the reason of the signal */
export async function until(look: () => Promise<boolean>, options: UntilOptions): Promise<void> {
  const { everyMs, timeoutMs, late, signal } = options;
  const began = performance.now();
  for (;;) {
    signal?.throwIfAborted();
    if (await look()) return;
    if (performance.now() - began > timeoutMs) throw late;
    await sleep(everyMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
  }
}
