import type { Clock } from '../core/clock.ts';

/** Past this many heartbeats without a byte from the source nothing is known any more. */
const SILENT_HEARTBEATS = 3;

interface Pending {
  readonly sentSourceMs: number;
  readonly sentAt: number;
}

/**
 * Lag as a fact, computed when it is read: the age of the oldest commit that is known and not applied, by the source's clock.
 * A heartbeat mark counts as a commit from the moment we try to write it, so a source that stops answering is never 0.
 */
export class Lag {
  readonly #clock: Clock;
  readonly #heartbeatMs: number;
  /** Source clock minus our monotonic clock; null before the first answer. */
  #offset: number | null = null;
  #connected = false;
  /** Oldest commit time per batch that is not applied yet, in order. */
  readonly #unapplied: number[] = [];
  readonly #heartbeats = new Map<string, Pending>();
  #roundTripMs: number | null = null;
  #lastEventAt: number | null = null;
  #recent: { at: number; seconds: number }[] = [];

  constructor(clock: Clock, heartbeatMs: number) {
    this.#clock = clock;
    this.#heartbeatMs = heartbeatMs;
  }

  connected(): void {
    this.#connected = true;
    this.#unapplied.length = 0;
    this.#heartbeats.clear();
    this.#lastEventAt = this.#clock.monotonic();
  }

  disconnected(): void {
    this.#connected = false;
    this.#roundTripMs = null;
  }

  /** An answer of the source's clock, asked at monotonic `askedAt` and answered now. */
  sourceClock(sourceMs: number, askedAt: number): void {
    const now = this.#clock.monotonic();
    this.#offset = sourceMs - (askedAt + now) / 2;
  }

  get sourceNow(): number | null {
    return this.#offset === null ? null : this.#clock.monotonic() + this.#offset;
  }

  heartbeatSent(label: string): void {
    const at = this.#clock.monotonic();
    this.#heartbeats.set(label, { sentSourceMs: at + (this.#offset ?? 0), sentAt: at });
  }

  /** A batch arrived; returns a token for {@link applied}. */
  received(oldestCommitMs: number | null): void {
    this.#lastEventAt = this.#clock.monotonic();
    this.#unapplied.push(oldestCommitMs ?? Number.POSITIVE_INFINITY);
  }

  heard(atMonotonicMs: number | null): void {
    if (atMonotonicMs !== null && (this.#lastEventAt === null || atMonotonicMs > this.#lastEventAt)) {
      this.#lastEventAt = atMonotonicMs;
    }
  }

  /** The oldest `batches` that were received are applied now. */
  applied(batches: number, marks: readonly string[]): void {
    this.#unapplied.splice(0, batches);
    const now = this.#clock.monotonic();
    for (const label of marks) {
      const sent = this.#heartbeats.get(label);
      if (sent === undefined) continue;
      this.#roundTripMs = now - sent.sentAt;
      // Marks come back in order: earlier ones that were lost with a connection are answered by this one.
      for (const [other, pending] of this.#heartbeats)
        if (pending.sentAt <= sent.sentAt) this.#heartbeats.delete(other);
    }
  }

  /** Seconds, or null when it is not known. */
  get commitSeconds(): number | null {
    const now = this.sourceNow;
    const age = this.lastEventAgeSeconds;
    if (!this.#connected || now === null || age === null) return null;
    let oldest = Number.POSITIVE_INFINITY;
    for (const ms of this.#unapplied) if (ms < oldest) oldest = ms;
    for (const { sentSourceMs } of this.#heartbeats.values())
      if (sentSourceMs < oldest) oldest = sentSourceMs;
    if (oldest !== Number.POSITIVE_INFINITY) return Math.max(0, now - oldest) / 1000;
    return age > (SILENT_HEARTBEATS * this.#heartbeatMs) / 1000 ? null : 0;
  }

  /** Mark written to mark applied, ms. */
  get roundTripMs(): number | null {
    return this.#connected ? this.#roundTripMs : null;
  }

  /** Liveness, not lag. */
  get lastEventAgeSeconds(): number | null {
    return this.#lastEventAt === null ? null : (this.#clock.monotonic() - this.#lastEventAt) / 1000;
  }

  /** Remembers the present lag for {@link worst}; call once per heartbeat. */
  sample(): void {
    const at = this.#clock.monotonic();
    this.#recent.push({ at, seconds: this.commitSeconds ?? Number.POSITIVE_INFINITY });
    this.#recent = this.#recent.filter((entry) => at - entry.at < 600_000);
  }

  /** For how long lag has stayed at or under `limitSeconds`, ms; 0 when it is above now or not known. */
  stableForMs(limitSeconds: number): number {
    const now = this.#clock.monotonic();
    let since = now;
    for (let i = this.#recent.length - 1; i >= 0; i--) {
      const entry = this.#recent[i] as { at: number; seconds: number };
      if (entry.seconds > limitSeconds) break;
      since = entry.at;
    }
    const current = this.commitSeconds;
    return current === null || current > limitSeconds ? 0 : now - since;
  }
}
