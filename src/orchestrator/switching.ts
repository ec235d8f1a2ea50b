import { VerdigrisError } from '../core/errors.ts';
import type { Side } from '../core/engine.ts';
import { showGate, type GateResult } from '../core/gate.ts';
import type { ProxyAdapter } from '../core/proxy.ts';
import type { CutoverContext } from '../cutover/context.ts';
import type { CutoverOutcome } from '../cutover/execute.ts';
import type { CutoverReport } from './api.ts';
import { countersFor, other, type Held } from './hold.ts';
import type { MigrationOptions } from './migration-options.ts';

const SMOKE_TIMEOUT_MS = 10_000;

export interface Turn {
  readonly from: Side;
  readonly epoch: number;
  readonly overrides: CutoverContext['overrides'];
  readonly maxWritePauseMs: number;
  readonly wayBack: CutoverContext['wayBack'];
  readonly gates: CutoverContext['gates'];
  readonly beforeHold: (signal: AbortSignal) => Promise<void>;
  readonly requireEvidence: (signal: AbortSignal) => Promise<void>;
}

/** What a switch or a rollback touches, from the parts of the run. */
export function switchContext(o: MigrationOptions, held: Held, turn: Turn): CutoverContext {
  const { settings, proxies, log, clock, failpoints } = o;
  const { state, forward, reverse, fences, tables, compiled, verifier } = held;
  const { from, epoch, maxWritePauseMs, overrides, wayBack, gates } = turn;
  const to = other(from);
  const carrying = () => {
    const way = from === 'blue' ? forward : reverse.way;
    if (way === null) throw new VerdigrisError('INTERNAL', `Nothing replicates from ${from} to ${to}.`);
    return way.pipeline;
  };
  return {
    migration: settings.migration,
    epoch,
    from,
    to,
    fromFence: fences[from],
    toFence: fences[to],
    wayBack,
    proxies,
    pipeline: {
      drain: async (barrier, signal) => carrying().drain(barrier, signal),
      covers: (have, want) => o.engine.positions.covers(have, want),
      get counters() {
        return carrying().counters;
      },
    },
    counters: async () => {
      const { pairs } = await countersFor(o, compiled, to);
      return o[to].counters.advance(pairs, settings.sequences.headroom);
    },
    // The rows of the way back are compared by nobody.
    ...(from === 'blue' ? { beforeHold: turn.beforeHold } : {}),
    recheck: async (maxKeys, signal) => {
      // What the way back carried it carried exactly, or rejected.
      if (from === 'green') return { keys: 0, differences: 0 };
      await turn.requireEvidence(signal);
      // What comes next in green's log is the work of clients. An undone switch starts it again.
      void held.foreign?.stop();
      return verifier.recheck(maxKeys, signal);
    },
    gates,
    overrides,
    settings: { ...settings.cutover, maxWritePauseMs },
    journal: { note: (event, detail) => state.note(event, detail) },
    smoke: async ({ via, sql }, signal) => {
      // Queries straight to green ask about what clients find after the switch; after a rollback they would ask the wrong side.
      if (via === 'green' && to === 'blue') return;
      const answers =
        via === 'green'
          ? [await o.green.scalar(sql, SMOKE_TIMEOUT_MS)]
          : await throughProxies(proxies, sql, signal);
      // A query that answers false has found what it was asked to find.
      if (answers.some((answer) => answer === 'f' || answer === 'false')) {
        throw new VerdigrisError('VERIFY_FAILED', 'a smoke query answered false');
      }
    },
    onSwitched: (number) =>
      state.remember({ switchedAt: new Date(clock.now()).toISOString() }, { epoch: number, activeSide: to }),
    holdsLease: () => state.holds(),
    ...(o.deadman === undefined
      ? {}
      : { deadman: o.deadman({ epoch, from, maxWritePauseMs, tables: tables[from] }) }),
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
  { epoch, to, gates }: Pick<CutoverReport, 'epoch' | 'to' | 'gates'>,
): CutoverReport => ({
  outcome: outcome.outcome,
  writePauseMs: outcome.writePauseMs,
  epoch,
  to,
  steps: outcome.steps,
  gates,
  error:
    outcome.error === null
      ? null
      : { code: outcome.error.code, message: outcome.error.message, remedy: outcome.error.remedy },
});
