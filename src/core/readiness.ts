import type { TableName } from './table.ts';

/** What on a side would hurt a switch. Names only; empty lists are good. */
export interface Readiness {
  /** Layout changes, manual or unstoppable vacuums, prepared transactions on these tables: what would block the fence. */
  readonly ddlInProgress: readonly string[];
  readonly invalidIndexes: readonly string[];
  readonly unvalidatedConstraints: readonly string[];
  readonly tablesWithoutStatistics: readonly string[];
}

export interface ReadinessReader {
  read(tables: readonly TableName[]): Promise<Readiness>;
}
