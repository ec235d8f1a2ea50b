import type { Canary } from '../core/canary.ts';
import type { Clock } from '../core/clock.ts';
import type { Engine, Session } from '../core/engine.ts';
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
import type { Rehearsal, RehearsedAct } from './rehearsal-result.ts';
import type { Settings } from './settings.ts';
import type { Way } from './way.ts';

/** Both sides, connected under a name of the rehearsal's own: nothing it makes is anything the run has. */
export interface RehearsalSides extends AsyncDisposable {
  /** Of the rehearsal. */
  readonly migration: string;
  readonly blue: Session;
  readonly green: Session;
}

export interface RehearsalOptions {
  readonly held: Pick<Way, 'source' | 'pipeline'>;
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

const ROWS = 100;
/** One act that takes longer than this has failed; making a slot waits for every open transaction and has more time. */
const ACT_MS = 30_000;
const SLOT_MS = 120_000;
const CLEAN_MS = 60_000;

/** What writers would wait for on the way there, and on the way back. */
const HELD_THERE: ReadonlySet<string> = new Set([
  'fence',
  'prove',
  'drain',
  'reverse',
  'route',
  'seal',
  'open',
]);
const HELD_BACK: ReadonlySet<string> = new Set([
  'back.fence',
  'back.prove',
  'back.drain',
  'back.seal',
  'back.open',
  'route',
]);

/**
 * A switch there and back on rows of our own, with the fences, the log, the way back and the sinks of the real one, and without moving a
 * client. Never rejects; everything it made is removed, also after a failure.
 */
export async function rehearse(options: RehearsalOptions): Promise<Rehearsal> {
  const { clock, log, planHash } = options;
  const stage = new Stage(options);
  let error: VerdigrisError | null = null;
  let cleared = true;
  try {
    await stage.play();
  } catch (caught) {
    error = asVerdigrisError(caught);
  }
  try {
    await stage.clear();
  } catch (caught) {
    const left = asVerdigrisError(caught);
    cleared = false;
    log.error({ code: left.code }, left.message);
    error ??= new VerdigrisError(left.code, `What the rehearsal made could not be removed: ${left.message}`, {
      remedy:
        'Run it again, or start the engine again, once both sides answer: it finds what was left and removes it.',
      cause: left,
    });
  }
  const pause = (names: ReadonlySet<string>): number | null =>
    error === null
      ? stage.acts.filter(({ name }) => names.has(name)).reduce((sum, { ms }) => sum + ms, 0)
      : null;
  return {
    at: new Date(clock.now()).toISOString(),
    ok: error === null,
    planHash,
    acts: stage.acts,
    writePauseMs: pause(HELD_THERE),
    backPauseMs: pause(HELD_BACK),
    rows: stage.rows,
    cleared,
    error: error === null ? null : { code: error.code, message: error.message, remedy: error.remedy },
  };
}

/** Removes what a rehearsal that was killed has left on either side. @throws VerdigrisError STATE_FAILED with what is left */
export async function clearRehearsal(options: RehearsalOptions): Promise<void> {
  const stage = new Stage(options);
  try {
    await stage.find();
  } finally {
    await stage.clear();
  }
}

interface Props {
  readonly sides: RehearsalSides;
  readonly blue: Canary;
  readonly green: Canary;
  readonly blueFence: WriteFence;
  readonly greenFence: WriteFence;
}

interface WayBack {
  readonly source: ChangeSource;
  readonly sink: Sink;
  readonly from: Relation;
  readonly to: Relation;
}

interface OpenWayBack {
  readonly pipeline: Pipeline;
  /** Writes a mark on green and waits until blue has everything before it. */
  readonly answer: (label: string) => Promise<void>;
}

class Stage {
  readonly #o: RehearsalOptions;
  readonly acts: RehearsedAct[] = [];
  rows = 0;
  /** What takes everything away again, the newest first. */
  readonly #undo: { readonly what: string; readonly act: () => Promise<void> }[] = [];

  constructor(options: RehearsalOptions) {
    this.#o = options;
  }

  async play(): Promise<void> {
    const sides = await this.#o.connect();
    this.#undo.push({ what: 'connections', act: async () => void (await sides[Symbol.asyncDispose]()) });
    const props = await this.#set(sides);
    const back = await this.#open(props, await this.#wayBack(props));
    await this.#there(props, back);
    await this.#back(props, back);
    await this.#compare(props);
  }

  /** Finds what a killed rehearsal left, so that {@link clear} removes it. */
  async find(): Promise<void> {
    const sides = await this.#o.connect();
    this.#undo.push({ what: 'connections', act: async () => void (await sides[Symbol.asyncDispose]()) });
    await this.#wayBack(await this.#set(sides));
  }

  async clear(): Promise<void> {
    const problems: string[] = [];
    const { clock } = this.#o;
    const began = clock.monotonic();
    for (const { what, act } of this.#undo.toReversed()) {
      using limit = deadline(clock, CLEAN_MS, `it took longer than ${CLEAN_MS} ms`);
      try {
        await bounded(act(), limit.signal);
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
    await this.#act('canary', `a canary table on both sides`, async () => {
      await Promise.all([blue.create(), green.create()]);
      return '';
    });
    this.#undo.push({ what: 'fence of blue', act: () => blueFence.retire() });
    this.#undo.push({ what: 'fence of green', act: () => greenFence.retire() });
    await this.#act('guards', 'guards on both, not active on blue', async () => {
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
  async #wayBack({ sides, blue, green }: Props): Promise<WayBack> {
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
    this.#undo.push({ what: 'sink on blue', act: async () => void (await sink[Symbol.asyncDispose]()) });
    // What a killed rehearsal left of the stream would be older than the tables.
    await this.#act(
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

  async #open({ sides }: Props, { source, sink, from, to }: WayBack): Promise<OpenWayBack> {
    const { settings, holder, engine, clock, failpoints, log, signal: outer } = this.#o;
    const pipeline = new Pipeline({
      source,
      snapshot: sides.green.snapshot(),
      sink,
      positions: engine.positions,
      rawCopy: engine.capabilities.rawCopy,
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
    await this.#act('reverse.open', 'open the way back', async (signal) => {
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

  async #there({ blue, blueFence, greenFence }: Props, back: OpenWayBack): Promise<void> {
    const { held, proxies, engine } = this.#o;
    const epoch = (await blueFence.state()).epoch + 1;
    await this.#act('fence', 'raise the fence of the canary table of blue', async () => {
      const barrier = await blueFence.raise(epoch, ACT_MS);
      return `barrier ${engine.positions.describe(barrier)}`;
    });
    await this.#act('prove', 'prove it: an ordinary write is refused', async () => {
      await blueFence.prove();
      await refused(blue, 'blue');
      return '';
    });
    await this.#act(
      'drain',
      'a mark through the stream of the run, applied and flushed on green',
      async (signal) => {
        const mark = await held.source.mark(`rehearsal:${epoch}`);
        await held.pipeline.drain(mark, signal);
        const blockers = await blueFence.blockers();
        return blockers.length === 0 ? 'no blocker' : `blockers of this database: ${blockers.join(', ')}`;
      },
    );
    await this.#act('reverse', 'a mark through the way back, while green is fenced', async () => {
      if (!engine.capabilities.marksWhileFenced) return 'this engine takes no mark while fenced';
      await back.answer(`rehearsal:${epoch}`);
      return '';
    });
    await this.#act('route', 'the reload of every proxy, without a change', async (signal) => {
      const done = await Promise.all(
        proxies.map(async (proxy) => {
          if (proxy.rehearse) await proxy.rehearse(signal);
          else await proxy.observe(signal);
          return `${proxy.name}: ${proxy.rehearse ? 'reloaded' : 'read only, since a reload would touch clients'}`;
        }),
      );
      return done.join('; ') || 'no proxy';
    });
    await this.#act('seal', 'seal the record of the canary table of blue', async () => {
      if (!(await blueFence.seal(epoch)))
        throw new VerdigrisError('CUTOVER_UNDONE', 'The record of the canary table could not be sealed.');
      return `epoch ${epoch}`;
    });
    await this.#act('open', 'open the canary table of green', async () => {
      await greenFence.open(Math.max(epoch, (await greenFence.state()).epoch));
      return '';
    });
  }

  async #back({ blue, green, blueFence, greenFence }: Props, { pipeline }: OpenWayBack): Promise<void> {
    const { engine } = this.#o;
    await this.#act('reverse.write', `${ROWS} rows written on green, and changed`, async () => {
      await green.write(ROWS);
      await green.write(ROWS);
      return '';
    });
    const epoch = Math.max((await blueFence.state()).epoch, (await greenFence.state()).epoch) + 1;
    let barrier = await this.#act('back.fence', 'raise the fence of the canary table of green', async () =>
      greenFence.raise(epoch, ACT_MS),
    );
    await this.#act('back.prove', 'prove it: an ordinary write is refused', async () => {
      await greenFence.prove();
      await refused(green, 'green');
      return '';
    });
    await this.#act(
      'back.drain',
      'wait until blue has every row that was written on green',
      async (signal) => {
        barrier = await pipeline.drain(barrier, signal);
        return `to ${engine.positions.describe(barrier)}`;
      },
    );
    await this.#act('back.seal', 'seal the record of the canary table of green', async () => {
      if (!(await greenFence.seal(epoch)))
        throw new VerdigrisError('CUTOVER_UNDONE', 'The record of the canary table could not be sealed.');
      return `epoch ${epoch}`;
    });
    await this.#act('back.open', 'open the canary table of blue', async () => {
      await blueFence.open(epoch);
      return '';
    });
    this.rows = (await blue.read()).rows;
  }

  async #compare({ blue, green }: Props): Promise<void> {
    await this.#act('compare', 'blue has what was written on green, and takes writes', async () => {
      const [left, right] = await Promise.all([blue.read(), green.read()]);
      if (left.rows !== ROWS || left.digest !== right.digest) {
        throw new VerdigrisError(
          'VERIFY_DIFFERENT',
          `The canary rows differ after the way back: ${left.rows} on blue, ${right.rows} on green.`,
          { remedy: 'Do not switch: a rollback would lose writes. Report it with the log.' },
        );
      }
      await blue.write(1);
      return `${left.rows} rows`;
    });
  }

  async #act<T>(
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

async function refused(canary: Canary, side: string): Promise<void> {
  const wrote = await canary.write(1).then(
    () => true,
    () => false,
  );
  if (!wrote) return;
  throw new VerdigrisError(
    'CUTOVER_FENCE_LEAKS',
    `A write to the canary table of ${side} went through its fence.`,
  );
}
