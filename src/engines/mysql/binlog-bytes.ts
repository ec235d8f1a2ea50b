import { VerdigrisError } from '../../core/errors.ts';

/** Reads along an event. Every read past the end is an error of the protocol, never a guess. */
export class Bytes {
  readonly buffer: Buffer;
  readonly end: number;
  at: number;

  constructor(buffer: Buffer, at = 0, end = buffer.length) {
    this.buffer = buffer;
    this.at = at;
    this.end = end;
  }

  get left(): number {
    return this.end - this.at;
  }

  /** Moves on by `length` and returns where it was. */
  skip(length: number): number {
    const from = this.at;
    this.at += length;
    if (this.at > this.end) truncated();
    return from;
  }

  u8(): number {
    return this.buffer[this.skip(1)] as number;
  }

  u16(): number {
    return this.buffer.readUInt16LE(this.skip(2));
  }

  u24(): number {
    return this.buffer.readUIntLE(this.skip(3), 3);
  }

  u32(): number {
    return this.buffer.readUInt32LE(this.skip(4));
  }

  u48(): number {
    return this.buffer.readUIntLE(this.skip(6), 6);
  }

  u64(): bigint {
    return this.buffer.readBigUInt64LE(this.skip(8));
  }

  /** Little-endian, 1 to 6 bytes. */
  uint(length: number): number {
    return this.buffer.readUIntLE(this.skip(length), length);
  }

  /** Big-endian, 1 to 6 bytes. */
  uintBE(length: number): number {
    return this.buffer.readUIntBE(this.skip(length), length);
  }

  slice(length: number): Buffer {
    const from = this.skip(length);
    return this.buffer.subarray(from, from + length);
  }

  text(length: number): string {
    const from = this.skip(length);
    return this.buffer.toString('utf8', from, from + length);
  }

  /** A length-encoded integer. */
  packed(): number {
    const first = this.u8();
    if (first < 251) return first;
    if (first === 252) return this.u16();
    if (first === 253) return this.u24();
    if (first === 254) return Number(this.u64());
    return truncated();
  }
}

function truncated(): never {
  throw new VerdigrisError('SOURCE_PROTOCOL', 'The source sent an event that is cut off.');
}
