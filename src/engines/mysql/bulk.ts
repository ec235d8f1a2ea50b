import type { Column } from '../../core/table.ts';
import { kindOf } from './kinds.ts';

/**
 * The format of a chunk that goes through untouched: values as the server prints them, texts in UTF-8 and enclosed, bytes as hexadecimal
 * digits. What separates and encloses them are bytes that no UTF-8 text holds, so that nothing has to be escaped on the way.
 */
export const FIELD = 0xff;
export const ENCLOSE = 0xfe;
export const LINE = 0xfd;

/** In the place of a row: the rows before it are not all of them, or not exactly what blue holds. */
export const NOT_WHOLE = 0xfc;
/** A field that is not enclosed. */
export const NULL_FIELD = Buffer.from('NULL');

export const inHex = (...bytes: readonly number[]): string => `X'${Buffer.from(bytes).toString('hex')}'`;

/** Kinds of columns by how a value of theirs travels. */
export type Travel = 'plain' | 'text' | 'json' | 'bits' | 'bytes';

export function travelOf(dataType: string): Travel {
  if (dataType === 'bit') return 'bits';
  const kind = kindOf(dataType);
  switch (kind) {
    case 'text':
    case 'json':
    case 'bytes':
      return kind;
    case 'other':
    case null:
      return 'bytes';
    default:
      return 'plain';
  }
}

/** The order of the fields in a row: JSON comes last, since the reader looks at it. Both sides have the same types. */
export const travelOrder = (types: readonly string[]): readonly number[] => {
  const places = types.map((_, index) => index);
  const json = (index: number): boolean => travelOf(types[index] as string) === 'json';
  return [...places.filter((index) => !json(index)), ...places.filter(json)];
};

/**
 * Values of the one column, as they travel, are what the other one takes without a change that no warning tells of. Not so for a number
 * that a YEAR takes as text (0 is 2000 there), and for digits of a second, which are rounded in silence.
 */
export const rawFits = (from: Pick<Column, 'type' | 'kind'>, to: Pick<Column, 'type' | 'kind'>): boolean =>
  from.type === to.type ||
  (from.kind === to.kind && to.type !== 'year' && ['integer', 'text', 'bytes'].includes(to.kind));
