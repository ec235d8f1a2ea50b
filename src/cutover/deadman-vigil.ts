/**
 * Whether the other end has been silent for too long. Asked often; a gap between two questions means that we stood still
 * ourselves, and then the other end gets time to be heard: what it said meanwhile waits in the pipe.
 */
export class Vigil {
  readonly #silenceMs: number;
  #heard: number;
  #asked: number;

  /** @param now monotonic, ms */
  constructor(silenceMs: number, now: number) {
    this.#silenceMs = silenceMs;
    this.#heard = now;
    this.#asked = now;
  }

  heard(now: number): void {
    this.#heard = Math.max(this.#heard, now);
  }

  silent(now: number): boolean {
    const quarter = this.#silenceMs / 4;
    if (now - this.#asked > quarter) this.#heard = Math.max(this.#heard, now - this.#silenceMs + quarter);
    this.#asked = now;
    return now - this.#heard >= this.#silenceMs;
  }
}

/**
 * The engine's side of the same silence. An answer to a beat proves that the beat was heard, so nobody takes over before that
 * long after it was *sent*; half of that is used, for what is done between the question and the act.
 */
export class Certainty {
  readonly #silenceMs: number;
  readonly #sent = new Map<number, number>();
  #last = 0;
  #until = -Infinity;

  constructor(silenceMs: number) {
    this.#silenceMs = silenceMs;
  }

  /** Number of a beat that is sent now. */
  send(now: number): number {
    this.#sent.set(++this.#last, now);
    return this.#last;
  }

  answered(beat: number): void {
    const at = this.#sent.get(beat);
    if (at === undefined) return;
    this.#until = Math.max(this.#until, at + this.#silenceMs / 2);
    for (const earlier of [...this.#sent.keys()]) if (earlier <= beat) this.#sent.delete(earlier);
  }

  holds(now: number): boolean {
    return now < this.#until;
  }
}
