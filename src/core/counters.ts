/** A generator of numbers: a sequence or an auto-increment column. */
export interface Counter {
  /** For people and for matching: the name, or `table.column` of what owns it. */
  readonly name: string;
  readonly owner: { readonly schema: string; readonly table: string; readonly column: string } | null;
  readonly last: bigint;
  readonly increment: bigint;
  readonly minimum: bigint;
  readonly maximum: bigint;
  readonly cycles: boolean;
}

export interface CounterMove {
  readonly name: string;
  readonly from: bigint;
  readonly to: bigint;
  /** Set when the bound of the counter left less than the wanted headroom. */
  readonly warning: string | null;
}

export interface Counters {
  list(): Promise<readonly Counter[]>;
  /**
   * Moves this side's counters past those of the other side by `headroom` steps in the direction of their increment,
   * clipped at their bounds; also past the highest value present in the owning column. Never moves one back.
   */
  advance(others: readonly CounterPair[], headroom: number): Promise<readonly CounterMove[]>;
}

/** Which counter of the other side feeds a counter of this side. */
export interface CounterPair {
  readonly here: string;
  readonly other: Counter | null;
}
