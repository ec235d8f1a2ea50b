/** Up to this length a loop over the characters is cheaper than a call into the runtime. */
const SHORT = 32;
/** Most bytes in UTF-8 of one unit of a JavaScript string; one that COPY has escaped takes two. */
export const WIDEST = 3;
/** More than this is given back when it was used. */
const KEPT_BYTES = 4 * 1024 * 1024;

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

/**
 * Bytes on their way to the server, written in place, one cell behind the other: put together as a string first, each cell would leave two or
 * three objects behind for the collector of garbage. {@link Bytes.room} comes before what it is for.
 */
export class Bytes {
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

  int16(value: number): void {
    this.#to[this.at++] = value >>> 8;
    this.#to[this.at++] = value;
  }

  int32(value: number): void {
    this.int32At(this.at, value);
    this.at += 4;
  }

  /** Where room was left for it. */
  int32At(at: number, value: number): void {
    const to = this.#to;
    to[at] = value >>> 24;
    to[at + 1] = value >>> 16;
    to[at + 2] = value >>> 8;
    to[at + 3] = value;
  }

  /** A whole number that a double holds exactly. */
  int64(value: number): void {
    const high = Math.floor(value / 0x1_0000_0000);
    this.int32(high);
    this.int32(value - high * 0x1_0000_0000);
  }

  bigint64(value: bigint): void {
    this.at = this.#to.writeBigInt64BE(value, this.at);
  }

  float64(value: number): void {
    this.at = this.#to.writeDoubleBE(value, this.at);
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
