import type { Relation, Tuple } from '../core/table.ts';

/** What the stream has changed on green, as the pump notes it. */
export interface Changes {
  /** Begins to note. Idempotent. */
  start(): void;
  readonly now: number;
  /** Subjects of a green table changed after `seen`; null when that is not known. */
  since(relation: Relation, seen: number): ReadonlyMap<string, Tuple> | null;
  forget(seen: number): void;
}
