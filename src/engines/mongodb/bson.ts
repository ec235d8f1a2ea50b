import { VerdigrisError } from '../../core/errors.ts';

/** BSON types by their byte. https://bsonspec.org/spec.html */
export const TYPE = {
  double: 0x01,
  string: 0x02,
  document: 0x03,
  array: 0x04,
  binary: 0x05,
  undefined: 0x06,
  objectId: 0x07,
  boolean: 0x08,
  date: 0x09,
  null: 0x0a,
  regex: 0x0b,
  dbPointer: 0x0c,
  code: 0x0d,
  symbol: 0x0e,
  codeWithScope: 0x0f,
  int32: 0x10,
  timestamp: 0x11,
  int64: 0x12,
  decimal128: 0x13,
  maxKey: 0x7f,
  minKey: 0xff,
} as const;

/**
 * One value as it stands in a document. Documents that are passed on are never made into objects: those lose field order (names that
 * are numbers), repeated names, and the types that JavaScript has no word for.
 */
export interface Raw {
  readonly type: number;
  readonly bytes: Buffer;
}

export interface Field extends Raw {
  readonly name: string;
}

/** A view of the same bytes with Buffer's methods. */
export const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** The fields of a document or array in their order; the values are views. @throws VerdigrisError SOURCE_PROTOCOL */
export function* fields(document: Buffer): Generator<Field> {
  const end = document.readInt32LE(0) - 1;
  if (end + 1 > document.length) throw broken();
  let at = 4;
  while (at < end) {
    const type = document[at] as number;
    const zero = document.indexOf(0, at + 1);
    if (zero < 0 || zero >= end) throw broken();
    const from = zero + 1;
    const to = from + sizeOf(type, document, from);
    if (to > end) throw broken();
    yield { type, name: document.toString('utf8', at + 1, zero), bytes: document.subarray(from, to) };
    at = to;
  }
}

/** Bytes of the value that begins at `at`. */
function sizeOf(type: number, buffer: Buffer, at: number): number {
  switch (type) {
    case TYPE.double:
    case TYPE.date:
    case TYPE.timestamp:
    case TYPE.int64:
      return 8;
    case TYPE.string:
    case TYPE.code:
    case TYPE.symbol:
      return 4 + buffer.readInt32LE(at);
    case TYPE.document:
    case TYPE.array:
    case TYPE.codeWithScope:
      return buffer.readInt32LE(at);
    case TYPE.binary:
      return 5 + buffer.readInt32LE(at);
    case TYPE.undefined:
    case TYPE.null:
    case TYPE.maxKey:
    case TYPE.minKey:
      return 0;
    case TYPE.objectId:
      return 12;
    case TYPE.boolean:
      return 1;
    case TYPE.regex: {
      const pattern = buffer.indexOf(0, at);
      return buffer.indexOf(0, pattern + 1) + 1 - at;
    }
    case TYPE.dbPointer:
      return 4 + buffer.readInt32LE(at) + 12;
    case TYPE.int32:
      return 4;
    case TYPE.decimal128:
      return 16;
    default:
      throw new VerdigrisError('SOURCE_PROTOCOL', `A document holds a value of the unknown type ${type}.`);
  }
}

export const broken = (): VerdigrisError =>
  new VerdigrisError('SOURCE_PROTOCOL', 'The server sent a document that is cut off.');

/** The first field of that name, or null. */
export function fieldOf(document: Buffer, name: string): Field | null {
  for (const field of fields(document)) if (field.name === name) return field;
  return null;
}

/** All fields by name; of a repeated name the last. */
export function fieldMap(document: Buffer): Map<string, Field> {
  const map = new Map<string, Field>();
  for (const field of fields(document)) map.set(field.name, field);
  return map;
}

export const textOf = (value: Raw): string => value.bytes.toString('utf8', 4, value.bytes.length - 1);

/** Any of the number types as a JavaScript number; for what servers say of themselves, never for data. */
export function numberOf(value: Raw): number {
  switch (value.type) {
    case TYPE.double:
      return value.bytes.readDoubleLE();
    case TYPE.int32:
      return value.bytes.readInt32LE();
    case TYPE.int64:
      return Number(value.bytes.readBigInt64LE());
    default:
      throw broken();
  }
}

// Building. Values are written once, so that literals of a command are the very bytes that came.

export const rawString = (text: string): Raw => {
  const body = Buffer.from(text, 'utf8');
  const bytes = Buffer.allocUnsafe(body.length + 5);
  bytes.writeInt32LE(body.length + 1, 0);
  body.copy(bytes, 4);
  bytes[bytes.length - 1] = 0;
  return { type: TYPE.string, bytes };
};

export const rawInt = (value: number): Raw => {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeInt32LE(value);
  return { type: TYPE.int32, bytes };
};

export const rawBoolean = (value: boolean): Raw => ({
  type: TYPE.boolean,
  bytes: Buffer.from([value ? 1 : 0]),
});

export const rawNull: Raw = { type: TYPE.null, bytes: Buffer.alloc(0) };

export type Entries = readonly (readonly [name: string, value: Raw])[];

/** A document as bytes, as a command takes it. */
export function encode(entries: Entries): Buffer {
  const names = entries.map(([name]) => Buffer.from(name, 'utf8'));
  let size = 5;
  for (let i = 0; i < entries.length; i++) {
    size += 2 + (names[i] as Buffer).length + (entries[i] as Entries[number])[1].bytes.length;
  }
  const buffer = Buffer.allocUnsafe(size);
  buffer.writeInt32LE(size, 0);
  let at = 4;
  for (let i = 0; i < entries.length; i++) {
    const value = (entries[i] as Entries[number])[1];
    buffer[at] = value.type;
    at = 1 + at + (names[i] as Buffer).copy(buffer, at + 1);
    buffer[at] = 0;
    at = 1 + at + value.bytes.copy(buffer, at + 1);
  }
  buffer[size - 1] = 0;
  return buffer;
}

export const rawDocument = (entries: Entries): Raw => ({ type: TYPE.document, bytes: encode(entries) });

export const rawArray = (values: readonly Raw[]): Raw => ({
  type: TYPE.array,
  bytes: encode(values.map((value, index) => [String(index), value] as const)),
});
