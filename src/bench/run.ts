/** One measured run. Seconds of CPU and MB of peak memory by process. */
export interface Run {
  /** What the ratio is made of. */
  readonly seconds: number;
  /** From the command to the moment the clock of `seconds` starts. */
  readonly startSeconds: number;
  readonly cpu: Readonly<Record<string, number>>;
  readonly peakMb: Readonly<Record<string, number>>;
  /** Milliseconds, where the profile measures single rows or requests. */
  readonly p50?: number;
  readonly p99?: number;
  readonly max?: number;
  /** Further figures by name, with the unit in it. */
  readonly more?: Readonly<Record<string, number>>;
}

export interface Contender {
  readonly name: string;
  /** Runs once, compares both sides and throws when they differ. */
  run(): Promise<Run>;
}

/** All runs of one contender. */
export interface Series {
  readonly name: string;
  readonly runs: readonly Run[];
}
