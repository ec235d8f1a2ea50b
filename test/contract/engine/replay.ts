import type { ChangeBatch, SourceTransaction } from '../../../src/core/change.ts';
import { tableId, type TableName } from '../../../src/core/table.ts';
import type { ChangeSource, ChangeStream } from '../../../src/core/source.ts';
import type { Position, Positions } from '../../../src/core/position.ts';
import type { Item, ItemEvent, RowCodec } from './harness.ts';

/** Reads a stream batch by batch. */
export class Reader {
  readonly stream: ChangeStream;
  readonly batches: ChangeBatch[] = [];
  readonly #iterator: AsyncIterator<ChangeBatch>;

  constructor(stream: ChangeStream) {
    this.stream = stream;
    this.#iterator = stream[Symbol.asyncIterator]();
  }

  async next(): Promise<ChangeBatch> {
    const result = await this.#iterator.next();
    if (result.done === true) throw new Error('the stream ended');
    this.batches.push(result.value);
    return result.value;
  }

  /** All batches up to the one that satisfies the condition. */
  async until(wanted: (batch: ChangeBatch) => boolean): Promise<ChangeBatch[]> {
    const seen: ChangeBatch[] = [];
    for (;;) {
      const batch = await this.next();
      seen.push(batch);
      if (wanted(batch)) return seen;
    }
  }

  /** Everything that was committed before the call. */
  async drain(source: ChangeSource, label = `drain ${this.batches.length}`): Promise<ChangeBatch[]> {
    await source.mark(label);
    return this.until((batch) => batch.marks.some((mark) => mark.label === label));
  }

  /** Everything up to a position. */
  reach(positions: Positions, position: Position): Promise<ChangeBatch[]> {
    return this.until(({ end }) => end !== null && positions.covers(end, position));
  }

  /** What is left ends: the stream is closed, or fails. */
  async end(): Promise<unknown> {
    for (;;) {
      try {
        const result = await this.#iterator.next();
        if (result.done === true) return null;
        this.batches.push(result.value);
      } catch (error) {
        return error;
      }
    }
  }

  close(): Promise<void> {
    return Promise.resolve(this.stream[Symbol.asyncDispose]());
  }
}

/** The changes of one table, in the order in which they were delivered. */
export const eventsOf = (rows: RowCodec, batches: readonly ChangeBatch[], table: TableName): ItemEvent[] =>
  batches.flatMap((batch) =>
    batch.runs
      .filter((run) => tableId(run.relation.table) === tableId(table))
      .flatMap((run) => rows.read(run)),
  );

/** The transactions that changed rows, in the order of their commits; what we write ourselves into the log has none. */
export const writersOf = (batches: readonly ChangeBatch[]): SourceTransaction[] =>
  batches.flatMap(({ runs, transactions }) =>
    transactions.filter((_, index) => runs.some(({ transaction }) => transaction.includes(index))),
  );

/** Keys of inserted rows, in order. */
export const insertedIds = (rows: RowCodec, batches: readonly ChangeBatch[], table: TableName): number[] =>
  eventsOf(rows, batches, table).flatMap((event) => (event.op === 'insert' ? [event.set.id] : []));

/**
 * What the changes make of a table, strictly: an insert finds nothing, an update or delete finds its row. A cell that was not sent stays
 * as it is, which is what tells "not sent" from null.
 */
export function replay(events: readonly ItemEvent[], start: readonly Item[] = []): Item[] {
  const rows = new Map(start.map((one) => [one.id, one]));
  const take = (id: number): Item => {
    const row = rows.get(id);
    if (row === undefined) throw new Error(`a change of row ${id}, which is not there`);
    rows.delete(id);
    return row;
  };
  const put = (row: Item): void => {
    if (rows.has(row.id)) throw new Error(`row ${row.id} comes twice`);
    rows.set(row.id, row);
  };
  for (const event of events) {
    if (event.op === 'truncate') rows.clear();
    else if (event.op === 'delete') take(event.from);
    else if (event.op === 'insert') put(event.set);
    else put({ ...take(event.from), ...event.set });
  }
  return [...rows.values()].toSorted((left, right) => left.id - right.id);
}
