import type { Hole, HoleChanges } from '../core/sink.ts';
import { keyOf, keyText, tableId, type Relation, type Tuple, rowOf } from '../core/table.ts';

/**
 * The holes of the sink, and what the group being filled does to them. Loaded again whenever the stream is opened again, so
 * changes of a group that was never committed do not stay.
 */
export class HoleSet {
  readonly #tables = new Map<string, Map<string, Hole>>();
  #changed = new Map<
    string,
    { readonly table: Relation['table']; readonly key: Tuple; readonly hole: Hole | null }
  >();
  #rejected = 0;
  #size = 0;

  load(relations: readonly Relation[], holes: readonly Hole[]): void {
    this.#tables.clear();
    this.#changed.clear();
    this.#size = 0;
    this.#rejected = 0;
    const known = new Map(relations.map((relation) => [tableId(relation.table), relation]));
    for (const hole of holes) {
      const relation = known.get(tableId(hole.table));
      if (relation !== undefined) this.#set(relation, textOf(relation, hole.key), hole);
    }
  }

  get size(): number {
    return this.#size;
  }

  get rejected(): number {
    return this.#rejected;
  }

  /** One that the mapping did not take, or null. */
  get firstRejected(): Hole | null {
    if (this.#rejected === 0) return null;
    for (const holes of this.#tables.values())
      for (const hole of holes.values()) if (hole.kind === 'rejected') return hole;
    return null;
  }

  any(relation: Relation): boolean {
    return (this.#tables.get(tableId(relation.table))?.size ?? 0) > 0;
  }

  has(relation: Relation, key: string): boolean {
    return this.#tables.get(tableId(relation.table))?.has(key) ?? false;
  }

  /** The columns that changed since the sink's row was right; undefined when it has no row. */
  stale(relation: Relation, key: string): readonly number[] | undefined {
    return this.#tables.get(tableId(relation.table))?.get(key)?.stale;
  }

  /** Its key will be read again by itself. */
  waits(relation: Relation, key: string): boolean {
    return this.#tables.get(tableId(relation.table))?.get(key)?.kind === 'incomplete';
  }

  /** Holes that a read of their key closes. */
  incomplete(relation: Relation): Hole[] {
    return [...(this.#tables.get(tableId(relation.table))?.values() ?? [])].filter(
      (hole) => hole.kind === 'incomplete',
    );
  }

  open(relation: Relation, row: Tuple, why: Pick<Hole, 'kind' | 'column' | 'reason' | 'stale'>): void {
    const key = keyOf(relation, row);
    const text = keyText(relation, row);
    const hole: Hole = { table: relation.table, key, ...why };
    this.#set(relation, text, hole);
    this.#changed.set(`${tableId(relation.table)}\u0000${text}`, { table: relation.table, key, hole });
  }

  close(relation: Relation, row: Tuple): void {
    const text = keyText(relation, row);
    const holes = this.#tables.get(tableId(relation.table));
    const known = holes?.get(text);
    if (holes === undefined || known === undefined) return;
    holes.delete(text);
    this.#size -= 1;
    if (known.kind === 'rejected') this.#rejected -= 1;
    this.#changed.set(`${tableId(relation.table)}\u0000${text}`, {
      table: relation.table,
      key: keyOf(relation, row),
      hole: null,
    });
  }

  /** What changed since the last call, for the sink transaction. */
  take(): HoleChanges {
    const changed = [...this.#changed.values()];
    this.#changed = new Map();
    return {
      opened: changed.flatMap(({ hole }) => (hole === null ? [] : [hole])),
      closed: changed.flatMap(({ table, key, hole }) => (hole === null ? [{ table, key }] : [])),
    };
  }

  #set(relation: Relation, text: string, hole: Hole): void {
    const id = tableId(relation.table);
    let holes = this.#tables.get(id);
    if (holes === undefined) this.#tables.set(id, (holes = new Map()));
    const known = holes.get(text);
    if (known === undefined) this.#size += 1;
    if (known?.kind === 'rejected') this.#rejected -= 1;
    if (hole.kind === 'rejected') this.#rejected += 1;
    holes.set(text, hole);
  }
}

/** The key cells of a hole as {@link keyText} of a row would give them. */
const textOf = (relation: Relation, key: Tuple): string => keyText(relation, rowOf(relation, key));
