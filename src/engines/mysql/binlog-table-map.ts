import { VerdigrisError } from '../../core/errors.ts';
import type { TableName } from '../../core/table.ts';
import { Bytes } from './binlog-bytes.ts';

/** Types of columns as the log numbers them. */
export const TYPE = {
  TINY: 1,
  SHORT: 2,
  LONG: 3,
  FLOAT: 4,
  DOUBLE: 5,
  LONGLONG: 8,
  INT24: 9,
  DATE: 10,
  YEAR: 13,
  VARCHAR: 15,
  BIT: 16,
  TIMESTAMP2: 17,
  DATETIME2: 18,
  TIME2: 19,
  VECTOR: 242,
  JSON: 245,
  NEWDECIMAL: 246,
  ENUM: 247,
  SET: 248,
  BLOB: 252,
  VAR_STRING: 253,
  STRING: 254,
  GEOMETRY: 255,
} as const;

/** A column as the log describes it, at the time of its rows. */
export interface LoggedColumn {
  readonly name: string;
  readonly type: number;
  /** Digits of a second; precision of a decimal; longest length in bytes; bytes of a length; bits; bytes of an enum or set. */
  readonly size: number;
  readonly scale: number;
  readonly unsigned: boolean;
  /** Number of a collation, for texts, enums and sets. */
  readonly collation: number;
  /** As the log sent them, in the column's character set. */
  readonly members: readonly Buffer[];
}

export interface TableMap {
  readonly id: number;
  readonly table: TableName;
  /** Null when the log names no columns: the server does not write full metadata. */
  readonly columns: readonly LoggedColumn[] | null;
}

const NUMERIC: ReadonlySet<number> = new Set([
  TYPE.TINY,
  TYPE.SHORT,
  TYPE.INT24,
  TYPE.LONG,
  TYPE.LONGLONG,
  TYPE.NEWDECIMAL,
  TYPE.FLOAT,
  TYPE.DOUBLE,
  TYPE.YEAR,
]);
const CHARACTER: ReadonlySet<number> = new Set([TYPE.VARCHAR, TYPE.VAR_STRING, TYPE.STRING, TYPE.BLOB]);

const FIELD = {
  SIGNEDNESS: 1,
  DEFAULT_CHARSET: 2,
  COLUMN_CHARSET: 3,
  COLUMN_NAME: 4,
  SET_VALUES: 5,
  ENUM_VALUES: 6,
  ENUM_AND_SET_DEFAULT_CHARSET: 10,
  ENUM_AND_SET_COLUMN_CHARSET: 11,
} as const;

/** The table of a map event; its columns are read only when somebody wants them. */
export function readTableHead(body: Bytes): { readonly id: number; readonly table: TableName } {
  const id = body.u48();
  body.skip(2);
  const schema = body.text(body.u8());
  body.skip(1);
  const name = body.text(body.u8());
  body.skip(1);
  return { id, table: { schema, name } };
}

/** Columns of the map; call after {@link readTableHead}. */
export function readColumns(body: Bytes): readonly LoggedColumn[] | null {
  const count = body.packed();
  const types = [...body.slice(count)];
  const metadataEnd = body.packed() + body.at;
  const sizes: number[] = [];
  const scales: number[] = [];
  for (let index = 0; index < count; index += 1) {
    const [type, size, scale] = readMetadata(body, types[index] as number);
    types[index] = type;
    sizes.push(size);
    scales.push(scale);
  }
  if (body.at !== metadataEnd)
    throw new VerdigrisError('SOURCE_PROTOCOL', 'The source described a column in an unknown way.');
  body.skip((count + 7) >> 3);
  const facts = readOptional(body, types);
  if (facts.names === null || facts.names.length !== count) return null;
  return types.map((type, index) => ({
    name: facts.names?.[index] as string,
    type,
    size: sizes[index] as number,
    scale: scales[index] as number,
    unsigned: facts.unsigned.has(index),
    collation: facts.collations.get(index) ?? 0,
    members: facts.members.get(index) ?? [],
  }));
}

/** Type, size and scale. A STRING hides what it really is in its metadata. */
function readMetadata(body: Bytes, type: number): readonly [number, number, number] {
  switch (type) {
    case TYPE.FLOAT:
    case TYPE.DOUBLE:
    case TYPE.BLOB:
    case TYPE.GEOMETRY:
    case TYPE.JSON:
    case TYPE.VECTOR:
    case TYPE.TIMESTAMP2:
    case TYPE.DATETIME2:
    case TYPE.TIME2:
      return [type, body.u8(), 0];
    case TYPE.VARCHAR:
      return [type, body.u16(), 0];
    case TYPE.BIT: {
      const bits = body.u8();
      return [type, body.u8() * 8 + bits, 0];
    }
    case TYPE.NEWDECIMAL: {
      const precision = body.u8();
      return [type, precision, body.u8()];
    }
    case TYPE.STRING:
    case TYPE.VAR_STRING: {
      const high = body.u8();
      const low = body.u8();
      if (high === TYPE.ENUM || high === TYPE.SET) return [high, low, 0];
      // Two bits of a length beyond 255 stand, inverted, in the type.
      return [type, (((high << 4) & 0x300) ^ 0x300) + low, 0];
    }
    default:
      return [type, 0, 0];
  }
}

interface Facts {
  readonly unsigned: Set<number>;
  readonly collations: Map<number, number>;
  readonly members: Map<number, Buffer[]>;
  names: string[] | null;
}

function readOptional(body: Bytes, types: readonly number[]): Facts {
  const where = (wanted: (type: number) => boolean): number[] =>
    types.flatMap((type, index) => (wanted(type) ? [index] : []));
  const numeric = where((type) => NUMERIC.has(type));
  const character = where((type) => CHARACTER.has(type));
  const labelled = where((type) => type === TYPE.ENUM || type === TYPE.SET);
  const facts: Facts = { unsigned: new Set(), collations: new Map(), members: new Map(), names: null };
  while (body.left > 0) {
    const field = body.u8();
    const length = body.packed();
    const part = new Bytes(body.buffer, body.at, body.at + length);
    body.skip(length);
    switch (field) {
      case FIELD.SIGNEDNESS:
        numeric.forEach((column, bit) => {
          if (((part.buffer[part.at + (bit >> 3)] as number) & (0x80 >> (bit & 7))) !== 0)
            facts.unsigned.add(column);
        });
        break;
      case FIELD.DEFAULT_CHARSET:
        readDefault(part, character, facts);
        break;
      case FIELD.COLUMN_CHARSET:
        for (const column of character) facts.collations.set(column, part.packed());
        break;
      case FIELD.ENUM_AND_SET_DEFAULT_CHARSET:
        readDefault(part, labelled, facts);
        break;
      case FIELD.ENUM_AND_SET_COLUMN_CHARSET:
        for (const column of labelled) facts.collations.set(column, part.packed());
        break;
      case FIELD.COLUMN_NAME:
        facts.names = [];
        while (part.left > 0) facts.names.push(part.text(part.packed()));
        break;
      case FIELD.SET_VALUES:
        readMembers(
          part,
          where((type) => type === TYPE.SET),
          facts,
        );
        break;
      case FIELD.ENUM_VALUES:
        readMembers(
          part,
          where((type) => type === TYPE.ENUM),
          facts,
        );
        break;
      default:
        break;
    }
  }
  return facts;
}

/** One collation for all, then those that differ: number among these columns, collation. */
function readDefault(part: Bytes, columns: readonly number[], facts: Facts): void {
  const fallback = part.packed();
  for (const column of columns) facts.collations.set(column, fallback);
  while (part.left > 0) {
    const column = columns[part.packed()];
    const collation = part.packed();
    if (column !== undefined) facts.collations.set(column, collation);
  }
}

function readMembers(part: Bytes, columns: readonly number[], facts: Facts): void {
  for (const column of columns) {
    if (part.left === 0) return;
    const members: Buffer[] = [];
    for (let left = part.packed(); left > 0; left -= 1) members.push(Buffer.from(part.slice(part.packed())));
    facts.members.set(column, members);
  }
}
