import { Decimal128 } from 'mongodb';
import {
  DocumentMisfit,
  type DocumentCell,
  type DocumentFormat,
  type DocumentPath,
  type DocumentTextKind,
  type DocumentValue,
} from '../../core/document.ts';
import {
  TYPE,
  asBuffer,
  encode,
  fields,
  numberOf,
  rawBoolean,
  rawInt,
  rawNull,
  rawString,
  textOf,
  type Field,
  type Raw,
} from './bson.ts';
import { documentEditor } from './document-edit.ts';
import { keyTextOf } from './key.ts';

interface ValueType {
  readonly byte: number;
  readonly kind: DocumentTextKind;
  readonly make: (text: string) => Raw;
}

const TYPES: Readonly<Record<string, ValueType>> = {
  string: { byte: TYPE.string, kind: 'text', make: rawString },
  int: { byte: TYPE.int32, kind: 'integer', make: (text) => rawInt(Number(whole(text, 32, 'an int'))) },
  long: { byte: TYPE.int64, kind: 'integer', make: (text) => long(whole(text, 64, 'a long')) },
  double: { byte: TYPE.double, kind: 'float', make: double },
  decimal: { byte: TYPE.decimal128, kind: 'decimal', make: decimal },
  bool: { byte: TYPE.boolean, kind: 'boolean', make: (text) => rawBoolean(text === 't') },
  date: { byte: TYPE.date, kind: 'timestamptz', make: date },
  objectid: { byte: TYPE.objectId, kind: 'text', make: objectId },
};

/** Paths and types of BSON for the mapping. Documents are never made into objects: what is not touched stays the bytes that came. */
export const documentFormat: DocumentFormat = {
  types: Object.fromEntries(Object.entries(TYPES).map(([word, { kind }]) => [word, kind])),
  reader: (paths) => (document) => paths.map((path) => valueAt(bytesOf(document), path)),
  text: (value) => textOfValue(value as Raw),
  value: (type, text) => (text === null ? rawNull : typeNamed(type).make(text)),
  isOf: (value, type) => (value as Raw).type === typeNamed(type).byte,
  key: (document) => {
    const id = only(bytesOf(document), '_id');
    if (id === null) throw new DocumentMisfit('has no _id');
    const refused = NO_KEY[id.type];
    if (refused !== undefined) throw new DocumentMisfit(`has an _id that is ${refused}`);
    return keyTextOf(id);
  },
  editor: (edit) => {
    const apply = documentEditor(edit);
    return (document, values) => apply(bytesOf(document), values as readonly (Raw | null)[]);
  },
  elements: (value) => {
    const { type, bytes } = value as Raw;
    if (type === TYPE.null || type === TYPE.undefined) return [];
    return type === TYPE.array ? [...fields(bytes)] : null;
  },
  unordered: (document) => sorted(bytesOf(document)).toString('latin1'),
};

const typeNamed = (word: string): ValueType => TYPES[word] as ValueType;

const bytesOf = (cell: DocumentCell): Buffer => asBuffer(cell as Uint8Array);

function valueAt(document: Buffer, path: DocumentPath): DocumentValue | null {
  let within = document;
  for (const [index, name] of path.entries()) {
    const field = only(within, name);
    if (field === null) return null;
    if (index === path.length - 1) return field;
    if (field.type === TYPE.array) throw new DocumentMisfit(`has an array on the way (${name})`);
    // What is no document has nothing inside it.
    if (field.type !== TYPE.document) return null;
    within = field.bytes;
  }
  return null;
}

/** The field of that name. @throws DocumentMisfit when there are two: servers differ about which one counts */
function only(document: Buffer, name: string): Field | null {
  let found: Field | null = null;
  for (const field of fields(document)) {
    if (field.name !== name) continue;
    if (found !== null) throw new DocumentMisfit(`is there twice (${name})`);
    found = field;
  }
  return found;
}

function textOfValue(value: Raw): string | null {
  const { type, bytes } = value;
  switch (type) {
    case TYPE.string: {
      const text = textOf(value);
      if (text.includes('\ufffd') && !rawString(text).bytes.equals(bytes))
        throw new DocumentMisfit('is text that is no UTF-8');
      return text;
    }
    case TYPE.int32:
      return String(numberOf(value));
    case TYPE.int64:
      return String(bytes.readBigInt64LE());
    case TYPE.double: {
      const number = numberOf(value);
      return Object.is(number, -0) ? '-0' : String(number);
    }
    case TYPE.decimal128:
      return new Decimal128(Uint8Array.from(bytes)).toString();
    case TYPE.boolean:
      return bytes[0] === 1 ? 'true' : 'false';
    case TYPE.date: {
      const moment = new Date(Number(bytes.readBigInt64LE()));
      const year = moment.getUTCFullYear();
      if (!(year >= 1 && year <= 9_999)) throw new DocumentMisfit('is a date that far away');
      return moment.toISOString();
    }
    case TYPE.objectId:
      return bytes.toString('hex');
    case TYPE.null:
    case TYPE.undefined:
      return null;
    default:
      throw new DocumentMisfit(NO_TEXT[type] ?? 'is of a type that has no text');
  }
}

const NO_TEXT: Readonly<Record<number, string>> = {
  [TYPE.document]: 'is a document',
  [TYPE.array]: 'is an array',
  [TYPE.binary]: 'is binary',
};

/** What the server does not take as an `_id`. */
const NO_KEY: Readonly<Record<number, string>> = {
  [TYPE.array]: 'an array',
  [TYPE.regex]: 'a regular expression',
  [TYPE.undefined]: 'undefined',
};

function whole(text: string, bits: number, what: string): bigint {
  const value = /^-?\d+$/.test(text) ? BigInt(text) : null;
  if (value === null || BigInt.asIntN(bits, value) !== value)
    throw new DocumentMisfit(`does not fit ${what}`);
  return value;
}

const eight = (write: (to: Buffer) => unknown): Buffer => {
  const bytes = Buffer.allocUnsafe(8);
  write(bytes);
  return bytes;
};

const long = (value: bigint): Raw => ({ type: TYPE.int64, bytes: eight((to) => to.writeBigInt64LE(value)) });

function double(text: string): Raw {
  const value = text === '-0' ? -0 : Number(text);
  if (Number.isNaN(value) && text !== 'NaN') throw new DocumentMisfit('is not a number');
  return { type: TYPE.double, bytes: eight((to) => to.writeDoubleLE(value)) };
}

function decimal(text: string): Raw {
  try {
    // Refuses what would be rounded.
    return { type: TYPE.decimal128, bytes: Buffer.from(Decimal128.fromString(text).bytes) };
  } catch {
    throw new DocumentMisfit('does not fit a decimal');
  }
}

const MOMENT = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,3}))?\+00$/;

/** From the text of a moment in UTC. */
function date(text: string): Raw {
  const parts = MOMENT.exec(text);
  if (parts === null) throw new DocumentMisfit('is no date of the years 1 to 9999 in whole milliseconds');
  const ms = Date.parse(`${parts[1]}T${parts[2]}.${(parts[3] ?? '').padEnd(3, '0')}Z`);
  return { type: TYPE.date, bytes: eight((to) => to.writeBigInt64LE(BigInt(ms))) };
}

function objectId(text: string): Raw {
  if (!/^[0-9a-f]{24}$/.test(text)) throw new DocumentMisfit('is not 24 hexadecimal digits in lower case');
  return { type: TYPE.objectId, bytes: Buffer.from(text, 'hex') };
}

/** Fields by name at every level; elements of arrays keep their places, and fields of one name their order. */
function sorted(document: Buffer): Buffer {
  const list = [...fields(document)].map(inside);
  list.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  return encode(list.map((field) => [field.name, field]));
}

function inside(field: Field): Field {
  if (field.type === TYPE.document) return { ...field, bytes: sorted(field.bytes) };
  if (field.type !== TYPE.array) return field;
  return { ...field, bytes: encode([...fields(field.bytes)].map((one) => [one.name, inside(one)])) };
}
