import type { TablePlan, TargetTable } from '../core/plan.ts';
import type { StreamOptions } from '../core/engine.ts';
import { Pipeline, type PipelineOptions, type PipelineState } from '../pipeline/pipeline.ts';
import type { MigrationOptions } from './migration-options.ts';
import { Way } from './way.ts';

export interface WayPlan {
  readonly direction: StreamOptions['direction'];
  /** Of the lease on the side that is written. */
  readonly term: number;
  readonly plans: readonly TablePlan[];
  readonly units: PipelineOptions['units'];
  readonly targets: readonly TargetTable[];
  readonly tracked?: NonNullable<PipelineOptions['tracked']>;
  /** Unique among processes: part of every mark. */
  readonly holder: string;
  readonly permit: (signal: AbortSignal) => Promise<void>;
}

/** One direction of replication, from its parts. Does no I/O. */
export function buildWay(o: MigrationOptions, plan: WayPlan): Way {
  const { settings, engine, clock, log, failpoints } = o;
  const { direction, term } = plan;
  const [from, to] = direction === 'forward' ? (['blue', 'green'] as const) : (['green', 'blue'] as const);
  const stream = { direction, term, maxBatchBytes: settings.apply.batchBytes };
  const source = o[from].changes(stream);
  const sink = o[to].sink(stream);
  const state: { now: PipelineState } = { now: { condition: 'running', reason: '', error: null } };
  const pipeline = new Pipeline({
    source,
    snapshot: o[from].snapshot(),
    sink,
    positions: engine.positions,
    rawCopy: engine.capabilities.rawCopy,
    rawFits: engine.capabilities.rawFits,
    plans: plan.plans,
    units: plan.units,
    settings: {
      ...settings.apply,
      // On the way back a row that does not fit stays on blue as it was and shuts a gate; a stream that stops would only make it more.
      ...(direction === 'reverse' ? { rejectsStopAfter: Number.POSITIVE_INFINITY } : {}),
      workers: settings.copy.workers,
      chunkRows: settings.copy.chunkRows,
      maxRowsPerSecond: settings.copy.maxRowsPerSecond,
      heartbeatMs: settings.heartbeatMs,
      windowBytes: settings.windowBytes,
      idleCheckpointMs: settings.idleCheckpointMs,
      visibilityTimeoutMs: settings.visibilityTimeoutMs,
    },
    clock,
    failpoints: direction === 'forward' ? failpoints : { hit: (name) => failpoints.hit(`reverse.${name}`) },
    log: log.child({ direction }),
    holder: `${plan.holder}${direction === 'forward' ? '' : ':reverse'}`,
    copied: direction === 'reverse',
    copyPermit: plan.permit,
    onState: (next) => {
      state.now = next;
    },
    ...(plan.tracked === undefined ? {} : { tracked: plan.tracked }),
  });
  return new Way({
    from,
    to,
    source,
    sink,
    pipeline,
    state: () => state.now,
    positions: engine.positions,
    units: plan.units,
    targets: plan.targets,
  });
}
