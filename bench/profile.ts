/** What was prepared, the same for all who are measured. */
export interface Facts {
  /** Row changes of the backlog, or rows of the copy. */
  readonly changes: number;
  readonly transactions: number;
  /** Log bytes of the backlog, or bytes of the tables. */
  readonly bytes: number;
  /** Different rows that the changes touch: few keys make folding look like speed. */
  readonly distinctKeys: number;
  readonly rowBytes: number;
}

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

export interface Prepared extends AsyncDisposable {
  readonly facts: Facts;
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
  /** What the ratio compares: seconds (default) or the 99th percentile in ms. */
  readonly by?: 'seconds' | 'p99';
  prepare(options: BenchOptions): Promise<Prepared>;
}
