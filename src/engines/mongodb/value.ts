import {
  BSONRegExp,
  Binary,
  Code,
  Decimal128,
  Double,
  Int32,
  Long,
  MaxKey,
  MinKey,
  ObjectId,
  Timestamp,
} from 'mongodb';
import { VerdigrisError } from '../../core/errors.ts';
import { TYPE, fields, numberOf, rawString, textOf, type Raw } from './bson.ts';

/** Milliseconds a JavaScript date can hold. */
const DATE_LIMIT = 8_640_000_000_000_000n;

/**
 * A value as the driver sends it, exactly; documents are maps, which keep their order. For keys in filters and bounds, which cannot be sent
 * as bytes.
 * @throws VerdigrisError SCHEMA_UNSUPPORTED for what the driver cannot say
 */
export function valueOf(raw: Raw): unknown {
  const { type, bytes } = raw;
  switch (type) {
    case TYPE.double:
      return new Double(bytes.readDoubleLE());
    case TYPE.string: {
      const text = textOf(raw);
      if (text.includes('\ufffd') && !rawString(text).bytes.equals(bytes))
        throw unsayable('text that is no UTF-8');
      return text;
    }
    case TYPE.document:
      return new Map([...fields(bytes)].map((field) => [field.name, valueOf(field)]));
    case TYPE.array:
      return [...fields(bytes)].map(valueOf);
    case TYPE.binary:
      return new Binary(Uint8Array.from(bytes.subarray(5)), bytes[4]);
    case TYPE.objectId:
      return new ObjectId(bytes.toString('hex'));
    case TYPE.boolean:
      return bytes[0] === 1;
    case TYPE.date: {
      const ms = bytes.readBigInt64LE();
      if (ms > DATE_LIMIT || ms < -DATE_LIMIT) throw unsayable('a date that far away');
      return new Date(Number(ms));
    }
    case TYPE.null:
      return null;
    case TYPE.int32:
      return new Int32(numberOf(raw));
    case TYPE.int64:
      return Long.fromBigInt(bytes.readBigInt64LE());
    case TYPE.timestamp:
      return Timestamp.fromBits(bytes.readInt32LE(0), bytes.readInt32LE(4));
    case TYPE.decimal128:
      return new Decimal128(Uint8Array.from(bytes));
    case TYPE.code:
      return new Code(textOf(raw));
    case TYPE.regex: {
      const [pattern, options] = bytes.toString('utf8').split('\0');
      return new BSONRegExp(pattern ?? '', options);
    }
    case TYPE.minKey:
      return new MinKey();
    case TYPE.maxKey:
      return new MaxKey();
    default:
      throw unsayable(`the BSON type ${type}`);
  }
}

const unsayable = (what: string): VerdigrisError =>
  new VerdigrisError(
    'SCHEMA_UNSUPPORTED',
    `The _id of a document is ${what}, by which it cannot be asked for.`,
    {
      remedy: 'Give the document another _id, or leave the collection out.',
    },
  );
