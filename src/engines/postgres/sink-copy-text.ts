import type { Tuple } from '../../core/table.ts';
import { Bytes, WIDEST } from './sink-buffer.ts';
import { cellText } from './sink-text.ts';

const TAB = 0x09;
const LINE_FEED = 0x0a;
const BACKSLASH = 0x5c;
const CAPITAL_N = 0x4e;

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
