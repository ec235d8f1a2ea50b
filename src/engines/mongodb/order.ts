import { Decimal128 } from 'mongodb';
import type { Cell } from '../../core/table.ts';
import { TYPE, fields, type Raw } from './bson.ts';
import { keyOfText } from './key.ts';

/**
 * The order of values of different types, MongoDB manual "Comparison/Sort Order". Numbers are one class, and so are strings and symbols.
 */
const CLASS: Readonly<Record<number, number>> = {
  [TYPE.minKey]: -1,
  [TYPE.undefined]: 0,
  [TYPE.null]: 5,
  [TYPE.double]: 10,
  [TYPE.int32]: 10,
  [TYPE.int64]: 10,
  [TYPE.decimal128]: 10,
  [TYPE.string]: 15,
  [TYPE.symbol]: 15,
  [TYPE.document]: 20,
  [TYPE.array]: 25,
  [TYPE.binary]: 30,
  [TYPE.objectId]: 35,
  [TYPE.boolean]: 40,
  [TYPE.date]: 45,
  [TYPE.timestamp]: 47,
  [TYPE.regex]: 50,
  [TYPE.dbPointer]: 55,
  [TYPE.code]: 60,
  [TYPE.codeWithScope]: 65,
  [TYPE.maxKey]: 127,
};

const classOf = (type: number): number => CLASS[type] ?? 0;

/** Compares two values the way an index without a collation does. */
export function compareValues(left: Raw, right: Raw): number {
  const byClass = classOf(left.type) - classOf(right.type);
  if (byClass !== 0) return byClass;
  switch (left.type) {
    case TYPE.double:
    case TYPE.int32:
    case TYPE.int64:
    case TYPE.decimal128:
      return compareNumbers(left, right);
    case TYPE.string:
    case TYPE.symbol:
      return Buffer.compare(
        left.bytes.subarray(4, left.bytes.length - 1),
        right.bytes.subarray(4, right.bytes.length - 1),
      );
    case TYPE.document:
    case TYPE.array:
      return compareDocuments(left.bytes, right.bytes);
    case TYPE.binary:
      // Length, subtype, then the bytes.
      return (
        left.bytes.readInt32LE() - right.bytes.readInt32LE() ||
        Buffer.compare(left.bytes.subarray(4), right.bytes.subarray(4))
      );
    case TYPE.date:
      return compareBig(left.bytes.readBigInt64LE(), right.bytes.readBigInt64LE());
    case TYPE.timestamp:
      return compareBig(left.bytes.readBigUInt64LE(), right.bytes.readBigUInt64LE());
    default:
      return Buffer.compare(left.bytes, right.bytes);
  }
}

const compareBig = (left: bigint, right: bigint): number => (left < right ? -1 : left > right ? 1 : 0);

function compareDocuments(left: Buffer, right: Buffer): number {
  const one = fields(left);
  const other = fields(right);
  for (;;) {
    const a = one.next();
    const b = other.next();
    if (a.done === true || b.done === true) return Number(b.done === true) - Number(a.done === true);
    const difference =
      classOf(a.value.type) - classOf(b.value.type) ||
      Buffer.compare(Buffer.from(a.value.name), Buffer.from(b.value.name)) ||
      compareValues(a.value, b.value);
    if (difference !== 0) return difference;
  }
}

/** A number as digits × 2^binary × 10^decimal, or one of the three that are none. */
type Exact =
  | { readonly digits: bigint; readonly binary: number; readonly decimal: number }
  | 'nan'
  | '+'
  | '-';

function compareNumbers(left: Raw, right: Raw): number {
  if (left.type === TYPE.int32 && right.type === TYPE.int32)
    return left.bytes.readInt32LE() - right.bytes.readInt32LE();
  const a = exact(left);
  const b = exact(right);
  if (typeof a === 'string' || typeof b === 'string') return rank(a) - rank(b);
  // Brought to whole numbers by the powers that are missing on the other side.
  const binary = Math.min(a.binary, b.binary);
  const decimal = Math.min(a.decimal, b.decimal);
  const scaled = (value: typeof a): bigint =>
    value.digits * 2n ** BigInt(value.binary - binary) * 10n ** BigInt(value.decimal - decimal);
  return compareBig(scaled(a), scaled(b));
}

/** NaN is less than every number. */
const rank = (value: Exact): number => (value === 'nan' ? -2 : value === '-' ? -1 : value === '+' ? 1 : 0);

function exact({ type, bytes }: Raw): Exact {
  switch (type) {
    case TYPE.int32:
      return { digits: BigInt(bytes.readInt32LE()), binary: 0, decimal: 0 };
    case TYPE.int64:
      return { digits: bytes.readBigInt64LE(), binary: 0, decimal: 0 };
    case TYPE.double:
      return exactDouble(bytes);
    default:
      return exactDecimal(new Decimal128(bytes).toString());
  }
}

function exactDouble(bytes: Buffer): Exact {
  const bits = bytes.readBigUInt64LE();
  const negative = bits >> 63n === 1n;
  const exponent = Number((bits >> 52n) & 0x7ffn);
  const fraction = bits & 0xfffffffffffffn;
  if (exponent === 0x7ff) return fraction === 0n ? (negative ? '-' : '+') : 'nan';
  const digits = exponent === 0 ? fraction : fraction | 0x10000000000000n;
  return { digits: negative ? -digits : digits, binary: Math.max(exponent, 1) - 1_075, decimal: 0 };
}

function exactDecimal(text: string): Exact {
  if (text === 'NaN') return 'nan';
  if (text.endsWith('Infinity')) return text.startsWith('-') ? '-' : '+';
  const match = /^(-?)(\d*)\.?(\d*)(?:E([+-]?\d+))?$/.exec(text) as unknown as readonly string[];
  const [, sign, whole, part, exponent] = match as [string, string, string, string, string | undefined];
  return {
    digits: BigInt(`${sign}${whole}${part}`),
    binary: 0,
    decimal: Number(exponent ?? 0) - part.length,
  };
}

/** Compares key cells. The last text of each side is remembered: a search asks for the same key again and again. */
export function keyComparator(): (left: Cell, right: Cell) => number {
  const known = new Map<string, Raw>();
  const value = (cell: Cell): Raw => {
    const text = String(cell);
    let raw = known.get(text);
    if (raw === undefined) {
      if (known.size > MOST_KNOWN) known.clear();
      known.set(text, (raw = keyOfText(text)));
    }
    return raw;
  };
  return (left, right) => compareValues(value(left), value(right));
}

/** Boundaries of a table and the keys of a batch. */
const MOST_KNOWN = 10_000;
