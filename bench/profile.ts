import type { RatioBy } from '../src/bench/report.ts';
import type { Contender } from '../src/bench/run.ts';
import type { BenchFacts } from '../src/core/bench.ts';

export type { Contender, Run } from '../src/bench/run.ts';
export type { BenchFacts as Facts } from '../src/core/bench.ts';

export interface Prepared extends AsyncDisposable {
  readonly facts: BenchFacts;
  readonly verdigris: Contender;
  /** The first is the peer of the ratio. */
  readonly peers: readonly Contender[];
  readonly notes: readonly string[];
}

export interface BenchOptions {
  /** Multiplies the size of the backlog; 1 is the published size. */
  readonly scale: number;
  readonly say: (text: string) => void;
  /** Folder for a CPU profile of every run of ours, or null. */
  readonly cpuProfile: string | null;
}

export interface Profile {
  readonly name: string;
  readonly what: string;
  /** Default: seconds. */
  readonly by?: RatioBy;
  prepare(options: BenchOptions): Promise<Prepared>;
}
