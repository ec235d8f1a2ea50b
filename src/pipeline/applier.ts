import type { Clock } from '../core/clock.ts';
import { VerdigrisError, asVerdigrisError } from '../core/errors.ts';
import type { Failpoints } from '../core/failpoint.ts';
import type { Logger } from '../core/log.ts';
import type { PipelineCounters } from '../core/metrics.ts';
import type { Position, Positions } from '../core/position.ts';
import type { HoleChanges, Sink, SinkGroup } from '../core/sink.ts';
import type { ChangeStream } from '../core/source.ts';
import type { Group } from './group.ts';
import type { Lag } from './lag.ts';

const FIRST_WAIT_MS = 20;
const LONGEST_WAIT_MS = 5_000;
const MOST_ATTEMPTS = 12;

/**
 * Commits one group at a time and acknowledges what is durable. A failed group is tried again as a whole; after a lost connection
 * the checkpoint on the sink decides whether it is there.
 */
export class Applier {
  readonly #sink: Sink;
  readonly #stream: ChangeStream;
  readonly #positions: Positions;
  readonly #lag: Lag;
  readonly #counters: PipelineCounters;
  readonly #clock: Clock;
  readonly #failpoints: Failpoints;
  readonly #log: Logger;
  readonly #onIdle: () => void;
  readonly #stopped = new AbortController();
  #committed: Position;
  #durable: Position;
  #running: Promise<void> | null = null;
  #failure: Error | null = null;
  /** A sink transaction is open between two parts of one source transaction. */
  #open = false;

  constructor(options: {
    readonly sink: Sink;
    readonly stream: ChangeStream;
    readonly positions: Positions;
    readonly lag: Lag;
    readonly counters: PipelineCounters;
    readonly clock: Clock;
    readonly failpoints: Failpoints;
    readonly log: Logger;
    readonly checkpoint: Position;
    readonly onIdle: () => void;
  }) {
    this.#sink = options.sink;
    this.#stream = options.stream;
    this.#positions = options.positions;
    this.#lag = options.lag;
    this.#counters = options.counters;
    this.#clock = options.clock;
    this.#failpoints = options.failpoints;
    this.#log = options.log;
    this.#committed = options.checkpoint;
    this.#durable = options.checkpoint;
    this.#onIdle = options.onIdle;
  }

  get committed(): Position {
    return this.#committed;
  }

  get idle(): boolean {
    return this.#running === null;
  }

  /** Something is committed that a crash of the sink could still take back. */
  get undurable(): boolean {
    return this.#durable !== this.#committed && !this.#open;
  }

  throwIfFailed(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  /**
   * Starts a group; call only when {@link idle}. Failures surface in {@link settle} and {@link throwIfFailed}, and in the next
   * start at the latest.
   */
  start(group: Group, holes: HoleChanges): void {
    // A group on top of one that failed would build on the checkpoint before that one, and the failed one would be skipped.
    this.throwIfFailed();
    const job = { previous: this.#committed, end: group.end, runs: group.take(), holes };
    this.#running = this.#apply(
      { ...job, transactions: group.transactions, newestCommitMs: group.newestCommitMs },
      group,
    )
      .catch((error: unknown) => {
        this.#failure ??= asVerdigrisError(error);
      })
      .finally(() => {
        this.#running = null;
        this.#onIdle();
      });
  }

  /** Waits for the group in flight. */
  async settle(): Promise<void> {
    await this.#running;
    this.throwIfFailed();
  }

  /** Makes what is committed durable and acknowledges it. */
  async harden(): Promise<void> {
    await this.settle();
    if (this.undurable) this.#acknowledge(await this.#sink.flush());
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new VerdigrisError('INTERRUPTED', 'The stream was closed.'));
    await this.#running;
    if (this.#open) await this.#sink.abandon();
  }

  async #apply(group: SinkGroup, facts: Group): Promise<void> {
    await this.#failpoints.hit('apply.before-group');
    const durable = await this.#attempts(group);
    await this.#failpoints.hit('apply.after-commit-before-ack');
    this.#open = group.end === null;
    this.#counters.groups += 1;
    for (const run of group.runs) this.#counters.appliedRows += Math.max(run.after.length, run.before.length);
    this.#lag.applied(facts.batches, facts.marks);
    if (group.end === null) return;
    this.#committed = group.end;
    if (durable !== null) this.#acknowledge(durable);
  }

  #acknowledge(durable: Position): void {
    this.#durable = durable;
    this.#stream.ack(durable);
  }

  async #attempts(group: SinkGroup): Promise<Position | null> {
    let wait = FIRST_WAIT_MS;
    for (let attempt = 1; ; attempt++) {
      this.#stopped.signal.throwIfAborted();
      try {
        return await this.#sink.apply(group);
      } catch (raw) {
        const error = asVerdigrisError(raw);
        // Parts that were already sent are gone with the sink transaction: only the source can bring them again.
        const repeatable = error.directive === 'retry' && !this.#open && group.end !== null;
        if (!repeatable || attempt >= MOST_ATTEMPTS) throw error;
        this.#counters.retries += 1;
        this.#log.warn(
          { code: error.code, attempt, reason: error.message },
          'group failed and is tried again',
        );
        await this.#clock.sleep(wait * (0.5 + Math.random()), this.#stopped.signal);
        wait = Math.min(wait * 2, LONGEST_WAIT_MS);
        if (error.code === 'SINK_LOST' || error.code === 'SINK_CONNECT') {
          const outcome = await this.#outcome(group);
          if (outcome === 'done') return null;
        }
      }
    }
  }

  /** Was the group committed before the connection was lost? The checkpoint knows. */
  async #outcome(group: SinkGroup): Promise<'done' | 'redo'> {
    const checkpoint = await this.#sink.checkpoint().catch((raw: unknown) => {
      const error = asVerdigrisError(raw);
      if (error.directive === 'retry') return undefined;
      throw error;
    });
    if (checkpoint === undefined || checkpoint === group.previous) return 'redo';
    if (checkpoint === group.end) return 'done';
    throw new VerdigrisError(
      'SINK_LOST',
      'After a reconnect the sink stands at another checkpoint; the stream is opened again there.',
      {
        context: { checkpoint: checkpoint === null ? null : this.#positions.describe(checkpoint) },
      },
    );
  }
}
