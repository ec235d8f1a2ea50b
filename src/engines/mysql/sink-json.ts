import type { Cell } from '../../core/table.ts';
import { text } from './cells.ts';
import { jsonDouble } from './decoder-json.ts';
import { literal } from './sql.ts';

const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const SPACE = /\s*/y;
const STRING = /"(?:[^"\\]|\\.)*"/y;
const WORD = /true|false|null/y;
/** A place in the text where a number may begin outside of a string. */
const ANY_FRACTION = /[:,[\s]-?\d*(\.\d|\d{16})|^-?\d+(\.|\d{15})/;
const LONG_NUMBER = /\d{15}/;

/**
 * JSON in a statement. The server reads a number with a point as a double; one that is a DECIMAL on the other side, with digits that a
 * double does not keep (or zeros that it does not print), is built from its parts so that it stays one.
 */
export function jsonExpression(cell: Cell): string {
  const json = text(cell);
  if (!ANY_FRACTION.test(json)) return literal(json);
  const built = new Reader(json).value();
  return built.exact ? literal(json) : built.sql;
}

/** The text brings back the value. Looks at ASCII only. Most documents have no point and no long number: they cost one look each. */
export const isExactText = (json: string): boolean =>
  (!json.includes('.') && !LONG_NUMBER.test(json)) ||
  !ANY_FRACTION.test(json) ||
  new Reader(json).value().exact;

interface Built {
  readonly sql: string;
  /** Plain text brings back the same value. */
  readonly exact: boolean;
}

class Reader {
  readonly #json: string;
  #at = 0;

  constructor(json: string) {
    this.#json = json;
  }

  value(): Built {
    this.#match(SPACE);
    const start = this.#at;
    const char = this.#json[start];
    if (char === '{') return this.#list('}', 'JSON_OBJECT', start);
    if (char === '[') return this.#list(']', 'JSON_ARRAY', start);
    const number = this.#match(NUMBER);
    if (number !== null) return numberOf(number);
    const plain = this.#match(STRING) ?? this.#match(WORD);
    // Not JSON: the server says so.
    if (plain === null) this.#at = this.#json.length;
    return this.#plain(start);
  }

  #plain(start: number): Built {
    return { sql: `CAST(${literal(this.#json.slice(start, this.#at))} AS JSON)`, exact: true };
  }

  #list(end: string, maker: string, start: number): Built {
    const parts: string[] = [];
    let exact = true;
    this.#at += 1;
    for (;;) {
      this.#match(SPACE);
      if (this.#json[this.#at] === end || this.#at >= this.#json.length) break;
      if (end === '}') {
        const key = this.#match(STRING) ?? '""';
        parts.push(literal(JSON.parse(key) as string));
        this.#match(SPACE);
        this.#at += 1;
      }
      const built = this.value();
      parts.push(built.sql);
      exact &&= built.exact;
      this.#match(SPACE);
      if (this.#json[this.#at] === ',') this.#at += 1;
    }
    this.#at += 1;
    return exact ? this.#plain(start) : { sql: `${maker}(${parts.join(',')})`, exact: false };
  }

  #match(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#json);
    if (found === null) return null;
    this.#at += found[0].length;
    return found[0];
  }
}

function numberOf(number: string): Built {
  const plain: Built = { sql: `CAST(${literal(number)} AS JSON)`, exact: true };
  if (/[eE]/.test(number)) return plain;
  if (!number.includes('.')) {
    const value = BigInt(number);
    return value >= -(2n ** 63n) && value < 2n ** 64n ? plain : asDecimal(number);
  }
  return jsonDouble(Number(number)) === number ? plain : asDecimal(number);
}

function asDecimal(number: string): Built {
  const scale = number.includes('.') ? number.length - number.indexOf('.') - 1 : 0;
  const digits = number.replace(/[-.]/g, '').replace(/^0+(?=\d)/, '').length;
  return {
    sql: `CAST(${literal(number)} AS DECIMAL(${Math.min(65, Math.max(digits, scale, 1))},${scale}))`,
    exact: false,
  };
}
