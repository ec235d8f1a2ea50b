import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';
import { bounded } from './budget.ts';
import type { CutoverContext } from './context.ts';
import type { Step } from './step.ts';

/** A process is started and connects; nobody waits for it but the operator. */
const ARM_MS = 30_000;

/** Before anybody is paused: who takes the switch back is there, with open connections, or there is no switch. */
export function armStep({ deadman, journal, epoch, from, proxies }: CutoverContext): Step {
  return {
    name: 'arm',
    timeoutMs: ARM_MS,
    held: false,
    pastPointOfNoReturn: false,
    describe: () =>
      `arm the dead-man: a process of its own with connections to ${from} and ${proxies.length} proxies, which takes the switch back when this one cannot`,
    run: async (signal) => {
      if (!deadman) return 'none: nobody takes over when this process dies';
      let detail: string;
      try {
        detail = await bounded(deadman.arm(signal), signal);
      } catch (caught) {
        const error = asVerdigrisError(caught);
        throw new VerdigrisError(
          'CUTOVER_UNDONE',
          `The dead-man could not be armed, so nothing was paused: ${error.message}`,
          {
            remedy: `${error.remedy} Then try the cutover again.`,
            context: { ...error.context, code: error.code },
            cause: error,
          },
        );
      }
      await bounded(journal.note('deadman.armed', { epoch, detail }), signal);
      return detail;
    },
    // It stays on its watch until everything else is undone, and is let go at the end of the attempt.
    undo: async () => ({ sealed: false, detail: 'not needed any more' }),
    measure: async (signal) => {
      if (!deadman) return 'none configured';
      try {
        return await bounded(deadman.arm(signal), signal);
      } finally {
        await deadman.disarm();
      }
    },
  };
}
