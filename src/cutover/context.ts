import type { Clock } from '../core/clock.ts';
import type { CounterMove } from '../core/counters.ts';
import type { Side } from '../core/engine.ts';
import type { Failpoints } from '../core/failpoint.ts';
import type { WriteFence } from '../core/fence.ts';
import type { GateName, GateResult } from '../core/gate.ts';
import type { Logger } from '../core/log.ts';
import type { Position } from '../core/position.ts';
import type { ProxyAdapter } from '../core/proxy.ts';
import type { Deadman } from './deadman.ts';

export interface SmokeQuery {
  readonly via: 'proxy' | 'green';
  readonly sql: string;
}

/** The part of the settings that the switch needs. Milliseconds. */
export interface CutoverSettings {
  /** From the first pause of a proxy to the seal; past it everything is undone. */
  readonly maxWritePauseMs: number;
  /** Longest wait for the locks of the fence. */
  readonly fenceTimeoutMs: number;
  /** Sessions that hold the fence up are ended after this time; null: never. */
  readonly killBlockersAfterMs: number | null;
  /** More keys than this to re-check under the fence keeps the gate shut. */
  readonly maxRecheckKeys: number;
  readonly smoke: readonly SmokeQuery[];
}

export interface GateOverride {
  readonly gate: GateName;
  readonly reason: string;
}

/** Replication from the side that will serve to the one that stops: what makes it possible to go back. */
export interface WayBack {
  /**
   * Makes its objects on the servers while nobody waits, and resolves with a line for the report. May wait for every transaction
   * that is open on the side that will serve.
   */
  prepare(signal: AbortSignal): Promise<string>;
  /**
   * After the drain, while both sides are fenced: puts it at the present end of the log, opens it and lets it answer a mark.
   * Resolves with a line for the report.
   */
  open(signal: AbortSignal): Promise<string>;
  /** Closes what {@link open} has opened: from the call on it applies nothing more. Idempotent, never rejects. */
  close(): Promise<void>;
  /** What {@link prepare} would wait for now; only reads. */
  measure(signal: AbortSignal): Promise<string>;
}

/** Everything a switch or a rollback touches, as interfaces: sides are named, engines and proxies are not. */
export interface CutoverContext {
  readonly migration: string;
  /** Number of this routing decision: higher than that of every attempt before it, also of failed ones. */
  readonly epoch: number;
  /** The side that serves now and stops writing: blue for a switch, green for a rollback. Its fence record decides. */
  readonly from: Side;
  /** The side that will serve. */
  readonly to: Side;
  readonly fromFence: WriteFence;
  /** Shut since the preparation or the switch before; opened only after {@link from} is sealed. */
  readonly toFence: WriteFence;
  /** All of them or none. */
  readonly proxies: readonly ProxyAdapter[];
  readonly pipeline: {
    /** Resolves with the sink's durable (flushed) checkpoint once it covers the barrier. */
    drain(barrier: Position, signal: AbortSignal): Promise<Position>;
    /** The same question to the engine again, for the certificate. Absent: the drain is believed. */
    covers?(have: Position, want: Position): boolean;
    /** What was applied since this engine was started, for the certificate. Absent: not counted. */
    readonly counters?: { readonly transactions: number; readonly changes: number };
  };
  /** Moves the counters of the side that will serve past those of the other, read under the fence. */
  readonly counters: () => Promise<readonly CounterMove[]>;
  /** Work that leaves less for {@link recheck}, done as late as nobody waits yet. Its failure undoes. Absent: there is none. */
  readonly beforeHold?: (signal: AbortSignal) => Promise<void>;
  /** Compares the keys changed since the last clean round; rejects with CUTOVER_GATE when there are more than `maxKeys`. */
  readonly recheck: (
    maxKeys: number,
    signal: AbortSignal,
  ) => Promise<{ readonly keys: number; readonly differences: number }>;
  readonly gates: () => Promise<readonly GateResult[]>;
  readonly overrides: readonly GateOverride[];
  readonly settings: CutoverSettings;
  /** Durable when it resolves. */
  readonly journal: { note(event: string, detail: Readonly<Record<string, unknown>>): Promise<void> };
  /** One smoke query; rejects when it fails. */
  readonly smoke: (query: SmokeQuery, signal: AbortSignal) => Promise<void>;
  /** Replication the other way round, from {@link to} to {@link from}; null: none, because the operator said so. */
  readonly wayBack: WayBack | null;
  /** Writes the record that {@link to} serves under this epoch. Idempotent. */
  readonly onSwitched: (epoch: number) => Promise<void>;
  /** Read again from where it is stored; false: another engine has taken over and this one must not act any more. */
  readonly holdsLease: () => Promise<boolean>;
  /** Takes this attempt back when this engine cannot. One that was used is not used again. Absent: nobody does. */
  readonly deadman?: Deadman;
  readonly log: Logger;
  readonly clock: Clock;
  readonly failpoints: Failpoints;
}
