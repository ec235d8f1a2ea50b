import type { Cell, Kind } from '../core/table.ts';
import { textOf } from './operations/operation.ts';

/**
 * Cells as a module's function or a CEL condition sees them: integers as bigint, booleans as boolean, floats as number, null as null,
 * everything else as canonical text.
 */
export function scriptValue(kind: Kind): (cell: Cell) => unknown {
  switch (kind) {
    case 'integer':
      return (cell) => (cell === null ? null : typeof cell === 'string' ? BigInt(cell) : cell);
    case 'float':
      return (cell) => (cell === null ? null : Number(cell));
    case 'boolean':
      return (cell) => (cell === null ? null : cell === 't' || cell === true);
    default:
      return (cell) => textOf(cell);
  }
}

/**
 * As {@link scriptValue}, but decimals are numbers, so that `row.price > 9.5` compares as it reads. CEL has no decimal: numbers that
 * differ only after the 15th digit are equal in a condition.
 */
export const conditionValue = (kind: Kind): ((cell: Cell) => unknown) =>
  kind === 'decimal' ? scriptValue('float') : scriptValue(kind);
