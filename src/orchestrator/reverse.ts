import { VerdigrisError } from '../core/errors.ts';
import type { ChangeSource, ImageChange } from '../core/source.ts';
import type { ForeignWatch } from '../verify/foreign-writes.ts';
import { buildWay } from './build-way.ts';
import { compileBack, type BackCompiled, type Compiled } from './compiled.ts';
import { watchBlue } from './foreign.ts';
import type { MigrationOptions } from './migration-options.ts';
import { preflightBack } from './prepare.ts';
import { RunState } from './run-state.ts';
import type { Way } from './way.ts';

export interface ReverseOptions {
  readonly run: MigrationOptions;
  /** Where the run is remembered. */
  readonly state: RunState;
  readonly compiled: Compiled;
  /** Of the way to green, which carries nothing while this one does. */
  readonly forward: Way;
  readonly holder: string;
  readonly permit: (signal: AbortSignal) => Promise<void>;
  /** Another engine has the lease on blue. */
  readonly onLost: (error: VerdigrisError) => void;
}

/** How long blue's log may take to be read to its end while writers wait. */
const REACH_MS = 5_000;
/** What a role may do seldom changes. */
const LOOK_EVERY_MS = 60_000;

/** Keys of the record's details: something of it may stand on the servers; what old rows brought before. */
const MADE = 'reverse';
const IMAGES = 'images';

/** Replication from green to blue, and what it needs on both sides. Nothing of it stands anywhere before {@link prepare}. */
export class Reverse implements AsyncDisposable {
  readonly #o: ReverseOptions;
  #lease: RunState | null = null;
  #way: Way | null = null;
  /** Of green's log; one, since it may be open once only. */
  #from: ChangeSource | null = null;
  #watch: ForeignWatch | null = null;
  #newest: number | null = null;
  #looked: { readonly at: number; readonly problems: readonly string[] } | null = null;

  constructor(options: ReverseOptions) {
    this.#o = options;
  }

  /** The operator wants a way back. */
  get wanted(): boolean {
    return this.#o.compiled.back !== null;
  }

  /** Why the mapping has no way back; empty when it has one. */
  get impossible(): readonly string[] {
    return impossibleOf(this.#o.compiled.back);
  }

  /** Why there would be no way back now; empty when there would be one, null when none is wanted. */
  async problems(): Promise<readonly string[] | null> {
    const { compiled, run } = this.#o;
    if (!this.wanted) return null;
    if (this.impossible.length > 0) return this.impossible;
    const now = run.clock.monotonic();
    if (this.#looked === null || now - this.#looked.at > LOOK_EVERY_MS) {
      const found = await preflightBack(compiled, run.blue);
      const problems = found.map(
        ({ side, title, observed, expected }) => `${side}: ${title}: ${observed} (expected ${expected})`,
      );
      this.#looked = { at: now, problems };
    }
    return this.#looked.problems;
  }

  get way(): Way | null {
    return this.#way;
  }

  /** Finds writes on blue that are not ours while green serves; null before that, and where nobody can tell. */
  get watch(): ForeignWatch | null {
    return this.#watch;
  }

  /** Blue's log is read from where the way to green has stopped, as soon as blue answers. */
  async startWatch(signal: AbortSignal): Promise<void> {
    const at = await this.#o.forward.sink.checkpoint();
    if (at !== null) this.#watch?.start(signal, at);
  }

  /**
   * Nothing more is looked at; what was written on blue before the call was.
   * @throws VerdigrisError CUTOVER_FENCE_LEAKS when others have written there, unless that is known and accepted
   */
  async stopWatch(signal: AbortSignal, accepted: boolean): Promise<void> {
    const watch = this.#watch;
    if (watch === null) return;
    // What is not seen here is on the side that will serve: nothing is lost, and the next verification finds it.
    const newest = await watch.reach(REACH_MS, signal).catch(() => null);
    const { count } = watch.facts;
    if (count > 0 && !accepted) {
      throw new VerdigrisError('CUTOVER_FENCE_LEAKS', `${count} transactions on blue are not ours.`, {
        remedy: 'See the gate foreign-writes; override it when you know what they are.',
      });
    }
    await watch.stop();
    this.#newest = newest;
  }

  /** Blue serves: what others wrote there before is part of it now. */
  async settleWatch(): Promise<void> {
    await this.#watch?.stop();
    if (this.#newest !== null) await this.#watch?.settle(this.#newest);
    this.#newest = null;
  }

  /**
   * Makes everything on both servers, while green is fenced.
   * @throws VerdigrisError MAPPING_NO_WAY_BACK; SOURCE_*, SINK_* of what the servers refuse
   */
  async prepare(): Promise<Way> {
    const { compiled, state } = this.#o;
    if (this.impossible.length > 0) {
      throw new VerdigrisError('MAPPING_NO_WAY_BACK', `There is no way back: ${this.impossible.join('; ')}.`);
    }
    if (state.record?.detail[MADE] !== true) await state.remember({ [MADE]: true });
    if (this.#way === null) {
      const needed = compiled.back?.needsFullImages ?? [];
      if (needed.length > 0) {
        const changed = (await this.#source().fullImages?.(needed.map(({ table }) => table))) ?? [];
        if (changed.length > 0) await state.remember({ [IMAGES]: [...this.#images, ...changed] });
      }
    }
    const way = await this.#build();
    await way.prepare();
    return way;
  }

  /** Joins what was prepared, as it stands. */
  async attach(): Promise<Way> {
    const way = await this.#build();
    if (!way.carries) await way.sink.prepare(way.targets);
    return way;
  }

  /** Of green; null: none is open. */
  async oldestTransactionSeconds(): Promise<number | null> {
    return (await this.#source().health()).oldestTransactionSeconds;
  }

  /** Lets go of green's log, which is not read and would be kept for us. A later {@link prepare} makes it anew. */
  async discard(): Promise<void> {
    if (this.#o.state.record?.detail[MADE] !== true) return;
    await this.#way?.stop();
    await this.#source().retire();
  }

  /** Removes all of it from both sides. */
  async retire(): Promise<void> {
    const { run, state } = this.#o;
    if (state.record?.detail[MADE] !== true) return;
    await this.#watch?.stop();
    await this.#way?.stop();
    const source = this.#source();
    await source.retire();
    await source.restoreImages?.(this.#images);
    const way = this.#way;
    const sink = way?.sink ?? run.blue.sink(this.#stream());
    await sink.retire();
    await sink[Symbol.asyncDispose]();
    this.#way = null;
    this.#watch = null;
    await run.blue.foreignWrites?.retire(run.settings.migration);
    const lease = this.#lease;
    this.#lease = null;
    if (lease === null) await run.blue.state.retire(run.settings.migration);
    else await lease.retire();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#watch?.stop();
    await this.#way?.stop();
    await this.#way?.sink[Symbol.asyncDispose]();
    await this.#lease?.[Symbol.asyncDispose]();
    this.#way = null;
    this.#lease = null;
  }

  async #build(): Promise<Way> {
    if (this.#way !== null) return this.#way;
    const { compiled, run, holder, permit } = this.#o;
    const lease = await this.#acquire();
    // Again: what old rows bring has changed.
    const back = await compileBack({
      spec: run.mapping,
      modules: run.modules,
      blue: run.blue.catalog,
      green: run.green.catalog,
      capabilities: run.engine.capabilities,
      plans: compiled.plans,
      targets: compiled.targets,
    });
    this.#way = buildWay(run, {
      direction: 'reverse',
      term: lease.term,
      plans: back.plans,
      units: back.units,
      targets: back.targets,
      holder,
      permit,
    });
    this.#watch = watchBlue(run, this.#o.state, {
      compiled,
      source: this.#o.forward.source,
      term: lease.term,
      label: `${holder}:blue`,
    });
    return this.#way;
  }

  /** Who has the run has this one too: it is taken from whoever is left from before. */
  async #acquire(): Promise<RunState> {
    const { run, onLost } = this.#o;
    this.#lease ??= await RunState.acquire({
      store: run.blue.state,
      id: run.settings.migration,
      holder: run.holder,
      ttlMs: run.settings.lease.ttlMs,
      takeover: true,
      clock: run.clock,
      log: run.log,
      onLost,
    });
    return this.#lease;
  }

  get #images(): readonly ImageChange[] {
    return (this.#o.state.record?.detail[IMAGES] ?? []) as readonly ImageChange[];
  }

  #stream(): { direction: 'reverse'; term: number; maxBatchBytes: number } {
    const { run, state } = this.#o;
    return {
      direction: 'reverse',
      term: this.#lease?.term ?? state.term,
      maxBatchBytes: run.settings.apply.batchBytes,
    };
  }

  #source(): ChangeSource {
    if (this.#way !== null) return this.#way.source;
    this.#from ??= this.#o.run.green.changes(this.#stream());
    return this.#from;
  }
}

/** Why there is no way back, for people. */
export const impossibleOf = (back: BackCompiled | null): readonly string[] =>
  (back?.impossible ?? []).map(
    ({ table, column, why }) => `${table}${column === null ? '' : `.${column}`}: ${why}`,
  );
