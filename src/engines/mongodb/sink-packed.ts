import type { TableName } from '../../core/table.ts';
import { fieldOf, rawNull, type Raw } from './bson.ts';

/** A small range takes no more than this. */
const PIECE_BYTES = 2 ** 20;

export const idOf = (document: Buffer): Raw => fieldOf(document, '_id') ?? rawNull;

/** Documents of one insert, behind one another in few buffers: one object for each costs more than its bytes. */
export class Packed {
  readonly table: TableName;
  readonly #full: Buffer[] = [];
  #open = Buffer.alloc(0);
  #used = 0;
  count = 0;

  constructor(table: TableName) {
    this.table = table;
  }

  add(bytes: Buffer, from: number, to: number): void {
    if (this.#used + to - from > this.#open.length) {
      this.#full.push(this.#open.subarray(0, this.#used));
      this.#open = Buffer.allocUnsafe(Math.max(PIECE_BYTES, to - from));
      this.#used = 0;
    }
    this.#used += bytes.copy(this.#open, this.#used, from, to);
    this.count += 1;
  }

  /** The keys, as views. */
  ids(): Raw[] {
    const found: Raw[] = [];
    for (const piece of this.pieces()) {
      for (let at = 0; at < piece.length; at += piece.readInt32LE(at))
        found.push(idOf(piece.subarray(at, at + piece.readInt32LE(at))));
    }
    return found;
  }

  pieces(): Buffer[] {
    return [...this.#full, this.#open.subarray(0, this.#used)];
  }
}
