import type { Cell, Column } from '../core/table.ts';
import { parseDecimal, showDecimal, stripZeros } from './decimal.ts';
import { canonicalJson, NotJson } from './json-text.ts';
import { typeOf } from './type-word.ts';

/** Brings equal values of a column to one text. For comparison only, never for writing. */
export type Canonical = (cell: Cell) => Cell;

/** One spelling of a number; what is none stays as it is. */
export function canonicalNumber(text: string): string {
  const number = parseDecimal(text);
  return number === null ? text : showDecimal(stripZeros(number));
}

/** Null where equal values have equal text anyway. */
export function canonicalOf(column: Column): Canonical | null {
  const apply = spelling(column);
  return apply === null ? null : (cell) => (typeof cell === 'string' ? apply(cell) : cell);
}

function spelling(column: Column): ((text: string) => string) | null {
  switch (column.kind) {
    case 'decimal':
      return canonicalNumber;
    case 'float':
      // -0 and 0 are equal; String(-0) is '0'.
      return (text) => {
        const number = Number(text);
        return Number.isNaN(number) ? text : String(number);
      };
    case 'json':
      return (text) => {
        try {
          return canonicalJson(text, canonicalNumber);
        } catch (error) {
          if (error instanceof NotJson) return text;
          throw error;
        }
      };
    case 'text':
      return typeOf(column).padded ? (text) => text.replace(/ +$/, '') : null;
    default:
      return null;
  }
}
