import type { Clock } from '../core/clock.ts';
import { VerdigrisError, asVerdigrisError } from '../core/errors.ts';
import type { VerifyReport } from './api.ts';
import type { Held } from './hold.ts';
import type { Verification } from './status-view.ts';

export interface VerifyOptions {
  readonly tables?: readonly string[];
  readonly mode: 'full' | 'sample' | 'recent';
}

const whole = (options: VerifyOptions): boolean => options.mode === 'full' && (options.tables ?? []).length === 0;

/** Runs one verification at a time and remembers the last result with the run. */
export class Verifications {
  readonly #clock: Clock;
  #now: Verification = { state: 'never', rows: 0, differences: 0, cleanAt: null, detail: null };
  #running: Promise<VerifyReport> | null = null;
  #runningWhole = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get now(): Verification {
    return this.#now;
  }

  /** What an earlier process stored. A round that was running then never ended. */
  restore(stored: unknown): void {
    if (typeof stored !== 'object' || stored === null) return;
    const { state, rows, differences, cleanAt } = stored as Verification;
    this.#now = { state: state === 'running' ? 'never' : state, rows, differences, cleanAt, detail: null };
  }

  /** @throws VerdigrisError CUTOVER_PHASE while another one runs */
  run(held: Held, options: VerifyOptions, signal: AbortSignal): Promise<VerifyReport> {
    // Who asks for what is running already gets its result.
    if (this.#running !== null && whole(options) && this.#runningWhole) return this.#running;
    if (this.#running !== null) {
      const busy = new VerdigrisError('CUTOVER_PHASE', 'A verification is running already.', {
        remedy: 'Wait until `verdigris status` shows its result.',
      });
      return Promise.reject(busy);
    }
    this.#runningWhole = whole(options);
    this.#running = this.#verify(held, options, signal).finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async settled(): Promise<void> {
    await this.#running?.catch(() => undefined);
  }

  async #verify(
    { verifier, state }: Held,
    options: VerifyOptions,
    signal: AbortSignal,
  ): Promise<VerifyReport> {
    const before = this.#now;
    this.#now = { ...before, state: 'running', rows: 0, detail: null };
    try {
      const report = await verifier.run(options, signal, ({ rows }) => {
        this.#now = { ...this.#now, rows: this.#now.rows + rows };
      });
      this.#now = {
        state: report.ok ? 'pass' : 'fail',
        rows: report.rows,
        // A clean look at a part does not take back what a whole round found.
        differences: report.ok && !whole(options) ? before.differences : report.mismatches.length,
        cleanAt: report.ok ? (whole(options) ? this.#clock.now() : before.cleanAt) : null,
        detail: null,
      };
      await state.remember({ verify: this.#now });
      const { ok, rows, mismatches } = report;
      await state.note('verify', { ok, rows, differences: mismatches.length, mode: options.mode });
      return report;
    } catch (error) {
      this.#now = { ...before, state: 'error', detail: asVerdigrisError(error).message };
      throw error;
    }
  }
}
