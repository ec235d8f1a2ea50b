import type { Position } from '../../core/position.ts';
import { plain } from './sink-session.ts';
import type { Outcome, Statement } from './sink-wire.ts';

/** An asynchronous commit is forced out after at most this long, so that the source can forget. */
const FORCE_AFTER_MS = 1_000;

/** Least time between two looks at how far the sink has flushed: a group of a few rows takes less than a millisecond. */
const LOOK_EVERY_MS = 50;

/** Follows which committed groups have reached the disk of the sink. The log is sequential: one flushed commit hardens all before it. */
export class Durability {
  #synchronous: boolean;
  #waiting: { readonly position: Position; readonly lsn: bigint }[] = [];
  #oldest: number | null = null;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #durable: Position | null = null;
  #committed: Position | null = null;

  constructor(synchronous: boolean) {
    this.#synchronous = synchronous;
  }

  get synchronous(): boolean {
    return this.#synchronous;
  }

  get durable(): Position | null {
    return this.#durable;
  }

  get committed(): Position | null {
    return this.#committed;
  }

  harden(): void {
    this.#synchronous = true;
  }

  /** This commit must be waited for. */
  get due(): boolean {
    return this.#synchronous || (this.#oldest !== null && performance.now() - this.#oldest > FORCE_AFTER_MS);
  }

  /** Whether {@link look} goes with the next commit; what is not looked at is covered by a later look. */
  get lookDue(): boolean {
    return performance.now() - this.#lookedAt >= LOOK_EVERY_MS;
  }

  /** Sent behind COMMIT: the end of the log (our commit is before it) and how far it is flushed. */
  static readonly look: Statement = plain(
    "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')::text, " +
      "pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_flush_lsn(), '0/0')::text",
  );

  /** A group committed and was waited for. */
  hard(position: Position | null): void {
    if (position !== null) this.#committed = position;
    this.#durable = this.#committed;
    this.#waiting = [];
    this.#oldest = null;
  }

  /** A group committed without waiting; `looked` is what {@link look} answered, if it went with it. */
  soft(position: Position, looked: Outcome | undefined): void {
    this.#committed = position;
    if (looked !== undefined) this.#looked(position, looked);
    if (this.#durable !== position) this.#oldest ??= performance.now();
  }

  #looked(position: Position, { rows }: Outcome): void {
    const [end, flushed] = rows[0] as readonly [string, string];
    this.#lookedAt = performance.now();
    this.#waiting.push({ position, lsn: BigInt(end) });
    const reached = BigInt(flushed);
    let count = 0;
    while (count < this.#waiting.length && (this.#waiting[count] as { lsn: bigint }).lsn <= reached)
      count += 1;
    if (count > 0) {
      this.#durable = (this.#waiting[count - 1] as { position: Position }).position;
      this.#waiting.splice(0, count);
      this.#oldest = null;
    }
  }

  /** Read again from the server after a new connection. */
  restart(position: Position | null): void {
    this.#committed = position;
    this.#durable = position;
    this.#waiting = [];
    this.#oldest = null;
  }
}
