import type { CheckResult } from '../core/preflight.ts';
import type { GateName, GateResult } from '../core/gate.ts';
import type { JournalEvent } from '../core/state.ts';
import type { VerifyMode } from '../core/verification.ts';
import type { Approval } from './approvals.ts';
import type { Rehearsal } from './rehearsal-result.ts';
import type { RunReport } from './run-report.ts';
import type { CutoverRequest, When } from './requests.ts';
import type { Status } from './status.ts';

/** What `plan` prints. */
export interface PlanReport {
  /** SHA-256 over mapping, configuration without secrets, schema file and server versions; no estimates, no clock. */
  readonly hash: string;
  readonly migration: string;
  readonly blue: string;
  readonly green: string;
  readonly tables: readonly {
    readonly from: string;
    readonly rows: number;
    readonly bytes: number;
    readonly to: readonly {
      readonly table: string;
      readonly kind: 'identity' | 'rename' | 'reshape' | 'split' | 'merge' | 'explode';
      readonly columns: readonly {
        readonly column: string;
        readonly from: readonly string[];
        readonly operation: string;
        /** exact: the way back restores it; lossy: it does not; reason says why. */
        readonly reverse: 'exact' | 'lossy';
        readonly reason: string;
      }[];
    }[];
  }[];
  readonly ignored: readonly string[];
  readonly onBlue: readonly string[];
  readonly onGreen: readonly string[];
  readonly atCutover: readonly string[];
  /** How what green is written after the switch would come back to blue; null: the configuration wants no way back. */
  readonly wayBack: WayBackReport | null;
  readonly warnings: readonly string[];
  readonly checks: readonly CheckResult[];
}

export interface WayBackReport {
  /** Why there is none; empty where there is one. The gate reverse-path then stays shut. */
  readonly impossible: readonly {
    readonly table: string;
    readonly column: string | null;
    readonly why: string;
  }[];
  readonly tables: readonly {
    /** Of blue. */
    readonly table: string;
    readonly from: readonly string[];
    readonly columns: readonly {
      readonly column: string;
      /** exact: the value comes back; side-table: it does, from rows kept beside the table; lossy: reason says what does not. */
      readonly way: 'exact' | 'side-table' | 'lossy';
      readonly from: readonly string[];
      readonly operation: string;
      readonly reason: string;
    }[];
  }[];
  /** Columns of green that have no place on blue: what stands there stays on green. */
  readonly greenOnly: readonly { readonly table: string; readonly column: string }[];
  /** Tables of green that will log whole old rows, and why. */
  readonly fullImages: readonly { readonly table: string; readonly why: string }[];
}

export interface StepReport {
  readonly name: string;
  readonly description: string;
  readonly pastPointOfNoReturn: boolean;
  readonly outcome: 'planned' | 'ok' | 'failed' | 'undone' | 'skipped';
  readonly ms: number | null;
  /** Dry run: what it took in the last rehearsal, ms; absent where it was not rehearsed. */
  readonly rehearsedMs?: number;
  readonly detail: string;
}

/** Of a switch or a rollback. `switched`: the side it leads to serves. `undone`: the other one serves, as before. */
export interface CutoverReport {
  readonly outcome: 'switched' | 'undone' | 'undetermined' | 'dry-run';
  /** From the pause of the proxies to their resume, as seen by the engine; null when nothing was paused. */
  readonly writePauseMs: number | null;
  readonly epoch: number;
  /** The side it leads to: green for a switch, blue for a rollback. */
  readonly to: 'blue' | 'green';
  /** Dry run: the write pause of the last rehearsal, ms, and its age; null: never rehearsed. */
  readonly rehearsed?: { readonly writePauseMs: number; readonly ageSeconds: number } | null;
  readonly steps: readonly StepReport[];
  readonly gates: readonly GateResult[];
  readonly error: { readonly code: string; readonly message: string; readonly remedy: string } | null;
}

/** A confirmed difference. Values are never part of it. */
export interface Mismatch {
  readonly table: string;
  readonly kind: 'missing' | 'extra' | 'different';
  /** Green's key as column → text; the whole row hash where there is no key. */
  readonly key: Readonly<Record<string, string | null>>;
  readonly columns: readonly string[];
  readonly firstSeen: string;
}

export interface VerifyReport {
  readonly ok: boolean;
  readonly mode: VerifyMode;
  readonly rows: number;
  readonly seconds: number;
  readonly tables: readonly {
    readonly table: string;
    readonly rows: number;
    readonly differences: number;
    /** Keys that changed during every look; compared again under the fence. */
    readonly unsettled: number;
    readonly method: 'server' | 'mapped' | 'rows' | 'keys';
    /** Columns that were not compared, with the reason. */
    readonly notCompared: readonly { readonly column: string; readonly reason: string }[];
  }[];
  readonly mismatches: readonly Mismatch[];
  /** Where something else was done than asked for. */
  readonly notes: readonly string[];
}

export interface VerifyRequest {
  readonly tables?: readonly string[];
  readonly mode: VerifyMode;
  /** Overrides the setting; null: no bound. */
  readonly maxRowsPerSecond?: number | null;
}

/** What `verify repair` did. */
export interface RepairReport {
  /** Differences that were there and are gone. */
  readonly repaired: number;
  /** What could not be repaired by key, and why. */
  readonly refused: readonly {
    readonly table: string;
    readonly differences: number;
    readonly reason: string;
  }[];
  /** The stored result after the repaired rows were compared again. */
  readonly report: VerifyReport;
}

export interface TurnRequest {
  readonly dryRun: boolean;
  /** Who asks; approvals of the same person do not count. */
  readonly by?: string;
  readonly maxWritePauseMs?: number;
  readonly overrides?: readonly { readonly gate: GateName; readonly reason: string }[];
}

/** A running migration, as the CLI, the control socket and the library see it. */
export interface Migration {
  /** Runs preparation, copy and streaming; resolves when it replicates, rejects when it cannot go on. Resumable. */
  start(): Promise<void>;
  /** Resolves when the run has ended for good (finished, aborted, failed, closed). */
  readonly ended: Promise<void>;
  status(): Promise<Status>;
  plan(): Promise<PlanReport>;
  pause(scope: 'copy' | 'apply' | 'all', reason: string): Promise<void>;
  resume(scope: 'copy' | 'apply' | 'all'): Promise<void>;
  /** A round that was interrupted goes on where it was when the same is asked for again. */
  verify(options: VerifyRequest): Promise<VerifyReport>;
  /** The stored result of the last round that ended; null: none. */
  verification(): Promise<(VerifyReport & { readonly endedAt: string }) | null>;
  /** Reads the rows of the stored differences again from blue and compares them again. */
  repair(options: { readonly tables?: readonly string[] }): Promise<RepairReport>;
  cutover(options: TurnRequest): Promise<CutoverReport>;
  /** Back to blue, with everything that was written on green; forward replication goes on from there. */
  rollback(options: TurnRequest): Promise<CutoverReport>;
  /** Finishes or undoes a switch or a rollback that was interrupted, by what the fence records say. Null: there was none. */
  recover(): Promise<CutoverReport | null>;
  /** A switch that begins by itself once its time has come and every gate is open. */
  schedule(
    options: When & {
      readonly by?: string;
      readonly maxWritePauseMs?: number;
      readonly overrides?: readonly { readonly gate: GateName; readonly reason: string }[];
    },
  ): Promise<CutoverRequest>;
  /** Ends a cutover that waits; one that runs is undone unless its record is sealed already. Resolves when it has ended. */
  cancel(options: { readonly by?: string; readonly reason?: string }): Promise<CutoverRequest>;
  /** @throws VerdigrisError PLAN_STALE when that is not the plan in force */
  approve(options: {
    readonly by: string;
    readonly role: string;
    readonly note: string;
    readonly planHash: string;
  }): Promise<Approval>;
  revoke(options: { readonly by: string; readonly reason: string }): Promise<void>;
  /** A switch there and back on rows of our own, without moving a client. Its result is stored and the gate `rehearsed` looks at it. */
  rehearse(): Promise<Rehearsal>;
  /** The record of the run so far. */
  report(): Promise<RunReport>;
  abort(options: { readonly dropGreenData: boolean }): Promise<void>;
  /** Ends the run after a switch; returns its record, of which nothing else may be left. */
  finish(options: { readonly keepState: boolean }): Promise<RunReport>;
  events(after: number, limit: number): Promise<readonly JournalEvent[]>;
  /** Stops cleanly; everything is resumable. */
  close(): Promise<void>;
}
