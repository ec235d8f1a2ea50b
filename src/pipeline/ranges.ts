import { VerdigrisError } from '../core/errors.ts';
import type { Position, Positions } from '../core/position.ts';
import type { RangeState } from '../core/sink.ts';
import type { SnapshotSource } from '../core/snapshot.ts';
import { tableId, type Cell, type Relation } from '../core/table.ts';
import type { CopyUnit } from './copy-unit.ts';
import type { Window } from './window.ts';

/** What the pump does with a change to a key of a range. */
export type Decision = 'todo' | 'done' | Window;

interface Slot {
  readonly lower: Cell | null;
  readonly upper: Cell | null;
  window: Window | null;
  upto: Position | null;
}

/**
 * The ranges of one copy unit as the pump sees them. The key order is the server's: compared here where the engine can, asked for
 * in {@link prefetch} where only the server knows.
 */
export class UnitRanges {
  readonly unit: CopyUnit;
  readonly #snapshot: SnapshotSource;
  readonly #positions: Positions;
  #boundaries: readonly Cell[] = [];
  #slots: Slot[] = [];
  #open = 0;
  #todo = 0;
  /** Windows over single keys, which win over the range of the key. */
  readonly #keyWindows = new Set<Window>();
  readonly #comparators = new Map<string, ((left: Cell, right: Cell) => number) | null>();
  readonly #asked = new Map<string, number>();

  constructor(unit: CopyUnit, snapshot: SnapshotSource, positions: Positions) {
    this.unit = unit;
    this.#snapshot = snapshot;
    this.#positions = positions;
    for (const relation of unit.relations) {
      this.#comparators.set(tableId(relation.table), snapshot.comparator(relation));
    }
  }

  /** Takes over what the sink has stored. */
  load(states: readonly RangeState[]): void {
    const own = states.filter((state) => state.unit === this.unit.id).sort((a, b) => a.ordinal - b.ordinal);
    this.#slots = own.map(({ lower, upper, upto }) => ({ lower, upper, upto, window: null }));
    this.#boundaries = own.slice(1).map((state) => state.lower);
    this.#todo = this.#slots.filter((slot) => slot.upto === null).length;
    this.#open = 0;
    this.#keyWindows.clear();
  }

  get count(): number {
    return this.#slots.length;
  }

  /** Ordinals that still have to be copied and are not open. */
  todo(): number[] {
    return this.#slots.flatMap((slot, ordinal) =>
      slot.upto === null && slot.window === null ? [ordinal] : [],
    );
  }

  get complete(): boolean {
    return this.#todo === 0;
  }

  /** Every change may go straight on: nothing to copy, nothing open, and `from` lies behind every range's end. */
  settled(from: Position): boolean {
    return (
      this.#todo === 0 &&
      this.#open === 0 &&
      this.#slots.every((slot) => slot.upto !== null && this.#positions.covers(from, slot.upto))
    );
  }

  bounds(ordinal: number): { lower: Cell | null; upper: Cell | null } {
    const { lower, upper } = this.#slot(ordinal);
    return { lower, upper };
  }

  open(window: Window): void {
    this.#open += 1;
    if (window.ordinal === null) this.#keyWindows.add(window);
    else this.#slot(window.ordinal).window = window;
  }

  /** The window is gone; the range is done up to `upto`, or todo again when it is null. */
  close(window: Window, upto: Position | null): void {
    this.#open -= 1;
    if (window.ordinal === null) {
      this.#keyWindows.delete(window);
      return;
    }
    const slot = this.#slot(window.ordinal);
    slot.window = null;
    if (upto !== null && slot.upto === null) this.#todo -= 1;
    if (upto !== null) slot.upto = upto;
  }

  /** Asks the server for the ranges of these first-key values, where this program cannot compare them itself. */
  async prefetch(relation: Relation, values: Iterable<Cell>): Promise<void> {
    if (this.#boundaries.length === 0 || this.#comparators.get(tableId(relation.table)) !== null) return;
    const wanted = [...new Set(values)];
    if (wanted.length === 0) return;
    const buckets = await this.#snapshot.bucket(relation, this.#boundaries, wanted);
    const table = tableId(relation.table);
    wanted.forEach((value, index) =>
      this.#asked.set(`${table}\u0000${String(value)}`, buckets[index] as number),
    );
  }

  /** Forgets the answers of {@link prefetch}; once per batch. */
  forget(): void {
    this.#asked.clear();
  }

  get needsPrefetch(): boolean {
    return (
      this.#boundaries.length > 0 &&
      [...this.#comparators.values()].includes(null) &&
      (this.#todo > 0 || this.#open > 0)
    );
  }

  /** What to do with a change of the row whose first key cell is `first` and whose whole key is `key` (see keyText). */
  decide(relation: Relation, first: Cell, key: string, at: Position): Decision | 'skip' {
    for (const window of this.#keyWindows) if (window.holdsKey(relation, key)) return window;
    const slot = this.#slots[this.#locate(relation, first)];
    if (slot === undefined) throw new VerdigrisError('INTERNAL', `No ranges are loaded for ${this.unit.id}.`);
    if (slot.window !== null) return slot.window;
    if (slot.upto === null) return 'todo';
    return this.#positions.covers(slot.upto, at) ? 'skip' : 'done';
  }

  /** The one window of a table without a key, or the state of its range. */
  decideWhole(at: Position): Decision | 'skip' {
    const slot = this.#slot(0);
    if (slot.window !== null) return slot.window;
    if (slot.upto === null) return 'todo';
    return this.#positions.covers(slot.upto, at) ? 'skip' : 'done';
  }

  /** A truncate reaches green when any range is done and does not hold it already. */
  passesTruncate(at: Position): boolean {
    return this.#slots.some((slot) => slot.upto !== null && !this.#positions.covers(slot.upto, at));
  }

  /** Windows that are open now. */
  windows(): Window[] {
    return [
      ...this.#slots.flatMap((slot) => (slot.window === null ? [] : [slot.window])),
      ...this.#keyWindows,
    ];
  }

  #slot(ordinal: number): Slot {
    const slot = this.#slots[ordinal];
    if (slot === undefined)
      throw new VerdigrisError('INTERNAL', `Range ${ordinal} of ${this.unit.id} does not exist.`);
    return slot;
  }

  #locate(relation: Relation, value: Cell): number {
    if (this.#boundaries.length === 0) return 0;
    const compare = this.#comparators.get(tableId(relation.table));
    if (compare === undefined || compare === null) {
      const bucket = this.#asked.get(`${tableId(relation.table)}\u0000${String(value)}`);
      if (bucket === undefined)
        throw new VerdigrisError('INTERNAL', `The range of a key of ${this.unit.id} was not asked for.`);
      return bucket;
    }
    let low = 0;
    let high = this.#boundaries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(this.#boundaries[middle] as Cell, value) <= 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
