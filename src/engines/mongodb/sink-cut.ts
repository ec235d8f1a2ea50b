import { VerdigrisError } from '../../core/errors.ts';
import type { RowRun } from '../../core/change.ts';
import type { Cell, Tuple } from '../../core/table.ts';
import { DocumentDelta } from './document.ts';
import { TOO_LARGE, codeOfError } from './errors.ts';

/** Bytes of documents in one transaction of rows that can be cut. Its entry in the log holds them all, and a secondary applies it as one. */
export const MOST_BYTES = 8 * 2 ** 20;
const MOST_ROWS = 2_000;
/** Rows of which is asked at a time how large they are on the sink. */
const ASKED = 500;
/** Times in a row that something did not fit, each time half as much. */
const MOST_REFUSED = 11;

/** A transaction would write more than it may: it is given up before the server does that. */
export class TooMuch extends Error {}

/** Counts what the parts of a merge write, beside what the changes bring. @throws TooMuch */
export function meter(most: number): (bytes: number) => void {
  let spent = 0;
  return (bytes) => {
    spent += bytes;
    if (spent > most) throw new TooMuch('more than a transaction may write');
  };
}

/** The transaction is gone because there is no room for it in the server's cache, also when that is seen at its commit. */
export const isTooLarge = (error: unknown): boolean =>
  error instanceof TooMuch ||
  TOO_LARGE.has(Number(error instanceof VerdigrisError ? error.context['serverCode'] : codeOfError(error)));

/** How much a transaction takes: half as much each time that it does not fit. */
export class Budget {
  bytes = MOST_BYTES;
  #refused = 0;

  fits(): void {
    this.#refused = 0;
  }

  /** @throws VerdigrisError SINK_FAILED where less is no help */
  async shrink(): Promise<void> {
    this.#refused += 1;
    if (this.#refused >= MOST_REFUSED)
      throw new VerdigrisError(
        'SINK_FAILED',
        `The cache of the sink is too small: it refused a transaction ${MOST_REFUSED} times, the last of a single document.`,
        { remedy: 'Give the server more memory (storage.wiredTiger.engineConfig.cacheSizeGB); then resume.' },
      );
    this.bytes = Math.ceil(this.bytes / 2);
    // What others write may be in the way.
    await new Promise((resolve) => setTimeout(resolve, 20 * this.#refused));
  }
}

/** Bytes of what stands on the sink for rows of a run, in their order. */
export type Sizes = (run: RowRun, rows: readonly Tuple[]) => Promise<readonly number[]>;

/** Runs in slices for one transaction each, in their order. */
export class Cutter {
  readonly #runs: readonly RowRun[];
  readonly #sizes: Sizes;
  #at: Place = { run: 0, row: 0 };
  #end: Place = { run: 0, row: 0 };
  #known: { readonly run: number; readonly from: number; readonly sizes: readonly number[] } | null = null;

  constructor(runs: readonly RowRun[], sizes: Sizes) {
    this.#runs = runs;
    this.#sizes = sizes;
  }

  /** The next slice, of at least one row; the same rows again until {@link advance}. Null: there are none left. */
  async next(most: number): Promise<readonly RowRun[] | null> {
    const slice: RowRun[] = [];
    let bytes = 0;
    let rows = 0;
    let { run, row } = this.#at;
    fill: for (; run < this.#runs.length; run++, row = 0) {
      const whole = this.#runs[run] as RowRun;
      const count = rowsOf(whole).length;
      const from = row;
      for (; row < Math.max(count, 1); row++) {
        const size = count === 0 || !canBeCut(whole) ? wholeSize(whole) : await this.#size(run, row);
        if (rows > 0 && (bytes + size > most || rows >= MOST_ROWS)) {
          if (row > from) slice.push(part(whole, from, row));
          break fill;
        }
        bytes += size;
        rows += 1;
        if (count === 0 || !canBeCut(whole)) row = count;
      }
      slice.push(from === 0 ? whole : part(whole, from, count));
    }
    this.#end = { run, row };
    return slice.length === 0 ? null : slice;
  }

  advance(): void {
    this.#at = this.#end;
  }

  async #size(run: number, row: number): Promise<number> {
    const whole = this.#runs[run] as RowRun;
    const rows = rowsOf(whole);
    if (
      this.#known?.run !== run ||
      row < this.#known.from ||
      row >= this.#known.from + this.#known.sizes.length
    ) {
      const asked = rows.slice(row, row + ASKED);
      const there = await this.#sizes(whole, asked);
      this.#known = {
        run,
        from: row,
        sizes: asked.map((one, index) => sizeOfRow(one) + (there[index] ?? 0)),
      };
    }
    return this.#known.sizes[row - this.#known.from] as number;
  }
}

interface Place {
  readonly run: number;
  readonly row: number;
}

/** Rows of one run in pieces that may be in memory at once. */
export async function* piecesOf(
  rows: readonly Tuple[],
  sizes: (rows: readonly Tuple[]) => Promise<readonly number[]>,
  spend: (bytes: number) => void,
): AsyncGenerator<readonly Tuple[]> {
  for (let at = 0; at < rows.length; at += ASKED) {
    const asked = rows.slice(at, at + ASKED);
    const there = await sizes(asked);
    let from = 0;
    let bytes = 0;
    for (const [index, row] of asked.entries()) {
      const size = sizeOfRow(row) + (there[index] ?? 0);
      if (index > from && bytes + size > MOST_BYTES) {
        spend(bytes);
        yield asked.slice(from, index);
        from = index;
        bytes = 0;
      }
      bytes += size;
    }
    spend(bytes);
    yield asked.slice(from);
  }
}

/** A delete has its rows in `before`. */
const rowsOf = ({ op, after, before }: RowRun): readonly Tuple[] =>
  op === 'delete' ? (before as readonly Tuple[]) : after;

/** Parents and children are lists of their own. */
const canBeCut = ({ op }: RowRun): boolean => op !== 'replace';

const part = (run: RowRun, from: number, to: number): RowRun => ({
  ...run,
  after: run.after.slice(from, to),
  before: run.before.slice(from, to),
});

const wholeSize = (run: RowRun): number => rowsOf(run).reduce((sum, row) => sum + sizeOfRow(row), 0);

export function sizeOfRow(row: Tuple): number {
  let bytes = 64;
  for (const cell of row) bytes += sizeOfCell(cell);
  return bytes;
}

function sizeOfCell(cell: Cell): number {
  if (cell instanceof Uint8Array) return cell.byteLength;
  if (typeof cell === 'string') return cell.length;
  if (cell instanceof DocumentDelta)
    return (cell.base?.length ?? 0) + cell.diffs.reduce((sum, diff) => sum + diff.length, 0);
  return 0;
}
