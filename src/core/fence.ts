import type { Position } from './position.ts';

export interface FenceState {
  /** `open`: clients may write. `raised`: nobody but us may; can be lowered. `sealed`: the point of no return. */
  readonly state: 'open' | 'raised' | 'sealed';
  /** The routing decision it belongs to. */
  readonly epoch: number;
}

/**
 * Stops the writes of one side. The record is one row on that side; `lower` and `seal` are compare-and-set on it, and
 * of concurrent ones exactly one wins.
 */
export interface WriteFence {
  /** Creates guards (not yet active) and the record. Idempotent. */
  prepare(): Promise<void>;
  /** Stops every writer but our own applier, in one transaction; returns the barrier. Waits at most `timeoutMs`. */
  raise(epoch: number, timeoutMs: number): Promise<Position>;
  /** A harmless write as an ordinary writer fails on every table. Throws CUTOVER_FENCE_LEAKS where it does not. */
  prove(): Promise<void>;
  /** What could still write: prepared transactions, other backends with a write lock on a mapped table. Empty: none. */
  blockers(): Promise<readonly string[]>;
  /** Ends sessions that {@link blockers} names and whose transaction is older; returns how many. Prepared transactions stay. */
  kill(olderThanMs: number): Promise<number>;
  /** raised → sealed. False when the record does not say raised with this epoch. */
  seal(epoch: number): Promise<boolean>;
  /** raised → open, guards off. False when the record does not say raised with this epoch. */
  lower(epoch: number): Promise<boolean>;
  /** sealed or raised → open whatever the epoch: only for the side that starts writing, after the other side is sealed. */
  open(epoch: number): Promise<void>;
  state(): Promise<FenceState>;
  /**
   * A text that changes whenever a guard was switched, replaced or removed, or a table came that has none, by whomever, and does not
   * change back. Who switches the guards off can write past the fence: this is how it shows. Absent where it cannot be told.
   */
  evidence?(): Promise<string>;
  /** Removes guards and record. */
  retire(): Promise<void>;
}
