import type { Cell, Tuple } from '../core/table.ts';
import { digests, directOf, methodOf, type Range } from './digests.ts';
import { expectedRows, foundRows, Oversize, type Sides } from './rows.ts';
import { contentHash, rowId, rowOfId, subjectOf, type Subject } from './subject.ts';
import type { VerifyTable } from './verify-table.ts';

/** Row ids that are held at the same time, some 150 bytes each. */
const MOST_HELD = 100_000;
/** Sums that are held instead, where a range has more rows. */
const BUCKETS = 2 ** 18;

export interface Scanned {
  readonly rows: number;
  /** Where the two sides were not the same when they were read; nothing is proven yet. */
  readonly suspects: ReadonlyMap<string, Subject>;
  /** There are more suspects than can be held; these are the first. */
  readonly capped: boolean;
}

interface Entry {
  readonly id: string;
  readonly hash: string;
}

export interface ScanOptions {
  readonly signal: AbortSignal;
  /** What {@link digests} of this range gave, when it was asked before. */
  readonly digested?: number | null;
  readonly mostHeld?: number;
}

/** Compares one range of both sides while they are written, in bounded memory. */
export async function scan(
  sides: Sides,
  table: VerifyTable,
  range: Range,
  options: ScanOptions,
): Promise<Scanned> {
  return new Scan(sides, table, range, options).run();
}

class Scan {
  readonly #sides: Sides;
  readonly #table: VerifyTable;
  readonly #range: Range;
  readonly #signal: AbortSignal;
  readonly #most: number;
  readonly #suspects = new Map<string, Subject>();
  readonly #keyless: boolean;
  readonly #digested: number | null | undefined;
  #rows = 0;
  #capped = false;

  constructor(
    sides: Sides,
    table: VerifyTable,
    range: Range,
    { signal, mostHeld = MOST_HELD, digested }: ScanOptions,
  ) {
    this.#digested = digested;
    this.#sides = sides;
    this.#table = table;
    this.#range = range;
    this.#signal = signal;
    this.#most = mostHeld;
    this.#keyless = table.target.relation.key.length === 0;
  }

  async run(): Promise<Scanned> {
    const digested =
      this.#digested === undefined ? await digests(this.#sides, this.#table, this.#range) : this.#digested;
    this.#signal.throwIfAborted();
    if (digested !== null) return { rows: digested, suspects: this.#suspects, capped: false };
    try {
      await this.#pass(() => true);
    } catch (error) {
      if (!(error instanceof Oversize)) throw error;
      this.#suspects.clear();
      this.#capped = false;
      const rows = await this.#inParts();
      return { rows, suspects: this.#suspects, capped: this.#capped };
    }
    return { rows: this.#rows, suspects: this.#suspects, capped: this.#capped };
  }

  /** Holds what blue makes, takes away what green has, and suspects the rest. */
  async #pass(accept: (id: string) => boolean): Promise<void> {
    const held = new Map<string, string | number>();
    this.#rows = 0;
    for await (const entries of this.#expected(accept)) {
      this.#rows += entries.length;
      for (const { id, hash } of entries) {
        if (accept(id)) held.set(id, this.#keyless ? Number(held.get(id) ?? 0) + 1 : hash);
      }
      if (held.size > this.#most) throw new Oversize();
    }
    for await (const entries of this.#found()) {
      for (const { id, hash } of entries) {
        if (!accept(id)) continue;
        const expected = held.get(id);
        if (typeof expected === 'number' && expected > 1) held.set(id, expected - 1);
        else if (expected === hash || typeof expected === 'number') held.delete(id);
        else this.#suspect(id);
      }
    }
    for (const id of held.keys()) this.#suspect(id);
  }

  /** Sums per bucket of ids first, then only buckets that differ, as many at a time as may be held. */
  async #inParts(): Promise<number> {
    if (this.#table.target.merge !== null) return this.#inSlices();
    const left = new Sums();
    const right = new Sums();
    for await (const entries of this.#expected(() => true)) for (const entry of entries) left.add(entry);
    for await (const entries of this.#found()) for (const entry of entries) right.add(entry);
    let part = new Set<number>();
    let size = 0;
    const flush = async (): Promise<void> => {
      const buckets = part;
      if (buckets.size > 0) await this.#pass((id) => buckets.has(bucketOf(id)));
      part = new Set();
      size = 0;
    };
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      if (left.same(right, bucket)) continue;
      const more = Math.max(left.count(bucket), right.count(bucket));
      if (size + more > this.#most / 2) await flush();
      part.add(bucket);
      size += more;
    }
    await flush();
    return left.rows;
  }

  /** Merged rows cannot be summed before they are whole: the ids are cut into slices instead. */
  async #inSlices(): Promise<number> {
    for (let slices = 8; ; slices *= 4) {
      try {
        let rows = 0;
        for (let slice = 0; slice < slices; slice++) {
          await this.#pass((id) => bucketOf(id) % slices === slice);
          rows += this.#rows;
        }
        return rows;
      } catch (error) {
        if (!(error instanceof Oversize) || slices > BUCKETS / 4) throw error;
        this.#suspects.clear();
        this.#capped = false;
      }
    }
  }

  async *#expected(accept: (id: string) => boolean): AsyncGenerator<readonly Entry[]> {
    if (methodOf(this.#table) === 'server') {
      const { plan, direct } = directOf(this.#table);
      const { key } = this.#table.target.relation;
      const from = key.map((column) => direct.from[direct.columns.indexOf(column)] as number);
      yield* this.#hashed(this.#sides.blue.hashes(plan, { key: from, hashed: direct.from }, this.#range));
      return;
    }
    const hold = { most: this.#most, accept };
    for await (const rows of expectedRows(this.#sides, this.#table, this.#range, hold))
      yield this.#entries(rows);
  }

  async *#found(): AsyncGenerator<readonly Entry[]> {
    if (methodOf(this.#table) === 'server') {
      const { relation } = this.#table.target;
      const columns = { key: relation.key, hashed: directOf(this.#table).direct.columns };
      yield* this.#hashed(this.#sides.green.hashes(relation, columns, this.#range));
      return;
    }
    for await (const rows of foundRows(this.#sides, this.#table, this.#range)) yield this.#entries(rows);
  }

  async *#hashed(source: AsyncIterable<readonly Tuple[]>): AsyncGenerator<readonly Entry[]> {
    const { key } = this.#table.target.relation;
    for await (const rows of source) {
      this.#signal.throwIfAborted();
      yield rows.map((cells) => {
        const row: Cell[] = [];
        key.forEach((column, index) => {
          row[column] = cells[index] as Cell;
        });
        return { id: rowId(this.#table, row), hash: String(cells[key.length]) };
      });
    }
  }

  #entries(rows: readonly Tuple[]): Entry[] {
    this.#signal.throwIfAborted();
    return rows.map((row) => ({
      id: rowId(this.#table, row),
      hash: this.#keyless ? '' : contentHash(this.#table, row),
    }));
  }

  #suspect(id: string): void {
    const subject = this.#keyless ? { id, key: [] } : subjectOf(this.#table)(rowOfId(this.#table, id));
    if (subject === null) return;
    if (this.#suspects.size < this.#most || this.#suspects.has(subject.id))
      this.#suspects.set(subject.id, subject);
    else this.#capped = true;
  }
}

/** Count and sums of the hashes of the ids that fall into a bucket; the same on both sides where the rows are the same. */
class Sums {
  readonly #counts = new Uint32Array(BUCKETS);
  readonly #first = new Uint32Array(BUCKETS);
  readonly #second = new Uint32Array(BUCKETS);
  rows = 0;

  add({ id, hash }: Entry): void {
    const bucket = bucketOf(id);
    this.rows += 1;
    this.#counts[bucket] = this.count(bucket) + 1;
    this.#first[bucket] = (this.#first[bucket] as number) + fnv(hash, fnv(id, 7));
    this.#second[bucket] = (this.#second[bucket] as number) + fnv(id, fnv(hash, 77));
  }

  count(bucket: number): number {
    return this.#counts[bucket] as number;
  }

  same(other: Sums, bucket: number): boolean {
    return (
      this.count(bucket) === other.count(bucket) &&
      this.#first[bucket] === other.#first[bucket] &&
      this.#second[bucket] === other.#second[bucket]
    );
  }
}

const bucketOf = (id: string): number => fnv(id, 0x811c9dc5) % BUCKETS;

/** FNV-1a with a last mix, 32 bits. */
function fnv(text: string, seed: number): number {
  let value = seed;
  for (let index = 0; index < text.length; index++)
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193);
  value ^= value >>> 15;
  value = Math.imul(value, 0x2c1b3c6d);
  return (value ^ (value >>> 12)) >>> 0;
}
