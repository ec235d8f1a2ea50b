import { setTimeout as sleep } from 'node:timers/promises';
import { cpuSeconds, peakMb } from './machine.ts';
import type { Run } from './profile.ts';

const EVERY_MS = 200;

/** Follows the processes of a run: what they used before it began does not count, what ended during it does. */
export class Sampler {
  readonly #find: () => Promise<readonly { readonly pid: number; readonly name: string }[]>;
  readonly #known = new Map<number, { name: string; before: number; cpu: number; peak: number }>();
  readonly #stop = new AbortController();
  #loop: Promise<void> | null = null;

  /** @param find the processes that matter, with the role each is shown under */
  constructor(find: () => Promise<readonly { readonly pid: number; readonly name: string }[]>) {
    this.#find = find;
  }

  /** Processes found from now on are new: they are measured from their start. */
  async start(): Promise<void> {
    for (const { pid, name } of await this.#find()) this.#add(pid, name, cpuSeconds(pid) ?? 0);
    this.#loop = this.#run();
  }

  /** The clock starts: what was used up to here does not count. */
  async begin(): Promise<void> {
    await this.#look();
    for (const process of this.#known.values()) process.before = process.cpu;
  }

  async stop(): Promise<Pick<Run, 'cpu' | 'peakMb'>> {
    await this.#look();
    this.#stop.abort();
    await this.#loop;
    const cpu: Record<string, number> = {};
    const peak: Record<string, number> = {};
    for (const process of this.#known.values()) {
      cpu[process.name] = (cpu[process.name] ?? 0) + process.cpu - process.before;
      peak[process.name] = Math.max(peak[process.name] ?? 0, process.peak);
    }
    return { cpu, peakMb: peak };
  }

  #add(pid: number, name: string, before: number): void {
    if (!this.#known.has(pid)) this.#known.set(pid, { name, before, cpu: before, peak: 0 });
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      // A look that fails because the run was given up must not hide why it was.
      await this.#look().catch(() => this.#stop.abort());
      await sleep(EVERY_MS, undefined, { signal: this.#stop.signal }).catch(() => undefined);
    }
  }

  async #look(): Promise<void> {
    for (const { pid, name } of await this.#find()) this.#add(pid, name, 0);
    for (const [pid, process] of this.#known) {
      process.cpu = cpuSeconds(pid) ?? process.cpu;
      process.peak = peakMb(pid) ?? process.peak;
    }
  }
}
