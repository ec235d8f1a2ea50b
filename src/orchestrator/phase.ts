import { VerdigrisError } from '../core/errors.ts';
import type { Side } from '../core/engine.ts';
import type { Phase } from '../core/state.ts';

/** Which phase may follow which. Data, not order: nobody compares phases by rank. */
const NEXT: Readonly<Record<Phase, readonly Phase[]>> = {
  preparing: ['copying', 'aborted'],
  copying: ['catching_up', 'aborted'],
  catching_up: ['replicating', 'aborted'],
  replicating: ['cutting_over', 'aborted'],
  cutting_over: ['replicating', 'reversing', 'undetermined'],
  undetermined: ['replicating', 'reversing', 'undetermined'],
  reversing: ['cutting_over', 'finished'],
  finished: [],
  aborted: [],
};

/** The phase in which a side serves and the other follows. */
export const STEADY: Readonly<Record<Side, Phase>> = { blue: 'replicating', green: 'reversing' };

export const mayFollow = (from: Phase, to: Phase): boolean => NEXT[from].includes(to);

/** @throws VerdigrisError CUTOVER_PHASE when `to` may not follow `from` */
export function requireTransition(from: Phase, to: Phase): void {
  if (!mayFollow(from, to)) {
    throw new VerdigrisError(
      'CUTOVER_PHASE',
      `The run is in phase ${from}; it cannot go to ${to} from there.`,
      {
        context: { phase: from },
      },
    );
  }
}

/** @throws VerdigrisError CUTOVER_PHASE when the run is in none of `phases` */
export function requirePhase(now: Phase, phases: readonly Phase[], act: string): void {
  if (!phases.includes(now)) {
    throw new VerdigrisError(
      'CUTOVER_PHASE',
      `${act} is possible in phase ${phases.join(' or ')}; the run is in phase ${now}.`,
      {
        context: { phase: now },
      },
    );
  }
}

/** The run has ended for good. */
export const isOver = (phase: Phase): boolean => NEXT[phase].length === 0;
