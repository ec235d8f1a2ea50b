import type { ChangeBatch, ChangeRun } from '../core/change.ts';
import type { Position, Positions } from '../core/position.ts';
import type { ChangeStream } from '../core/source.ts';
import type { Tuple } from '../core/table.ts';

/**
 * Cuts batches into single transactions, up to the position where something did not fit. Read again like this, everything before
 * the transaction in question reaches the sink, and the run stops exactly there instead of somewhere before it.
 */
export class OneByOne {
  readonly #positions: Positions;
  #until: Position | null = null;
  /** Everything up to there was handed out. */
  #passed = false;

  constructor(positions: Positions) {
    this.#positions = positions;
  }

  /** What is handed out next has to be cut. */
  get #cutting(): boolean {
    return this.#until !== null && !this.#passed;
  }

  /** It was begun, and the sink has not come to its end yet: what fails now failed although it stood alone. */
  pending(applied: Position | null): boolean {
    return this.#until !== null && (applied === null || !this.#positions.covers(applied, this.#until));
  }

  begin(until: Position): void {
    this.#until = until;
    this.#passed = false;
  }

  end(): void {
    this.#until = null;
  }

  /** The same stream, cut while it has to be. */
  over(stream: ChangeStream): ChangeStream {
    const cut = (): AsyncGenerator<ChangeBatch> => this.#cut(stream);
    return {
      ack: (durable) => stream.ack(durable),
      get queued() {
        return stream.queued;
      },
      get lastReceivedMs() {
        return stream.lastReceivedMs;
      },
      get received() {
        return stream.received;
      },
      [Symbol.asyncIterator]: cut,
      [Symbol.asyncDispose]: () => stream[Symbol.asyncDispose](),
    };
  }

  /** A group ends with every transaction while the stream is cut. */
  settings<T extends { readonly groupRows: number }>(settings: T): T {
    const cutting = (): boolean => this.#cutting;
    return {
      ...settings,
      get groupRows() {
        return cutting() ? 1 : settings.groupRows;
      },
    };
  }

  async *#cut(batches: AsyncIterable<ChangeBatch>): AsyncGenerator<ChangeBatch> {
    for await (const batch of batches) {
      if (!this.#cutting || batch.end === null || batch.transactions.length < 2) yield batch;
      else yield* transactions(batch, this.#positions);
      if (this.#until !== null && batch.end !== null && this.#positions.covers(batch.end, this.#until))
        this.#passed = true;
    }
  }
}

/**
 * One batch per transaction, in commit order; marks stand with the first transaction that lies at or behind them. Transactions that end at one position stay
 * together: a checkpoint there says that all of them were applied.
 */
function* transactions(batch: ChangeBatch, positions: Positions): Generator<ChangeBatch> {
  const all = batch.transactions;
  let marks = batch.marks;
  let from = 0;
  for (const [index, transaction] of all.entries()) {
    const next = all[index + 1];
    if (next !== undefined && positions.covers(transaction.end, next.end)) continue;
    const here =
      next === undefined ? marks : marks.filter((mark) => positions.covers(transaction.end, mark.position));
    marks = marks.filter((mark) => !here.includes(mark));
    const these = all.slice(from, index + 1);
    yield {
      runs: batch.runs.flatMap((run) => partOf(run, from, index)),
      end: next === undefined ? batch.end : transaction.end,
      transactions: these,
      oldestCommitMs: Math.min(...these.map(({ commitMs }) => commitMs)),
      bytes: Math.ceil((batch.bytes * these.length) / all.length),
      marks: here,
      // They take effect before the rows of the batch.
      schemaChanges: from === 0 ? batch.schemaChanges : [],
      idle: false,
    };
    from = index + 1;
  }
}

function partOf(run: ChangeRun, from: number, to: number): ChangeRun[] {
  const rows = run.transaction.flatMap((one, row) => (one >= from && one <= to ? [row] : []));
  if (rows.length === 0) return [];
  const transaction = rows.map((row) => (run.transaction[row] as number) - from);
  if (rows.length === run.transaction.length) return [{ ...run, transaction }];
  return [
    {
      ...run,
      after: run.op === 'delete' ? [] : rows.map((row) => run.after[row] as Tuple),
      before: rows.map((row) => run.before[row] ?? null),
      transaction,
    },
  ];
}
