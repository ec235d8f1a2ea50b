import type { Tuple } from '../../core/table.ts';
import { Bytes, WIDEST } from './sink-buffer.ts';
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
