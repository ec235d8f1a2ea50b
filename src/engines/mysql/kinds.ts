import type { Kind } from '../../core/table.ts';

const KINDS: Readonly<Record<string, Kind>> = {
  tinyint: 'integer',
  smallint: 'integer',
  mediumint: 'integer',
  int: 'integer',
  bigint: 'integer',
  year: 'integer',
  bit: 'integer',
  decimal: 'decimal',
  float: 'float',
  double: 'float',
  char: 'text',
  varchar: 'text',
  tinytext: 'text',
  text: 'text',
  mediumtext: 'text',
  longtext: 'text',
  enum: 'text',
  set: 'text',
  binary: 'bytes',
  varbinary: 'bytes',
  tinyblob: 'bytes',
  blob: 'bytes',
  mediumblob: 'bytes',
  longblob: 'bytes',
  date: 'date',
  time: 'time',
  datetime: 'timestamp',
  // The server keeps it in UTC.
  timestamp: 'timestamptz',
  json: 'json',
  geometry: 'other',
  point: 'other',
  linestring: 'other',
  polygon: 'other',
  multipoint: 'other',
  multilinestring: 'other',
  multipolygon: 'other',
  geomcollection: 'other',
  geometrycollection: 'other',
  vector: 'other',
};

/** Null for a type that the engine does not know how to copy exactly. */
export const kindOf = (dataType: string): Kind | null =>
  Object.hasOwn(KINDS, dataType) ? (KINDS[dataType] as Kind) : null;

/** Collations under which only equal bytes are equal: no case, no padding. `utf8mb4_bin` pads, `utf8mb4_0900_bin` does not. */
const byBytes = (collation: string): boolean =>
  collation === 'binary' || /_0900_bin$/.test(collation) || /_nopad_bin$/.test(collation);

/** Equal values always have equal text. */
export function isExact(dataType: string, collation: string | null): boolean {
  const kind = kindOf(dataType);
  if (dataType === 'enum' || dataType === 'set') return true;
  if (kind === 'text') return collation !== null && byBytes(collation);
  return kind !== null && kind !== 'float' && kind !== 'json';
}

/** The text sorts by its bytes, in the order of the code points. */
export const sortsByBytes = (collation: string | null): boolean => collation !== null && byBytes(collation);

/** Members of an enum or set: `enum('a','b''c')`. */
export function membersOf(columnType: string): readonly string[] {
  const members: string[] = [];
  for (const match of columnType.matchAll(/'((?:[^']|'')*)'/g))
    members.push((match[1] as string).replaceAll("''", "'"));
  return members;
}
