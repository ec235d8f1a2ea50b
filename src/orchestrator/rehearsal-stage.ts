import type { Canary } from '../core/canary.ts';
import type { Clock } from '../core/clock.ts';
import type { Engine } from '../core/engine.ts';
import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';
import type { Failpoints } from '../core/failpoint.ts';
import type { WriteFence } from '../core/fence.ts';
import type { Logger } from '../core/log.ts';
import type { TablePlan } from '../core/plan.ts';
import type { ProxyAdapter } from '../core/proxy.ts';
import type { Sink } from '../core/sink.ts';
import type { ChangeSource } from '../core/source.ts';
import type { Relation } from '../core/table.ts';
import { bounded, deadline } from '../cutover/budget.ts';
import { Pipeline } from '../pipeline/pipeline.ts';
import type { RehearsedAct } from './rehearsal-result.ts';
import type { RehearsalSides } from './rehearsal-sides.ts';
import type { Settings } from './settings.ts';

export interface RehearsalOptions {
  /** The stream of the run. */
  readonly held: { readonly source: ChangeSource; readonly pipeline: Pipeline };
  readonly connect: () => Promise<RehearsalSides>;
  readonly engine: Engine;
  readonly proxies: readonly ProxyAdapter[];
  readonly settings: Settings;
  readonly holder: string;
  readonly planHash: string;
  readonly clock: Clock;
  readonly failpoints: Failpoints;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** One act that takes longer than this has failed; making a slot waits for every open transaction and has more time. */
export const ACT_MS = 30_000;
const SLOT_MS = 120_000;
const CLEAN_MS = 60_000;

export interface Props {
  readonly sides: RehearsalSides;
  readonly blue: Canary;
  readonly green: Canary;
  readonly blueFence: WriteFence;
  readonly greenFence: WriteFence;
}

export interface WayBack {
  readonly source: ChangeSource;
  readonly sink: Sink;
  readonly from: Relation;
  readonly to: Relation;
}

export interface OpenWayBack {
  readonly pipeline: Pipeline;
  /** Writes a mark on green and waits until blue has everything before it. */
  readonly answer: (label: string) => Promise<void>;
}

/** The table on both sides, its fences, and the way back over it: makes them, times what is done with them, and takes them away. */
export class Stage {
  readonly #o: RehearsalOptions;
  readonly acts: RehearsedAct[] = [];
  /** What takes everything away again, the newest first. */
  readonly #undo: { readonly what: string; readonly act: () => PromiseLike<void> }[] = [];

  constructor(options: RehearsalOptions) {
    this.#o = options;
  }

  /** Connects, and makes everything there is to rehearse with. */
  async set(): Promise<Props> {
    const sides = await this.#o.connect();
    this.#undo.push({ what: 'connections', act: () => sides[Symbol.asyncDispose]() });
    return this.#set(sides);
  }

  /** Removes all of it, the newest first. @throws VerdigrisError STATE_FAILED with what is left */
  async clear(): Promise<void> {
    const problems: string[] = [];
    const { clock } = this.#o;
    const began = clock.monotonic();
    for (const { what, act } of this.#undo.toReversed()) {
      using limit = deadline(clock, CLEAN_MS, `it took longer than ${CLEAN_MS} ms`);
      try {
        await bounded(Promise.resolve(act()), limit.signal);
      } catch (error) {
        problems.push(`${what}: ${asVerdigrisError(error).message}`);
      }
    }
    this.#undo.length = 0;
    const ms = clock.monotonic() - began;
    this.acts.push({ name: 'clear', description: 'remove all of it', ms, detail: '' });
    if (problems.length > 0) throw new VerdigrisError('STATE_FAILED', problems.join('; '));
  }

  /** A table on either side, fenced on green as the tables of the run are. */
  async #set(sides: RehearsalSides): Promise<Props> {
    const { canary: blue } = sides.blue;
    const { canary: green } = sides.green;
    if (blue === undefined || green === undefined) {
      throw new VerdigrisError('USAGE', `Engine ${this.#o.engine.name} cannot rehearse.`);
    }
    const blueFence = sides.blue.fence([blue.table]);
    const greenFence = sides.green.fence([green.table]);
    this.#undo.push({ what: 'canary table of blue', act: () => blue.drop() });
    this.#undo.push({ what: 'canary table of green', act: () => green.drop() });
    await this.act('canary', `a canary table on both sides`, async () => {
      await Promise.all([blue.create(), green.create()]);
      return '';
    });
    this.#undo.push({ what: 'fence of blue', act: () => blueFence.retire() });
    this.#undo.push({ what: 'fence of green', act: () => greenFence.retire() });
    await this.act('guards', 'guards on both, not active on blue', async () => {
      await Promise.all([blueFence.prepare(), greenFence.prepare()]);
      // A record that a killed rehearsal left is opened first: nobody but we write to these tables.
      await Promise.all(
        [blueFence, greenFence].map(async (fence) => fence.open((await fence.state()).epoch + 1)),
      );
      await greenFence.raise((await greenFence.state()).epoch + 1, ACT_MS);
      return '';
    });
    return { sides, blue, green, blueFence, greenFence };
  }

  /** The way back as the run would have it: green as source, blue as sink, the same pipeline. */
  async wayBack({ sides, blue, green }: Props): Promise<WayBack> {
    const { settings, holder, engine } = this.#o;
    const id = sides.migration;
    const from = await sides.green.catalog.source(green.table);
    const to = await sides.blue.catalog.target(blue.table);
    this.#undo.push({ what: 'state on blue', act: () => sides.blue.state.retire(id) });
    await sides.blue.state.prepare();
    const term = await sides.blue.state.acquire(id, holder, { ttlMs: settings.lease.ttlMs, takeover: true });
    const stream = { direction: 'reverse', term, maxBatchBytes: settings.apply.batchBytes } as const;
    const source = sides.green.changes(stream);
    const sink = sides.blue.sink(stream);
    this.#undo.push({ what: 'sink on blue', act: () => sink[Symbol.asyncDispose]() });
    // What a killed rehearsal left of the stream would be older than the tables.
    await this.act(
      'reverse.slot',
      'make the log of green readable for the way back',
      async () => {
        await source.retire();
        this.#undo.push({ what: 'log of green', act: () => source.retire() });
        const start = await source.prepare([from]);
        await sink.prepare([target(to)]);
        await sink.retire();
        this.#undo.push({ what: 'stream state on blue', act: () => sink.retire() });
        await sink.prepare([target(to)]);
        await sink.begin(start);
        return `from ${engine.positions.describe(start)}`;
      },
      SLOT_MS,
    );
    return { source, sink, from, to };
  }

  async open({ sides }: Props, { source, sink, from, to }: WayBack): Promise<OpenWayBack> {
    const { settings, holder, engine, clock, failpoints, log, signal: outer } = this.#o;
    const pipeline = new Pipeline({
      source,
      snapshot: sides.green.snapshot(),
      sink,
      positions: engine.positions,
      rawCopy: engine.capabilities.rawCopy,
      rawFits: engine.capabilities.rawFits,
      plans: [asItIs(from, to)],
      units: [{ id: 'canary', relations: [from] }],
      settings: {
        ...settings.apply,
        workers: 1,
        chunkRows: settings.copy.chunkRows,
        maxRowsPerSecond: null,
        heartbeatMs: settings.heartbeatMs,
        windowBytes: settings.windowBytes,
        idleCheckpointMs: settings.idleCheckpointMs,
        visibilityTimeoutMs: settings.visibilityTimeoutMs,
      },
      clock,
      failpoints,
      log,
      holder: `${sides.migration}:${holder}`,
      copyPermit: () => Promise.resolve(),
      onState: () => undefined,
    });
    const stop = new AbortController();
    await this.act('reverse.open', 'open the way back', async (signal) => {
      await pipeline.defineRanges();
      const pumping = pipeline.run(stop.signal).catch((error: unknown) => {
        log.warn({ code: asVerdigrisError(error).code }, 'the way back of the rehearsal broke');
      });
      this.#undo.push({
        what: 'way back',
        act: () => {
          stop.abort(new VerdigrisError('INTERRUPTED', 'The rehearsal is over.'));
          return pumping;
        },
      });
      await bounded(pipeline.copied, signal);
      return '';
    });
    return {
      pipeline,
      answer: async (label) => void (await pipeline.drain(await source.mark(label), outer)),
    };
  }

  /** Does it within a bound and remembers what it took; a text is its detail. */
  async act<T>(
    name: string,
    description: string,
    act: (signal: AbortSignal) => Promise<T>,
    limitMs = ACT_MS,
  ): Promise<T> {
    const { clock, failpoints, signal } = this.#o;
    const began = clock.monotonic();
    await failpoints.hit(`rehearsal.${name}`);
    using limit = deadline(clock, limitMs, `Rehearsing took longer than ${limitMs} ms: ${description}.`, [
      signal,
    ]);
    const result = await bounded(act(limit.signal), limit.signal);
    const detail = typeof result === 'string' ? result : '';
    this.acts.push({ name, description, ms: clock.monotonic() - began, detail });
    return result;
  }
}

const target = (relation: Relation) => ({ relation, merge: null, prefix: 0 });

/** The rows as they are. */
function asItIs(from: Relation, to: Relation): TablePlan {
  const columns = from.columns.map((_, index) => index);
  return {
    from,
    to: [target(to)],
    passthrough: { columns, from: columns },
    inputs: columns,
    run: (run) => ({ runs: [{ ...run, relation: to }], rejects: [] }),
  };
}
