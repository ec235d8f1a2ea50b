import type { WriteFence } from '../core/fence.ts';
import type { Sink } from '../core/sink.ts';
import type { ChangeSource } from '../core/source.ts';
import type { Clock } from '../core/clock.ts';
import { VerdigrisError } from '../core/errors.ts';
import { showTable } from '../core/table.ts';
import { Pipeline, type PipelineState } from '../pipeline/pipeline.ts';
import { subjectOf } from '../verify/subject.ts';
import type { ForeignWatch } from '../verify/foreign-writes.ts';
import { Verifier } from '../verify/verifier.ts';
import type { Compiled } from './compiled.ts';
import { pairCounters } from './counter-pairs.ts';
import { foreignFact, watchGreen } from './foreign.ts';
import { GateFactsReader } from './gate-facts.ts';
import type { MigrationOptions } from './migration-options.ts';
import { isOver } from './phase.ts';
import { estimate } from './plan-report.ts';
import type { RunState } from './run-state.ts';

/** What exists only while the run is held. */
export interface Held {
  readonly state: RunState;
  readonly compiled: Compiled;
  readonly source: ChangeSource;
  readonly sink: Sink;
  readonly pipeline: Pipeline;
  readonly blueFence: WriteFence;
  readonly greenFence: WriteFence;
  readonly facts: GateFactsReader;
  readonly verifier: Verifier;
  /** Reads green's log for writes that are not ours; null where the engine cannot tell them. */
  readonly foreign: ForeignWatch | null;
  /** Changes when a mapped table of blue was written anew: its rows may have changed without a row in the log. */
  readonly rewrites: () => Promise<string>;
}

/**
 * Finds or makes the record of the run, and refuses one that is over or was begun with another plan.
 * @throws VerdigrisError CUTOVER_PHASE, PLAN_STALE
 */
export async function admit(
  state: RunState,
  now: { readonly plan: string; readonly mapping: string },
): Promise<void> {
  if (state.record === null) await state.create(now.plan, { mapping: now.mapping });
  const { record } = state;
  if (record === null) return;
  if (isOver(record.phase)) {
    throw new VerdigrisError('CUTOVER_PHASE', `The run has ended: ${record.phase}.`, {
      remedy: 'Give the migration another name, or remove the state that was kept.',
    });
  }
  const began = record.detail['mapping'];
  if (began !== now.mapping && record.phase !== 'preparing') {
    throw new VerdigrisError(
      'PLAN_STALE',
      'The mapping changed since the run began; green holds rows of the old one.',
      {
        remedy: 'Go back to the mapping that the run began with, or abort it and start again.',
        context: { began: String(began).slice(0, 8), now: now.mapping.slice(0, 8) },
      },
    );
  }
  // Other settings may change between two starts; who looked at the plan before has to look again.
  if (record.planHash !== now.plan) await state.replan(now.plan, { mapping: now.mapping });
}

/**
 * Makes green's tables where a schema file says how, while nothing has been copied yet.
 * @throws VerdigrisError SCHEMA_TABLE_MISSING
 */
export async function applySchema(o: MigrationOptions, state: RunState, before: Compiled): Promise<void> {
  const { settings, green } = o;
  if (settings.schemaSql !== null && state.phase === 'preparing') {
    const ran = await green.catalog.applySchema(settings.schemaSql, before.targetNames);
    if (ran) await state.note('schema.applied', {});
  } else if (before.missingTargets) {
    throw new VerdigrisError(
      'SCHEMA_TABLE_MISSING',
      `Green lacks mapped tables: ${before.targetNames.map(showTable).join(', ')}.`,
      {
        remedy: 'Create them, or name a schema file in green.schema_file.',
      },
    );
  }
}

/** What of a run belongs to this process. */
export interface Own {
  /** Unique among processes: part of every mark. */
  readonly holder: string;
  readonly permit: (signal: AbortSignal) => Promise<void>;
  readonly onState: (state: PipelineState) => void;
  readonly pipelineState: () => PipelineState;
}

/** Longer than this nothing is on its way: replication stands still. */
const SETTLE_TIMEOUT_MS = 120_000;
const SETTLE_POLL_MS = 20;

/**
 * Waits until green has everything that was committed on blue before the call, rows that are being read again included.
 * @throws VerdigrisError VERIFY_FAILED when replication stands still
 */
function settling(parts: {
  readonly pipeline: Pipeline;
  readonly source: ChangeSource;
  readonly own: Own;
  readonly label: string;
  readonly clock: Clock;
}): (signal: AbortSignal) => Promise<void> {
  const { pipeline, source, own, label, clock } = parts;
  const still = (why: string): VerdigrisError =>
    new VerdigrisError('VERIFY_FAILED', `Green does not follow blue: ${why}.`, {
      remedy: 'Mend what holds replication up, then run `verdigris verify` again: it goes on where it was.',
    });
  return async (signal) => {
    const stop = new AbortController();
    const both = AbortSignal.any([signal, stop.signal]);
    const watch = (async () => {
      const since = clock.monotonic();
      for (;;) {
        await clock.sleep(SETTLE_POLL_MS * 10, both);
        const { condition, reason } = own.pipelineState();
        if (condition === 'blocked') throw still(reason);
        if (clock.monotonic() - since > SETTLE_TIMEOUT_MS)
          throw still(reason === '' ? `nothing for ${SETTLE_TIMEOUT_MS / 1000} s` : reason);
      }
    })();
    const settled = (async () => {
      await pipeline.drain(await source.mark(label), both);
      while (pipeline.holes > pipeline.rejects) await clock.sleep(SETTLE_POLL_MS, both);
    })();
    try {
      await Promise.race([settled, watch]);
    } finally {
      stop.abort(new VerdigrisError('INTERRUPTED', 'The wait is over.'));
      await Promise.allSettled([settled, watch]);
    }
  };
}

/** Puts the parts of a run together. Nothing runs yet. */
export async function hold(
  o: MigrationOptions,
  state: RunState,
  { compiled, own }: { compiled: Compiled; own: Own },
): Promise<Held> {
  const { settings, engine, blue, green, clock, log, failpoints, proxies } = o;
  await estimate(compiled, blue);
  const stream = {
    direction: 'forward' as const,
    term: state.term,
    maxBatchBytes: settings.apply.batchBytes,
  };
  const source = blue.changes(stream);
  const snapshot = blue.snapshot();
  const sink = green.sink(stream);
  const pipeline = new Pipeline({
    source,
    snapshot,
    sink,
    positions: engine.positions,
    rawCopy: engine.capabilities.rawCopy,
    plans: compiled.plans,
    units: compiled.units,
    settings: {
      ...settings.apply,
      workers: settings.copy.workers,
      chunkRows: settings.copy.chunkRows,
      maxRowsPerSecond: settings.copy.maxRowsPerSecond,
      heartbeatMs: settings.heartbeatMs,
      windowBytes: settings.windowBytes,
      idleCheckpointMs: settings.idleCheckpointMs,
      visibilityTimeoutMs: settings.visibilityTimeoutMs,
    },
    clock,
    failpoints,
    log,
    holder: `${settings.migration}:${own.holder}`,
    copyPermit: (signal) => own.permit(signal),
    onState: own.onState,
    tracked: compiled.verifyTables.map((table) => ({
      relation: table.target.relation,
      identify: subjectOf(table),
    })),
  });
  const blueTables = compiled.sources.map((relation) => relation.table);
  const greenTables = compiled.targets.map((target) => target.relation.table);
  const verifier = new Verifier({
    sides: { blue: blue.digester, green: green.digester },
    tables: compiled.verifyTables,
    changes: pipeline.changed,
    settle: settling({ pipeline, source, own, label: `${settings.migration}:${own.holder}:verify`, clock }),
    permit: (signal) => own.permit(signal),
    store: green.verification,
    run: { id: settings.migration, term: state.term },
    settings: { chunkRows: settings.copy.chunkRows, ...settings.verify },
    clock,
    failpoints,
  });
  const foreign = watchGreen(o, state, { compiled, label: `${settings.migration}:${own.holder}:foreign` });
  return {
    state,
    compiled,
    source,
    sink,
    pipeline,
    blueFence: blue.fence(blueTables),
    greenFence: green.fence(greenTables),
    verifier,
    foreign,
    rewrites: () => blue.catalog.rewrites(blueTables),
    facts: new GateFactsReader({
      foreignWrites: () => foreignFact(foreign, engine.positions.describe),
      blue,
      green,
      proxies,
      blueTables,
      greenTables,
      clock,
      log,
      unmatchedCounters: async () =>
        pairCounters(await blue.counters.list(), await green.counters.list(), compiled.origins).unmatched,
    }),
  };
}
