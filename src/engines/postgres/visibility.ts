import { VerdigrisError } from '../../core/errors.ts';
import type { Visibility } from '../../core/snapshot.ts';

/** `pg_snapshot`: transaction ids are 64 bits wide, epoch included. */
export interface Snapshot {
  /** Every transaction before it has ended. */
  readonly xmin: bigint;
  /** No transaction from it on had been seen to end. */
  readonly xmax: bigint;
  /** Top-level transactions between the two that were in progress. */
  readonly running: ReadonlySet<bigint>;
}

/**
 * Reads the text of `pg_current_snapshot()`: `xmin:xmax:xip,xip`.
 * @throws VerdigrisError SOURCE_PROTOCOL
 */
export function parseSnapshot(text: string): Snapshot {
  const match = /^(\d+):(\d+):((?:\d+(?:,\d+)*)?)$/.exec(text);
  if (match === null)
    throw new VerdigrisError('SOURCE_PROTOCOL', 'The server printed a snapshot in an unknown form.');
  const [, xmin, xmax, running] = match as unknown as [string, string, string, string];
  return {
    xmin: BigInt(xmin),
    xmax: BigInt(xmax),
    running: new Set(running === '' ? [] : running.split(',').map(BigInt)),
  };
}

/** Transaction ids below this one never name a transaction that a stream can deliver. */
const FIRST_NORMAL = 3n;

/**
 * The 64-bit id of a transaction of which the log tells only the low 32 bits. The server keeps all ids in use within 2³¹ of
 * one another, so the nearest one to the snapshot is the right one.
 */
export const widen = (transaction: bigint, near: bigint): bigint =>
  near + BigInt.asIntN(32, transaction - near);

/**
 * Is the *committed* top-level transaction visible in the snapshot? Neither knows about aborts: ask only for transactions
 * that the stream delivered, and never with the id of a subtransaction, which snapshots do not list.
 * @param transaction low 32 bits of the id, decimal
 */
export function sees(snapshot: Snapshot, transaction: string): boolean {
  const full = widen(BigInt(transaction), snapshot.xmax);
  return full >= FIRST_NORMAL && full < snapshot.xmax && !snapshot.running.has(full);
}

/** A snapshot read from the server, as the rest of the program knows it. @throws VerdigrisError SOURCE_PROTOCOL */
export function visibilityOf(text: string): Visibility {
  return new PostgresVisibility(text);
}

class PostgresVisibility implements Visibility {
  readonly #text: string;
  readonly #snapshot: Snapshot;

  constructor(text: string) {
    this.#text = text;
    this.#snapshot = parseSnapshot(text);
  }

  sees(transaction: string): boolean {
    return sees(this.#snapshot, transaction);
  }

  stillOpen(earlier: Visibility): readonly string[] {
    if (!(earlier instanceof PostgresVisibility))
      throw new VerdigrisError('INTERNAL', 'Snapshots of two engines were compared.');
    const { running } = this.#snapshot;
    return [...earlier.#snapshot.running].filter((transaction) => running.has(transaction)).map(String);
  }

  describe(): string {
    return this.#text;
  }
}
