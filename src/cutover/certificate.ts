import { VerdigrisError } from '../core/errors.ts';
import type { Position } from '../core/position.ts';
import { bounded } from './budget.ts';
import type { CutoverContext } from './context.ts';

/**
 * What proves that the new side has everything: its durable checkpoint covers the barrier, and on the old side nothing is left that
 * could still commit a write to a mapped table. It stands in the journal before the seal.
 */
export interface DrainCertificate {
  readonly epoch: number;
  /** Where the fence was raised, in the log of the side that stops. */
  readonly barrier: Position;
  /** How far the other side has applied that log, flushed. */
  readonly checkpoint: Position;
  /** What this engine has applied since it was started; null: not counted. */
  readonly transactions: number | null;
  readonly changes: number | null;
  /** Prepared transactions, and sessions of others with a write lock on a mapped table. */
  readonly blockers: readonly never[];
  /** How often they were looked for until there were none. */
  readonly looks: number;
  /** From the start of the drain, ms. */
  readonly waitedMs: number;
}

/** Between two looks at what still holds a lock. */
const LOOK_MS = 20;

/**
 * Waits until all of it is true.
 * @throws VerdigrisError CUTOVER_FENCE_LEAKS with who can still write when the signal fires
 */
export async function certify(
  { from, fromFence, pipeline, clock, epoch }: CutoverContext,
  barrier: Position,
  signal: AbortSignal,
): Promise<DrainCertificate> {
  const began = clock.monotonic();
  const checkpoint = await bounded(pipeline.drain(barrier, signal), signal);
  if (pipeline.covers?.(checkpoint, barrier) === false) {
    throw new VerdigrisError(
      'INTERNAL',
      `The drain ended at ${checkpoint}, which does not cover ${barrier}.`,
    );
  }
  for (let looks = 1; ; looks++) {
    const found = await bounded(fromFence.blockers(), signal);
    if (found.length === 0) {
      const { transactions = null, changes = null } = pipeline.counters ?? {};
      const waitedMs = clock.monotonic() - began;
      return { epoch, barrier, checkpoint, transactions, changes, blockers: [], looks, waitedMs };
    }
    await clock.sleep(LOOK_MS, signal).catch(() => undefined);
    if (signal.aborted) {
      throw new VerdigrisError(
        'CUTOVER_FENCE_LEAKS',
        `Still able to write on ${from}: ${found.join(', ')}.`,
        {
          cause: signal.reason,
        },
      );
    }
  }
}
