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
/** After the first sessions were ended others may have taken their place in the queue of locks. */
const KILL_AGAIN_MS = 250;

/**
 * Raises the fence on the side that stops writing. Its way back is `lower` and nothing else: compare-and-set on the record, so that of everybody
 * who undoes and the one who seals exactly one wins.
 */
export function fenceStep(context: CutoverContext, learned: Learned): Step {
  const { from, fromFence, clock, epoch, settings } = context;
  let attempt: Promise<Position> | null = null;
  // In a new process nothing is known about the attempt of the one before.
  let outcomeKnown = false;

  const lower = async (signal: AbortSignal): Promise<Undone> => {
    for (let looks = 1; ;) {
      const { state, epoch: found } = await bounded(fromFence.state(), signal);
      if (state === 'sealed') return { sealed: true, detail: `sealed with epoch ${found}` };
      if (state === 'raised') {
        if (found !== epoch) {
          throw new VerdigrisError(
            'STATE_CONFLICT',
            `The fence of ${from} was raised by another attempt: epoch ${found}, not ${epoch}.`,
            {
              remedy: 'Another engine is switching. Use that one.',
            },
          );
        }
        if (await bounded(fromFence.lower(epoch), signal)) return { sealed: false, detail: 'lowered' };
        continue;
      }
      if (outcomeKnown || looks >= LATE_LOOKS) return { sealed: false, detail: 'open' };
      looks++;
      await clock.sleep(LATE_LOOK_MS, signal);
    }
  };

  /** Ends what still holds the fence up after its time; resolves with how many sessions, once the attempt is over. */
  const killLate = async (raising: Promise<Position>, signal: AbortSignal): Promise<number> => {
    const after = settings.killBlockersAfterMs;
    if (after === null) return 0;
    const over = new AbortController();
    const done = (): void =>
      over.abort(new VerdigrisError('INTERRUPTED', 'The fence is up or was given up.'));
    raising.then(done, done);
    const both = AbortSignal.any([over.signal, signal]);
    let killed = 0;
    for (let wait = after; ; wait = KILL_AGAIN_MS) {
      const late = await clock.sleep(wait, both).then(
        () => true,
        () => false,
      );
      if (!late) return killed;
      killed += await fromFence.kill(after).catch(() => 0);
    }
  };

  return {
    name: 'fence',
    timeoutMs: settings.fenceTimeoutMs,
    held: true,
    pastPointOfNoReturn: false,
    undoFirst: true,
    describe: () => `raise the fence on ${from} against every writer; its position is the barrier`,
    run: async (signal) => {
      outcomeKnown = false;
      attempt = fromFence.raise(epoch, settings.fenceTimeoutMs);
      const ended = killLate(attempt, signal);
      learned.barrier = await bounded(attempt, signal);
      outcomeKnown = true;
      const killed = await ended;
      return `barrier ${learned.barrier}${killed === 0 ? '' : `, ended ${killed} sessions that held it up`}`;
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
      const blockers = await bounded(fromFence.blockers(), signal);
      return blockers.length === 0 ? 'no lock in the way' : `would wait for: ${blockers.join(', ')}`;
    },
  };
}
