import { parseDuration, parseSize } from '../core/units.ts';
import type { Settings } from '../orchestrator/settings.ts';
import type { Config } from './config.ts';

// The schema has refused everything else, so a null here is a defect.
const ms = (text: string): number => parseDuration(text) as number;
const bytes = (text: string): number => parseSize(text) as number;

/** What the run is told, in ms and bytes. Numbers without a key of their own are decisions, not options. */
export function settingsOf(config: Config, schemaSql: string | null): Settings {
  const { copy, apply, verify, gates, cutover } = config;
  return {
    migration: config.migration,
    schemaSql,
    copy: { workers: copy.workers, chunkRows: copy.chunk.max_rows, maxRowsPerSecond: copy.max_rows_per_sec },
    apply: {
      groupBytes: bytes(apply.batch.max_bytes),
      groupRows: apply.batch.max_rows,
      batchBytes: bytes(apply.max_transaction),
      rejectsStopAfter: apply.rejects.stop_after,
    },
    windowBytes: bytes(copy.max_held),
    heartbeatMs: ms(apply.heartbeat),
    idleCheckpointMs: 10_000,
    visibilityTimeoutMs: 30_000,
    throttle: config.throttle,
    verify: {
      afterCopy: verify.after_copy,
      maxRowsPerSecond: verify.max_rows_per_sec,
      recheckAttempts: verify.recheck.attempts,
      recheckDelayMs: ms(verify.recheck.delay),
      continuous:
        verify.continuous === null
          ? null
          : { everyMs: ms(verify.continuous.every), maxRowsPerSecond: verify.continuous.max_rows_per_sec },
    },
    gates: {
      maxCommitLagMs: ms(gates.max_commit_lag),
      stableForMs: ms(gates.stable_for),
      verifiedWithinMs: ms(gates.verified_within),
      maxTransactionAgeMs: ms(gates.max_transaction_age),
      maxRejects: gates.max_rejects,
      roundTripMs: ms(gates.max_round_trip),
      rehearsedWithinMs:
        gates.rollback_rehearsed_within === null ? null : ms(gates.rollback_rehearsed_within),
      approvals: gates.approvals,
    },
    cutover: {
      maxWritePauseMs: ms(cutover.max_write_pause),
      fenceTimeoutMs: ms(cutover.fence_timeout),
      killBlockersAfterMs: cutover.kill_blockers_after === null ? null : ms(cutover.kill_blockers_after),
      maxRecheckKeys: cutover.max_recheck_keys,
      reverse: cutover.reverse_replication.enabled,
      smoke: cutover.smoke,
      windows: cutover.windows.map(({ duration, ...window }) => ({ ...window, durationMs: ms(duration) })),
    },
    sequences: { headroom: config.sequences.headroom },
    lease: { ttlMs: 15_000 },
  };
}
