import type { Cell } from './table.ts';

/** The order of two values of one column, by their text. */
export type Compare = (left: Cell, right: Cell) => number;

export const compareIntegers: Compare = (left, right) => {
  const a = String(left);
  const b = String(right);
  if (a.length < 16 && b.length < 16) return Number(a) - Number(b);
  const difference = BigInt(a) - BigInt(b);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
};

/** For text of ASCII letters whose order is that of the values: two digits a byte, fixed places, moments in UTC. */
export const compareAscii: Compare = (left, right) => {
  const a = String(left);
  const b = String(right);
  return a < b ? -1 : a > b ? 1 : 0;
};
