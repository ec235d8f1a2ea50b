import type { Counter, CounterPair } from '../core/counters.ts';
import type { TableName } from '../core/table.ts';

/** Which green column gets a blue column unchanged in meaning (copied, renamed, widened). */
export interface ColumnOrigin {
  readonly green: TableName & { readonly column: string };
  readonly blue: TableName & { readonly column: string };
}

/**
 * Which counter of blue feeds which of green: by the columns that own them, through the mapping; counters that nothing owns by name.
 * `unmatched` are blue counters of mapped columns, or owned by nothing, that have none on green.
 */
export function pairCounters(
  blue: readonly Counter[],
  green: readonly Counter[],
  origins: readonly ColumnOrigin[],
): { readonly pairs: readonly CounterPair[]; readonly unmatched: readonly string[] } {
  const used = new Set<Counter>();
  const pairs = green.map((counter): CounterPair => {
    const other = counter.owner === null ? byName(counter, blue) : byOwner(counter, blue, origins);
    if (other !== undefined) used.add(other);
    return { here: counter.name, other: other ?? null };
  });
  const mapped = (counter: Counter): boolean =>
    counter.owner === null || origins.some(({ blue: from }) => owns(counter, from));
  return {
    pairs,
    unmatched: blue.filter((counter) => !used.has(counter) && mapped(counter)).map((counter) => counter.name),
  };
}

const owns = (counter: Counter, column: TableName & { readonly column: string }): boolean =>
  counter.owner?.schema === column.schema &&
  counter.owner.table === column.name &&
  counter.owner.column === column.column;

const byOwner = (
  counter: Counter,
  blue: readonly Counter[],
  origins: readonly ColumnOrigin[],
): Counter | undefined => {
  const origin = origins.find(({ green }) => owns(counter, green));
  return origin === undefined ? undefined : blue.find((candidate) => owns(candidate, origin.blue));
};

/** The same qualified name, or the only counter with the same bare name. */
function byName(counter: Counter, blue: readonly Counter[]): Counter | undefined {
  const free = blue.filter((candidate) => candidate.owner === null);
  const exact = free.find((candidate) => candidate.name === counter.name);
  if (exact !== undefined) return exact;
  const bare = (name: string): string => name.slice(name.lastIndexOf('.') + 1);
  const same = free.filter((candidate) => bare(candidate.name) === bare(counter.name));
  return same.length === 1 ? same[0] : undefined;
}
