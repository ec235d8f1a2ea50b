import { VerdigrisError } from '../../core/errors.ts';
import { showTable, tableId, type Relation, type TableName } from '../../core/table.ts';
import type { Bytes } from './binlog-bytes.ts';
import { readColumns, TYPE, type LoggedColumn } from './binlog-table-map.ts';
import type { Layout, LayoutColumn } from './catalog-layout.ts';
import type { Charsets } from './charsets.ts';
import { charsetName, RowDecoder } from './decoder.ts';

export interface ReplicatedTable {
  readonly relation: Relation;
  readonly layout: Layout;
}

interface Known {
  readonly head: Buffer;
  readonly decoder: RowDecoder;
}

/** The tables of a stream, and how their rows are read. */
export class RelationMap {
  readonly #tables: ReadonlyMap<string, ReplicatedTable>;
  readonly #charsets: Charsets;
  readonly #known = new Map<string, Known>();

  constructor(tables: readonly ReplicatedTable[], charsets: Charsets) {
    this.#tables = new Map(tables.map((one) => [tableId(one.relation.table), one]));
    this.#charsets = charsets;
  }

  of(table: TableName): ReplicatedTable | undefined {
    return this.#tables.get(tableId(table));
  }

  get tables(): readonly TableName[] {
    return [...this.#tables.values()].map(({ relation }) => relation.table);
  }

  /**
   * The decoder for rows behind this map, or why the table no longer is what it was.
   * @param body behind the name of the table
   */
  decoder(table: ReplicatedTable, body: Bytes): RowDecoder | { readonly changed: string } {
    const id = tableId(table.relation.table);
    const known = this.#known.get(id);
    const text = body.buffer.subarray(body.at, body.end);
    // The same description, byte for byte, is the same table: the usual case costs a comparison.
    if (known !== undefined && known.head.equals(text)) return known.decoder;
    const columns = readColumns(body);
    if (columns === null)
      throw new VerdigrisError(
        'SOURCE_FAILED',
        `The source describes ${showTable(table.relation.table)} without the names of its columns: binlog_row_metadata is not FULL.`,
        { remedy: 'SET GLOBAL binlog_row_metadata = FULL, then abort and copy again.' },
      );
    const difference = differs(table.layout, columns, this.#charsets);
    if (difference !== null) return { changed: difference };
    const decoder = new RowDecoder(table.relation, columns, this.#charsets);
    this.#known.set(id, { head: Buffer.from(text), decoder });
    return decoder;
  }
}

/** What a statement did to a table that is replicated, by its layout before and now; null: the table is gone. */
export function layoutChange(before: Relation, now: Relation | null): string {
  if (now === null) return 'a statement dropped or renamed the table, or made it another one';
  const types = (relation: Relation): Map<string, string> =>
    new Map(relation.columns.map(({ name, type }) => [name, type]));
  const [had, has] = [types(before), types(now)];
  const parts = [
    ...[...has].flatMap(([name, type]) => {
      const old = had.get(name);
      if (old === undefined) return [`column ${name} (${type}) came`];
      return old === type ? [] : [`column ${name} is ${type} and was ${old}`];
    }),
    ...[...had.keys()].flatMap((name) => (has.has(name) ? [] : [`column ${name} went`])),
  ];
  return `a statement changed its layout${parts.length === 0 ? '' : `: ${parts.join(', ')}`}`;
}

/** How the table of the log differs from the one that is mapped; null when it does not. */
function differs(layout: Layout, logged: readonly LoggedColumn[], charsets: Charsets): string | null {
  const wanted = new Map(layout.columns.map((column) => [column.name, column]));
  for (const column of logged) {
    const known = wanted.get(column.name);
    if (known === undefined) return `its rows have a column ${column.name} that the mapping does not know`;
    wanted.delete(column.name);
    if (!known.generated && !fits(known, column, charsets))
      return `column ${column.name} is no ${known.columnType} in the log`;
  }
  // Virtual columns are left out by some servers.
  const missing = [...wanted.values()].find((column) => !column.generated);
  return missing === undefined ? null : `its rows have no column ${missing.name}`;
}

const CODES: Readonly<Record<string, number>> = {
  tinyint: TYPE.TINY,
  smallint: TYPE.SHORT,
  mediumint: TYPE.INT24,
  int: TYPE.LONG,
  bigint: TYPE.LONGLONG,
  float: TYPE.FLOAT,
  double: TYPE.DOUBLE,
  decimal: TYPE.NEWDECIMAL,
  year: TYPE.YEAR,
  bit: TYPE.BIT,
  date: TYPE.DATE,
  time: TYPE.TIME2,
  datetime: TYPE.DATETIME2,
  timestamp: TYPE.TIMESTAMP2,
  char: TYPE.STRING,
  binary: TYPE.STRING,
  varchar: TYPE.VARCHAR,
  varbinary: TYPE.VARCHAR,
  tinytext: TYPE.BLOB,
  text: TYPE.BLOB,
  mediumtext: TYPE.BLOB,
  longtext: TYPE.BLOB,
  tinyblob: TYPE.BLOB,
  blob: TYPE.BLOB,
  mediumblob: TYPE.BLOB,
  longblob: TYPE.BLOB,
  enum: TYPE.ENUM,
  set: TYPE.SET,
  json: TYPE.JSON,
  vector: TYPE.VECTOR,
};

function fits(known: LayoutColumn, logged: LoggedColumn, charsets: Charsets): boolean {
  const code = CODES[known.dataType] ?? TYPE.GEOMETRY;
  if (logged.type !== code) return false;
  if ((known.dataType.endsWith('int') || known.dataType === 'decimal') && known.unsigned !== logged.unsigned)
    return false;
  if (known.dataType === 'decimal')
    return known.columnType.replace(/ .*/, '') === `decimal(${logged.size},${logged.scale})`;
  if (known.dataType === 'time' || known.dataType === 'datetime' || known.dataType === 'timestamp')
    return known.size === logged.size;
  if (known.charset === null || known.charset === 'binary') return true;
  const charset = charsetName(logged, charsets);
  if (utf8(charset) !== utf8(known.charset)) return false;
  if (known.members.length === 0) return true;
  const decode = charsets.decoder(charset);
  return (
    known.members.length === logged.members.length &&
    known.members.every((member, index) => decode(logged.members[index] as Buffer) === member)
  );
}

const utf8 = (charset: string): string => (charset === 'utf8' ? 'utf8mb3' : charset);
