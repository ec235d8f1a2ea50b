import type { GateResult } from '../core/gate.ts';
import type { Phase } from '../core/state.ts';
import type { Approval } from './approvals.ts';
import type { Rehearsal } from './rehearsal-result.ts';
import type { CutoverRequest } from './requests.ts';

export type Condition = 'running' | 'throttled' | 'paused' | 'blocked' | 'error';

/** Progress of a table or of all of them. */
export interface CopyProgress {
  readonly rows: number;
  /** From statistics; null when not known. */
  readonly totalRows: number | null;
  readonly bytes: number;
  readonly rowsPerSecond: number | null;
  /** Lowest and highest guess; null below one per cent and when nothing is being copied. */
  readonly etaSeconds: readonly [number, number] | null;
  readonly rangesDone: number;
  readonly ranges: number;
  /** Index and constraint building after the copy: what is being built. */
  readonly finishing: string | null;
}

export interface VerifyState {
  readonly state: 'never' | 'running' | 'pass' | 'fail' | 'error';
  readonly rows: number;
  readonly totalRows: number | null;
  readonly differences: number;
  /** Seconds since the last finished round; null: never. */
  readonly ageSeconds: number | null;
  /** Lowest and highest guess for the running round; null when it cannot be told. */
  readonly etaSeconds?: readonly [number, number] | null;
  readonly detail: string | null;
}

/** Who may switch, and when. Moments are ISO 8601, UTC. */
export interface SwitchStatus {
  /** The window that is open, else the next one; null: none is configured. */
  readonly window: {
    readonly name: string;
    readonly open: boolean;
    readonly opensAt: string;
    readonly closesAt: string;
    readonly timezone: string;
  } | null;
  readonly approvals: {
    readonly required: number;
    readonly roles: readonly string[];
    readonly counted: number;
    /** `counts` is false when it is void, in a role that is not asked for, or by who starts the switch. */
    readonly given: readonly (Approval & { readonly counts: boolean })[];
  };
  /** The newest request for a switch, whatever became of it; null: none yet. */
  readonly request: CutoverRequest | null;
  /** The last rehearsal; null: none yet. */
  readonly rehearsal: (Rehearsal & { readonly ageSeconds: number }) | null;
}

/** `data` of `status --json`. Unknown numbers are null, never 0. */
export interface Status extends SwitchStatus {
  readonly migration: string;
  readonly phase: Phase;
  readonly condition: Condition;
  /** Why the condition is what it is; empty when running. */
  readonly reason: string;
  readonly next: { readonly action: string; readonly command: string | null };
  readonly activeSide: 'blue' | 'green';
  readonly epoch: number;
  readonly planHash: string;
  readonly upSeconds: number;
  readonly lag: {
    readonly commitSeconds: number | null;
    readonly distanceBytes: number | null;
    readonly roundTripMs: number | null;
    readonly lastEventAgeSeconds: number | null;
  };
  readonly copy: CopyProgress;
  readonly tables: readonly {
    readonly table: string;
    readonly rows: number;
    readonly totalRows: number | null;
    readonly rangesDone: number;
    readonly ranges: number;
  }[];
  readonly apply: {
    readonly transactions: number;
    readonly changes: number;
    readonly changesPerSecond: number | null;
    readonly groups: number;
    readonly retries: number;
    readonly fallbacks: number;
    readonly queueBytes: number;
    readonly holes: number;
    readonly rejects: number;
  };
  readonly verify: VerifyState;
  readonly source: {
    readonly state: string | null;
    readonly retainedBytes: number | null;
    readonly limitBytes: number | null;
    readonly oldestTransactionSeconds: number | null;
  };
  readonly gates: readonly GateResult[];
  readonly positions: {
    readonly head: string | null;
    readonly received: string | null;
    readonly applied: string | null;
  };
  /** The way back; null before the run is held. */
  readonly rollback: {
    /** The configuration asks for one. */
    readonly wanted: boolean;
    /** Why the mapping has none. */
    readonly problems: readonly string[];
    /** Blue can hold everything that was written on green; null while green does not serve. */
    readonly fits: boolean | null;
    readonly misfits: number | null;
    /** One row of green that blue cannot hold. Values are never part of it. */
    readonly first: {
      readonly table: string;
      readonly key: readonly (string | null)[];
      readonly column: string;
      readonly reason: string;
    } | null;
  } | null;
  readonly error: { readonly code: string; readonly message: string; readonly remedy: string } | null;
}
