import type { Position } from './position.ts';

/** Whose log was read, for which run, under which term of the lease. */
export interface ForeignWriteOwner {
  readonly id: string;
  readonly term: number;
  readonly side: 'blue' | 'green';
}

/** What somebody else did to a row: its images as text by column, as far as the log carries them. */
export interface ForeignChange {
  readonly table: string;
  readonly op: 'insert' | 'update' | 'delete' | 'truncate';
  readonly before: Readonly<Record<string, string | null>> | null;
  readonly after: Readonly<Record<string, string | null>> | null;
}

/** A transaction that changed mapped tables and is no apply of ours. */
export interface ForeignTransaction {
  /** Counts up from 1 per run and side. */
  readonly sequence: number;
  readonly position: Position;
  /** Commit time by the clock of the side, ms since 1970. */
  readonly commitMs: number;
  /** Rows it changed, by table as people write it. */
  readonly rows: Readonly<Record<string, number>>;
}

/** How far a log was read, and what was found in it. */
export interface ForeignWrites {
  readonly upto: Position;
  /** Newest transaction found; 0: none. */
  readonly sequence: number;
  /** Up to this transaction a later verification found both sides equal again. */
  readonly settled: number;
  /** Changes whose images are stored. */
  readonly kept: number;
  /** Those after `settled`, oldest first, at most as many as were asked for. */
  readonly open: readonly ForeignTransaction[];
}

/**
 * Remembers foreign writes beside the run, images included: they are evidence, and on a side that stopped writing the only copy of
 * what somebody believes to have stored. Every write names the term of the lease and is refused with SINK_FENCED under another one.
 */
export interface ForeignWriteStore {
  /** Creates its tables. Idempotent. */
  prepare(): Promise<void>;
  /** Null before {@link begin}. What a transaction left that was not read to its end is removed: it will be read again. */
  load(owner: ForeignWriteOwner, limit: number): Promise<ForeignWrites | null>;
  /** The log is read from here. Keeps what was found before. */
  begin(owner: ForeignWriteOwner, at: Position): Promise<void>;
  /**
   * In one transaction: what was found since the last call, and that everything up to `upto` was read. Null: the last transaction
   * goes on in the next call, which names it again.
   */
  record(
    owner: ForeignWriteOwner,
    found: readonly (ForeignTransaction & { readonly changes: readonly ForeignChange[] })[],
    upto: Position | null,
  ): Promise<void>;
  settle(owner: ForeignWriteOwner, sequence: number): Promise<void>;
  retire(id: string): Promise<void>;
}
