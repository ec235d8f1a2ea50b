import { compareAscii, compareIntegers, type Compare } from '../../core/key-order.ts';
import type { Relation } from '../../core/table.ts';
import { firstKeyByBytes } from './catalog.ts';

/**
 * Compares values of the first key column by their text the way the server compares the values, or null where only the
 * server can (collated text, enums, numeric, float, types of extensions).
 */
export function keyComparator(relation: Relation): Compare | null {
  const column = relation.columns[relation.key[0] ?? -1];
  if (column === undefined) return null;
  switch (column.kind) {
    case 'integer':
      return compareIntegers;
    case 'uuid':
    case 'bytes':
    case 'boolean':
    case 'time':
      // Fixed-width lower-case text, or digits where a shorter one is the smaller one.
      return compareAscii;
    case 'date':
    case 'timestamp':
    case 'timestamptz':
      return compareDates;
    case 'text':
      return firstKeyByBytes(relation) ? compareBytes : null;
    case 'decimal':
    case 'float':
    case 'interval':
    case 'json':
    case 'array':
    case 'document':
    case 'other':
      return null;
  }
}

/** UTF-8 order is code point order; UTF-16 order differs where surrogates meet U+E000 to U+FFFF. */
const compareBytes: Compare = (left, right) => {
  const a = String(left);
  const b = String(right);
  const length = Math.min(a.length, b.length);
  for (let index = 0; index < length; index++) {
    const x = a.charCodeAt(index);
    const y = b.charCodeAt(index);
    if (x !== y) return weight(x) - weight(y);
  }
  return a.length - b.length;
};

const weight = (unit: number): number =>
  unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800;

/** ISO dates: `infinity`, `-infinity`, ` BC`, years of more than four digits. timestamptz is always printed in UTC. */
const compareDates: Compare = (left, right) => {
  const a = String(left);
  const b = String(right);
  if (a === b) return 0;
  const yearA = yearOf(a);
  const yearB = yearOf(b);
  if (yearA !== yearB) return yearA < yearB ? -1 : 1;
  const restA = a.slice(a.indexOf('-', 1));
  const restB = b.slice(b.indexOf('-', 1));
  return restA < restB ? -1 : restA > restB ? 1 : 0;
};

function yearOf(text: string): number {
  if (text === 'infinity') return Infinity;
  if (text === '-infinity') return -Infinity;
  const year = Number(text.slice(0, text.indexOf('-', 1)));
  return text.endsWith(' BC') ? 1 - year : year;
}
