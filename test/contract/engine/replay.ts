import type { ChangeBatch, SourceTransaction } from '../../../src/core/change.ts';
import { tableId, type TableName } from '../../../src/core/table.ts';
import type { Item, ItemEvent, RowCodec } from './harness.ts';

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
