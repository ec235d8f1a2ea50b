import type { Run } from './run.ts';

const EVERY_MS = 50;

/** What this process uses from now on: CPU, and the highest resident memory. Dispose of it. */
export class Meter implements Disposable {
  readonly #before = process.cpuUsage();
  readonly #timer = setInterval(() => this.#look(), EVERY_MS);
  #peak = 0;

  /** Up to now. */
  used(): Pick<Run, 'cpu' | 'peakMb'> {
    this.#look();
    const { user, system } = process.cpuUsage(this.#before);
    return { cpu: { engine: (user + system) / 1e6 }, peakMb: { engine: this.#peak / 1e6 } };
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    this.#peak = Math.max(this.#peak, process.memoryUsage.rss());
  }
}
