import { VerdigrisError } from '../core/errors.ts';
import { showGate, type GateResult } from '../core/gate.ts';
import type { ProxyAdapter } from '../core/proxy.ts';
import type { CutoverContext } from '../cutover/context.ts';
import type { CutoverOutcome } from '../cutover/execute.ts';
import type { CutoverReport } from './api.ts';
import { pairCounters } from './counter-pairs.ts';
import type { Held } from './hold.ts';
import type { MigrationOptions } from './migration-options.ts';

const SMOKE_TIMEOUT_MS = 10_000;

/** What a switch touches, from the parts of the run. */
export function switchContext(
  o: MigrationOptions,
  held: Held,
  options: {
    readonly epoch: number;
    readonly overrides: CutoverContext['overrides'];
    readonly maxWritePauseMs: number;
    readonly gates: CutoverContext['gates'];
    readonly requireEvidence: () => Promise<void>;
  },
): CutoverContext {
  const { settings, green, blue, proxies, log, clock, failpoints } = o;
  const { state, pipeline, blueFence, greenFence, compiled } = held;
  return {
    migration: settings.migration,
    epoch: options.epoch,
    blueFence,
    greenFence,
    proxies,
    pipeline,
    counters: async () => {
      const { pairs } = pairCounters(
        await blue.counters.list(),
        await green.counters.list(),
        compiled.origins,
      );
      return green.counters.advance(pairs, settings.sequences.headroom);
    },
    recheck: async (maxKeys, signal) => {
      await options.requireEvidence();
      return held.verifier.recheck(maxKeys, signal);
    },
    gates: options.gates,
    overrides: options.overrides,
    settings: { ...settings.cutover, maxWritePauseMs: options.maxWritePauseMs },
    journal: { note: (event, detail) => state.note(event, detail) },
    smoke: async ({ via, sql }, signal) => {
      const answers =
        via === 'green'
          ? [await green.scalar(sql, SMOKE_TIMEOUT_MS)]
          : await throughProxies(proxies, sql, signal);
      // A query that answers false has found what it was asked to find.
      if (answers.some((answer) => answer === 'f' || answer === 'false')) {
        throw new VerdigrisError('VERIFY_FAILED', 'a smoke query answered false');
      }
    },
    onSwitched: (epoch) =>
      state.remember({ switchedAt: new Date(clock.now()).toISOString() }, { epoch, activeSide: 'green' }),
    holdsLease: () => state.holds(),
    ...(o.deadman === undefined
      ? {}
      : {
          deadman: o.deadman({
            epoch: options.epoch,
            maxWritePauseMs: options.maxWritePauseMs,
            tables: compiled.sources.map((relation) => relation.table),
          }),
        }),
    log,
    clock,
    failpoints,
  };
}

async function throughProxies(
  proxies: readonly ProxyAdapter[],
  sql: string,
  signal: AbortSignal,
): Promise<(string | null)[]> {
  const able = proxies.filter((proxy) => proxy.query !== undefined);
  if (able.length === 0) {
    throw new VerdigrisError('VERIFY_FAILED', 'no proxy can be asked as a client', {
      remedy: 'Give the proxy a client_url, or ask via: green.',
    });
  }
  return Promise.all(able.map((proxy) => proxy.query?.(sql, signal) ?? Promise.resolve(null)));
}

export function gateError(closed: readonly GateResult[]): VerdigrisError {
  return new VerdigrisError(
    'CUTOVER_GATE',
    `${closed.length} gates are shut; nothing was changed.\n  ${closed.map(showGate).join('\n  ')}`,
    {
      context: { gates: closed },
    },
  );
}

export const reportOf = (
  outcome: CutoverOutcome,
  epoch: number,
  gates: readonly GateResult[],
): CutoverReport => ({
  outcome: outcome.outcome,
  writePauseMs: outcome.writePauseMs,
  epoch,
  steps: outcome.steps,
  gates,
  error:
    outcome.error === null
      ? null
      : { code: outcome.error.code, message: outcome.error.message, remedy: outcome.error.remedy },
});
