import { VerdigrisError } from '../core/errors.ts';
import type { Position } from '../core/position.ts';
import { bounded } from './budget.ts';
import type { CutoverContext } from './context.ts';
import type { Step, Undone } from './step.ts';

/** What one step learns and a later one needs. */
export interface Learned {
  barrier: Position | null;
}

/** How often a record that says open is read again after a `raise` whose outcome is not known: its commit may be under way. */
const LATE_LOOKS = 4;
const LATE_LOOK_MS = 100;

/**
 * Raises the fence on blue. Its way back is `lower` and nothing else: compare-and-set on the record, so that of everybody
 * who undoes and the one who seals exactly one wins.
 */
export function fenceStep(context: CutoverContext, learned: Learned): Step {
  const { blueFence, clock, epoch, settings } = context;
  let attempt: Promise<Position> | null = null;
  // In a new process nothing is known about the attempt of the one before.
  let outcomeKnown = false;

  const lower = async (signal: AbortSignal): Promise<Undone> => {
    for (let looks = 1; ;) {
      const { state, epoch: found } = await bounded(blueFence.state(), signal);
      if (state === 'sealed') return { sealed: true, detail: `sealed with epoch ${found}` };
      if (state === 'raised') {
        if (found !== epoch) {
          throw new VerdigrisError(
            'STATE_CONFLICT',
            `The fence of blue was raised by another attempt: epoch ${found}, not ${epoch}.`,
            {
              remedy: 'Another engine is switching. Use that one.',
            },
          );
        }
        if (await bounded(blueFence.lower(epoch), signal)) return { sealed: false, detail: 'lowered' };
        continue;
      }
      if (outcomeKnown || looks >= LATE_LOOKS) return { sealed: false, detail: 'open' };
      looks++;
      await clock.sleep(LATE_LOOK_MS, signal);
    }
  };

  return {
    name: 'fence',
    timeoutMs: settings.fenceTimeoutMs,
    held: true,
    pastPointOfNoReturn: false,
    undoFirst: true,
    describe: () => 'raise the fence on blue against every writer; its position is the barrier',
    run: async (signal) => {
      outcomeKnown = false;
      attempt = blueFence.raise(epoch, settings.fenceTimeoutMs);
      learned.barrier = await bounded(attempt, signal);
      outcomeKnown = true;
      return `barrier ${learned.barrier}`;
    },
    undo: async (signal) => {
      // An attempt that was given up may still get its locks: let it end, it is bounded itself.
      if (attempt !== null)
        await bounded(
          attempt.then(
            () => undefined,
            () => undefined,
          ),
          signal,
        ).catch(() => undefined);
      return lower(signal);
    },
    measure: async (signal) => {
      const blockers = await bounded(blueFence.blockers(), signal);
      return blockers.length === 0 ? 'no lock in the way' : `would wait for: ${blockers.join(', ')}`;
    },
  };
}
