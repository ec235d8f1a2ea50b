import type { Cell, Column } from '../../core/table.ts';
import { BadValue } from '../bad-value.ts';
import type { ColumnObject } from '../spec.ts';

/** What is known about values at one place of a pipeline. */
export interface Shape extends Pick<Column, 'kind' | 'type' | 'nullable' | 'labels'> {
  /** Came out of an operation: only the kind counts, and it may be converted to green's type without being asked. */
  readonly derived: boolean;
}

/**
 * The way back of an operation: exact, or why there is none that is. `section` gives then some value that becomes this one on the way
 * there (`lower`: the text itself): what was there before is lost, but what is written now arrives.
 */
export type Inverse =
  | { readonly apply: (text: string) => string | null }
  | { readonly reason: string; readonly section?: (text: string) => string | null };

/** One operation of a pipeline, compiled: text in, text or null out. Null never reaches it. Throws BadValue. */
export interface Step {
  /** For people. */
  readonly text: string;
  readonly apply: (text: string) => string | null;
  readonly output: Shape;
  readonly inverse: Inverse;
  /** json_get: what it takes out, where that was JSON. */
  readonly path?: readonly (string | number)[];
}

/** What an operation is compiled with. */
export interface StepContext {
  readonly input: Shape;
  readonly options: ColumnObject;
  /** The column of green that the pipeline ends in. */
  readonly target: Column;
  /** Nothing follows but the conversion to green's type. */
  readonly last: boolean;
  /** Records what is wrong with the mapping; `option` is the key it is about. */
  problem(message: string, option?: string): void;
}

/** An operation of one input. Null when it reported a problem. */
export interface Operation {
  /** Option keys that belong to it. */
  readonly options: readonly (keyof ColumnObject)[];
  compile(context: StepContext): Step | null;
}

export const derived = (kind: Column['kind'], nullable: boolean): Shape => ({
  kind,
  type: kind,
  nullable,
  derived: true,
});

/** Canonical text of a cell; null stays null. */
export function textOf(cell: Cell): string | null {
  if (typeof cell === 'string' || cell === null) return cell;
  if (typeof cell === 'boolean') return cell ? 't' : 'f';
  if (typeof cell === 'number' || typeof cell === 'bigint') return String(cell);
  throw new BadValue('has no text form');
}

/** A scalar of the configuration as text of a kind. */
export function scalarText(value: string | number | boolean | null, kind: Column['kind']): string | null {
  if (typeof value !== 'boolean') return value === null ? null : String(value);
  return kind === 'boolean' ? (value ? 't' : 'f') : String(value);
}
