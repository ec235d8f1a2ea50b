import { VerdigrisError } from '../../core/errors.ts';

/** How the frames of one connection are read. */
export interface FrameKind {
  /** Bytes of a frame of log data before its message. */
  readonly header: number;
  /** The frame that starts at `at` and ends before `end` holds a message of the log. */
  isData(buffer: Buffer, at: number, end: number): boolean;
  /** A whole frame that holds none. @throws VerdigrisError SOURCE_PROTOCOL */
  other(buffer: Buffer, at: number, end: number): void;
  /** Log data was queued; its last frame starts at `at`. */
  queued(buffer: Buffer, at: number): void;
}

/** Whole frames of which at least one is log data. */
interface Segment {
  readonly buffer: Buffer;
  readonly end: number;
  readonly kind: FrameKind;
  at: number;
}

const HEADER = 5;

/** Log data as received bytes until it is asked for, so that the memory it takes is what was counted and decoding never delays feedback. */
export class FrameQueue {
  /** Bytes of log data queued. */
  bytes = 0;
  /** The message that {@link next} moved to. */
  buffer: Buffer = Buffer.alloc(0);
  start = 0;
  end = 0;
  #segments: Segment[] = [];
  #head = 0;

  add(buffer: Buffer, at: number, end: number, kind: FrameKind): void {
    this.#segments.push({ buffer, at, end, kind });
    this.bytes += end - at;
  }

  /** Moves to the next message of log data; false when none is queued. */
  next(): boolean {
    for (;;) {
      const segment = this.#segments[this.#head];
      if (segment === undefined) return false;
      const { buffer, at, kind } = segment;
      if (at >= segment.end) {
        this.#drop();
        continue;
      }
      const frameEnd = at + 1 + buffer.readUInt32BE(at + 1);
      segment.at = frameEnd;
      this.bytes -= frameEnd - at;
      if (!kind.isData(buffer, at, frameEnd)) continue;
      this.buffer = buffer;
      this.start = at + kind.header;
      this.end = frameEnd;
      return true;
    }
  }

  /** No log data is queued. */
  get empty(): boolean {
    while (this.#head < this.#segments.length) {
      const segment = this.#segments[this.#head] as Segment;
      if (segment.at < segment.end) return false;
      this.#drop();
    }
    return true;
  }

  clear(): void {
    this.#segments = [];
    this.#head = 0;
    this.bytes = 0;
  }

  #drop(): void {
    this.#segments[this.#head] = undefined as unknown as Segment;
    this.#head++;
    if (this.#head === this.#segments.length) {
      this.#segments.length = 0;
      this.#head = 0;
    } else if (this.#head > 1024) {
      this.#segments.splice(0, this.#head);
      this.#head = 0;
    }
  }
}

/** Cuts the byte stream of one connection into frames: log data is queued, everything else is seen as soon as it arrives. */
export class FrameSplitter {
  readonly #queue: FrameQueue;
  readonly #kind: FrameKind;
  #partial: Buffer[] = [];
  #partialBytes = 0;
  #needed = HEADER;

  constructor(queue: FrameQueue, kind: FrameKind) {
    this.#queue = queue;
    this.#kind = kind;
  }

  /** @throws VerdigrisError SOURCE_PROTOCOL when the bytes cannot be frames */
  push(chunk: Buffer): void {
    let from = 0;
    // Only the frame that spans two chunks is put together; the rest of a chunk is read where it lies.
    while (this.#partialBytes > 0) {
      const missing = this.#needed - this.#partialBytes;
      const part = chunk.subarray(from, from + missing);
      this.#partial.push(part);
      this.#partialBytes += part.length;
      from += part.length;
      if (part.length < missing) return;
      const buffer = Buffer.concat(this.#partial, this.#partialBytes);
      const end = this.#scan(buffer, 0);
      // The header was complete and says how much more it takes.
      this.#partial = end < buffer.length ? [buffer] : [];
      this.#partialBytes = buffer.length - end;
    }
    const end = this.#scan(chunk, from);
    this.#partial = end < chunk.length ? [chunk.subarray(end)] : [];
    this.#partialBytes = chunk.length - end;
  }

  /** Returns where the first incomplete frame starts. */
  #scan(buffer: Buffer, from: number): number {
    const kind = this.#kind;
    let at = from;
    let lastData = -1;
    while (at + HEADER <= buffer.length) {
      const length = buffer.readUInt32BE(at + 1);
      if (length < 4)
        throw new VerdigrisError('SOURCE_PROTOCOL', `The source sent a frame of ${length} bytes.`);
      const end = at + 1 + length;
      if (end > buffer.length) break;
      if (kind.isData(buffer, at, end)) lastData = at;
      else kind.other(buffer, at, end);
      at = end;
    }
    this.#needed = at + HEADER <= buffer.length ? 1 + buffer.readUInt32BE(at + 1) : HEADER;
    if (lastData >= 0) {
      this.#queue.add(buffer, from, at, kind);
      kind.queued(buffer, lastData);
    }
    return at;
  }
}

/** What arrives besides log data. */
export interface FrameListener {
  /** `walEnd` and whether the server wants an answer at once. */
  keepalive(walEnd: bigint, replyRequested: boolean): void;
  /** A whole frame that is not CopyData: errors, notices, the end. */
  other(frame: Buffer): void;
  /** Log data was queued; `lsn` is the position of its last message. */
  data(lsn: bigint): void;
}

const COPY_DATA = 0x64;
const XLOG_DATA = 0x77;
const KEEPALIVE = 0x6b;
/** Frame header, tag, start, end, clock. */
const XLOG_HEADER = HEADER + 25;

/** Frames of the replication protocol: CopyData with log data or keepalives. */
export const replicationFrames = (listener: FrameListener): FrameKind => ({
  header: XLOG_HEADER,
  isData: (buffer, at, end) =>
    buffer[at] === COPY_DATA && buffer[at + HEADER] === XLOG_DATA && end > at + XLOG_HEADER,
  other(buffer, at, end) {
    if (buffer[at] !== COPY_DATA) listener.other(buffer.subarray(at, end));
    else if (buffer[at + HEADER] === KEEPALIVE && end - at === 23) {
      listener.keepalive(buffer.readBigUInt64BE(at + 6), buffer[at + 22] === 1);
    } else
      throw new VerdigrisError('SOURCE_PROTOCOL', 'The source sent replication data of an unknown kind.');
  },
  queued: (buffer, at) => listener.data(buffer.readBigUInt64BE(at + 6)),
});

const DATA_ROW = 0x44;

/** Frames of a query whose result is one binary column of messages. */
export const rowFrames = (listener: Pick<FrameListener, 'other'> & { data(): void }): FrameKind => ({
  // Frame header, number of columns, length of the only one.
  header: HEADER + 6,
  isData: (buffer, at) => buffer[at] === DATA_ROW,
  other: (buffer, at, end) => listener.other(buffer.subarray(at, end)),
  queued: () => listener.data(),
});
