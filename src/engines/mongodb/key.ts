import { VerdigrisError } from '../../core/errors.ts';
import type { Cell } from '../../core/table.ts';
import { TYPE, rawDocument, rawNull, rawString, textOf, type Raw } from './bson.ts';

/**
 * The text of an `_id`: a 64-bit integer as its digits, else as extended JSON writes it where that is exact, else type and bytes. Equal texts mean equal bytes, so that a key
 * read back from a text addresses the same document; the order of keys is {@link import('./order.ts').compareValues}.
 */
export function keyTextOf({ type, bytes }: Raw): string {
  switch (type) {
    case TYPE.objectId:
      return `{"$oid":"${bytes.toString('hex')}"}`;
    case TYPE.string: {
      const text = textOf({ type, bytes });
      return isExactString(text, bytes) ? JSON.stringify(text) : hexText(type, bytes);
    }
    case TYPE.int32:
      return `{"$numberInt":"${bytes.readInt32LE()}"}`;
    case TYPE.int64:
      return String(bytes.readBigInt64LE());
    case TYPE.double: {
      const value = bytes.readDoubleLE();
      return Number.isFinite(value) && !Object.is(value, -0)
        ? `{"$numberDouble":"${value}"}`
        : hexText(type, bytes);
    }
    case TYPE.date:
      return `{"$date":{"$numberLong":"${bytes.readBigInt64LE()}"}}`;
    case TYPE.boolean:
      return bytes[0] === 1 ? 'true' : 'false';
    case TYPE.null:
      return 'null';
    default:
      return hexText(type, bytes);
  }
}

const hexText = (type: number, bytes: Buffer): string =>
  `{"$bson":{"type":${type},"hex":"${bytes.toString('hex')}"}}`;

/** Bytes that are no UTF-8 come back as replacement characters. */
const isExactString = (text: string, bytes: Buffer): boolean =>
  !text.includes('\ufffd') || rawString(text).bytes.equals(bytes);

const LONG = /^-?\d+$/;
const SHORT = /^\{"\$(oid|numberInt|numberDouble)":"([^"]+)"\}$/;
const DATE = /^\{"\$date":\{"\$numberLong":"(-?\d+)"\}\}$/;
const HEX = /^\{"\$bson":\{"type":(\d+),"hex":"([0-9a-f]*)"\}\}$/;

/** The value of a text that {@link keyTextOf} made. @throws VerdigrisError STATE_FORMAT */
export function keyOfText(text: string): Raw {
  if (text.startsWith('"')) return rawString(JSON.parse(text) as string);
  if (LONG.test(text)) return { type: TYPE.int64, bytes: eight((to) => to.writeBigInt64LE(BigInt(text))) };
  const short = SHORT.exec(text);
  if (short !== null) return shortValue(short[1] as string, short[2] as string);
  const date = DATE.exec(text);
  if (date !== null)
    return { type: TYPE.date, bytes: eight((to) => to.writeBigInt64LE(BigInt(date[1] as string))) };
  if (text === 'true' || text === 'false')
    return { type: TYPE.boolean, bytes: Buffer.from([text === 'true' ? 1 : 0]) };
  if (text === 'null') return rawNull;
  const hex = HEX.exec(text);
  if (hex === null) throw new VerdigrisError('STATE_FORMAT', 'A stored key is not one of this engine.');
  return { type: Number(hex[1]), bytes: Buffer.from(hex[2] as string, 'hex') };
}

function shortValue(word: string, text: string): Raw {
  switch (word) {
    case 'oid':
      return { type: TYPE.objectId, bytes: Buffer.from(text, 'hex') };
    case 'numberInt': {
      const bytes = Buffer.allocUnsafe(4);
      bytes.writeInt32LE(Number(text));
      return { type: TYPE.int32, bytes };
    }
    default:
      return { type: TYPE.double, bytes: eight((to) => to.writeDoubleLE(Number(text))) };
  }
}

function eight(write: (to: Buffer) => unknown): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  write(bytes);
  return bytes;
}

/** The value of a key cell. */
export const keyOfCell = (cell: Cell): Raw => keyOfText(String(cell));

/** `{ _id: { $eq: … } }`: without $eq a document would be read as operators, and a regular expression as a pattern. */
export const idFilter = (id: Raw): Raw => rawDocument([['_id', rawDocument([['$eq', id]])]]);
