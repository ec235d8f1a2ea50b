import { VerdigrisError } from '../../core/errors.ts';
import { UNCHANGED, type Cell, type Tuple } from '../../core/table.ts';
import type { Message, RelationMessage, RowMessage, WireColumn } from './decoder-messages.ts';
import { isText, textOf } from './decoder-text.ts';

/**
 * Types whose text is ASCII under the pinned session settings: bool, integers, oid, xid, cid, tid, pg_lsn, floats, numeric, dates and times,
 * interval, uuid, bytea (hex), bit, network and geometric types, and arrays and ranges of the common ones.
 */
const ASCII_OIDS = new Set([
  16, 17, 20, 21, 23, 26, 27, 28, 29, 600, 601, 602, 603, 604, 628, 650, 700, 701, 718, 774, 829, 869, 1000,
  1005, 1007, 1016, 1021, 1022, 1082, 1083, 1114, 1115, 1182, 1184, 1185, 1186, 1187, 1231, 1266, 1560, 1562,
  1700, 2950, 2951, 3220, 3904, 3906, 3908, 3910, 3912, 3926,
]);

/** Milliseconds from 1970 to 2000, the server's epoch. */
const EPOCH_2000_MS = 946_684_800_000;
const NULL = 0x6e;
const UNCHANGED_TOAST = 0x75;
const TEXT = 0x74;

/** Longest text that is kept to be used again. */
const LONGEST_KEPT = 256;

/** An announced relation, and the newest text of each column: columns often repeat theirs, and one string then serves many rows. */
interface KnownRelation {
  readonly message: RelationMessage;
  readonly newest: string[];
}

/** A number of 64 bits, by its halves. */
const WIDE = new DataView(new ArrayBuffer(8));

/**
 * Decodes the output of pgoutput, protocol versions 1 and 2, into tuples of text by ordinal, without per-value parsers. It holds what
 * the protocol makes stateful: the relations announced so far. Anything it does not understand is fatal (SOURCE_PROTOCOL), never skipped.
 */
export class Decoder {
  /** Inside a block of an in-progress transaction, where most messages carry a (sub)transaction id. */
  inStream = false;
  #buffer: Buffer = Buffer.alloc(0);
  #at = 0;
  #end = 0;
  readonly #relations = new Map<number, KnownRelation>();
  /** Of the relation of the current message. */
  #newest: string[] = [];

  /** Decodes the one message in `buffer[start, end)`. @throws VerdigrisError SOURCE_PROTOCOL */
  decode(buffer: Buffer, start: number, end: number): Message {
    if (start < 0 || end > buffer.length || start >= end) fail('an empty message');
    this.#buffer = buffer;
    this.#at = start + 1;
    this.#end = end;
    const tag = buffer[start] as number;
    const message = this.#message(tag);
    if (this.#at !== end) fail(`${end - this.#at} bytes too many in message '${printable(tag)}'`);
    return message;
  }

  #message(tag: number): Message {
    switch (tag) {
      case 0x49: {
        this.#skipXid();
        const relation = this.#relation();
        this.#expect(0x4e);
        return { kind: 'insert', relation, after: this.#tuple(relation, false), before: null };
      }
      case 0x55:
        return this.#update();
      case 0x44: {
        this.#skipXid();
        const relation = this.#relation();
        const part = this.#u8();
        if (part !== 0x4b && part !== 0x4f) fail(`a delete with part '${printable(part)}'`);
        return { kind: 'delete', relation, after: null, before: this.#tuple(relation, part === 0x4b) };
      }
      case 0x42: {
        const commitLsn = this.#u64();
        const commitMs = this.#time();
        return { kind: 'begin', commitLsn, commitMs, xid: this.#u32() };
      }
      case 0x43: {
        this.#u8();
        const commitLsn = this.#u64();
        const endLsn = this.#u64();
        return { kind: 'commit', commitLsn, endLsn, commitMs: this.#time() };
      }
      case 0x52:
        return this.#announce();
      case 0x59: {
        this.#skipXid();
        const oid = this.#u32();
        return { kind: 'type', oid, schema: this.#schema(), name: this.#cstring() };
      }
      case 0x54:
        return this.#truncate();
      case 0x4d: {
        this.#skipXid();
        const transactional = (this.#u8() & 1) === 1;
        const lsn = this.#u64();
        const prefix = this.#cstring();
        const length = this.#u32();
        const from = this.#take(length);
        return {
          kind: 'message',
          transactional,
          lsn,
          prefix,
          content: this.#buffer.subarray(from, from + length),
        };
      }
      case 0x4f: {
        const lsn = this.#u64();
        return { kind: 'origin', lsn, name: this.#cstring() };
      }
      case 0x53: {
        const xid = this.#u32();
        return { kind: 'streamStart', xid, first: this.#u8() === 1 };
      }
      case 0x45:
        return { kind: 'streamStop' };
      case 0x63: {
        const xid = this.#u32();
        this.#u8();
        const commitLsn = this.#u64();
        const endLsn = this.#u64();
        return { kind: 'streamCommit', xid, commitLsn, endLsn, commitMs: this.#time() };
      }
      case 0x41: {
        const xid = this.#u32();
        return { kind: 'streamAbort', xid, subXid: this.#u32() };
      }
      default:
        return fail(`the unknown message '${printable(tag)}'`);
    }
  }

  #update(): RowMessage {
    this.#skipXid();
    const relation = this.#relation();
    let part = this.#u8();
    let before: Tuple | null = null;
    let whole = false;
    if (part === 0x4b || part === 0x4f) {
      whole = part === 0x4f;
      before = this.#tuple(relation, !whole);
      part = this.#u8();
    }
    if (part !== 0x4e) fail(`an update with part '${printable(part)}'`);
    const after = this.#tuple(relation, false);
    // A whole old row holds the values that the new one leaves out, so the image is complete.
    if (whole && before !== null) {
      for (let i = 0; i < after.length; i++) if (after[i] === UNCHANGED) after[i] = before[i] as Cell;
    }
    return { kind: 'update', relation, after, before };
  }

  #truncate(): Message {
    this.#skipXid();
    const count = this.#u32();
    const options = this.#u8();
    if (count * 4 > this.#end - this.#at) fail('a truncate that is cut off');
    const relations = Array.from({ length: count }, () => this.#relation());
    return {
      kind: 'truncate',
      relations,
      cascade: (options & 1) !== 0,
      restartIdentity: (options & 2) !== 0,
    };
  }

  #announce(): RelationMessage {
    this.#skipXid();
    const id = this.#u32();
    const schema = this.#schema();
    const name = this.#cstring();
    const identity = String.fromCharCode(this.#u8());
    if (identity !== 'd' && identity !== 'n' && identity !== 'f' && identity !== 'i')
      fail('a relation with an unknown replica identity');
    const count = this.#u16();
    const columns: WireColumn[] = [];
    for (let i = 0; i < count; i++) {
      const inIdentity = (this.#u8() & 1) === 1;
      const column = this.#cstring();
      const typeOid = this.#u32();
      columns.push({
        name: column,
        typeOid,
        typmod: this.#u32() | 0,
        inIdentity,
        ascii: ASCII_OIDS.has(typeOid),
      });
    }
    const relation: RelationMessage = {
      kind: 'relation',
      id,
      schema,
      name,
      identity: identity as 'd',
      columns,
    };
    this.#relations.set(id, { message: relation, newest: columns.map(() => '') });
    return relation;
  }

  /** The log carries only the identity columns of a key tuple; its other cells say nothing. */
  #tuple(relation: RelationMessage, keyOnly: boolean): Cell[] {
    const columns = relation.columns;
    const count = this.#u16();
    if (count !== columns.length) fail(`a row of ${count} columns for a relation of ${columns.length}`);
    const cells = new Array<Cell>(count);
    const buffer = this.#buffer;
    const newest = this.#newest;
    for (let i = 0; i < count; i++) {
      const column = columns[i] as WireColumn;
      const kind = this.#u8();
      if (kind === TEXT) {
        const length = this.#u32();
        const from = this.#take(length);
        const known = newest[i] as string;
        if (known.length === length && isText(buffer, from, known)) cells[i] = known;
        else {
          const found = text(buffer, from, from + length, column.ascii);
          cells[i] = found;
          if (length <= LONGEST_KEPT) newest[i] = found;
        }
      } else if (kind === NULL) cells[i] = keyOnly && !column.inIdentity ? UNCHANGED : null;
      else if (kind === UNCHANGED_TOAST) cells[i] = UNCHANGED;
      else fail(`a column of kind '${printable(kind)}'`);
    }
    return cells;
  }

  #relation(): RelationMessage {
    const id = this.#u32();
    const known = this.#relations.get(id) ?? fail(`a change of relation ${id}, which was not announced`);
    this.#newest = known.newest;
    return known.message;
  }

  #skipXid(): void {
    if (this.inStream) this.#u32();
  }

  #expect(tag: number): void {
    const seen = this.#u8();
    if (seen !== tag) fail(`'${printable(seen)}' where '${printable(tag)}' belongs`);
  }

  /** Reserves `length` bytes and returns where they start. */
  #take(length: number): number {
    const from = this.#at;
    if (length > this.#end - from) fail('a message that is cut off');
    this.#at = from + length;
    return from;
  }

  #u8(): number {
    return this.#buffer[this.#take(1)] as number;
  }

  #u16(): number {
    const from = this.#take(2);
    return ((this.#buffer[from] as number) << 8) | (this.#buffer[from + 1] as number);
  }

  #u32(): number {
    const at = this.#take(4);
    const buffer = this.#buffer;
    return (
      (((buffer[at] as number) << 24) |
        ((buffer[at + 1] as number) << 16) |
        ((buffer[at + 2] as number) << 8) |
        (buffer[at + 3] as number)) >>>
      0
    );
  }

  #u64(): bigint {
    // Buffer's own way makes four BigInts of it.
    WIDE.setUint32(0, this.#u32());
    WIDE.setUint32(4, this.#u32());
    return WIDE.getBigUint64(0);
  }

  /** Milliseconds since 1970. */
  #time(): number {
    const high = this.#u32() | 0;
    // A double holds microseconds of this epoch exactly until the year 2285, and a BigInt would be made twice a transaction.
    return EPOCH_2000_MS + Math.floor((high * 0x1_0000_0000 + this.#u32()) / 1000);
  }

  #cstring(): string {
    const stop = this.#buffer.indexOf(0, this.#at);
    if (stop === -1 || stop >= this.#end) fail('a name without an end');
    const from = this.#at;
    this.#at = stop + 1;
    return text(this.#buffer, from, stop, false);
  }

  /** pgoutput sends an empty name for pg_catalog. */
  #schema(): string {
    const schema = this.#cstring();
    return schema === '' ? 'pg_catalog' : schema;
  }
}

const text = (buffer: Buffer, start: number, end: number, ascii: boolean): string =>
  textOf(buffer, start, end, ascii) ?? fail('text that is not UTF-8');

const printable = (tag: number): string =>
  tag > 0x20 && tag < 0x7f ? String.fromCharCode(tag) : `0x${tag.toString(16)}`;

function fail(what: string): never {
  throw new VerdigrisError('SOURCE_PROTOCOL', `The source sent ${what}.`);
}
