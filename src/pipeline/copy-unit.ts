import type { Relation } from '../core/table.ts';

/** The tables whose ranges are copied together, the owner first. */
export interface CopyUnit {
  readonly id: string;
  readonly relations: readonly Relation[];
}
