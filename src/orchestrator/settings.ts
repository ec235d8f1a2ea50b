import type { ApprovalRule } from './approvals.ts';
import type { CutoverWindow } from './windows.ts';

/** What a run is told besides its mapping; `app/config.ts` fills it from the file. Durations in ms, sizes in bytes. */
export interface Settings {
  readonly migration: string;
  /** Green's DDL, applied when the tables are not there; null: they must exist. */
  readonly schemaSql: string | null;
  readonly copy: {
    readonly workers: number;
    /** Rows of one range. */
    readonly chunkRows: number;
    /** Upper bound over all workers; null: none. */
    readonly maxRowsPerSecond: number | null;
  };
  readonly apply: {
    /** A group is committed when it holds that much, or when nothing more is queued. */
    readonly groupBytes: number;
    readonly groupRows: number;
    /** A source transaction larger than this is applied in parts of one sink transaction. */
    readonly batchBytes: number;
    /** Rejected rows at which the stream stops. */
    readonly rejectsStopAfter: number;
  };
  /** All windows together may hold that many bytes of changes; past it the largest is cancelled. */
  readonly windowBytes: number;
  readonly heartbeatMs: number;
  readonly idleCheckpointMs: number;
  /** How long a committed transaction may stay invisible before it is a condition. */
  readonly visibilityTimeoutMs: number;
  readonly throttle: readonly {
    readonly name: string;
    readonly on: 'blue' | 'green';
    readonly query: string;
    readonly max: number;
  }[];
  readonly verify: {
    readonly afterCopy: 'full' | 'off';
    readonly maxRowsPerSecond: number | null;
    readonly recheckAttempts: number;
    readonly recheckDelayMs: number;
    /** A full round again after every rest; null: none. */
    readonly continuous: { readonly everyMs: number; readonly maxRowsPerSecond: number | null } | null;
  };
  readonly gates: {
    readonly maxCommitLagMs: number;
    readonly stableForMs: number;
    readonly verifiedWithinMs: number;
    readonly maxTransactionAgeMs: number;
    readonly maxRejects: number;
    readonly roundTripMs: number;
    /** Age of the last rehearsal; null: none is asked for. */
    readonly rehearsedWithinMs: number | null;
    readonly approvals: ApprovalRule;
  };
  readonly cutover: {
    readonly maxWritePauseMs: number;
    readonly fenceTimeoutMs: number;
    readonly killBlockersAfterMs: number | null;
    /** More keys than this to re-check under the fence keeps the gate shut. */
    readonly maxRecheckKeys: number;
    /** Replicate from green to blue after the switch, so that a rollback loses nothing. */
    readonly reverse: boolean;
    readonly smoke: readonly { readonly via: 'proxy' | 'green'; readonly sql: string }[];
    /** A switch begins only in one of them; empty: at any time. */
    readonly windows: readonly CutoverWindow[];
  };
  readonly sequences: { readonly headroom: number };
  readonly lease: { readonly ttlMs: number };
}
