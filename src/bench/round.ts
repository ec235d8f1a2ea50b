import type { BenchFacts, BenchLoad, BenchPeer, BenchSides, BenchTable, BenchWho } from '../core/bench.ts';
import { CODES, VerdigrisError, type Code } from '../core/errors.ts';
import type { VerdigrisEngine } from '../app/engine.ts';
import { Meter } from './meter.ts';
import type { Contender, Run } from './run.ts';

export interface RoundOptions {
  readonly load: BenchLoad;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
}

/** What is prepared anew for every pair, and the runs of both. {@link end} has to be called, whatever failed. */
export class Round {
  readonly notes: string[] = [];
  readonly #sides: BenchSides;
  readonly #load: BenchLoad;
  readonly #signal: AbortSignal;
  readonly #say: (text: string) => void;
  readonly #create: (tables: readonly BenchTable[]) => VerdigrisEngine;
  #tables: readonly BenchTable[] = [];
  #engine: VerdigrisEngine | null = null;
  #peer: BenchPeer | null = null;
  #facts: BenchFacts | null = null;

  constructor(
    sides: BenchSides,
    { load, signal, say }: RoundOptions,
    create: (tables: readonly BenchTable[]) => VerdigrisEngine,
  ) {
    this.#sides = sides;
    this.#load = load;
    this.#signal = signal;
    this.#say = say;
    this.#create = create;
  }

  /** Of the newest pair. */
  get facts(): BenchFacts {
    if (this.#facts === null) throw new VerdigrisError('INTERNAL', 'Nothing was prepared.');
    return this.#facts;
  }

  /** Prepares the first pair and says who takes part: ours, and the peer where it can be had. */
  async begin(): Promise<Contender[]> {
    await this.#prepareOurs();
    const peer = await this.#sides.peer(this.#load);
    if ('impossible' in peer) this.notes.push(`without a peer: ${peer.impossible}`);
    else {
      this.#peer = peer;
      this.notes.push(...peer.notes);
    }
    await this.#write();
    return [
      { name: 'verdigris', run: () => this.#runOurs() },
      ...(this.#peer === null ? [] : [{ name: this.#peer.name, run: () => this.#runPeer() }]),
    ];
  }

  /** The next pair. */
  async prepare(): Promise<void> {
    const withPeer = this.#peer !== null;
    await this.end();
    await this.#prepareOurs();
    if (withPeer) {
      const peer = await this.#sides.peer(this.#load);
      if ('impossible' in peer) throw new VerdigrisError('SINK_FAILED', peer.impossible);
      this.#peer = peer;
    }
    await this.#write();
  }

  /** Stops who still runs and removes everything from both sides. */
  async end(): Promise<void> {
    const engine = this.#engine;
    this.#engine = null;
    this.#peer = null;
    await engine?.close();
    await this.#sides.clear();
  }

  async #prepareOurs(): Promise<void> {
    this.#signal.throwIfAborted();
    this.#say(`filling blue: ${this.#load.profile}, ${this.#load.size}`);
    this.#tables = await this.#sides.seed(this.#load);
    if (this.#load.profile === 'copy') return;
    // Its first copy is not measured here; it goes on from there with the backlog.
    await this.#whileOurs((engine) => engine.start());
  }

  async #write(): Promise<void> {
    this.#signal.throwIfAborted();
    if (this.#load.profile === 'catchup') this.#say('writing the backlog');
    this.#facts = await this.#sides.write(this.#load);
  }

  async #runOurs(): Promise<Run> {
    const run = await this.#whileOurs((engine) =>
      this.#load.profile === 'copy'
        ? this.#measureCopy(() => engine.start())
        : this.#measureCatchUp('ours', () => diesOf(engine)),
    );
    await this.#sides.compare('ours', this.#load);
    return run;
  }

  async #runPeer(): Promise<Run> {
    const peer = this.#peer;
    if (peer === null) throw new VerdigrisError('INTERNAL', 'There is no peer.');
    const run = await (this.#load.profile === 'copy'
      ? this.#measureCopy(() => peer.start().then(() => peer.copied(this.#signal)))
      : this.#measureCatchUp('peer', () => peer.start().then(() => new Promise<never>(() => undefined))));
    await peer.stop();
    await this.#sides.compare('peer', this.#load);
    return { ...run, cpu: {}, peakMb: {} };
  }

  async #measureCopy(work: () => Promise<void>): Promise<Run> {
    using meter = new Meter();
    const began = performance.now();
    await work();
    return { seconds: (performance.now() - began) / 1_000, startSeconds: 0, ...meter.used() };
  }

  /** @param start begins and only ever rejects */
  async #measureCatchUp(who: BenchWho, start: () => Promise<never>): Promise<Run> {
    const gone = new AbortController();
    const signal = AbortSignal.any([this.#signal, gone.signal]);
    const commanded = performance.now();
    const failed = start();
    failed.catch(() => gone.abort(new VerdigrisError('INTERNAL', 'It ended.')));
    await Promise.race([this.#sides.reading(who, signal), failed]);
    const began = performance.now();
    using meter = new Meter();
    await Promise.race([this.#sides.arrived(who, signal), failed]);
    const seconds = (performance.now() - began) / 1_000;
    return { seconds, startSeconds: (began - commanded) / 1_000, ...meter.used() };
  }

  async #whileOurs<T>(work: (engine: VerdigrisEngine) => Promise<T>): Promise<T> {
    this.#signal.throwIfAborted();
    const engine = this.#create(this.#tables);
    this.#engine = engine;
    try {
      return await work(engine);
    } finally {
      await engine.close();
      this.#engine = null;
    }
  }
}

/** Rejects when the run ends, with what it ended of. */
async function diesOf(engine: VerdigrisEngine): Promise<never> {
  await engine.start();
  await engine.ended();
  const { error } = await engine.status();
  if (error === null) throw new VerdigrisError('INTERRUPTED', 'the run that is measured was ended');
  const code: Code = Object.hasOwn(CODES, error.code) ? (error.code as Code) : 'INTERNAL';
  throw new VerdigrisError(code, error.message, { remedy: error.remedy });
}
