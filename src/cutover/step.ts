import type { Side } from '../core/engine.ts';

/** In the order in which they run. */
export const STEPS = [
  'gates',
  'prepare',
  'arm',
  'pause',
  'fence',
  'prove',
  'drain',
  'recheck',
  'counters',
  'position',
  'route',
  'seal',
  'open',
  'resume',
  'smoke',
] as const;
export type StepName = (typeof STEPS)[number];

export interface Undone {
  /** The record says sealed: there is no way back any more, only forward. */
  readonly sealed: boolean;
  readonly detail: string;
}

/**
 * One step of the switch, as a value: a dry run prints the list that a real run executes. `run`, `undo` and `measure` bound
 * their waits by the signal and return a line for the report.
 */
export interface Step {
  readonly name: StepName;
  /** Bound of one attempt before the seal, of all attempts after it. */
  readonly timeoutMs: number;
  /** Clients' writes wait while it runs: the first such step starts the write pause. */
  readonly held: boolean;
  readonly pastPointOfNoReturn: boolean;
  /** The step that decides. Cancelling and the pause budget do not touch it once it runs. */
  readonly seals?: true;
  /** Belongs to the way forward from a sealed record; safe to repeat. */
  readonly forward?: true;
  /** Its failure is an alarm and changes nothing about the outcome. */
  readonly alarmOnly?: true;
  /** When its undo fails, nothing that came before it may be undone. */
  readonly undoFirst?: true;
  /** Bound of the undo; absent: the usual one. */
  readonly undoTimeoutMs?: number;
  describe(): string;
  run(signal: AbortSignal): Promise<string>;
  /** Safe to repeat, and when `run` did nothing or only a part. */
  undo?(signal: AbortSignal): Promise<Undone>;
  /** What it would cost now; only reads. */
  measure?(signal: AbortSignal): Promise<string>;
}

export interface StepReport {
  readonly name: StepName;
  readonly description: string;
  readonly pastPointOfNoReturn: boolean;
  readonly outcome: 'planned' | 'ok' | 'failed' | 'undone' | 'skipped';
  readonly ms: number | null;
  readonly detail: string;
}

/** A side at the beginning of a sentence. */
export const title = (side: Side): string => (side === 'blue' ? 'Blue' : 'Green');
