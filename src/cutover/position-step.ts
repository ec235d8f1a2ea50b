import { bounded } from './budget.ts';
import type { CutoverContext } from './context.ts';
import type { Step } from './step.ts';

/** What is open on the side that will serve has to end before its log can be read; nobody waits meanwhile. */
const PREPARE_MS = 60_000;

const NONE = 'none: the configuration says that there is no way back';

/** What can be made before anybody waits is made here: guards, and the objects of the way back. */
export function prepareStep({ from, to, fromFence, wayBack }: CutoverContext): Step {
  return {
    name: 'prepare',
    timeoutMs: PREPARE_MS,
    held: false,
    pastPointOfNoReturn: false,
    describe: () =>
      `prepare guards on ${from} and the way back from ${to} to ${from}; waits for what is open on ${to}, not longer than ${PREPARE_MS / 1_000} s`,
    run: async (signal) => {
      await bounded(fromFence.prepare(), signal);
      return wayBack === null ? `guards on ${from}; no way back` : wayBack.prepare(signal);
    },
    undo: async () => ({ sealed: false, detail: 'kept for the next attempt' }),
    measure: (signal) => (wayBack === null ? Promise.resolve(NONE) : wayBack.measure(signal)),
  };
}

/**
 * The way back stands at the end of the drain and has shown that it works before anybody can write what it would have to carry. What
 * it reads after that is the work of clients and nothing else.
 */
export function positionStep({ from, to, wayBack, settings }: CutoverContext): Step {
  return {
    name: 'position',
    timeoutMs: settings.maxWritePauseMs,
    held: true,
    pastPointOfNoReturn: false,
    describe: () =>
      `position the way back from ${to} to ${from} after the drain, open it, and let it answer a mark`,
    run: async (signal) => (wayBack === null ? NONE : wayBack.open(signal)),
    undo: async () => {
      // From the call on it takes nothing more; clients do not wait for the end of its connections.
      void wayBack?.close();
      return { sealed: false, detail: 'closed' };
    },
  };
}
