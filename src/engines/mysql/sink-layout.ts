import { VerdigrisError } from '../../core/errors.ts';
import type { TargetTable } from '../../core/plan.ts';
import {
  showTable,
  tableId,
  UNCHANGED,
  type Cell,
  type Relation,
  type TableName,
  type Tuple,
} from '../../core/table.ts';
import { readLayout, type Layout, type LayoutColumn, type LayoutIndex } from './catalog-layout.ts';
import { codecOf, type Codec } from './cells.ts';
import type { Link } from './connect.ts';
import { jsonExpression } from './sink-json.ts';
import { waitingOf, type Waiting, type WaitingPlace } from './sink-waiting.ts';
import { ident, qualified } from './sql.ts';

export interface SinkColumn {
  /** Quoted. */
  readonly sql: string;
  readonly dataType: string;
  /** With length and digits, as it is now. */
  readonly type: string;
  readonly codec: Codec;
  readonly generated: boolean;
  /** An insert must name it. */
  readonly required: boolean;
}

/** What the sink knows about a table of its own, in the order of the relation's columns. */
export interface SinkLayout {
  readonly relation: Relation;
  readonly table: TableName;
  /** Quoted and qualified. */
  readonly sql: string;
  readonly columns: readonly SinkColumn[];
  readonly key: readonly number[];
  /**
   * Follows the name of the table where rows are looked for by their keys. Of many keys of a small table the server would rather read all
   * rows, and wait for those that a chunk has written and that are not committed, while the chunk waits for the group.
   */
  readonly hint: string;
  /**
   * Follows a condition on keys: names a column beside them and is always true. Where the index of the key holds all that a statement
   * reads, the server rather reads the whole of that index, whatever the hint says. Empty: there is no other column.
   */
  readonly beyond: string;
  /** How many keys one condition names. */
  readonly keysAtOnce: number;
  readonly writable: readonly number[];
  /** Unique indexes beside the one that is the key. */
  readonly otherUnique: boolean;
  /** Set for a merged table. */
  readonly waiting: Waiting | null;
}

/** Rows whose keys one condition may name: past that the server's planner costs more than it saves. */
const STATEMENT_KEYS = 1_000;

export function* pieces(rows: readonly Tuple[], most = STATEMENT_KEYS): Generator<readonly Tuple[]> {
  for (let at = 0; at < rows.length; at += most) yield rows.slice(at, at + most);
}

/** Layouts of the tables that a sink writes, read on first use. */
export class Layouts {
  readonly #known = new Map<string, SinkLayout>();
  readonly #place: WaitingPlace;
  #building = false;
  readonly #waiting = new Map<string, { readonly target: TargetTable; readonly waiting: Waiting }>();

  constructor(place: WaitingPlace) {
    this.#place = place;
  }

  /**
   * Forgets what is known of these tables.
   * @throws VerdigrisError SCHEMA_UNSUPPORTED for tables that this engine cannot write yet
   */
  register(targets: readonly TargetTable[]): void {
    for (const target of targets) {
      const { table } = target.relation;
      if (target.elements !== undefined)
        throw new VerdigrisError(
          'SCHEMA_UNSUPPORTED',
          `${showTable(table)} is an array that is written element by element, which is not supported on this engine yet.`,
          { remedy: 'Map each table to a table of its own.' },
        );
      const waiting = waitingOf(target, this.#place);
      if (waiting !== null) this.#waiting.set(tableId(table), { target, waiting });
      this.#known.delete(tableId(table));
    }
  }

  /** The merged tables that were registered. */
  get merged(): Iterable<{ readonly target: TargetTable; readonly waiting: Waiting }> {
    return this.#waiting.values();
  }

  /** After DDL. */
  forget(): void {
    this.#known.clear();
  }

  /**
   * Indexes come to be, at moments of their own, until what is returned is disposed: a unique one is reckoned with before it is there. A group that began
   * before is committed first, since the server ends the build when it has the table alone.
   */
  building(): Disposable {
    this.#building = true;
    this.forget();
    return {
      [Symbol.dispose]: () => {
        this.#building = false;
        this.forget();
      },
    };
  }

  /** @throws VerdigrisError SCHEMA_TABLE_MISSING, SCHEMA_CHANGED when the table lacks a column of the relation */
  async of(link: Link, relation: Relation): Promise<SinkLayout> {
    const id = tableId(relation.table);
    const known = this.#known.get(id);
    if (known !== undefined && sameColumns(known.relation, relation)) return known;
    const read = await readSinkLayout(link, relation, this.#waiting.get(id)?.waiting ?? null);
    const layout = { ...read, otherUnique: read.otherUnique || this.#building };
    this.#known.set(id, layout);
    return layout;
  }
}

const sameColumns = (left: Relation, right: Relation): boolean =>
  left === right ||
  (left.version === right.version &&
    left.columns.length === right.columns.length &&
    left.columns.every((column, index) => column.name === right.columns[index]?.name));

async function readSinkLayout(link: Link, relation: Relation, waiting: Waiting | null): Promise<SinkLayout> {
  const { table } = relation;
  const layout = await readLayout(link, table);
  const byName = new Map(layout.columns.map((column) => [column.name, column]));
  const columns = relation.columns.map((column): SinkColumn => {
    const known = byName.get(column.name);
    if (known === undefined)
      throw new VerdigrisError(
        'SCHEMA_CHANGED',
        `Table ${showTable(table)} of the sink has no column ${column.name}.`,
      );
    return {
      sql: ident(column.name),
      dataType: known.dataType,
      type: known.columnType,
      codec: sinkCodec(known),
      generated: known.generated,
      required: !known.nullable && !known.hasDefault && !known.generated,
    };
  });
  const keyNames = relation.key.map((index) => relation.columns[index]?.name).join('\0');
  const unique = layout.indexes.filter((index) => index.unique);
  const isKey = (index: LayoutIndex): boolean => !index.prefix && index.columns.join('\0') === keyNames;
  const own = unique.find(isKey);
  const beyond = beyondKey(layout, own);
  return {
    relation,
    table,
    sql: qualified(table),
    columns,
    key: relation.key,
    writable: columns.flatMap((column, index) => (column.generated ? [] : [index])),
    hint: own === undefined ? '' : ` FORCE INDEX (${ident(own.name)})`,
    beyond,
    // Without another column only a single key is sure to be looked up there.
    keysAtOnce: own !== undefined && beyond === '' ? 1 : STATEMENT_KEYS,
    otherUnique: unique.some((index) => !isKey(index)),
    waiting,
  };
}

/** Of columns that are not in the index of the key (which holds the primary key as well), one that is not stored apart from its row. */
function beyondKey({ columns, indexes }: Layout, own: LayoutIndex | undefined): string {
  const held = new Set(
    [own, indexes.find(({ name }) => name === 'PRIMARY')].flatMap((index) => index?.columns ?? []),
  );
  const others = columns.filter(({ name, generated }) => !held.has(name) && !generated);
  const name = (others.find(({ dataType }) => !/text|blob|json|geometry/.test(dataType)) ?? others[0])?.name;
  return name === undefined ? '' : namesAlso(ident(name));
}

/** Always true; the statement reads this column as well. */
export const namesAlso = (column: string): string => ` AND (${column} IS NULL OR ${column} IS NOT NULL)`;

const sinkCodec = (column: LayoutColumn): Codec =>
  column.dataType === 'json' ? { ...codecOf(column), write: jsonExpression } : codecOf(column);

/** A cell in a statement. */
export function cellSql(layout: SinkLayout, column: number, cell: Cell | undefined): string {
  if (cell === null) return 'NULL';
  if (cell === undefined || cell === UNCHANGED)
    throw new VerdigrisError('INTERNAL', 'A cell that is not known was about to be written.');
  return (layout.columns[column] as SinkColumn).codec.write(cell);
}

export const rowSql = (layout: SinkLayout, columns: readonly number[], row: Tuple): string =>
  `(${columns.map((column) => cellSql(layout, column, row[column])).join(',')})`;

export const nameList = (layout: SinkLayout, columns: readonly number[]): string =>
  columns.map((column) => (layout.columns[column] as SinkColumn).sql).join(',');

/** Condition that finds the rows with these keys (or these leading parts of them); `alias` goes before the names of columns. */
export function keysCondition(
  layout: SinkLayout,
  keys: readonly Tuple[],
  on = layout.key,
  alias = '',
): string {
  const name = (column: number): string => `${alias}${(layout.columns[column] as SinkColumn).sql}`;
  const single = on.length === 1 ? (on[0] as number) : null;
  if (single !== null)
    return `${name(single)} IN (${keys.map((row) => cellSql(layout, single, row[single])).join(',')})`;
  const one = (row: Tuple): string =>
    on.map((column) => `${name(column)} = ${cellSql(layout, column, row[column])}`).join(' AND ');
  return `(${keys.map((row) => `(${one(row)})`).join(' OR ')})`;
}

/** Where rows of the table are found by these keys (or these leading parts of them), one by one in its index. */
export const atKeys = (layout: SinkLayout, keys: readonly Tuple[], on = layout.key): string =>
  `${layout.sql}${layout.hint} WHERE ${keysCondition(layout, keys, on)}${layout.beyond}`;

/** Condition that finds a row of a table without a key by all that is known of it. */
export function imageCondition(layout: SinkLayout, row: Tuple): string {
  return layout.writable
    .filter((column) => row[column] !== UNCHANGED && row[column] !== undefined)
    .map((column) => {
      const { sql, codec } = layout.columns[column] as SinkColumn;
      const value = cellSql(layout, column, row[column]);
      // As the server prints it: a FLOAT is no number that a literal can name, and JSON is compared by value, not by text.
      return value === 'NULL' || codec.select === sql
        ? `${sql} <=> ${value}`
        : `${codec.select} <=> ${value}`;
    })
    .join(' AND ');
}
