/**
 * JSON as text. Numbers are never turned into JavaScript numbers: 2^53 + 1 and 0.10 must arrive as they were written.
 * Every function throws {@link NotJson} for text that is not JSON.
 */
export class NotJson extends Error {}

/** Deeper than any server lets in; keeps the recursion off the end of the stack. */
const MOST_DEPTH = 2_000;

const SPACE = 0x20;
const QUOTE = 0x22;
const PLUS = 0x2b;
const COMMA = 0x2c;
const MINUS = 0x2d;
const POINT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
const COLON = 0x3a;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const LOWER_U = 0x75;
const OPEN_MAP = 0x7b;
const CLOSE_MAP = 0x7d;
const ESCAPES = '"\\/bfnrt';

/** Is told the direct parts of a value while it is checked; offsets into the text. */
export interface Visitor {
  /** Is told the parts of each element, before it is told the element. */
  readonly inside?: Visitor;
  element?(start: number, end: number): void;
  /** @param key offset of the quote before the key; `keyEnd` is behind the one after it */
  member?(key: number, keyEnd: number, start: number, end: number): void;
}

/** Raw text of the value without surrounding space. Checks the whole text. */
export function jsonValue(text: string): string {
  const end = whole(text, null);
  return text.slice(space(text, 0), end);
}

/** Raw texts of the elements of an array; null when the value is not an array. */
export function jsonElements(text: string): string[] | null {
  const elements: string[] = [];
  whole(text, { element: (from, to) => void elements.push(text.slice(from, to)) });
  return jsonIsArray(text) ? elements : null;
}

/** Of a text that is JSON. */
export const jsonIsArray = (text: string): boolean => text.charCodeAt(space(text, 0)) === OPEN_LIST;

/** The text a scalar stands for: strings decoded, numbers and words as written; null for the word null. */
export function jsonText(raw: string): string | null {
  if (raw === 'null') return null;
  // Only the string token itself: JSON.parse never sees a number here.
  return raw[0] === '"' ? (JSON.parse(raw) as string) : raw;
}

export type JsonShape = 'object' | 'array' | 'string' | 'number' | 'word';

export function jsonShape(raw: string): JsonShape {
  switch (raw[0]) {
    case '{':
      return 'object';
    case '[':
      return 'array';
    case '"':
      return 'string';
    case 't':
    case 'f':
    case 'n':
      return 'word';
    default:
      return 'number';
  }
}

/**
 * One text for equal values: no space, keys sorted, the last of equal keys, strings and numbers in one spelling. For comparison only.
 * @param number spells a number
 */
export function canonicalJson(text: string, number: (raw: string) => string): string {
  const raw = jsonValue(text);
  switch (jsonShape(raw)) {
    case 'array': {
      const elements = jsonElements(raw) as string[];
      return `[${elements.map((element) => canonicalJson(element, number)).join(',')}]`;
    }
    case 'object': {
      const members = new Map<string, string>();
      scan(raw, 0, 0, {
        member: (key, keyEnd, from, to) =>
          void members.set(JSON.parse(raw.slice(key, keyEnd)) as string, raw.slice(from, to)),
      });
      const keys = [...members.keys()].sort();
      return `{${keys.map((key) => `${JSON.stringify(key)}:${canonicalJson(members.get(key) as string, number)}`).join(',')}}`;
    }
    case 'string':
      return JSON.stringify(JSON.parse(raw) as string);
    case 'number':
      return number(raw);
    case 'word':
      return raw;
  }
}

/** Checks the whole text; returns where its value ends. */
export function whole(text: string, visitor: Visitor | null): number {
  const end = scan(text, space(text, 0), 0, visitor);
  if (space(text, end) !== text.length) throw new NotJson('text after the value');
  return end;
}

/** Whether the string between two quotes stands for `name`. */
export function sameKey(text: string, start: number, end: number, name: string): boolean {
  const escape = text.indexOf('\\', start);
  if (escape < 0 || escape >= end) return end - start === name.length + 2 && text.startsWith(name, start + 1);
  return JSON.parse(text.slice(start, end)) === name;
}

/** Where the space that may stand at `at` ends. */
function space(text: string, at: number): number {
  let next = at;
  for (;;) {
    const code = text.charCodeAt(next);
    if (code !== SPACE && code !== 0x0a && code !== 0x0d && code !== 0x09) return next;
    next += 1;
  }
}

/** Checks the value that starts at `at` and returns where it ends; tells the visitor its direct parts. */
export function scan(text: string, at: number, depth: number, visitor: Visitor | null): number {
  if (depth > MOST_DEPTH) throw new NotJson('nested too deeply');
  switch (text.charCodeAt(at)) {
    case QUOTE:
      return string(text, at);
    case OPEN_LIST:
      return list(text, at, depth, visitor);
    case OPEN_MAP:
      return map(text, at, depth, visitor);
    case 0x74:
      return word(text, at, 'true');
    case 0x66:
      return word(text, at, 'false');
    case 0x6e:
      return word(text, at, 'null');
    default:
      return number(text, at);
  }
}

function list(text: string, at: number, depth: number, visitor: Visitor | null): number {
  let next = space(text, at + 1);
  if (text.charCodeAt(next) === CLOSE_LIST) return next + 1;
  for (;;) {
    const end = scan(text, next, depth + 1, visitor?.inside ?? null);
    visitor?.element?.(next, end);
    next = space(text, end);
    const code = text.charCodeAt(next);
    if (code === CLOSE_LIST) return next + 1;
    if (code !== COMMA) throw new NotJson('not JSON');
    next = space(text, next + 1);
  }
}

function map(text: string, at: number, depth: number, visitor: Visitor | null): number {
  let next = space(text, at + 1);
  if (text.charCodeAt(next) === CLOSE_MAP) return next + 1;
  for (;;) {
    const keyEnd = string(text, next);
    const colon = space(text, keyEnd);
    if (text.charCodeAt(colon) !== COLON) throw new NotJson('not JSON');
    const start = space(text, colon + 1);
    const end = scan(text, start, depth + 1, null);
    visitor?.member?.(next, keyEnd, start, end);
    next = space(text, end);
    const code = text.charCodeAt(next);
    if (code === CLOSE_MAP) return next + 1;
    if (code !== COMMA) throw new NotJson('not JSON');
    next = space(text, next + 1);
  }
}

function string(text: string, at: number): number {
  if (text.charCodeAt(at) !== QUOTE) throw new NotJson('not JSON');
  for (let next = at + 1; next < text.length; next += 1) {
    const code = text.charCodeAt(next);
    if (code === QUOTE) return next + 1;
    if (code < SPACE) break;
    if (code !== BACKSLASH) continue;
    next += 1;
    if (text.charCodeAt(next) === LOWER_U) {
      for (let digit = 0; digit < 4; digit += 1) {
        next += 1;
        if (!isHex(text.charCodeAt(next))) throw new NotJson('not JSON');
      }
    } else if (next >= text.length || !ESCAPES.includes(text[next] as string)) break;
  }
  throw new NotJson('not JSON');
}

function word(text: string, at: number, expected: string): number {
  if (!text.startsWith(expected, at)) throw new NotJson('not JSON');
  return at + expected.length;
}

function number(text: string, at: number): number {
  const start = text.charCodeAt(at) === MINUS ? at + 1 : at;
  let end = digits(text, start);
  // No zero before other digits.
  if (end > start + 1 && text.charCodeAt(start) === ZERO) end = start + 1;
  if (end === start) throw new NotJson('not JSON');
  if (text.charCodeAt(end) === POINT) {
    const fraction = digits(text, end + 1);
    if (fraction === end + 1) return end;
    end = fraction;
  }
  const letter = text.charCodeAt(end);
  if (letter !== 0x65 && letter !== 0x45) return end;
  const sign = text.charCodeAt(end + 1);
  const power = sign === PLUS || sign === MINUS ? end + 2 : end + 1;
  const last = digits(text, power);
  return last === power ? end : last;
}

/** Where the digits that may stand at `at` end. */
function digits(text: string, at: number): number {
  let next = at;
  for (;;) {
    const code = text.charCodeAt(next);
    if (!(code >= ZERO && code <= NINE)) return next;
    next += 1;
  }
}

const isHex = (code: number): boolean =>
  (code >= ZERO && code <= NINE) || (code >= 0x61 && code <= 0x66) || (code >= 0x41 && code <= 0x46);
