import type { RowRun } from '../../../src/core/change.ts';
import { columnIndex, UNCHANGED, type Cell, type Relation, type Tuple } from '../../../src/core/table.ts';
import type { Item, ItemChange, ItemEvent, RowCodec } from './harness.ts';

const NAMES = ['id', 'n', 'v', 'big'] as const;

/** Rows of engines whose relations have a column for each field and print integers as text. */
export const columnRows: RowCodec = {
  insert: (relation, ...items) => ({
    relation,
    op: 'insert',
    after: items.map((one) => tuple(relation, one, null)),
    before: items.map(() => null),
    columns: written(relation),
  }),
  update: (relation, ...changes) => ({
    relation,
    op: 'update',
    after: changes.map((change) => tuple(relation, change, UNCHANGED)),
    before: changes.map(() => null),
    columns: NAMES.filter((name) => changes[0] !== undefined && name in changes[0])
      .map((name) => columnIndex(relation, name))
      .toSorted((left, right) => left - right),
  }),
  remove: (relation, ...ids) => ({
    relation,
    op: 'delete',
    after: [],
    before: ids.map((id) => tuple(relation, { id }, UNCHANGED)),
  }),
  move: (relation, ...moves) => ({
    relation,
    op: 'update',
    after: moves.map(({ to }) => tuple(relation, to, null)),
    before: moves.map(({ from }) => tuple(relation, { id: from }, UNCHANGED)),
    columns: written(relation),
  }),
  clear: (relation) => ({ relation, op: 'truncate', after: [], before: [] }),
  read,
  item: (relation, cells) => {
    const change = known(relation, cells);
    for (const name of NAMES) if (!(name in change)) throw new Error(`the row has no ${name}`);
    return change as Item;
  },
  key: (id) => String(id),
  id: (cell) => Number(cell),
  value: (relation) => columnIndex(relation, 'v'),
};

function tuple(relation: Relation, change: ItemChange, missing: Cell): Tuple {
  const cells = new Map<string, Cell>();
  for (const name of NAMES) {
    const value = change[name];
    if (value !== undefined) cells.set(name, value === null ? null : String(value));
  }
  return relation.columns.map(
    (column) => cells.get(column.name) ?? (cells.has(column.name) ? null : missing),
  );
}

const written = (relation: Relation): number[] =>
  relation.columns.flatMap((column, index) => (column.generated ? [] : [index]));

function read(run: RowRun): ItemEvent[] {
  const { relation } = run;
  switch (run.op) {
    case 'truncate':
      return [{ op: 'truncate' }];
    case 'insert':
      return run.after.map((cells) => ({ op: 'insert', set: columnRows.item(relation, cells) }));
    case 'delete':
      return run.before.map((cells) => ({ op: 'delete', from: idOf(relation, cells) }));
    case 'update':
      return run.after.map((cells, index) => {
        const set = known(relation, cells);
        const before = run.before[index] ?? null;
        return { op: 'update', from: before === null ? set.id : idOf(relation, before), set };
      });
    default:
      throw new Error(`a source does not deliver ${run.op}`);
  }
}

function idOf(relation: Relation, cells: Tuple | null | undefined): number {
  const id = cells?.[columnIndex(relation, 'id')];
  if (id === undefined || id === null || id === UNCHANGED)
    throw new Error('the old row does not say its key');
  return Number(id);
}

function known(relation: Relation, cells: Tuple): ItemChange {
  const change: Record<string, number | string | null> = {};
  relation.columns.forEach((column, index) => {
    const cell = cells[index] as Cell;
    const name = NAMES.find((one) => one === column.name);
    if (name === undefined || cell === UNCHANGED) return;
    change[name] = cell === null ? null : name === 'id' || name === 'n' ? Number(cell) : String(cell);
  });
  if (change['id'] === undefined) throw new Error('the row does not say its key');
  return change as unknown as ItemChange;
}
