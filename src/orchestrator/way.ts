import type { Side } from '../core/engine.ts';
import { asVerdigrisError, VerdigrisError } from '../core/errors.ts';
import type { TargetTable } from '../core/plan.ts';
import type { Position, Positions } from '../core/position.ts';
import type { Sink } from '../core/sink.ts';
import type { ChangeSource } from '../core/source.ts';
import type { Relation } from '../core/table.ts';
import type { CopyUnit } from '../pipeline/copy-unit.ts';
import type { Pipeline, PipelineState } from '../pipeline/pipeline.ts';

export interface WayParts {
  readonly from: Side;
  readonly to: Side;
  readonly source: ChangeSource;
  readonly sink: Sink;
  readonly pipeline: Pipeline;
  readonly state: () => PipelineState;
  readonly positions: Positions;
  /** Tables that it reads, joined by what they write. */
  readonly units: readonly CopyUnit[];
  /** Tables that it writes. */
  readonly targets: readonly TargetTable[];
}

const NO_HOLES = { opened: [], closed: [] } as const;

/** Replication from one side to the other, that can be started and stopped again and again. Of the two ways of a run one carries at a time. */
export class Way {
  readonly from: Side;
  readonly to: Side;
  readonly source: ChangeSource;
  readonly sink: Sink;
  readonly pipeline: Pipeline;
  /** What the pipeline says of itself. */
  readonly state: () => PipelineState;
  readonly targets: readonly TargetTable[];
  readonly #units: readonly CopyUnit[];
  readonly #positions: Positions;
  #running: { readonly stop: AbortController; readonly ended: Promise<void> } | null = null;

  constructor(parts: WayParts) {
    this.from = parts.from;
    this.to = parts.to;
    this.source = parts.source;
    this.sink = parts.sink;
    this.pipeline = parts.pipeline;
    this.state = parts.state;
    this.targets = parts.targets;
    this.#units = parts.units;
    this.#positions = parts.positions;
  }

  /** Tables that it reads. */
  get relations(): readonly Relation[] {
    return this.#units.flatMap((unit) => unit.relations);
  }

  /** It was started and not stopped. */
  get carries(): boolean {
    return this.#running !== null;
  }

  /** Goes on from the checkpoint of its sink, until {@link stop} or the signal. Returns what rejects when it cannot go on. */
  start(signal: AbortSignal): Promise<void> {
    if (this.#running !== null) return this.#running.ended;
    const stop = new AbortController();
    const ended = this.pipeline.run(AbortSignal.any([signal, stop.signal]));
    ended.catch(() => undefined);
    this.#running = { stop, ended };
    return ended;
  }

  /** From the call on it takes nothing more; resolves when everything of it has ended. Never rejects. */
  async stop(): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    running.stop.abort(new VerdigrisError('INTERRUPTED', 'Replication was stopped.'));
    await running.ended.catch(() => undefined);
    if (this.#running === running) this.#running = null;
  }

  /**
   * Makes what it needs on both servers, while it does not run. What it reads from is found, or made anew where it cannot be used any
   * more: nothing of the past is asked of it, since {@link reposition} follows.
   */
  async prepare(): Promise<void> {
    const start = await this.#prepareSource();
    await this.sink.prepare(this.targets);
    if ((await this.sink.checkpoint()) === null) await this.sink.begin(start);
    await this.pipeline.defineRanges();
  }

  /**
   * While both sides stand still and hold the same: everything in the log up to now counts as applied.
   * @throws VerdigrisError STATE_FORMAT without a checkpoint
   */
  async reposition(): Promise<Position> {
    const previous = await this.sink.checkpoint();
    if (previous === null)
      throw new VerdigrisError('STATE_FORMAT', `The way from ${this.from} to ${this.to} was not prepared.`);
    const end = await this.source.head();
    if (!this.#positions.covers(previous, end)) {
      const idle = { runs: [], holes: NO_HOLES, transactions: 0, newestCommitMs: null };
      await this.sink.apply({ previous, end, ...idle });
    }
    await this.sink.flush();
    return end;
  }

  /** Starts it and waits until it has brought what was written into its log after the start. */
  async prove(options: {
    readonly label: string;
    /** Null: the side takes no mark while it is fenced. */
    readonly mark: boolean;
    readonly at: Position;
    readonly life: AbortSignal;
    readonly signal: AbortSignal;
  }): Promise<void> {
    const { label, mark, at, life, signal } = options;
    const ended = this.start(life).then(() => {
      throw new VerdigrisError('INTERRUPTED', `Replication from ${this.from} to ${this.to} was stopped.`);
    });
    const answered = (async () => {
      await this.pipeline.drain(mark ? await this.source.mark(label) : at, signal);
    })();
    answered.catch(() => undefined);
    ended.catch(() => undefined);
    await Promise.race([answered, ended]);
  }

  async #prepareSource(): Promise<Position> {
    try {
      return await this.source.prepare(this.relations);
    } catch (raw) {
      const error = asVerdigrisError(raw);
      if (error.code !== 'SOURCE_POSITION_LOST' && error.code !== 'SOURCE_PUBLICATION_CHANGED') throw error;
      await this.source.retire();
      return this.source.prepare(this.relations);
    }
  }
}
