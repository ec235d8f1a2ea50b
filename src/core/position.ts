declare const brand: unique symbol;

/**
 * An opaque place in a source's log. Only the engine that made it can read it; everybody else stores it, hands it
 * back, and asks {@link Positions.covers}.
 */
export type Position = string & { readonly [brand]: 'Position' };

/** Marks a string that an engine (or a checkpoint row) produced as a position. */
export const asPosition = (text: string): Position => text as Position;

/** What an engine knows about its positions. Pure functions, no I/O. */
export interface Positions {
  /**
   * Does `have` include everything up to `want`? The only ordering question anyone asks: GTID sets are only
   * partially ordered, so `!covers(a, b)` does not mean `covers(b, a)`.
   */
  covers(have: Position, want: Position): boolean;
  /** Log bytes from `from` to `to`, or null when the engine cannot tell. */
  distance(from: Position, to: Position): number | null;
  /** The position in the engine's own notation, for people. */
  describe(position: Position): string;
}
