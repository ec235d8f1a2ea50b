import { VerdigrisError } from '../../core/errors.ts';
import { decimalText } from './decoder-numbers.ts';
import { showDatetime, showTime } from './decoder-times.ts';

/**
 * The server's binary JSON as the text that the server prints for it: members in stored order, numbers to the last digit, no detour
 * over values of JavaScript. Layout: sql-common/json_binary.h.
 */
export const jsonText = (bytes: Buffer): string =>
  // A NULL made into JSON by an old server, or a value cut to nothing.
  bytes.length === 0 ? 'null' : value(bytes, bytes[0] as number, 1);

const SMALL_OBJECT = 0;
const LARGE_OBJECT = 1;
const SMALL_ARRAY = 2;
const LARGE_ARRAY = 3;
const LITERAL = 4;
const INT16 = 5;
const UINT16 = 6;
const INT32 = 7;
const UINT32 = 8;
const INT64 = 9;
const UINT64 = 10;
const DOUBLE = 11;
const STRING = 12;
const OPAQUE = 15;

function value(bytes: Buffer, type: number, at: number): string {
  switch (type) {
    case SMALL_OBJECT:
      return container(bytes, at, { large: false, object: true });
    case LARGE_OBJECT:
      return container(bytes, at, { large: true, object: true });
    case SMALL_ARRAY:
      return container(bytes, at, { large: false, object: false });
    case LARGE_ARRAY:
      return container(bytes, at, { large: true, object: false });
    case LITERAL:
      return literalText(bytes[at] as number);
    case INT16:
      return String(bytes.readInt16LE(at));
    case UINT16:
      return String(bytes.readUInt16LE(at));
    case INT32:
      return String(bytes.readInt32LE(at));
    case UINT32:
      return String(bytes.readUInt32LE(at));
    case INT64:
      return String(bytes.readBigInt64LE(at));
    case UINT64:
      return String(bytes.readBigUInt64LE(at));
    case DOUBLE:
      return jsonDouble(bytes.readDoubleLE(at));
    case STRING: {
      const [length, start] = stringLength(bytes, at);
      return jsonString(bytes.toString('utf8', start, start + length));
    }
    case OPAQUE: {
      const [length, start] = stringLength(bytes, at + 1);
      return opaque(bytes[at] as number, bytes.subarray(start, start + length));
    }
    default:
      throw unknown(`a JSON value of type ${type}`);
  }
}

function container(
  bytes: Buffer,
  start: number,
  { large, object }: { readonly large: boolean; readonly object: boolean },
): string {
  const size = large ? 4 : 2;
  const read = (at: number): number => (large ? bytes.readUInt32LE(at) : bytes.readUInt16LE(at));
  const count = read(start);
  const keys = start + 2 * size;
  const values = keys + (object ? count * (size + 2) : 0);
  const parts: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const entry = values + index * (1 + size);
    const type = bytes[entry] as number;
    const inline =
      type === LITERAL || type === INT16 || type === UINT16 || (large && (type === INT32 || type === UINT32));
    const text = value(bytes, type, inline ? entry + 1 : start + read(entry + 1));
    if (!object) {
      parts.push(text);
      continue;
    }
    const key = keys + index * (size + 2);
    const from = start + read(key);
    parts.push(`${jsonString(bytes.toString('utf8', from, from + bytes.readUInt16LE(key + size)))}: ${text}`);
  }
  return object ? `{${parts.join(', ')}}` : `[${parts.join(', ')}]`;
}

/** Seven bits a byte, lowest first; the highest bit says that another follows. */
function stringLength(bytes: Buffer, at: number): readonly [length: number, start: number] {
  let length = 0;
  for (let index = 0; index < 5; index += 1) {
    const byte = bytes[at + index] as number;
    length += (byte & 0x7f) * 2 ** (7 * index);
    if (byte < 0x80) return [length, at + index + 1];
  }
  throw unknown('a length in JSON that does not end');
}

function literalText(code: number): string {
  if (code === 0) return 'null';
  if (code === 1) return 'true';
  if (code === 2) return 'false';
  throw unknown(`the JSON literal ${code}`);
}

const ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
};

/** Quoted as the server quotes: other control characters in lower-case hex, everything else as it is. */
export function jsonString(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return `"${text.replace(/["\\\u0000-\u001f]/g, (char) => ESCAPES[char] ?? `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)}"`;
}

/** The server turns to exponents from 10^15 on and below 10^-14 (my_gcvt), and marks a whole number as a double by `.0`. */
const MOST_PLAIN = 15;

export function jsonDouble(number: number): string {
  if (number === 0) return Object.is(number, -0) ? '-0.0' : '0.0';
  const [mantissa = '', exponent = ''] = Math.abs(number).toExponential().split('e');
  const digits = mantissa.replace('.', '');
  const point = Number(exponent) + 1;
  const sign = number < 0 ? '-' : '';
  if (point > MOST_PLAIN || point < 1 - MOST_PLAIN) {
    const fraction = digits.length > 1 ? `.${digits.slice(1)}` : '';
    return `${sign}${digits[0]}${fraction}e${point - 1}`;
  }
  if (point <= 0) return `${sign}0.${'0'.repeat(-point)}${digits}`;
  const whole = digits.slice(0, point).padEnd(point, '0');
  return `${sign}${whole}.${digits.slice(point) || '0'}`;
}

const DATE = 10;
const TIME = 11;
const DATETIME = 12;
const TIMESTAMP = 7;
const NEWDECIMAL = 246;

/** Values of SQL that JSON has no word for. */
function opaque(type: number, bytes: Buffer): string {
  switch (type) {
    case NEWDECIMAL:
      return decimalText(bytes, 2, bytes[0] as number, bytes[1] as number);
    case DATE:
      return `"${showDatetime(bytes.readBigInt64LE(0)).date}"`;
    case DATETIME:
    case TIMESTAMP: {
      const { date, time } = showDatetime(bytes.readBigInt64LE(0));
      return `"${date} ${time}"`;
    }
    case TIME:
      return `"${showTime(bytes.readBigInt64LE(0))}"`;
    default:
      return `"base64:type${type}:${bytes.toString('base64')}"`;
  }
}

const unknown = (what: string): VerdigrisError =>
  new VerdigrisError('SOURCE_PROTOCOL', `The source sent ${what}.`);
