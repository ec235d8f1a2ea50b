import type { Tuple } from '../../core/table.ts';
import { cellText } from './sink-text.ts';

/**
 * Columns and rows of many cells as bytes for the server. They are written in place, one cell behind the other: put together as a string
 * first, each cell would leave two or three objects behind for the collector of garbage.
 */

const TEXT_OID = 25;
/** No dimension, no nulls, the element type. */
const NO_ROWS = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, TEXT_OID]);
const HEAD_BYTES = 20;
const NULL_LENGTH = 0xffff_ffff;
/** Up to this length a loop over the characters is cheaper than a call into the runtime. */
const SHORT = 32;
/** Most bytes in UTF-8 of one unit of a JavaScript string; one that COPY has escaped takes two. */
const WIDEST = 3;
/** More than this is given back when it was used. */
const KEPT_BYTES = 4 * 1024 * 1024;

const TAB = 0x09;
const LINE_FEED = 0x0a;
const BACKSLASH = 0x5c;
const CAPITAL_N = 0x4e;

/**
 * One column of many rows as text[] in the binary form of array_recv: dimensions, whether there are nulls, the element type, then size and
 * lower bound of the one dimension, then each element behind its length. Nothing is escaped here, and the server does not look at every
 * character to find where an element ends.
 */
export function textArrayBytes(rows: readonly Tuple[], column: number): Buffer {
  if (rows.length === 0) return NO_ROWS;
  const bytes = new Bytes();
  bytes.room(HEAD_BYTES);
  bytes.at = HEAD_BYTES;
  let nulls = 0;
  for (let index = 0; index < rows.length; index += 1) {
    const cell = cellText((rows[index] as Tuple)[column]);
    if (cell === null) {
      nulls = 1;
      bytes.room(4);
      bytes.int32(bytes.at, NULL_LENGTH);
      bytes.at += 4;
      continue;
    }
    bytes.room(4 + cell.length * WIDEST);
    const start = bytes.at;
    bytes.at = start + 4;
    bytes.text(cell);
    bytes.int32(start, bytes.at - start - 4);
  }
  [1, nulls, TEXT_OID, rows.length, 1].forEach((value, index) => bytes.int32(index * 4, value));
  return bytes.done();
}

/** Rows in the text format of COPY, LF terminated. */
export function copyBytes(rows: readonly Tuple[], columns: readonly number[]): Buffer {
  const bytes = new Bytes();
  for (let row = 0; row < rows.length; row += 1) {
    const tuple = rows[row] as Tuple;
    for (let index = 0; index < columns.length; index += 1) {
      const cell = cellText(tuple[columns[index] as number]);
      bytes.room(4 + (cell?.length ?? 0) * WIDEST);
      if (index > 0) bytes.byte(TAB);
      if (cell === null) {
        bytes.byte(BACKSLASH);
        bytes.byte(CAPITAL_N);
      } else bytes.escaped(cell);
    }
    bytes.room(1);
    bytes.byte(LINE_FEED);
  }
  return bytes.done();
}

const SPECIAL = /[\\\n\r\t\b\f\v]/;
const SPECIALS = /[\\\n\r\t\b\f\v]/g;
const ESCAPED: Readonly<Record<string, string>> = {
  '\\': '\\\\',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\b': '\\b',
  '\f': '\\f',
  '\v': '\\v',
};

/** By code: characters that are one byte, and of them those that COPY takes as they are. */
const ASCII = new Uint8Array(128).fill(1);
const PLAIN = ASCII.map((_, code) => (SPECIAL.test(String.fromCharCode(code)) ? 0 : 1));

/** Node's own, which does not look at its arguments. */
type Utf8Buffer = Buffer & { utf8Write(text: string, offset: number): number };

/** Written anew by whoever comes next; nothing here waits. */
let shared = Buffer.allocUnsafeSlow(256 * 1024) as Utf8Buffer;

class Bytes {
  at = 0;
  #to = shared;

  /** So many more bytes fit. */
  room(bytes: number): void {
    if (this.at + bytes <= this.#to.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(2 * this.#to.length, this.at + bytes)) as Utf8Buffer;
    this.#to.copy(larger, 0, 0, this.at);
    this.#to = larger;
    if (larger.length <= KEPT_BYTES) shared = larger;
  }

  byte(value: number): void {
    this.#to[this.at++] = value;
  }

  int32(at: number, value: number): void {
    const to = this.#to;
    to[at] = value >>> 24;
    to[at + 1] = value >>> 16;
    to[at + 2] = value >>> 8;
    to[at + 3] = value;
  }

  text(text: string): void {
    if (!this.#short(text, ASCII)) this.at += this.#to.utf8Write(text, this.at);
  }

  /** For the text format of COPY. */
  escaped(text: string): void {
    if (this.#short(text, PLAIN)) return;
    const plain = SPECIAL.test(text) ? text.replace(SPECIALS, (found) => ESCAPED[found] as string) : text;
    this.at += this.#to.utf8Write(plain, this.at);
  }

  /** Writes a short text whose characters are all among those; false: it is none, and nothing counts as written. */
  #short(text: string, among: Uint8Array): boolean {
    const { length } = text;
    if (length > SHORT) return false;
    const to = this.#to;
    const { at } = this;
    for (let index = 0; index < length; index += 1) {
      const code = text.charCodeAt(index);
      if (among[code] !== 1) return false;
      to[at + index] = code;
    }
    this.at = at + length;
    return true;
  }

  done(): Buffer {
    return Buffer.from(this.#to.subarray(0, this.at));
  }
}
