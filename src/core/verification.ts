import type { Cell } from './table.ts';

export type VerifyMode = 'full' | 'sample' | 'recent';

/** A difference that survived every look. Keys only, never other values. */
export interface StoredDifference {
  readonly table: string;
  readonly kind: 'missing' | 'extra' | 'different';
  /** Green's key, column → text; `row hash` where there is no key. */
  readonly key: Readonly<Record<string, string | null>>;
  readonly columns: readonly string[];
  /** ISO 8601, of the first look that saw it. */
  readonly firstSeen: string;
}

/** How far one table of a round is. */
export interface TableProgress {
  readonly table: string;
  /** Edges of the ranges, from blue, as they were when the round reached the table; null before that. */
  readonly boundaries: readonly Cell[] | null;
  /** Ranges that are compared; it goes on with this ordinal. */
  readonly next: number;
  readonly done: boolean;
  readonly rows: number;
  /** All differences found, also those past the number that is stored. */
  readonly differences: number;
  /** Keys that changed during every look; they stand among the changed keys, so the next look is under the fence. */
  readonly unsettled: number;
}

/** One pass over the tables. */
export interface VerificationRound {
  readonly number: number;
  readonly mode: VerifyMode;
  readonly tables: readonly string[];
  readonly state: 'running' | 'pass' | 'fail';
  /** Milliseconds that were spent on it, over all processes that worked on it. */
  readonly spentMs: number;
  /** ISO 8601; null while it runs. */
  readonly endedAt: string | null;
}

export interface StoredVerification {
  readonly round: VerificationRound;
  readonly tables: readonly TableProgress[];
  readonly differences: readonly StoredDifference[];
}

/**
 * Remembers the last round of a run beside its data, so that a restart goes on where it was. Every write names the term of
 * the lease and is refused with SINK_FENCED when another one stands there.
 */
export interface VerificationStore {
  /** Creates its tables. Idempotent. */
  prepare(): Promise<void>;
  /** The newest round, finished or not; null before the first. */
  load(id: string): Promise<StoredVerification | null>;
  /** Begins a round in place of the one before. */
  begin(id: string, term: number, round: VerificationRound): Promise<void>;
  /** One step forward: the table's progress and what was found since the last one, in one transaction. */
  advance(
    id: string,
    term: number,
    progress: TableProgress,
    found: readonly StoredDifference[],
  ): Promise<void>;
  /** Ends or changes the round; differences that are given replace those that are stored. */
  finish(
    id: string,
    term: number,
    round: VerificationRound,
    differences?: readonly StoredDifference[],
  ): Promise<void>;
  retire(id: string): Promise<void>;
}
