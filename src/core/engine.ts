import type { Bench } from './bench.ts';
import type { Canary } from './canary.ts';
import type { Catalog } from './catalog.ts';
import type { Counters } from './counters.ts';
import type { Digester } from './digest.ts';
import type { Failpoints } from './failpoint.ts';
import type { WriteFence } from './fence.ts';
import type { ForeignWriteStore } from './foreign-writes.ts';
import type { Logger } from './log.ts';
import type { TargetTable } from './plan.ts';
import type { Positions } from './position.ts';
import type { CheckResult } from './preflight.ts';
import type { ReadinessReader } from './readiness.ts';
import type { Sink } from './sink.ts';
import type { SnapshotSource } from './snapshot.ts';
import type { ChangeSource } from './source.ts';
import type { StateStore } from './state.ts';
import type { Column, Relation, TableName, Tuple } from './table.ts';
import type { VerificationStore } from './verification.ts';

export type Side = 'blue' | 'green';

/** What differs between engines, as facts instead of names. */
export interface Capabilities {
  /** Chunks can move from reader to writer as the engine's bulk format, without a look at the rows. */
  readonly rawCopy: boolean;
  /** That format brings values of the one column to the other as `write` would. Absent: wherever the mapping copies them as they are. */
  readonly rawFits?: (from: Column, to: Column) => boolean;
  /** A mark can be written while the side is fenced. */
  readonly marksWhileFenced: boolean;
  /** The catalog's changes are transactional (a schema file can be tried and rolled back). */
  readonly transactionalSchema: boolean;
  /** Its sinks take the elements of an array one by one ({@link import('./plan.ts').ArrayElements}). Absent: they do not. */
  readonly arrayElements?: boolean;
}

/** One thing wrong with an engine's part of the configuration. `path` is relative to that part. */
export interface ConfigIssue {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** What a session needs to know about where it runs. */
export interface SessionEnv {
  /** Name of the migration: part of the names of everything the engine makes on a server. */
  readonly migration: string;
  readonly side: Side;
  /** Name of the schema or database that holds our state. */
  readonly stateSchema: string;
  /** For a rehearsal: what it makes on the server is named after its migration alone, whatever the configuration names. */
  readonly rehearsal?: true;
  readonly log: Logger;
  readonly failpoints: Failpoints;
}

/** What a stream is, for the objects it makes on servers. */
export interface StreamOptions {
  /** `forward` (blue → green) or `reverse`: part of the names of slots, checkpoints and state. */
  readonly direction: 'forward' | 'reverse';
  /**
   * It only looks on: what it makes on servers has names of its own, so that the stream that carries can be opened beside it.
   */
  readonly watch?: true;
  /** Term of the lease under which the sink may write. */
  readonly term: number;
  /** Bytes a batch may hold before a transaction is handed out in parts. */
  readonly maxBatchBytes: number;
}

/** What `preflight` is told. */
export interface PreflightScope {
  readonly role: 'source' | 'sink';
  readonly tables: readonly TableName[];
  /** Source: tables for which the mapping needs whole old rows. */
  readonly needsFullImages: readonly { readonly table: TableName; readonly why: string }[];
  /** Sink: what will be written; empty when the tables do not exist yet. */
  readonly targets: readonly TargetTable[];
  /** Connections the run will use on this side. */
  readonly connections: number;
  /** Sink: the tables must be empty because no state of ours stands there. */
  readonly fresh: boolean;
}

/** A connected side. Can play both roles, so the way back needs no other type. */
export interface Session extends AsyncDisposable {
  readonly side: Side;
  readonly catalog: Catalog;
  readonly digester: Digester;
  readonly counters: Counters;
  readonly state: StateStore;
  readonly readiness: ReadinessReader;
  /** The last verification, where runs are remembered. */
  readonly verification: VerificationStore;
  /**
   * Where writes of others to a side that only we may write are kept. Absent: the engine does not sign what its sink writes, so its
   * log cannot tell who wrote.
   */
  readonly foreignWrites?: ForeignWriteStore;
  /** What a rehearsal works on. Absent: this engine cannot rehearse. */
  readonly canary?: Canary;
  preflight(scope: PreflightScope): Promise<readonly CheckResult[]>;
  changes(options: StreamOptions): ChangeSource;
  snapshot(): SnapshotSource;
  sink(options: StreamOptions): Sink;
  /** The fence over these tables (with their partitions). */
  fence(tables: readonly TableName[]): WriteFence;
  /** One statement for throttles, custom gates and smoke queries: first column of the first row as text. */
  scalar(sql: string, timeoutMs: number): Promise<string | null>;
  /** Bytes and counts of rows that a plan reports. */
  estimate(relation: Relation): Promise<{ readonly rows: number; readonly bytes: number }>;
  /**
   * A few rows as a source delivers them, in relation order, for people who try out a mapping. `where` is a condition in
   * the engine's own words; it runs in a read-only transaction. Optional: without it rows are taken from the start.
   */
  sample?(
    relation: Relation,
    options: { readonly rows: number; readonly where?: string },
  ): Promise<readonly Tuple[]>;
}

/** A database engine. The default export of nothing: each engine folder's `index.ts` exports `engine`. */
export interface Engine {
  readonly name: string;
  readonly capabilities: Capabilities;
  readonly positions: Positions;
  /** Checks the side's block of the configuration file (all of it: url, tls, replication, …). Pure. */
  parseConfig(input: unknown): { readonly config: unknown } | { readonly issues: readonly ConfigIssue[] };
  /** JSON schema of that block, for editors. */
  jsonSchema(): object;
  /** Absent: `verdigris bench` cannot be had for this engine. */
  readonly bench?: Bench;
  /** @param config what {@link parseConfig} returned. @throws VerdigrisError SOURCE_CONNECT / SINK_CONNECT */
  connect(config: unknown, env: SessionEnv): Promise<Session>;
}
