import { VerdigrisError } from '../../core/errors.ts';
import { UNCHANGED, type Cell, type Tuple } from '../../core/table.ts';

/** A cell as the text that the server's input functions take; null is NULL. */
export function cellText(cell: Cell | undefined): string | null {
  if (typeof cell === 'string') return cell;
  if (cell === null) return null;
  if (cell === undefined || cell === UNCHANGED) {
    throw new VerdigrisError('INTERNAL', 'A cell that is not known was about to be written.');
  }
  if (typeof cell === 'boolean') return cell ? 't' : 'f';
  if (cell instanceof Uint8Array)
    return `\\x${Buffer.from(cell.buffer, cell.byteOffset, cell.byteLength).toString('hex')}`;
  if (typeof cell === 'object') return JSON.stringify(cell);
  return String(cell);
}

const ESCAPE = /["\\]/g;

/** A list of texts as a literal of text[]. Every element is quoted, so that NULL, spaces, braces and commas need no look. */
export const textArray = (values: readonly (string | null)[]): string =>
  `{${values.map((value) => (value === null ? 'NULL' : `"${value.replace(ESCAPE, '\\$&')}"`)).join(',')}}`;

const TEXT_OID = 25;
const NULL_LENGTH = int32(0xffff_ffff);
const SHORT_LENGTHS = Array.from({ length: 256 }, (_, length) => int32(length));
/** Up to this length a loop over the characters is cheaper than a call into the runtime. */
const SHORT = 32;

/**
 * One column of many rows as text[] in the binary form of array_recv: dimensions, whether there are nulls, the element type, then size and
 * lower bound of the one dimension, then each element behind its length. Nothing is escaped here, and the server does not look at every
 * character to find where an element ends. Put together as a string of one character per byte, which becomes bytes in a single copy.
 */
export function textArrayBytes(rows: readonly Tuple[], column: number): Buffer {
  let nulls = 0;
  let text = '';
  for (let index = 0; index < rows.length; index += 1) {
    const cell = cellText((rows[index] as Tuple)[column]);
    if (cell === null) {
      nulls = 1;
      text += NULL_LENGTH;
    } else {
      const bytes = utf8(cell);
      text += (SHORT_LENGTHS[bytes.length] ?? int32(bytes.length)) + bytes;
    }
  }
  const dimension = rows.length === 0 ? '' : int32(rows.length) + int32(1);
  const head = int32(rows.length === 0 ? 0 : 1) + int32(nulls) + int32(TEXT_OID) + dimension;
  return Buffer.from(head + text, 'latin1');
}

/** A number as the four characters of its bytes, the highest first. */
function int32(value: number): string {
  return String.fromCharCode(value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
}

/** The bytes of a text, one character each; for ASCII that is the text. */
function utf8(cell: string): string {
  if (cell.length > SHORT)
    return Buffer.byteLength(cell) === cell.length ? cell : Buffer.from(cell).toString('latin1');
  for (let at = 0; at < cell.length; at += 1)
    if (cell.charCodeAt(at) > 0x7f) return Buffer.from(cell).toString('latin1');
  return cell;
}

const COPY_SPECIAL = /[\\\n\r\t\b\f\v]/;
const COPY_SPECIALS = /[\\\n\r\t\b\f\v]/g;
const COPY_ESCAPE: Readonly<Record<string, string>> = {
  '\\': '\\\\',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\b': '\\b',
  '\f': '\\f',
  '\v': '\\v',
};

/** Rows in the text format of COPY, LF terminated. */
export function copyText(rows: readonly Tuple[], columns: readonly number[]): string {
  let text = '';
  for (const row of rows) {
    for (let index = 0; index < columns.length; index += 1) {
      if (index > 0) text += '\t';
      const cell = cellText(row[columns[index] as number]);
      if (cell === null) text += '\\N';
      else
        text += COPY_SPECIAL.test(cell)
          ? cell.replace(COPY_SPECIALS, (found) => COPY_ESCAPE[found] as string)
          : cell;
    }
    text += '\n';
  }
  return text;
}

/** About how many bytes a row is on the wire; only for cutting statements. */
export function rowBytes(row: Tuple): number {
  let bytes = 8;
  for (const cell of row) {
    if (typeof cell === 'string') bytes += cell.length + 3;
    else if (cell instanceof Uint8Array) bytes += 2 * cell.byteLength;
    else bytes += 8;
  }
  return bytes;
}
