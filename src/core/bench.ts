import type { Logger } from './log.ts';
import type { TableName } from './table.ts';

/** What a bench measures: catching up with a backlog of small transactions, or the first copy. */
export const BENCH_PROFILES = ['catchup', 'copy'] as const;
export type BenchProfile = (typeof BENCH_PROFILES)[number];

/** What is carried over, and how much of it. */
export interface BenchLoad {
  readonly profile: BenchProfile;
  /** `catchup`: transactions of the backlog. `copy`: rows of all tables together. */
  readonly size: number;
}

/** What was prepared, the same for all who are measured. */
export interface BenchFacts {
  /** Row changes of the backlog, or rows of the copy. */
  readonly changes: number;
  readonly transactions: number;
  /** Log bytes of the backlog (of whoever wrote meanwhile), or bytes of the tables. */
  readonly bytes: number;
  /** Different rows that the changes touch: few keys make folding look like speed. */
  readonly distinctKeys: number;
  readonly rowBytes: number;
}

/** A table of blue and the one on green that our own run fills. */
export interface BenchTable {
  readonly from: TableName;
  readonly to: TableName;
}

/** Who carries the rows. */
export type BenchWho = 'ours' | 'peer';

/** What one would use instead of us: what the server brings itself. */
export interface BenchPeer {
  readonly name: string;
  /** Settings of it that a reader of the figures has to know. */
  readonly notes: readonly string[];
  /** It begins to carry rows over. */
  start(): Promise<void>;
  /** Resolves when its first copy is there. */
  copied(signal: AbortSignal): Promise<void>;
  /** It ends, and its objects on both sides are gone. */
  stop(): Promise<void>;
}

/** Both sides of a bench, connected. Disposing closes the connections; {@link BenchSides.clear} has to be called before. */
export interface BenchSides extends AsyncDisposable {
  /** Where our own run keeps its state, on both sides. */
  readonly stateSchema: string;
  readonly versions: { readonly blue: string; readonly green: string };
  /**
   * Removes what this bench and an earlier, broken one made on both sides; nothing of anybody else. Idempotent, and works where the
   * connections of this object were lost or are busy. Gives the names of what was removed.
   */
  clear(): Promise<readonly string[]>;
  /**
   * Fresh tables: blue's filled, and empty ones on green for our own run.
   * @throws VerdigrisError SOURCE_* / SINK_* when a right is missing
   */
  seed(load: BenchLoad): Promise<readonly BenchTable[]>;
  /** Fresh tables and everything else for the peer, which does not begin yet; or the reason why it cannot be had here. */
  peer(load: BenchLoad): Promise<BenchPeer | { readonly impossible: string }>;
  /** Writes the backlog on blue; for `copy` there is nothing to write. */
  write(load: BenchLoad): Promise<BenchFacts>;
  /** Resolves when the log of blue is being read for `who`. */
  reading(who: BenchWho, signal: AbortSignal): Promise<void>;
  /** Resolves when the last row of the backlog can be read on green. */
  arrived(who: BenchWho, signal: AbortSignal): Promise<void>;
  /** @throws VerdigrisError VERIFY_DIFFERENT */
  compare(who: BenchWho, load: BenchLoad): Promise<void>;
}

export interface BenchOptions {
  /** What {@link import('./engine.ts').Engine.parseConfig} returned for each side. */
  readonly blue: unknown;
  readonly green: unknown;
  /** Aborting ends running statements. */
  readonly signal: AbortSignal;
  readonly log: Logger;
}

/** What an engine has for `verdigris bench`. */
export interface Bench {
  /** Name of the migration that is measured. No configuration can have it, so that its objects are nobody else's. */
  readonly migration: string;
  /** A side's configuration without names of objects that belong to the user's migration. Pure. */
  withoutNames(config: unknown): unknown;
  /**
   * Connects to both sides. While it is open no other bench can be opened there.
   * @throws VerdigrisError SOURCE_CONNECT, SINK_CONNECT, STATE_LEASE_HELD (another bench, or a migration reads the log of blue),
   * PREFLIGHT_FAILED (what stands there would be disturbed, or has our names)
   */
  open(options: BenchOptions): Promise<BenchSides>;
}
