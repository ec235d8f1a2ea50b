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

/** About how many bytes a row is on the wire; only for cutting statements. */
export function rowBytes(row: Tuple): number {
  let bytes = 8;
  for (let index = 0; index < row.length; index += 1) {
    const cell = row[index];
    if (typeof cell === 'string') bytes += cell.length + 3;
    else if (cell instanceof Uint8Array) bytes += 2 * cell.byteLength;
    else bytes += 8;
  }
  return bytes;
}
