import type { Clock } from '../core/clock.ts';

const WINDOW_MS = 300_000;
const SAMPLE_EVERY_MS = 1_000;
/** An ETA below this share would be a guess. */
const LEAST_SHARE = 0.01;

/**
 * Rate of a growing number over the last five minutes, and the time it still takes as a range: neither the average of the whole run
 * nor one sample says what comes next.
 */
export class Rate {
  readonly #clock: Clock;
  #samples: { at: number; value: number }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  sample(value: number): void {
    const at = this.#clock.monotonic();
    const last = this.#samples.at(-1);
    if (last !== undefined && at - last.at < SAMPLE_EVERY_MS) return;
    if (last !== undefined && value < last.value) this.#samples = [];
    this.#samples.push({ at, value });
    this.#samples = this.#samples.filter((entry) => at - entry.at <= WINDOW_MS);
  }

  /** Per second; null before there are two samples. */
  get perSecond(): number | null {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.at === first.at) return null;
    return ((last.value - first.value) * 1000) / (last.at - first.at);
  }

  /** Seconds to `total`, lowest and highest guess from the faster and slower quarters of the samples. */
  eta(total: number | null): readonly [number, number] | null {
    const last = this.#samples.at(-1);
    if (
      last === undefined ||
      total === null ||
      total <= 0 ||
      last.value / total < LEAST_SHARE ||
      last.value >= total
    )
      return null;
    const rates: number[] = [];
    for (let i = 1; i < this.#samples.length; i++) {
      const a = this.#samples[i - 1] as { at: number; value: number };
      const b = this.#samples[i] as { at: number; value: number };
      rates.push(((b.value - a.value) * 1000) / (b.at - a.at));
    }
    if (rates.length < 2) return null;
    rates.sort((a, b) => a - b);
    const slow = rates[Math.floor(rates.length / 4)] as number;
    const fast = rates[Math.floor((rates.length * 3) / 4)] as number;
    const left = total - last.value;
    if (fast <= 0) return null;
    return [Math.round(left / fast), Math.round(left / Math.max(slow, fast / 10))];
  }
}
