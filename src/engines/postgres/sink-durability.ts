import type { Position } from '../../core/position.ts';
import { plain } from './sink-session.ts';
import type { Outcome, Statement } from './sink-wire.ts';

/** An asynchronous commit is forced out after at most this long, so that the source can forget. */
const FORCE_AFTER_MS = 1_000;

/** Follows which committed groups have reached the disk of the sink. The log is sequential: one flushed commit hardens all before it. */
export class Durability {
  #synchronous: boolean;
  #waiting: { readonly position: Position; readonly lsn: bigint }[] = [];
  #oldest: number | null = null;
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

  /** A group committed without waiting; `looked` is what {@link look} answered. */
  soft(position: Position, looked: Outcome | undefined): void {
    this.#committed = position;
    const [end, flushed] = (looked?.rows[0] ?? []) as readonly string[];
    this.#waiting.push({ position, lsn: BigInt(end ?? 0) });
    const reached = BigInt(flushed ?? 0);
    let count = 0;
    while (count < this.#waiting.length && (this.#waiting[count] as { lsn: bigint }).lsn <= reached)
      count += 1;
    if (count > 0) {
      this.#durable = (this.#waiting[count - 1] as { position: Position }).position;
      this.#waiting.splice(0, count);
      this.#oldest = null;
    }
    if (this.#waiting.length > 0) this.#oldest ??= performance.now();
  }

  /** Read again from the server after a new connection. */
  restart(position: Position | null): void {
    this.#committed = position;
    this.#durable = position;
    this.#waiting = [];
    this.#oldest = null;
  }
}
