import type { KeyRange } from '../../core/snapshot.ts';
import { ENCLOSE, FIELD, inHex, LINE, NOT_WHOLE, NULL_FIELD, travelOf, travelOrder } from './bulk.ts';
import type { LayoutColumn } from './catalog-layout.ts';
import type { Link, RawRow } from './connect.ts';
import { isExactText } from './sink-json.ts';
import { rangeCondition, type TableAccess } from './snapshot-range.ts';
import { ident } from './sql.ts';

/** A packet to the other server must stay below the smallest `max_allowed_packet` there is. */
const PIECE_BYTES = 256 * 1024;

/**
 * The rows of a range in the bulk format. The server puts each row together, so that here one value a row is moved and nothing is
 * looked at, JSON excepted: a DECIMAL inside of it would come out of its text as a double.
 */
export async function* bulkRows(
  link: Link,
  access: TableAccess,
  columns: readonly number[],
  range: KeyRange,
): AsyncGenerator<Uint8Array> {
  const { sql, json } = bulkQuery(access, columns, range);
  let whole = true;
  for await (const rows of link.stream(sql)) {
    const parts: Buffer[] = [];
    for (const row of rows) whole = whole && addRow(parts, row, json);
    // What is left is read and dropped: a connection that is left in the middle cannot be used for anything else.
    if (!whole) continue;
    const piece = Buffer.concat(parts);
    for (let at = 0; at < piece.length; at += PIECE_BYTES) yield piece.subarray(at, at + PIECE_BYTES);
  }
  if (!whole) yield Buffer.from([NOT_WHOLE]);
}

const FIELD_END = Buffer.from([FIELD]);
const LINE_END = Buffer.from([LINE]);

/** False for a row that does not travel exactly. */
function addRow(parts: Buffer[], row: RawRow, json: number): boolean {
  const [line] = row;
  // A row that is longer than the packets of the server may be comes as NULL.
  if (line === null || line === undefined) return false;
  parts.push(line);
  if (json === 0) return true;
  for (let at = 1; at <= json; at += 1) {
    const cell = row[at] ?? null;
    if (cell !== null && !isExactText(cell.toString('latin1'))) return false;
    parts.push(cell ?? NULL_FIELD, at === json ? LINE_END : FIELD_END);
  }
  return true;
}

/** The first value of a row is all of it but its JSON. */
function bulkQuery(
  access: TableAccess,
  columns: readonly number[],
  range: KeyRange,
): { readonly sql: string; readonly json: number } {
  const byName = new Map(access.layout.columns.map((column) => [column.name, column]));
  const known = columns.map(
    (index) => byName.get(access.relation.columns[index]?.name ?? '') as LayoutColumn,
  );
  const order = travelOrder(known.map(({ dataType }) => dataType)).map(
    (index) => known[index] as LayoutColumn,
  );
  const json = order.filter(({ dataType }) => travelOf(dataType) === 'json');
  const others = order.slice(0, order.length - json.length);
  const fields = others.flatMap((column) => [fieldOf(column), inHex(FIELD)]);
  if (json.length === 0) fields.splice(-1, 1, inHex(LINE));
  const selected = [
    `CONCAT(${fields.length === 0 ? inHex() : fields.join(', ')})`,
    ...json.map((column) => `CAST(${ident(column.name)} AS CHAR CHARACTER SET utf8mb4)`),
  ];
  return {
    sql: `SELECT ${selected.join(', ')} FROM ${access.from} WHERE ${rangeCondition(access, range)}`,
    json: json.length,
  };
}

/** One value as a binary string. */
function fieldOf(column: LayoutColumn): string {
  const name = ident(column.name);
  const value = valueOf(column, name);
  // Not COALESCE: what does not fit into a packet of the server becomes NULL as well, and is to make the row NULL.
  return column.nullable ? `IF(${name} IS NULL, ${inHex(...NULL_FIELD)}, ${value})` : value;
}

function valueOf({ dataType, charset }: LayoutColumn, name: string): string {
  switch (travelOf(dataType)) {
    case 'text': {
      const utf8 = charset === 'utf8mb4' ? name : `CONVERT(${name} USING utf8mb4)`;
      return `CONCAT(${inHex(ENCLOSE)}, CAST(${utf8} AS BINARY), ${inHex(ENCLOSE)})`;
    }
    case 'bits':
      return `${name}+0`;
    case 'bytes':
      return `HEX(${name})`;
    default:
      // A FLOAT is printed with six digits unless it is made a double first.
      return dataType === 'float' ? `${name}+0e0` : name;
  }
}
