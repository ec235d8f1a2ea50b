import type { StoredDifference, VerifyMode } from '../core/verification.ts';

export interface TableReport {
  readonly table: string;
  readonly rows: number;
  /** All that were found, also those past the number that is kept. */
  readonly differences: number;
  /** Keys that changed during every look: not counted as differences, compared again under the fence. */
  readonly unsettled: number;
  /**
   * server: digests in both databases; mapped: blue rows through the plan; rows: as a multiset, the table has no key
   * (digested first where the rows pass through); keys: only
   * what changed since the last clean round.
   */
  readonly method: 'server' | 'mapped' | 'rows' | 'keys';
  readonly notCompared: readonly { readonly column: string; readonly reason: string }[];
}

export interface Report {
  readonly ok: boolean;
  readonly mode: VerifyMode;
  readonly rows: number;
  /** Over all processes that worked on the round. */
  readonly seconds: number;
  readonly tables: readonly TableReport[];
  readonly mismatches: readonly StoredDifference[];
  /** Where something else was done than asked for. */
  readonly notes: readonly string[];
}

export interface VerifyProgress {
  readonly table: string;
  /** Of the whole round so far. */
  readonly rows: number;
  readonly differences: number;
}
