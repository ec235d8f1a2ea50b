import { VerdigrisError } from '../../core/errors.ts';
import type { Cell, Relation, Tuple } from '../../core/table.ts';
import type { Bytes } from './binlog-bytes.ts';
import { TYPE, type LoggedColumn } from './binlog-table-map.ts';
import { showBytes, showFloat } from './cells.ts';
import type { Charsets, Decode } from './charsets.ts';
import { jsonText } from './decoder-json.ts';
import { decimalBytes, decimalText } from './decoder-numbers.ts';
import { readDate, readDatetime, readTime, readTimestamp } from './decoder-times.ts';

type Read = (bytes: Bytes) => Cell;

/** Collation 63: bytes without a character set. */
const BINARY = 63;

/** Reads rows of one table as one map describes them, into tuples of the relation. */
export class RowDecoder {
  readonly #reads: readonly Read[];
  /** Index in the relation, or -1 for a column that is not replicated (generated). */
  readonly #places: readonly number[];
  readonly #width: number;

  constructor(relation: Relation, columns: readonly LoggedColumn[], charsets: Charsets) {
    const places = new Map(relation.columns.map((column, index) => [column.name, index]));
    this.#reads = columns.map((column) => readerOf(column, charsets));
    this.#places = columns.map((column) => places.get(column.name) ?? -1);
    this.#width = relation.columns.length;
  }

  /** Body of a rows event behind the table's number and flags. @throws VerdigrisError SOURCE_FAILED for an image that is not whole */
  rows(
    body: Bytes,
    op: 'insert' | 'update' | 'delete',
    add: (before: Tuple | null, after: Tuple | null) => void,
  ): void {
    const count = body.packed();
    if (count !== this.#reads.length)
      throw new VerdigrisError('SOURCE_PROTOCOL', 'The source sent rows that do not fit their table.');
    const present = body.slice((count + 7) >> 3);
    const second = op === 'update' ? body.slice((count + 7) >> 3) : present;
    this.#requireWhole(present);
    this.#requireWhole(second);
    while (body.left > 0) {
      const image = this.#image(body, present);
      if (op === 'insert') add(null, image);
      else if (op === 'delete') add(image, null);
      else add(image, this.#image(body, second));
    }
  }

  #requireWhole(present: Buffer): void {
    for (let index = 0; index < this.#places.length; index += 1) {
      if ((this.#places[index] as number) < 0 || bit(present, index)) continue;
      throw new VerdigrisError(
        'SOURCE_FAILED',
        'The source logged a row without all of its columns: binlog_row_image is not FULL, for everybody or for one session.',
        {
          remedy: 'Set binlog_row_image to FULL, for sessions that change it too; then abort and copy again.',
        },
      );
    }
  }

  #image(body: Bytes, present: Buffer): Tuple {
    const row: Cell[] = new Array<Cell>(this.#width).fill(null);
    let held = 0;
    for (let index = 0; index < this.#places.length; index += 1) if (bit(present, index)) held += 1;
    const nulls = body.slice((held + 7) >> 3);
    for (let index = 0, place = 0; index < this.#places.length; index += 1) {
      if (!bit(present, index)) continue;
      const target = this.#places[index] as number;
      if (bit(nulls, place++)) continue;
      const cell = (this.#reads[index] as Read)(body);
      if (target >= 0) row[target] = cell;
    }
    return row;
  }
}

const bit = (bytes: Buffer, index: number): boolean =>
  ((bytes[index >> 3] as number) & (1 << (index & 7))) !== 0;

function readerOf(column: LoggedColumn, charsets: Charsets): Read {
  const { size, scale, unsigned } = column;
  switch (column.type) {
    case TYPE.TINY:
      return unsigned ? (b) => String(b.u8()) : (b) => String(b.buffer.readInt8(b.skip(1)));
    case TYPE.SHORT:
      return unsigned ? (b) => String(b.u16()) : (b) => String(b.buffer.readInt16LE(b.skip(2)));
    case TYPE.INT24:
      return unsigned ? (b) => String(b.u24()) : (b) => String(b.buffer.readIntLE(b.skip(3), 3));
    case TYPE.LONG:
      return unsigned ? (b) => String(b.u32()) : (b) => String(b.buffer.readInt32LE(b.skip(4)));
    case TYPE.LONGLONG:
      return unsigned ? (b) => String(b.u64()) : readBigint;
    case TYPE.FLOAT:
      return (b) => showFloat(b.buffer.readFloatLE(b.skip(4)));
    case TYPE.DOUBLE:
      return (b) => showFloat(b.buffer.readDoubleLE(b.skip(8)));
    case TYPE.NEWDECIMAL: {
      const length = decimalBytes(size, scale);
      return (b) => decimalText(b.buffer, b.skip(length), size, scale);
    }
    case TYPE.YEAR:
      return (b) => {
        const year = b.u8();
        return year === 0 ? '0' : String(1900 + year);
      };
    case TYPE.DATE:
      return readDate;
    case TYPE.TIME2:
      return (b) => readTime(b, size);
    case TYPE.DATETIME2:
      return (b) => readDatetime(b, size);
    case TYPE.TIMESTAMP2:
      return (b) => readTimestamp(b, size);
    case TYPE.BIT: {
      const length = (size + 7) >> 3;
      return (b) => {
        let value = 0n;
        for (const byte of b.slice(length)) value = (value << 8n) | BigInt(byte);
        return String(value);
      };
    }
    case TYPE.ENUM: {
      const members = membersOf(column, charsets);
      return (b) => {
        const index = b.uint(size);
        // Zero is the empty string that a server without strict mode makes of a wrong value.
        return index === 0 ? '' : (members[index - 1] ?? fail('a value of an enum that has no name'));
      };
    }
    case TYPE.SET: {
      const members = membersOf(column, charsets);
      return (b) => {
        let bits = 0n;
        const bytes = b.slice(size);
        for (let index = size - 1; index >= 0; index -= 1)
          bits = (bits << 8n) | BigInt(bytes[index] as number);
        return members.filter((_, index) => ((bits >> BigInt(index)) & 1n) === 1n).join(',');
      };
    }
    case TYPE.VARCHAR:
    case TYPE.VAR_STRING: {
      const text = textOf(column, charsets);
      return size > 255 ? (b) => text(b.slice(b.u16())) : (b) => text(b.slice(b.u8()));
    }
    case TYPE.STRING: {
      // The log cuts the zeros at the end of a BINARY, and a SELECT does not.
      const text = column.collation === BINARY ? padded(size) : textOf(column, charsets);
      return size > 255 ? (b) => text(b.slice(b.u16())) : (b) => text(b.slice(b.u8()));
    }
    case TYPE.BLOB: {
      const text = textOf(column, charsets);
      return (b) => text(b.slice(b.uint(size)));
    }
    case TYPE.JSON:
      return (b) => jsonText(b.slice(b.uint(size)));
    case TYPE.GEOMETRY:
    case TYPE.VECTOR:
      return (b) => showBytes(b.slice(b.uint(size)));
    default:
      throw new VerdigrisError(
        'SCHEMA_UNSUPPORTED',
        `Column ${column.name} has a type of the log that this version does not read (${column.type}).`,
      );
  }
}

function readBigint(b: Bytes): string {
  const at = b.skip(8);
  const high = b.buffer.readInt32LE(at + 4);
  // Most are small; a bigint costs ten times as much.
  return high >= -0x20_0000 && high < 0x20_0000
    ? String(high * 2 ** 32 + b.buffer.readUInt32LE(at))
    : String(b.buffer.readBigInt64LE(at));
}

const padded =
  (size: number): Decode =>
  (bytes) =>
    showBytes(bytes).padEnd(2 + 2 * size, '0');

function textOf(column: LoggedColumn, charsets: Charsets): Decode {
  if (column.collation === BINARY) return showBytes;
  return charsets.decoder(charsetName(column, charsets));
}

function membersOf(column: LoggedColumn, charsets: Charsets): readonly string[] {
  const charset = charsetName(column, charsets);
  const decode: Decode =
    charset === 'binary' ? (bytes) => bytes.toString('latin1') : charsets.decoder(charset);
  return column.members.map(decode);
}

export function charsetName(column: LoggedColumn, charsets: Charsets): string {
  if (column.collation === BINARY) return 'binary';
  return (
    charsets.charsetOf(column.collation) ?? fail(`a collation that it does not list (${column.collation})`)
  );
}

const fail = (what: string): never => {
  throw new VerdigrisError('SOURCE_PROTOCOL', `The source sent ${what}.`);
};
