import { isUtf8 } from 'node:buffer';

/** Methods of Buffer that its type does not name; they skip the argument handling of `toString`. */
interface Slices {
  latin1Slice(start: number, end: number): string;
  utf8Slice(start: number, end: number): string;
}

const SINGLE = Array.from({ length: 128 }, (_, code) => String.fromCharCode(code));
/** Below this, building the string in place costs a quarter of a call into the runtime (25 against 100 ns). */
const SHORT = 12;

/**
 * The bytes `[start, end)` as text, or null when they are not UTF-8. `ascii` promises that no byte has its high bit set.
 */
export function textOf(buffer: Buffer, start: number, end: number, ascii: boolean): string | null {
  const length = end - start;
  if (length <= SHORT && (ascii || isAscii(buffer, start, end))) return short(buffer, start, length);
  if (ascii) return (buffer as Buffer & Slices).latin1Slice(start, end);
  const decoded = (buffer as Buffer & Slices).utf8Slice(start, end);
  // The slice replaces what is not UTF-8. The search is free for the strings that V8 holds in one byte per character.
  return decoded.includes('\uFFFD') && !isUtf8(buffer.subarray(start, end)) ? null : decoded;
}

/** The bytes from `start` on are `text`, all of it ASCII: a text with other characters has another number of bytes or is not compared. */
export function isText(buffer: Buffer, start: number, text: string): boolean {
  // From the end: numbers, times and keys of one column differ there first.
  for (let at = text.length - 1; at >= 0; at--) {
    const byte = buffer[start + at] as number;
    if (byte > 0x7f || byte !== text.charCodeAt(at)) return false;
  }
  return true;
}

function isAscii(buffer: Buffer, start: number, end: number): boolean {
  let bits = 0;
  for (let at = start; at < end; at++) bits |= buffer[at] as number;
  return bits < 0x80;
}

function short(b: Buffer, o: number, length: number): string {
  switch (length) {
    case 0:
      return '';
    case 1:
      return SINGLE[b[o] as number] ?? String.fromCharCode(b[o] as number);
    case 2:
      return String.fromCharCode(b[o] as number, b[o + 1] as number);
    case 3:
      return String.fromCharCode(b[o] as number, b[o + 1] as number, b[o + 2] as number);
    case 4:
      return String.fromCharCode(b[o] as number, b[o + 1] as number, b[o + 2] as number, b[o + 3] as number);
    case 5:
      return String.fromCharCode(
        b[o] as number,
        b[o + 1] as number,
        b[o + 2] as number,
        b[o + 3] as number,
        b[o + 4] as number,
      );
    case 6:
      return String.fromCharCode(
        b[o] as number,
        b[o + 1] as number,
        b[o + 2] as number,
        b[o + 3] as number,
        b[o + 4] as number,
        b[o + 5] as number,
      );
    case 7:
      return String.fromCharCode(
        b[o] as number,
        b[o + 1] as number,
        b[o + 2] as number,
        b[o + 3] as number,
        b[o + 4] as number,
        b[o + 5] as number,
        b[o + 6] as number,
      );
    case 8:
      return String.fromCharCode(
        b[o] as number,
        b[o + 1] as number,
        b[o + 2] as number,
        b[o + 3] as number,
        b[o + 4] as number,
        b[o + 5] as number,
        b[o + 6] as number,
        b[o + 7] as number,
      );
    case 9:
      return String.fromCharCode(
        b[o] as number,
        b[o + 1] as number,
        b[o + 2] as number,
        b[o + 3] as number,
        b[o + 4] as number,
        b[o + 5] as number,
        b[o + 6] as number,
        b[o + 7] as number,
        b[o + 8] as number,
      );
    case 10:
      return String.fromCharCode(
        b[o] as number,
        b[o + 1] as number,
        b[o + 2] as number,
        b[o + 3] as number,
        b[o + 4] as number,
        b[o + 5] as number,
        b[o + 6] as number,
        b[o + 7] as number,
        b[o + 8] as number,
        b[o + 9] as number,
      );
    case 11:
      return String.fromCharCode(
        b[o] as number,
        b[o + 1] as number,
        b[o + 2] as number,
        b[o + 3] as number,
        b[o + 4] as number,
        b[o + 5] as number,
        b[o + 6] as number,
        b[o + 7] as number,
        b[o + 8] as number,
        b[o + 9] as number,
        b[o + 10] as number,
      );
    case 12:
      return String.fromCharCode(
        b[o] as number,
        b[o + 1] as number,
        b[o + 2] as number,
        b[o + 3] as number,
        b[o + 4] as number,
        b[o + 5] as number,
        b[o + 6] as number,
        b[o + 7] as number,
        b[o + 8] as number,
        b[o + 9] as number,
        b[o + 10] as number,
        b[o + 11] as number,
      );
    default:
      return (b as Buffer & Slices).latin1Slice(o, o + length);
  }
}
