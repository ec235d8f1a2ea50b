import type { Side } from '../core/engine.ts';
import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';
import type { FenceState, WriteFence } from '../core/fence.ts';
import { bounded, deadline, persist } from './budget.ts';
import type { CutoverContext } from './context.ts';
import { execute, settle, type CutoverOutcome, type ExecuteOptions } from './execute.ts';
import { observed, showRoute } from './proxies.ts';
import { cutoverSteps } from './steps.ts';

/** How long the record is asked for before nobody knows. */
const RECORD_MS = 30_000;

/** Runs the whole switch. Never rejects; what happened is in the outcome. */
export const cutover = (context: CutoverContext, signal: AbortSignal): Promise<CutoverOutcome> =>
  execute(cutoverSteps(context), optionsOf(context, signal));

/**
 * After a restart in the middle of a switch: the fence record on the side that stops writing decides alone. Not sealed: routes
 * back, `lower`, resume. Sealed: forward. Idempotent; may be run by any engine that holds the lease, as often as it takes.
 */
export async function recover(context: CutoverContext): Promise<CutoverOutcome> {
  const signal = new AbortController().signal;
  let record: FenceState;
  using limit = deadline(
    context.clock,
    RECORD_MS,
    `The fence record of ${context.from} could not be read for ${RECORD_MS} ms.`,
  );
  try {
    record = await persist(() => bounded(context.fromFence.state(), limit.signal), {
      clock: context.clock,
      signal: limit.signal,
    });
  } catch (caught) {
    const error = asVerdigrisError(caught);
    return {
      outcome: 'undetermined',
      writePauseMs: null,
      steps: [],
      error: new VerdigrisError(
        'CUTOVER_UNDETERMINED',
        `The record on ${context.from} decides and cannot be read: ${error.message}`,
        {
          remedy: `Resume no proxy by hand. Make ${context.from} reachable, then start again.`,
          cause: error,
        },
      ),
    };
  }
  const same = { ...context, epoch: record.epoch };
  return settle(cutoverSteps(same), optionsOf(same, signal), record.state === 'sealed' ? 'forward' : 'back');
}

const optionsOf = (context: CutoverContext, signal: AbortSignal): ExecuteOptions => ({
  epoch: context.epoch,
  journal: context.journal,
  budgetMs: context.settings.maxWritePauseMs,
  clock: context.clock,
  failpoints: context.failpoints,
  log: context.log,
  signal,
  holdsLease: context.holdsLease,
  ...(context.deadman === undefined ? {} : { deadman: context.deadman }),
  ...(context.beforeHold === undefined ? {} : { beforeHold: context.beforeHold }),
  from: context.from,
  to: context.to,
  look: (until) => look(context, until),
});

/** What each proxy answers, and what the two records say. */
async function look(
  { from, to, fromFence, toFence, proxies }: CutoverContext,
  signal: AbortSignal,
): Promise<string> {
  const [stopped, other, ...routes] = await Promise.all([
    record(from, fromFence, signal),
    record(to, toFence, signal),
    ...proxies.map(async (proxy) => `${proxy.name}: ${showRoute(await observed(proxy, signal))}`),
  ]);
  return [stopped, other, ...routes].join('; ');
}

async function record(side: Side, fence: WriteFence, signal: AbortSignal): Promise<string> {
  try {
    const { state, epoch } = await bounded(fence.state(), signal);
    return `fence of ${side}: ${state} (epoch ${epoch})`;
  } catch (error) {
    return `fence of ${side}: unreachable (${asVerdigrisError(error).message})`;
  }
}
