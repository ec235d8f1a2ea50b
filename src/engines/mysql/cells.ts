import { VerdigrisError } from '../../core/errors.ts';
import { UNCHANGED, type Cell } from '../../core/table.ts';
import type { LayoutColumn } from './catalog-layout.ts';
import { ident, literal } from './sql.ts';

/**
 * How a column's values become canonical text and back. There is one canonical text per value, whether a chunk or the binary log
 * brings it: numbers without padding, fractions of a second without zeros at the end, bytes as `\x…`, a TIMESTAMP in UTC with `+00`.
 */
export interface Codec {
  /** Expression that makes the server print the value exactly. */
  readonly select: string;
  /** What the server printed. */
  read(bytes: Buffer): string;
  /** The value in a statement. @throws VerdigrisError SINK_CONFLICT for what the server would change in silence */
  write(cell: Cell): string;
}

/** The codec of a column of a table; `alias` goes before its name. */
export function codecOf(column: LayoutColumn, alias = ''): Codec {
  const name = `${alias}${ident(column.name)}`;
  switch (column.dataType) {
    case 'tinyint':
    case 'smallint':
    case 'mediumint':
    case 'int':
    case 'bigint':
      // CONCAT: ZEROFILL is a matter of printing.
      return { select: `${name}+0`, read: ascii, write: (cell) => numeral(column, cell) };
    case 'year':
      return { select: `${name}+0`, read: ascii, write: (cell) => numeral(column, cell) };
    case 'bit':
      return { select: `${name}+0`, read: ascii, write: (cell) => numeral(column, cell) };
    case 'decimal':
      return {
        select: name,
        read: (bytes) => unpadded(ascii(bytes)),
        write: (cell) => decimal(column, cell),
      };
    case 'float':
    case 'double':
      // A FLOAT is printed with six digits unless it is made a double first.
      return {
        select: column.dataType === 'float' ? `${name}+0e0` : name,
        read: (bytes) => showFloat(Number(ascii(bytes))),
        write: (cell) => numeral(column, cell),
      };
    case 'date':
      return { select: name, read: ascii, write: quoted };
    case 'time':
    case 'datetime':
      return {
        select: name,
        read: (bytes) => trimFraction(ascii(bytes)),
        write: (cell) => moment(column, text(cell)),
      };
    case 'timestamp':
      return {
        select: name,
        read: (bytes) => `${trimFraction(ascii(bytes))}+00`,
        write: (cell) => moment(column, inUtc(column, text(cell))),
      };
    case 'json':
      return { select: `CAST(${name} AS CHAR CHARACTER SET utf8mb4)`, read: utf8, write: quoted };
    case 'char':
    case 'varchar':
    case 'tinytext':
    case 'text':
    case 'mediumtext':
    case 'longtext':
    case 'enum':
    case 'set':
      return { select: name, read: utf8, write: quoted };
    default:
      return { select: name, read: showBytes, write: (cell) => bytesLiteral(column, cell) };
  }
}

const ascii = (bytes: Buffer): string => bytes.toString('latin1');
const utf8 = (bytes: Buffer): string => bytes.toString('utf8');
export const showBytes = (bytes: Uint8Array): string =>
  `\\x${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')}`;

/** The shortest text that names the number; the server reads it back to the same bits. */
export const showFloat = (value: number): string => (Object.is(value, -0) ? '-0' : String(value));

/** ZEROFILL pads a DECIMAL. */
const unpadded = (digits: string): string => digits.replace(/^(-?)0+(?=\d)/, '$1');

/** Without zeros at the end, and without the point when nothing is left. */
export function trimFraction(moment: string): string {
  if (!moment.includes('.')) return moment;
  return moment.replace(/\.?0+$/, '');
}

export function text(cell: Cell): string {
  if (typeof cell === 'string') return cell;
  if (cell === null || cell === undefined || cell === UNCHANGED)
    throw new VerdigrisError('INTERNAL', 'A cell that is not known was about to be written.');
  if (cell instanceof Uint8Array) return showBytes(cell);
  if (typeof cell === 'boolean') return cell ? '1' : '0';
  return typeof cell === 'object' ? JSON.stringify(cell) : String(cell);
}

const quoted = (cell: Cell): string => literal(text(cell));

const NUMBER = /^-?\d+(\.\d+)?(e[+-]?\d+)?$/i;

function numeral(column: LayoutColumn, cell: Cell): string {
  const value = booleanDigit(text(cell));
  if (!NUMBER.test(value)) throw refused(column, 'it is no number');
  return value;
}

/** `t` and `f` are the canonical text of a boolean, which here is a TINYINT. */
const booleanDigit = (value: string): string => (value === 't' ? '1' : value === 'f' ? '0' : value);

function decimal(column: LayoutColumn, cell: Cell): string {
  const value = booleanDigit(text(cell));
  if (!NUMBER.test(value)) throw refused(column, 'it is no number');
  const scale = Number(/\(\d+,(\d+)\)/.exec(column.columnType)?.[1] ?? 0);
  const fraction = /\.(\d+)/.exec(value)?.[1]?.replace(/0+$/, '') ?? '';
  if (fraction.length > scale) throw refused(column, `the server would round it to ${scale} digits`);
  return value;
}

/** A date, time or both; digits of a second that the column does not keep would be rounded in silence. */
function moment(column: LayoutColumn, value: string): string {
  const fraction = /\.(\d+)$/.exec(value)?.[1]?.replace(/0+$/, '') ?? '';
  if (fraction.length > column.size)
    throw refused(column, `the server would round it to ${column.size} digits of a second`);
  return literal(value);
}

/** The session's zone is UTC, so the offset may go. */
function inUtc(column: LayoutColumn, value: string): string {
  const match = /^(.*?)(?:\+00(?::?00)?|Z)$/.exec(value);
  if (match === null) {
    if (/[+-]\d\d(:?\d\d)?$/.test(value.slice(11))) throw refused(column, 'its offset is not UTC');
    return value;
  }
  return match[1] as string;
}

function bytesLiteral(column: LayoutColumn, cell: Cell): string {
  const value = text(cell);
  if (!/^\\x([0-9a-f]{2})*$/i.test(value)) throw refused(column, 'it is not written as bytes');
  return value.length === 2 ? "''" : `0x${value.slice(2)}`;
}

const refused = (column: LayoutColumn, why: string): VerdigrisError =>
  new VerdigrisError(
    'SINK_CONFLICT',
    `A value does not fit column ${column.name} (${column.columnType}): ${why}.`,
    {
      context: { column: column.name },
    },
  );
