import type { Relation, Tuple } from '../../core/table.ts';

/** From this many rows on neighbours share pages. */
const LEAST_ROWS = 64;
/** Half of the whole numbers that a double holds exactly: what is scaled to this many may be rounded to one more. */
const EXACT = 2 ** 52;

/**
 * The order of rows by the whole numbers that their key begins with; null when they stand in it, or the key does not begin so. A table written
 * with serial keys has neighbours on the same pages, and those in an index are neighbours anyway: an UPDATE of 20,000 rows of a million took
 * 7.3 µs of the server's CPU a row in this order and 11.3 as they came (PostgreSQL 18, all in memory).
 *
 * Only for speed: where the numbers span more than a double can tell apart, those that are close keep the order they had.
 */
export function keyOrder(relation: Relation, rows: readonly Tuple[]): readonly number[] | null {
  const { length } = rows;
  if (length < LEAST_ROWS) return null;
  const ranks = new Float64Array(length);
  // Ranks are whole numbers below this.
  let span = 1;
  for (const column of relation.key) {
    if (relation.columns[column]?.kind !== 'integer') break;
    const numbers = new Float64Array(length);
    let least = Number.POSITIVE_INFINITY;
    let most = Number.NEGATIVE_INFINITY;
    for (let row = 0; row < length; row++) {
      const cell = (rows[row] as Tuple)[column];
      const value = typeof cell === 'string' || typeof cell === 'bigint' ? Number(cell) : cell;
      if (typeof value !== 'number' || !Number.isFinite(value)) return null;
      numbers[row] = value;
      if (value < least) least = value;
      if (value > most) most = value;
    }
    const values = most - least + 1;
    const room = EXACT / length / span;
    const scale = values < room ? 1 : room / values;
    if (scale < 1 && span > 1) break;
    const width = scale === 1 ? values : Math.floor(room);
    for (let row = 0; row < length; row++)
      ranks[row] = (ranks[row] as number) * width + Math.floor(((numbers[row] as number) - least) * scale);
    span *= width;
    if (scale < 1) break;
  }
  return span === 1 || ascending(ranks) ? null : sorted(ranks);
}

function ascending(ranks: Float64Array): boolean {
  for (let row = 1; row < ranks.length; row++)
    if ((ranks[row] as number) < (ranks[row - 1] as number)) return false;
  return true;
}

/** Each rank takes its row along in its last digits, so that the numbers sort without a function to compare them. */
function sorted(ranks: Float64Array): readonly number[] {
  const { length } = ranks;
  for (let row = 0; row < length; row++) ranks[row] = (ranks[row] as number) * length + row;
  ranks.sort();
  return Array.from(ranks, (rank) => rank % length);
}
