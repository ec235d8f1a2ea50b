import type { Cell } from '../core/table.ts';
import type { Feed } from './feed.ts';
import type { Home } from './homes.ts';
import { whyNone } from './way-back.ts';

export interface ColumnWay {
  readonly column: string;
  readonly to: number;
  /** `exact`: the value comes back. `side-table`: it is kept row by row beside the table. `lossy`: `reason` says what is lost. */
  readonly way: 'exact' | 'side-table' | 'lossy';
  /** Columns of green, `schema.table.column`. */
  readonly from: readonly string[];
  readonly operation: string;
  readonly reason: string;
}

/** Why nothing gives the column back. */
export function whyLost(feeds: readonly Feed[], index: number): string {
  const reasons = feeds.flatMap((feed) => whyNone(feed, index));
  return [...new Set(reasons)].join('; ') || 'it is dropped';
}

interface Found {
  readonly feeds: readonly Feed[];
  readonly main: Feed | null;
  readonly homes: ReadonlyMap<number, Home>;
  readonly arrays: ReadonlyMap<number, Feed>;
  readonly off: ReadonlyMap<number, Cell>;
  readonly to: readonly number[];
}

/** For people, and for what can be compared: how each column of blue comes back. */
export function columnWays(found: Found): ColumnWay[] {
  const { columns } = (found.feeds[0] as Feed).blue;
  return columns.map(({ name }, index) => ({
    column: name,
    to: found.to[index] as number,
    ...wayOf(found, index),
  }));
}

function wayOf({ feeds, main, homes, arrays, off }: Found, index: number): Omit<ColumnWay, 'column' | 'to'> {
  const home = homes.get(index);
  if (home === undefined) {
    const rest = 'rows that are there keep theirs, rows that green makes get the default';
    return { way: 'lossy', from: [], operation: 'none', reason: `${whyLost(feeds, index)}: ${rest}` };
  }
  const { feed, way } = home;
  const array = arrays.get(index);
  const { name, green } = array ?? feed;
  const inputs = array === undefined ? way.inputs : [...green.columns.keys()];
  const from = inputs.map((input) => `${name}.${green.columns[input]?.name ?? ''}`);
  const shown = { from, operation: way.operation };
  if (array !== undefined) return { ...shown, way: 'side-table', reason: way.reason };
  if (!way.exact) return { ...shown, way: 'lossy', reason: way.reason };
  const { emitWhen } = feed.target;
  // While the second table has no row, its columns of blue must be what they are set to then.
  const settled =
    feed === main ||
    emitWhen === null ||
    (emitWhen.anyNotNull?.includes(index) === true && (off.get(index) ?? null) === null);
  if (settled) return { ...shown, way: 'exact', reason: '' };
  const reason = `a value that stands there while ${feed.name} has no row is not on green`;
  return { ...shown, way: 'lossy', reason };
}
