import { BSON } from 'mongodb';
import { VerdigrisError } from '../../core/errors.ts';
import {
  TYPE,
  encode,
  fieldMap,
  fields,
  numberOf,
  rawArray,
  rawBoolean,
  rawDocument,
  rawInt,
  rawNull,
  rawString,
  type Raw,
} from './bson.ts';

/**
 * Levels of documents in one another that an update may reach into. The expression of a level is some nine levels itself, and the server
 * takes 200.
 */
const DEEPEST = 18;
/** More names than that are taken away by a filter instead of one expression in another. */
const MOST_NESTED = 4;
const TO_THE_END = 2_147_483_647;

export interface PatchOptions {
  /**
   * The document may already be what later changes made of it: what is not the document or array that is expected counts as an empty
   * one. The changes that follow put it right.
   */
  readonly lenient: boolean;
}

/**
 * The update of a change event as stages of an update pipeline, exactly: values stay the bytes that came, fields keep their places, new ones
 * go to the end in their order, and names with dots or dollars are names.
 *
 * The event's `diff` (format 2 of the log) has at each level: `d` names that go, `u` fields that change in place, `i` fields that are
 * taken away and put at the end, `s<name>` a level below; of an array `a: true`, `l` its new length, `u<n>` and `s<n>` elements.
 * @throws VerdigrisError SOURCE_PROTOCOL for what this version does not know
 */
export function patchStage(diff: Buffer, options: PatchOptions): Raw {
  const root = rawString('$$ROOT');
  return rawDocument([['$replaceWith', levelOf(diff, root, 0, options)]]);
}

const operator = (name: string, argument: Raw): Raw => rawDocument([[name, argument]]);
const literal = (value: Raw): Raw => operator('$literal', value);

function levelOf(diff: Buffer, input: Raw, depth: number, options: PatchOptions): Raw {
  if (depth > DEEPEST) {
    throw new VerdigrisError(
      'SCHEMA_UNSUPPORTED',
      `An update reaches into a document more than ${DEEPEST} levels deep.`,
      { remedy: 'Write the document as a whole instead, or move that part further up.' },
    );
  }
  const name = `l${depth}`;
  const here = rawString(`$$${name}`);
  const removed: Raw[] = [];
  const changed: Raw[] = [];
  const inside: Raw[] = [];
  const appended: Raw[] = [];
  for (const field of fields(diff)) {
    const section = field.name;
    if (section === 'd') for (const one of fields(field.bytes)) removed.push(rawString(one.name));
    else if (section === 'u') changed.push(literal(field));
    else if (section === 'i') {
      for (const one of fields(field.bytes)) removed.push(rawString(one.name));
      appended.push(literal(field));
    } else if (section.startsWith('s')) {
      const key = literal(rawString(section.slice(1)));
      const value = operator(
        '$getField',
        rawDocument([
          ['field', key],
          ['input', here],
        ]),
      );
      inside.push(
        rawDocument([
          ['k', key],
          ['v', partOf(field.bytes, value, depth + 1, options)],
        ]),
      );
    } else throw unknown(section);
  }
  const parts = [without(here, removed), ...changed];
  if (inside.length > 0) parts.push(operator('$arrayToObject', rawArray([rawArray(inside)])));
  parts.push(...appended);
  return bound(name, typed(input, 'object', options), operator('$mergeObjects', rawArray(parts)));
}

const partOf = (diff: Buffer, input: Raw, depth: number, options: PatchOptions): Raw =>
  isArrayDiff(diff) ? arrayOf(diff, input, depth, options) : levelOf(diff, input, depth, options);

function isArrayDiff(diff: Buffer): boolean {
  const [first] = fields(diff);
  return first?.name === 'a' && first.type === TYPE.boolean;
}

function without(input: Raw, names: readonly Raw[]): Raw {
  if (names.length <= MOST_NESTED) {
    return names.reduce(
      (from, name) =>
        operator(
          '$unsetField',
          rawDocument([
            ['field', literal(name)],
            ['input', from],
          ]),
        ),
      input,
    );
  }
  const gone = literal(rawArray(names));
  const kept = operator('$not', rawArray([operator('$in', rawArray([rawString('$$f.k'), gone]))]));
  const filtered = operator(
    '$filter',
    rawDocument([
      ['input', operator('$objectToArray', input)],
      ['as', rawString('f')],
      ['cond', kept],
    ]),
  );
  return operator('$arrayToObject', rawArray([filtered]));
}

function arrayOf(diff: Buffer, input: Raw, depth: number, options: PatchOptions): Raw {
  if (depth > DEEPEST) throw unknown('an array that deep');
  const name = `l${depth}`;
  const here = rawString(`$$${name}`);
  const elements: { readonly index: number; readonly value: Raw }[] = [];
  let length: number | null = null;
  for (const field of fields(diff)) {
    const index = Number(field.name.slice(1));
    if (field.name === 'a') continue;
    else if (field.name === 'l') length = numberOf(field);
    else if (field.name.startsWith('u') && Number.isInteger(index))
      elements.push({ index, value: literal(field) });
    else if (field.name.startsWith('s') && Number.isInteger(index)) {
      const element = operator('$arrayElemAt', rawArray([here, rawInt(index)]));
      elements.push({ index, value: partOf(field.bytes, element, depth + 1, options) });
    } else throw unknown(field.name);
  }
  const parts: Raw[] = [];
  let at = 0;
  for (const { index, value } of elements.sort((a, b) => a.index - b.index)) {
    if (index > at) parts.push(padded(here, at, index - at));
    parts.push(rawArray([value]));
    at = index + 1;
  }
  const rest = length === null ? TO_THE_END : length - at;
  if (rest > 0) parts.push(sliced(here, at, rest));
  const whole = parts.length === 0 ? literal(rawArray([])) : operator('$concatArrays', rawArray(parts));
  return bound(name, typed(input, 'array', options), whole);
}

const sliced = (array: Raw, from: number, count: number): Raw =>
  operator('$slice', rawArray([array, rawInt(from), rawInt(count)]));

/** A part of an array; elements that are not there are null, as the server fills them when one behind them is set. */
function padded(array: Raw, from: number, count: number): Raw {
  const missing = operator('$range', rawArray([operator('$size', rawString('$$p')), rawInt(count)]));
  const nulls = operator(
    '$map',
    rawDocument([
      ['input', missing],
      ['in', literal(rawNull)],
    ]),
  );
  return bound(
    'p',
    sliced(array, from, count),
    operator('$concatArrays', rawArray([rawString('$$p'), nulls])),
  );
}

const bound = (name: string, value: Raw, inside: Raw): Raw =>
  operator(
    '$let',
    rawDocument([
      ['vars', rawDocument([[name, value]])],
      ['in', inside],
    ]),
  );

function typed(input: Raw, type: 'object' | 'array', { lenient }: PatchOptions): Raw {
  if (!lenient) return input;
  const empty = literal(type === 'array' ? rawArray([]) : rawDocument([]));
  const is = operator('$eq', rawArray([operator('$type', input), rawString(type)]));
  return operator('$cond', rawArray([is, input, empty]));
}

const unknown = (what: string): VerdigrisError =>
  new VerdigrisError(
    'SOURCE_PROTOCOL',
    `An update of the log has a part this version does not know (${what.slice(0, 20)}).`,
  );

/** The diff of an event's raw update description. @throws VerdigrisError SOURCE_PROTOCOL */
export function diffOf(description: Buffer): Buffer {
  const parts = fieldMap(description);
  const version = parts.get('$v');
  const diff = parts.get('diff');
  if (version === undefined || numberOf(version) !== 2 || diff?.type !== TYPE.document)
    throw unknown('the version of its format');
  return diff.bytes;
}

/** `{ q, u }` that replaces the document. */
export const replaceStatement = (filter: Raw, document: Uint8Array, upsert: boolean): Buffer =>
  encode([
    ['q', filter],
    ['u', { type: TYPE.document, bytes: document as Buffer }],
    ...(upsert ? ([['upsert', rawBoolean(true)]] as const) : []),
  ]);

export const patchStatement = (filter: Raw, diffs: readonly Buffer[], options: PatchOptions): Buffer =>
  encode([
    ['q', filter],
    ['u', rawArray(diffs.map((diff) => patchStage(diff, options)))],
  ]);

export const deleteStatement = (filter: Raw): Buffer =>
  encode([
    ['q', filter],
    ['limit', rawInt(1)],
  ]);

/** @param condition as the driver takes it */
export const deleteManyStatement = (condition: object): Buffer =>
  Buffer.from(BSON.serialize({ q: condition, limit: new BSON.Int32(0) }));
