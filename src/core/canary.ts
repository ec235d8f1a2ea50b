import type { TableName } from './table.ts';

/** A small table of ours beside the state of one side, to rehearse on without touching a table of anybody else. */
export interface Canary {
  readonly table: TableName;
  /**
   * Makes it, empty; what an earlier attempt left is replaced.
   * @throws VerdigrisError PREFLIGHT_FAILED when somebody else replicates every table of this side, ours included
   */
  create(): Promise<void>;
  /** Writes that many rows as an ordinary client does: new ones, and a new value in those that are there. Rejects behind a fence. */
  write(rows: number): Promise<void>;
  /** How many rows there are, and one text that is the same where they are the same. */
  read(): Promise<{ readonly rows: number; readonly digest: string }>;
  /** Removes it, and what {@link create} made for it. Idempotent. */
  drop(): Promise<void>;
}
