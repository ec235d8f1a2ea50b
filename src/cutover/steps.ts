import { VerdigrisError } from '../core/errors.ts';
import type { FenceState } from '../core/fence.ts';
import { showGate } from '../core/gate.ts';
import type { ProxyAdapter } from '../core/proxy.ts';
import { bounded, deadline } from './budget.ts';
import { certify } from './certificate.ts';
import type { CutoverContext } from './context.ts';
import { armStep } from './deadman-step.ts';
import { fenceStep, type Learned } from './fence-step.ts';
import { closedGates } from './gates.ts';
import { positionStep, prepareStep } from './position-step.ts';
import { allOrNothing, confirmRoute, eachAlone, observed, showRoute } from './proxies.ts';
import { title, type Step } from './step.ts';

/** Bound of an act that only reads or writes a row. */
const SHORT_MS = 15_000;
const GATES_MS = 60_000;
const FORWARD_MS = 60_000;
const SMOKE_MS = 30_000;
/** A proxy that does not answer shall not keep the fence up; the undo of the pause tries that proxy again. */
const ROUTE_BACK_MS = 5_000;
/** Bound of a look at the record of a side that may be down. */
const RECORD_MS = 1_000;

/** The whole switch or rollback, in order. A dry run prints it, {@link import('./execute.ts').execute} runs it. */
export function cutoverSteps(context: CutoverContext): readonly Step[] {
  const learned: Learned = { barrier: null };
  return [
    gatesStep(context),
    prepareStep(context),
    armStep(context),
    pauseStep(context),
    fenceStep(context, learned),
    proveStep(context),
    drainStep(context, learned),
    recheckStep(context),
    countersStep(context),
    positionStep(context),
    routeStep(context),
    sealStep(context),
    openStep(context),
    resumeStep(context),
    smokeStep(context),
  ];
}

const before = { held: true, pastPointOfNoReturn: false } as const;
const after = { held: true, pastPointOfNoReturn: true, forward: true } as const;

const names = ({ proxies }: CutoverContext): string =>
  proxies.length === 0 ? 'no proxy (none configured)' : proxies.map((proxy) => proxy.name).join(', ');

function gatesStep(context: CutoverContext): Step {
  const look = async (signal: AbortSignal) => {
    const results = await bounded(context.gates(), signal);
    return { results, closed: closedGates(results, context.overrides) };
  };
  return {
    name: 'gates',
    timeoutMs: GATES_MS,
    held: false,
    pastPointOfNoReturn: false,
    describe: () => 'check every gate',
    run: async (signal) => {
      const { results, closed } = await look(signal);
      if (closed.length > 0) {
        throw new VerdigrisError('CUTOVER_GATE', closed.map(showGate).join('; '), {
          context: { gates: closed.map((gate) => gate.name) },
        });
      }
      const overridden = results.filter((gate) => !gate.ok).map((gate) => gate.name);
      if (overridden.length > 0)
        await bounded(context.journal.note('cutover.override', { overrides: context.overrides }), signal);
      return `${results.length - overridden.length} open${overridden.length > 0 ? `, overridden: ${overridden.join(', ')}` : ''}`;
    },
    measure: async (signal) => {
      const { results, closed } = await look(signal);
      return closed.length === 0
        ? `all ${results.length} open`
        : `shut: ${closed.map((gate) => gate.name).join(', ')}`;
    },
  };
}

function pauseStep(context: CutoverContext): Step {
  const { proxies } = context;
  return {
    ...before,
    name: 'pause',
    timeoutMs: context.settings.maxWritePauseMs,
    describe: () => `pause ${names(context)}; running transactions end, new work is held`,
    run: async (signal) => {
      await allOrNothing(proxies, signal, (proxy, either) => proxy.pause(either));
      return `paused and drained: ${proxies.length}`;
    },
    undo: async (signal) => {
      const problems = await eachAlone(proxies, signal, async (proxy) => {
        // One that could not be pointed back stays paused: its clients would meet a fence.
        await routeBack(context, proxy, signal);
        await proxy.resume(signal);
      });
      if (problems.length > 0)
        throw new VerdigrisError('PROXY_UNEXPECTED', `still held: ${problems.join('; ')}`);
      return { sealed: false, detail: `resumed: ${proxies.length}` };
    },
    measure: async (signal) => {
      const lines = await Promise.all(
        proxies.map(async (proxy) => `${proxy.name}: ${showRoute(await observed(proxy, signal))}`),
      );
      return lines.join('; ') || 'nothing to pause';
    },
  };
}

async function routeBack(
  { epoch, from }: CutoverContext,
  proxy: ProxyAdapter,
  signal: AbortSignal,
): Promise<void> {
  const route = await observed(proxy, signal);
  // Paused, also when it shows that side: who died between its configuration and its reload left it shown as one and written as the other.
  if (route.to !== from || route.paused) await proxy.route(from, epoch, signal);
  await confirmRoute(proxy, from, signal);
}

function proveStep({ from, to, fromFence, toFence, epoch }: CutoverContext): Step {
  const otherIsShut = async (signal: AbortSignal): Promise<FenceState> => {
    const other = await bounded(toFence.state(), signal);
    if (other.state === 'open') {
      throw new VerdigrisError(
        'CUTOVER_FENCE_LEAKS',
        `${title(to)} is open for writes while ${from} still serves.`,
        {
          remedy: `Nobody may write to ${to} before the switch: restart the engine, which raises its fence.`,
        },
      );
    }
    return other;
  };
  return {
    ...before,
    name: 'prove',
    timeoutMs: SHORT_MS,
    describe: () => `prove on ${from} and ${to} that ordinary writers are refused`,
    run: async (signal) => {
      await otherIsShut(signal);
      await bounded(fromFence.prove(), signal);
      const own = await bounded(fromFence.state(), signal);
      if (own.state !== 'raised' || own.epoch !== epoch) {
        throw new VerdigrisError(
          'CUTOVER_FENCE_LEAKS',
          `The record on ${from} says ${own.state} with epoch ${own.epoch}, not raised with ${epoch}.`,
        );
      }
      return 'refused on both sides';
    },
    measure: async (signal) => `${to} is ${(await otherIsShut(signal)).state}`,
  };
}

function drainStep(context: CutoverContext, learned: Learned): Step {
  const { from, to, fromFence, journal } = context;
  return {
    ...before,
    name: 'drain',
    timeoutMs: context.settings.maxWritePauseMs,
    describe: () =>
      `drain: wait until ${to} has durably applied everything up to the fence, and nothing on ${from} can still write`,
    run: async (signal) => {
      const { barrier } = learned;
      if (barrier === null) throw new VerdigrisError('INTERNAL', 'Drain without a barrier.');
      const certificate = await certify(context, barrier, signal);
      await bounded(journal.note('cutover.drained', { ...certificate }), signal);
      const { checkpoint, transactions, changes } = certificate;
      return `applied to ${checkpoint}, flushed, which covers ${barrier} (${transactions ?? 'unknown'} transactions, ${changes ?? 'unknown'} changes); 0 prepared transactions, 0 writers`;
    },
    measure: async (signal) => {
      const [gates, blockers] = [
        await bounded(context.gates(), signal),
        await bounded(fromFence.blockers(), signal),
      ];
      const trip = gates.find((gate) => gate.name === 'round-trip')?.observed ?? 'unknown';
      return `round trip ${trip}${blockers.length > 0 ? `; writing now: ${blockers.join(', ')}` : ''}`;
    },
  };
}

function recheckStep({ recheck, settings }: CutoverContext): Step {
  return {
    ...before,
    name: 'recheck',
    timeoutMs: settings.maxWritePauseMs,
    describe: () => `verify the keys changed since the last clean round (at most ${settings.maxRecheckKeys})`,
    run: async (signal) => {
      const { keys, differences } = await bounded(recheck(settings.maxRecheckKeys, signal), signal);
      if (keys > settings.maxRecheckKeys) {
        throw new VerdigrisError(
          'CUTOVER_GATE',
          `${keys} keys would have to be verified again, more than ${settings.maxRecheckKeys}.`,
          {
            remedy:
              'Run `verdigris verify`, then try again; a table without a key counts with all its rows: raise cutover.max_recheck_keys for it.',
          },
        );
      }
      if (differences > 0)
        throw new VerdigrisError(
          'VERIFY_DIFFERENT',
          `${differences} of ${keys} recently changed keys differ.`,
        );
      return `${keys} keys equal`;
    },
  };
}

function countersStep({ from, to, counters }: CutoverContext): Step {
  return {
    ...before,
    name: 'counters',
    timeoutMs: SHORT_MS,
    describe: () => `advance sequences and auto-increment columns on ${to} past those of ${from}`,
    run: async (signal) => {
      const moves = await bounded(counters(), signal);
      const warnings = moves.flatMap((move) =>
        move.warning === null ? [] : [`${move.name}: ${move.warning}`],
      );
      return `${moves.length} counters${warnings.length > 0 ? `; ${warnings.join('; ')}` : ''}`;
    },
  };
}

function routeStep(context: CutoverContext): Step {
  const { proxies, epoch, from, to, fromFence, clock } = context;
  /**
   * No proxy has a memory of decisions: one is pointed away only while the side it leaves is shut. A record that cannot be read is
   * no obstacle: on the way forward that side may be down, and before the seal the seal itself will tell.
   */
  const fromIsShut = async (signal: AbortSignal): Promise<void> => {
    using limit = deadline(clock, RECORD_MS, 'reading the record took too long', [signal]);
    const record = await bounded(fromFence.state(), limit.signal).catch(() => null);
    if (record?.state !== 'open') return;
    throw new VerdigrisError('CUTOVER_UNDONE', `The fence of ${from} was lowered by somebody else.`, {
      remedy: `${title(from)} serves. Look at the journal for who took the switch back and why, then try again.`,
    });
  };
  return {
    held: true,
    pastPointOfNoReturn: false,
    forward: true,
    name: 'route',
    timeoutMs: FORWARD_MS,
    undoTimeoutMs: ROUTE_BACK_MS,
    describe: () => `point ${names(context)} at ${to} while paused, and read it back`,
    run: async (signal) => {
      await allOrNothing(proxies, signal, async (proxy, either) => {
        // After a restart it may already point there, and work.
        if ((await observed(proxy, either)).to !== to) {
          await fromIsShut(either);
          await proxy.route(to, epoch, either);
        }
        await confirmRoute(proxy, to, either);
      });
      return `to ${to}: ${proxies.length}`;
    },
    undo: async (signal) => {
      const problems = await eachAlone(proxies, signal, (proxy) => routeBack(context, proxy, signal));
      if (problems.length > 0)
        throw new VerdigrisError('PROXY_UNEXPECTED', `not pointed back: ${problems.join('; ')}`);
      return { sealed: false, detail: `to ${from}: ${proxies.length}` };
    },
  };
}

function sealStep({ from, fromFence, epoch, clock }: CutoverContext): Step {
  return {
    ...before,
    name: 'seal',
    timeoutMs: SHORT_MS,
    seals: true,
    describe: () => `seal the fence of ${from}: the point of no return`,
    run: async (signal) => {
      let unknown: unknown;
      try {
        if (await bounded(fromFence.seal(epoch), signal)) return `sealed with epoch ${epoch}`;
      } catch (error) {
        unknown = error;
      }
      // Refused, or not known: the record decides. Raised is no proof that it was not sealed, the answer may be under way;
      // then the way back tries `lower`, and of the two exactly one wins.
      const state = await bounded(fromFence.state(), signal);
      if (state.state === 'sealed' && state.epoch === epoch)
        return `sealed with epoch ${epoch} (read from the record)`;
      throw new VerdigrisError(
        'CUTOVER_UNDONE',
        `The record on ${from} could not be sealed; it says ${state.state} with epoch ${state.epoch}.`,
        {
          remedy: `Somebody lowered the fence, or ${from} failed over since it was raised. Try again.`,
          context: { at: clock.now() },
          cause: unknown,
        },
      );
    },
  };
}

function openStep({ to, toFence, onSwitched, epoch, journal }: CutoverContext): Step {
  return {
    ...after,
    name: 'open',
    timeoutMs: FORWARD_MS,
    describe: () => `write the new epoch on ${to} and open ${to} for writes`,
    run: async (signal) => {
      await bounded(onSwitched(epoch), signal);
      await bounded(journal.note('cutover.sealed', { epoch, activeSide: to }), signal);
      await bounded(toFence.open(epoch), signal);
      return `${to} serves with epoch ${epoch}`;
    },
  };
}

function resumeStep(context: CutoverContext): Step {
  const { proxies, to } = context;
  return {
    ...after,
    name: 'resume',
    timeoutMs: FORWARD_MS,
    describe: () => `resume ${names(context)}`,
    run: async (signal) => {
      // Each for itself: clients of one proxy shall not wait for another that does not answer.
      const problems = await eachAlone(proxies, signal, async (proxy) => {
        await confirmRoute(proxy, to, signal);
        await proxy.resume(signal);
      });
      if (problems.length > 0)
        throw new VerdigrisError('PROXY_UNEXPECTED', `still held: ${problems.join('; ')}`);
      return `resumed: ${proxies.length}`;
    },
  };
}

function smokeStep({ to, smoke, settings }: CutoverContext): Step {
  return {
    name: 'smoke',
    timeoutMs: SMOKE_MS,
    held: false,
    pastPointOfNoReturn: true,
    forward: true,
    alarmOnly: true,
    describe: () => `smoke queries: ${settings.smoke.length}; a failure is an alarm, traffic stays on ${to}`,
    run: async (signal) => {
      for (const [index, query] of settings.smoke.entries()) {
        try {
          await bounded(smoke(query, signal), signal);
        } catch (error) {
          const why = error instanceof Error ? error.message : String(error);
          throw new VerdigrisError(
            'VERIFY_FAILED',
            `Smoke query ${index + 1} through ${query.via} failed: ${why}`,
            {
              remedy: `${title(to)} serves. Look at the query and at the application now.`,
              cause: error,
            },
          );
        }
      }
      return `${settings.smoke.length} passed`;
    },
  };
}
