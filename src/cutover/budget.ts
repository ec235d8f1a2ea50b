import type { Clock } from '../core/clock.ts';
import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';

/** A signal that fires after a time. Disposing it takes the timer back. */
export interface Deadline extends Disposable {
  readonly signal: AbortSignal;
}

/** Fires with TIMED_OUT and this message after `ms`; also, at once, when one of the other signals fires. */
export function deadline(
  clock: Clock,
  ms: number,
  message: string,
  others: readonly AbortSignal[] = [],
): Deadline {
  const late = new AbortController();
  const off = new AbortController();
  clock.sleep(ms, off.signal).then(
    () => late.abort(new VerdigrisError('TIMED_OUT', message)),
    () => undefined,
  );
  return {
    signal: AbortSignal.any([late.signal, ...others]),
    [Symbol.dispose]: () => off.abort(new Error('not needed any more')),
  };
}

/** Why the signal fired; a reason that is not ours means that somebody cancelled. */
export const reasonOf = ({ reason }: AbortSignal): VerdigrisError =>
  reason instanceof VerdigrisError
    ? reason
    : new VerdigrisError('INTERRUPTED', 'The switch was cancelled.', { cause: reason });

/**
 * The promise, or a rejection with the signal's reason. What was started goes on; who undoes must reckon with it. A promise
 * that rejects because of the same signal is given one turn to do so: its error says what was being waited for.
 */
export async function bounded<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  // The loser of the race may reject when nobody listens any more.
  promise.catch(() => undefined);
  let stop: () => void = () => undefined;
  const fired = new Promise<never>((_resolve, reject) => {
    stop = () => setImmediate(() => reject(reasonOf(signal)));
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([promise, fired]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

const FIRST_DELAY_MS = 50;
const LONGEST_DELAY_MS = 1_000;

/** Tries again, with growing pauses, until it works, `hopeless` says so, or the signal fires; then the last error. */
export async function persist<T>(
  act: () => Promise<T>,
  options: {
    readonly clock: Clock;
    readonly signal: AbortSignal;
    readonly hopeless?: (error: VerdigrisError) => boolean;
  },
): Promise<T> {
  const { clock, signal } = options;
  for (let delay = FIRST_DELAY_MS; ; delay = Math.min(2 * delay, LONGEST_DELAY_MS)) {
    try {
      return await act();
    } catch (caught) {
      const error = asVerdigrisError(caught);
      if (signal.aborted || options.hopeless?.(error) === true) throw error;
      await clock.sleep(delay, signal).catch(() => undefined);
      if (signal.aborted) throw error;
    }
  }
}
