/** Names every screen, file and metric uses. */
export const PHASES = [
  'preparing',
  'copying',
  'catching_up',
  'replicating',
  'cutting_over',
  'undetermined',
  'reversing',
  'finished',
  'aborted',
] as const;
export type Phase = (typeof PHASES)[number];

/** What is durable about a run. `revision` is compared and set by {@link StateStore.save}. */
export interface RunRecord {
  readonly id: string;
  readonly phase: Phase;
  /** Number of the routing decision; the side with the higher one is right. */
  readonly epoch: number;
  readonly activeSide: 'blue' | 'green';
  readonly planHash: string;
  /** Phase-owned details, JSON. Never secrets, never row values. */
  readonly detail: Readonly<Record<string, unknown>>;
  readonly revision: number;
}

export interface JournalEvent {
  readonly sequence: number;
  /** ISO 8601, UTC, by the clock of the database that stores it. */
  readonly at: string;
  readonly event: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

/** Where runs are remembered: beside the data of one side. */
export interface StateStore {
  /** Creates the tables. Idempotent. @throws VerdigrisError STATE_FORMAT for a newer or foreign layout */
  prepare(): Promise<void>;
  /**
   * Takes the lease of a run and returns its new term. Refused with STATE_LEASE_HELD while another holder's lease is
   * fresh, unless `takeover`. The term is what every transaction on the sink checks.
   */
  acquire(
    id: string,
    holder: string,
    options: { readonly ttlMs: number; readonly takeover: boolean },
  ): Promise<number>;
  /** Extends the lease; false when another term stands there. */
  renew(id: string, term: number): Promise<boolean>;
  release(id: string, term: number): Promise<void>;
  load(id: string): Promise<RunRecord | null>;
  /** Compare-and-set on `revision` and term; returns the stored record. @throws VerdigrisError STATE_CONFLICT */
  save(record: RunRecord, term: number): Promise<RunRecord>;
  /** Appends to the journal. Durable when it resolves. */
  note(id: string, event: string, detail: Readonly<Record<string, unknown>>): Promise<void>;
  events(id: string, after: number, limit: number): Promise<readonly JournalEvent[]>;
  /** Removes the run and, when it was the last, everything we made on that side. */
  retire(id: string): Promise<void>;
}
