/**
 * JSON as text. Numbers are never turned into JavaScript numbers: 2^53 + 1 and 0.10 must arrive as they were written.
 * Every function throws {@link NotJson} for text that is not JSON.
 */
export class NotJson extends Error {}

const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /true|false|null/y;
const SPACE = /[ \t\n\r]*/y;
/** Deeper than any server lets in; keeps the recursion off the end of the stack. */
const MOST_DEPTH = 2_000;

/** Reports the parts of one value while it is scanned; offsets into the text. */
interface Visitor {
  element?(start: number, end: number, index: number): void;
  member?(key: string, start: number, end: number): void;
}

/** Raw text of the value without surrounding space. Checks the whole text. */
export function jsonValue(text: string): string {
  const start = space(text, 0);
  const end = scan(text, start, 0, {});
  if (space(text, end) !== text.length) throw new NotJson('text after the value');
  return text.slice(start, end);
}

/** Raw texts of the elements of an array; null when the value is not an array. */
export function jsonElements(text: string): string[] | null {
  const start = space(text, 0);
  if (text[start] !== '[') {
    jsonValue(text);
    return null;
  }
  const elements: string[] = [];
  const end = scan(text, start, 0, { element: (from, to) => elements.push(text.slice(from, to)) });
  if (space(text, end) !== text.length) throw new NotJson('text after the value');
  return elements;
}

/** Raw text of what stands at the path, null when there is nothing. Of a key that is there twice the last one counts. */
export function jsonAt(text: string, path: readonly (string | number)[]): string | null {
  let value = text;
  for (const [depth, part] of path.entries()) {
    const start = space(value, 0);
    let found: string | null = null;
    const inner = value;
    const take = (from: number, to: number): void => {
      found = inner.slice(from, to);
    };
    const end = scan(inner, start, 0, {
      member: (key, from, to) => {
        if (key === String(part)) take(from, to);
      },
      element: (from, to, index) => {
        if (index === (typeof part === 'number' ? part : /^\d+$/.test(part) ? Number(part) : -1))
          take(from, to);
      },
    });
    if (depth === 0 && space(inner, end) !== inner.length) throw new NotJson('text after the value');
    if (found === null) return null;
    value = found;
  }
  return jsonValue(value);
}

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
      scan(raw, 0, 0, { member: (key, from, to) => members.set(key, raw.slice(from, to)) });
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

const space = (text: string, at: number): number => {
  SPACE.lastIndex = at;
  SPACE.test(text);
  return SPACE.lastIndex;
};

function token(pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at;
  if (!pattern.test(text)) throw new NotJson('not JSON');
  return pattern.lastIndex;
}

/** Checks the value that starts at `at` and returns where it ends; tells the visitor its direct parts. */
function scan(text: string, at: number, depth: number, visitor: Visitor): number {
  if (depth > MOST_DEPTH) throw new NotJson('nested too deeply');
  switch (text[at]) {
    case '"':
      return token(STRING, text, at);
    case 't':
    case 'f':
    case 'n':
      return token(WORD, text, at);
    case '[':
      return list(text, at, ']', (start, index) => {
        const end = scan(text, start, depth + 1, {});
        visitor.element?.(start, end, index);
        return end;
      });
    case '{':
      return list(text, at, '}', (start) => {
        const keyEnd = token(STRING, text, start);
        const colon = space(text, keyEnd);
        if (text[colon] !== ':') throw new NotJson('not JSON');
        const from = space(text, colon + 1);
        const end = scan(text, from, depth + 1, {});
        if (visitor.member) visitor.member(JSON.parse(text.slice(start, keyEnd)) as string, from, end);
        return end;
      });
    default:
      return token(NUMBER, text, at);
  }
}

function list(
  text: string,
  at: number,
  close: string,
  part: (start: number, index: number) => number,
): number {
  let next = space(text, at + 1);
  if (text[next] === close) return next + 1;
  for (let index = 0; ; index++) {
    next = space(text, part(next, index));
    if (text[next] === close) return next + 1;
    if (text[next] !== ',') throw new NotJson('not JSON');
    next = space(text, next + 1);
  }
}
