import type { ChangeBatch, ChangeRun } from '../core/change.ts';
import type { Clock } from '../core/clock.ts';
import { VerdigrisError, asVerdigrisError } from '../core/errors.ts';
import type {
  ForeignChange,
  ForeignTransaction,
  ForeignWriteOwner,
  ForeignWriteStore,
} from '../core/foreign-writes.ts';
import type { Logger } from '../core/log.ts';
import type { Position, Positions } from '../core/position.ts';
import type { ChangeSource, ChangeStream } from '../core/source.ts';
import { UNCHANGED, showTable, type Cell, type Relation, type Tuple } from '../core/table.ts';

export interface ForeignWatchOptions {
  readonly source: ChangeSource;
  /** The mapped tables of the side as its log carries them; asked anew whenever the log is opened. */
  readonly tables: () => Promise<readonly Relation[]>;
  /** Changes tables whose log would not name its rows, before it is read for the first time. Idempotent. */
  readonly prepare: () => Promise<void>;
  /** Takes back what {@link prepare} changed, when nobody reads the log any more. */
  readonly restore: () => Promise<void>;
  readonly positions: Positions;
  readonly store: ForeignWriteStore;
  readonly owner: ForeignWriteOwner;
  /** Changes whose images are stored at most, later ones are only counted; null: all. */
  readonly mostKept: number | null;
  /** Marks can be written although the side is fenced. */
  readonly marks: boolean;
  /** Part of the labels of the marks. */
  readonly label: string;
  /** What the side has to do now is more urgent: reading its log can wait. */
  readonly busy: () => boolean;
  readonly clock: Clock;
  readonly log: Logger;
  /** A transaction was found and is stored. */
  readonly onFound: (found: ForeignTransaction) => Promise<void>;
}

/** What is known of writes by others. */
export interface ForeignFacts {
  /** Null while the log is read; else why it is not. */
  readonly blind: string | null;
  /** Found since both sides were last seen to be equal, oldest first; only the first ones. */
  readonly open: readonly ForeignTransaction[];
  readonly count: number;
}

/** How long the log is read before a position without a find is stored: that much is read again after a crash. */
const STORE_EVERY_MS = 10_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
/** Between two looks at whether reading can wait, and how long it waits at most. */
const LOOK_EVERY_MS = 500;
const LONGEST_REST_MS = 300_000;
/** Transactions that are held to be named. */
const MOST_NAMED = 20;
/** The place in the log is gone, or the log is another one: what was written meanwhile cannot be known. */
const GAP: ReadonlySet<string> = new Set([
  'SOURCE_SLOT_MISSING',
  'SOURCE_POSITION_LOST',
  'SOURCE_AHEAD',
  'SOURCE_OTHER_SYSTEM',
  'SOURCE_TIMELINE',
  'SOURCE_PUBLICATION_CHANGED',
]);

/**
 * Reads the log of a side that nobody but us may write, and stores each transaction that is not ours. The stream leaves our own
 * applies out, so whatever it hands out is foreign. Nothing here logs a value.
 */
export class ForeignWatch {
  readonly #o: ForeignWatchOptions;
  #blind: string | null = 'the log was not opened yet';
  #open: ForeignTransaction[] = [];
  #count = 0;
  #sequence = 0;
  #settled = 0;
  #kept = 0;
  /** Rows so far of a transaction that comes in parts. */
  #part: ForeignTransaction | null = null;
  /** Changes whenever the log was not read without a break. */
  #generation = 0;
  #passed: Position | null = null;
  /** Where a reader waits to come, or has waited in vain. */
  #wanted: Position | null = null;
  #waiters = 0;
  #storedAt = Number.NEGATIVE_INFINITY;
  readonly #waiting = new Set<() => void>();
  #tried = Promise.withResolvers<void>();
  #running: Promise<void> | null = null;
  #stop = new AbortController();

  constructor(options: ForeignWatchOptions) {
    this.#o = options;
  }

  get facts(): ForeignFacts {
    const late = this.#wanted !== null && this.#waiters === 0 ? 'it is not read to its end yet' : null;
    return { blind: this.#blind ?? late, open: this.#open, count: this.#count };
  }

  /** Stays the same as long as the log was read without a break and nothing was found; null while it is not read. */
  get evidence(): string | null {
    return this.#blind === null ? `${this.#generation}:${this.#sequence}` : null;
  }

  /**
   * Reads until it is stopped or `signal` is aborted; errors are tried again. Idempotent.
   * @param from where it begins, unless it was read further already; absent: where it was, or at the end of the log
   */
  start(signal: AbortSignal, from: Position | null = null): void {
    if (this.#running !== null && !this.#stop.signal.aborted) return;
    const before = this.#running;
    const stop = new AbortController();
    this.#stop = stop;
    this.#tried = Promise.withResolvers<void>();
    this.#running = (async () => {
      await before;
      await this.#run(AbortSignal.any([signal, stop.signal]), from);
      stop.abort(new VerdigrisError('INTERRUPTED', 'The log is not read any more.'));
    })();
  }

  /** Resolves when the log was opened, or could not be at the first attempt. Rejects with the reason of `signal`. */
  async ready(signal: AbortSignal): Promise<void> {
    const aborted = Promise.withResolvers<never>();
    const abort = (): void => aborted.reject(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    try {
      signal.throwIfAborted();
      await Promise.race([this.#tried.promise, aborted.promise]);
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  /** From the call on nothing more is taken; resolves when the log is closed. Never rejects. */
  async stop(): Promise<void> {
    this.#stop.abort(new VerdigrisError('INTERRUPTED', 'The log is not read any more.'));
    this.#tried.resolve();
    await this.#running;
  }

  /** Stops, and removes what was made on the server. What was found stays stored. */
  async retire(): Promise<void> {
    await this.stop();
    await this.#o.source.retire();
  }

  /** The run ends: tables are as they were. */
  restore(): Promise<void> {
    return this.#o.restore();
  }

  /**
   * Everything that was committed on the side before the call has been looked at. Returns the newest transaction found so far.
   * @throws VerdigrisError VERIFY_FAILED while the log is not read, or when it does not come that far in time
   */
  async reach(timeoutMs: number, signal: AbortSignal): Promise<number> {
    const { source, marks, label, clock } = this.#o;
    this.#requireSight();
    const to = marks ? await source.mark(label) : await source.head();
    const late = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    // The mark may have come back before its position was told: nothing is late then.
    if (!this.#hasPassed(to)) this.#wanted = to;
    this.#waiters += 1;
    try {
      while (!this.#hasPassed(to)) {
        this.#requireSight();
        if (late.aborted) {
          signal.throwIfAborted();
          throw new VerdigrisError(
            'VERIFY_FAILED',
            `The log of ${this.#o.owner.side} was not read to its end within ${timeoutMs} ms.`,
            { remedy: 'Try again when less is written to it.' },
          );
        }
        await this.#next(clock, late);
      }
      return this.#sequence;
    } finally {
      this.#waiters -= 1;
    }
  }

  #hasPassed(to: Position): boolean {
    return this.#passed !== null && this.#o.positions.covers(this.#passed, to);
  }

  /** Both sides were seen to be equal by a verification that began after this transaction was found. */
  async settle(sequence: number): Promise<void> {
    if (sequence <= this.#settled || this.#open.length === 0) return;
    await this.#o.store.settle(this.#o.owner, sequence);
    this.#settled = sequence;
    this.#open = this.#open.filter((one) => one.sequence > sequence);
    this.#count = this.#sequence - sequence;
  }

  #requireSight(): void {
    if (this.#blind === null) return;
    throw new VerdigrisError(
      'VERIFY_FAILED',
      `The log of ${this.#o.owner.side} is not read: ${this.#blind}.`,
    );
  }

  /** Until the place in the log or the sight of it changes, or a moment has passed. */
  #next(clock: Clock, signal: AbortSignal): Promise<void> {
    const turned = Promise.withResolvers<void>();
    this.#waiting.add(turned.resolve);
    return Promise.race([turned.promise, clock.sleep(100, signal).catch(() => undefined)]).finally(() => {
      this.#waiting.delete(turned.resolve);
    });
  }

  #turn(): void {
    for (const waiting of this.#waiting) waiting();
  }

  async #run(signal: AbortSignal, from: Position | null): Promise<void> {
    const { clock, log, owner } = this.#o;
    let wait = FIRST_WAIT_MS;
    while (!signal.aborted) {
      const began = clock.monotonic();
      try {
        await this.#read(signal, from);
      } catch (raw) {
        if (signal.aborted) break;
        const error = asVerdigrisError(raw);
        this.#blind = error.message;
        log.warn({ code: error.code, side: owner.side }, `the log is not read: ${error.message}`);
      }
      this.#tried.resolve();
      this.#turn();
      if (clock.monotonic() - began > LONGEST_WAIT_MS) wait = FIRST_WAIT_MS;
      await clock.sleep(wait, signal).catch(() => undefined);
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    }
    this.#blind = 'it was stopped';
    this.#turn();
  }

  async #read(signal: AbortSignal, from: Position | null): Promise<void> {
    await this.#o.store.prepare();
    if (from !== null) await this.#beginAt(from);
    for (;;) {
      let place = await this.#place();
      if (this.#mayRest) {
        this.#sees(place);
        await this.#rest(signal);
        // The slot may have been lost meanwhile.
        place = await this.#place();
      }
      await this.#readUntilBusy(place, signal);
    }
  }

  async #beginAt(from: Position): Promise<void> {
    const { store, owner, positions } = this.#o;
    const known = await store.load(owner, 0);
    if (known === null || !positions.covers(known.upto, from)) await store.begin(owner, from);
  }

  /** Whatever is written behind `place` will be found. */
  #sees(place: Position): void {
    // A loss of the connection is no gap: it goes on where it was.
    this.#passed = place;
    if (this.#wanted !== null && this.#hasPassed(this.#wanted)) this.#wanted = null;
    this.#blind = null;
    this.#tried.resolve();
    this.#turn();
  }

  async #readUntilBusy(from: Position, signal: AbortSignal): Promise<void> {
    const { source, owner } = this.#o;
    const rest = new AbortController();
    await using stream = await source.open(from, AbortSignal.any([signal, rest.signal]));
    this.#sees(from);
    const looking = this.#restWhenBusy(rest, signal);
    try {
      for await (const batch of stream) {
        signal.throwIfAborted();
        await this.#take(batch, stream);
      }
      throw new VerdigrisError('SOURCE_LOST', `The log of ${owner.side} ended.`);
    } catch (error) {
      if (!rest.signal.aborted || signal.aborted) throw error;
    } finally {
      rest.abort(new VerdigrisError('INTERRUPTED', 'The log is not read for now.'));
      await looking;
    }
  }

  /**
   * Whoever applies a backlog needs the processors of that server himself, and each row of it would be decoded once more for us. The
   * log is kept meanwhile, so nothing is missed: the stream is closed, and opened again when there is time or somebody asks.
   */
  async #restWhenBusy(rest: AbortController, signal: AbortSignal): Promise<void> {
    const either = AbortSignal.any([signal, rest.signal]);
    for (let busy = 0; busy < 3;) {
      const ended = await this.#o.clock.sleep(LOOK_EVERY_MS, either).then(
        () => false,
        () => true,
      );
      if (ended) return;
      busy = this.#mayRest ? busy + 1 : 0;
    }
    rest.abort(new VerdigrisError('INTERRUPTED', 'The log is not read for now.'));
  }

  async #rest(signal: AbortSignal): Promise<void> {
    const { clock } = this.#o;
    const since = clock.monotonic();
    while (this.#mayRest && clock.monotonic() - since < LONGEST_REST_MS)
      await clock.sleep(LOOK_EVERY_MS / 5, signal);
  }

  get #mayRest(): boolean {
    return this.#waiters === 0 && this.#wanted === null && this.#o.busy();
  }

  /** Where to go on, with what is stored taken over. */
  async #place(): Promise<Position> {
    const { source, store, owner, tables, log } = this.#o;
    const stored = await store.load(owner, MOST_NAMED);
    this.#part = null;
    if (stored !== null) {
      this.#sequence = stored.sequence;
      this.#settled = stored.settled;
      this.#kept = stored.kept;
      this.#open = [...stored.open];
      this.#count = stored.sequence - stored.settled;
      try {
        await source.check(stored.upto, await tables());
        this.#generation ||= 1;
        return stored.upto;
      } catch (raw) {
        const error = asVerdigrisError(raw);
        if (!GAP.has(error.code)) throw error;
        log.warn({ code: error.code, side: owner.side }, `the log has a gap: ${error.message}`);
        await source.retire();
      }
    }
    this.#generation += 1;
    // A place in the log that is gone is not waited for.
    this.#wanted = null;
    await this.#o.prepare();
    const start = await source.prepare(await tables());
    await store.begin(owner, start);
    return start;
  }

  async #take(batch: ChangeBatch, stream: ChangeStream): Promise<void> {
    const { store, owner, clock, log, onFound } = this.#o;
    const found = this.#found(batch);
    const due = clock.monotonic() - this.#storedAt >= STORE_EVERY_MS;
    if (found.length > 0 || this.#part !== null || (due && batch.end !== null)) {
      await store.record(owner, found, batch.end);
      this.#storedAt = clock.monotonic();
      if (batch.end !== null) stream.ack(batch.end);
    }
    if (batch.end === null) return;
    const part = this.#part;
    this.#part = null;
    this.#passed = batch.end;
    if (this.#wanted !== null && this.#hasPassed(this.#wanted)) this.#wanted = null;
    this.#turn();
    // The last piece of one that came in parts may hold no row.
    const ended = part === null || found.some((one) => one.sequence === part.sequence) ? [] : [part];
    for (const { sequence, position, commitMs, rows } of [...ended, ...found]) {
      const transaction = { sequence, position, commitMs, rows };
      if (this.#open.length < MOST_NAMED) this.#open.push(transaction);
      this.#count = this.#sequence - this.#settled;
      log.error({ side: owner.side, sequence, position, tables: rows }, 'a write that is not ours');
      await onFound(transaction);
    }
  }

  #found(batch: ChangeBatch): (ForeignTransaction & { readonly changes: ForeignChange[] })[] {
    const byIndex = new Map<number, { rows: Record<string, number>; changes: ForeignChange[] }>();
    const { mostKept } = this.#o;
    for (const run of batch.runs) {
      const table = showTable(run.relation.table);
      run.transaction.forEach((index, row) => {
        const one = byIndex.get(index) ?? { rows: {}, changes: [] };
        byIndex.set(index, one);
        one.rows[table] = (one.rows[table] ?? 0) + 1;
        if (mostKept !== null && this.#kept >= mostKept) return;
        this.#kept += 1;
        one.changes.push(changeOf(run, row, table));
      });
    }
    return [...byIndex]
      .toSorted(([a], [b]) => a - b)
      .map(([index, { rows, changes }]) => {
        const { end, commitMs } = batch.transactions[index] as ChangeBatch['transactions'][number];
        const before = index === 0 ? this.#part : null;
        this.#sequence = before?.sequence ?? this.#sequence + 1;
        const sum = { ...before?.rows };
        for (const [table, count] of Object.entries(rows)) sum[table] = (sum[table] ?? 0) + count;
        const transaction = { sequence: this.#sequence, position: end, commitMs, rows: sum };
        if (batch.end === null) this.#part = transaction;
        return { ...transaction, changes };
      });
  }
}

function changeOf(run: ChangeRun, row: number, table: string): ForeignChange {
  const op = run.op === 'put' || run.op === 'replace' ? 'update' : run.op;
  const image = (tuple: Tuple | null | undefined): ForeignChange['before'] => {
    if (tuple === null || tuple === undefined) return null;
    const cells: Record<string, string | null> = {};
    run.relation.columns.forEach((column, index) => {
      const cell = tuple[index];
      if (cell !== undefined && cell !== UNCHANGED) cells[column.name] = textOf(cell);
    });
    return cells;
  };
  return { table, op, before: image(run.before[row]), after: image(run.after[row]) };
}

function textOf(cell: Cell): string | null {
  if (cell === null || typeof cell === 'string') return cell;
  if (cell instanceof Uint8Array) return `\\x${Buffer.from(cell).toString('hex')}`;
  return typeof cell === 'object' ? JSON.stringify(cell) : String(cell);
}
