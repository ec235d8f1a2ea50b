import type { Clock } from '../core/clock.ts';
import { VerdigrisError } from '../core/errors.ts';
import type { Way } from './way.ts';

/** Longer than this nothing is on its way: replication stands still. */
const SETTLE_TIMEOUT_MS = 120_000;
const SETTLE_POLL_MS = 20;

/**
 * Waits until green has everything that was committed on blue before the call, rows that are being read again included.
 * @throws VerdigrisError VERIFY_FAILED when replication stands still
 */
export function settling(parts: {
  readonly way: Way;
  readonly label: string;
  readonly clock: Clock;
}): (signal: AbortSignal) => Promise<void> {
  const { way, label, clock } = parts;
  const { pipeline, source } = way;
  const still = (why: string): VerdigrisError =>
    new VerdigrisError('VERIFY_FAILED', `Green does not follow blue: ${why}.`, {
      remedy: 'Mend what holds replication up, then run `verdigris verify` again: it goes on where it was.',
    });
  return async (signal) => {
    const stop = new AbortController();
    const both = AbortSignal.any([signal, stop.signal]);
    const watch = (async () => {
      const since = clock.monotonic();
      for (;;) {
        await clock.sleep(SETTLE_POLL_MS * 10, both);
        const { condition, reason } = way.state();
        if (condition === 'blocked') throw still(reason);
        if (clock.monotonic() - since > SETTLE_TIMEOUT_MS)
          throw still(reason === '' ? `nothing for ${SETTLE_TIMEOUT_MS / 1000} s` : reason);
      }
    })();
    const settled = (async () => {
      await pipeline.drain(await source.mark(label), both);
      while (pipeline.holes > pipeline.rejects) await clock.sleep(SETTLE_POLL_MS, both);
    })();
    try {
      await Promise.race([settled, watch]);
    } finally {
      stop.abort(new VerdigrisError('INTERRUPTED', 'The wait is over.'));
      await Promise.allSettled([settled, watch]);
    }
  };
}
