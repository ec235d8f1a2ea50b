import type { Column } from '../core/table.ts';
import type { ModuleFunction } from './spec.ts';

/** What a column may read. */
export interface Scope {
  /** Blue's columns, then the element where an array is exploded. */
  readonly columns: readonly Column[];
  /** Index of the element, or -1. */
  readonly element: number;
  /** Whose columns they are, for messages. Default: blue. */
  readonly side?: 'blue' | 'green';
  readonly modules: ReadonlyMap<string, ModuleFunction>;
}

/** Reports what is wrong with the mapping, at a path below the entry being compiled. */
export type Problem = (path: readonly string[], message: string) => void;
