import { createHash } from 'node:crypto';
import { mkdir, open, rm, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VerdigrisError } from '../../core/errors.ts';

const FLUSH_BYTES = 256 * 1024;
const READ_BYTES = 256 * 1024;

interface SpoolFile {
  readonly handle: FileHandle;
  readonly path: string;
  /** Bytes on disk; behind them come those of `pending`. */
  written: number;
  pending: Buffer[];
  pendingBytes: number;
  /** Where the changes of each subtransaction begin, in order of appearance. */
  subs: { readonly xid: number; readonly offset: number }[];
}

/**
 * Changes of transactions that are still in progress on the source (protocol 2), in one file per top-level transaction. Nothing in it
 * outlives the stream: what was not replayed is sent again, because it was never acknowledged. Calls are made one at a time.
 */
export class Spool implements AsyncDisposable {
  readonly #directory: string;
  readonly #files = new Map<number, SpoolFile>();
  #made = false;
  #closed = false;

  /** @param owner names the stream; a directory that an earlier process left under the same name is deleted */
  constructor(owner: string, parent = tmpdir()) {
    const digest = createHash('sha256').update(owner).digest('hex').slice(0, 24);
    this.#directory = join(parent, `verdigris-spool-${digest}`);
  }

  get directory(): string {
    return this.#directory;
  }

  /** Number of transactions in progress. */
  get open(): number {
    return this.#files.size;
  }

  /** Deletes what a killed process left. */
  async clear(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
  }

  /** A block of the transaction begins. */
  async block(xid: number): Promise<void> {
    if (this.#files.has(xid)) return;
    if (!this.#made) await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    this.#made = true;
    const path = join(this.#directory, `${xid}.changes`);
    const handle = await open(path, 'w+', 0o600);
    if (this.#closed) {
      // Disposed of meanwhile: what was made behind its back goes too.
      await handle.close();
      return await this.clear();
    }
    this.#files.set(xid, { handle, path, written: 0, pending: [], pendingBytes: 0, subs: [] });
  }

  /** Appends one message. Returns true when {@link flush} is due. */
  append(xid: number, subXid: number, message: Buffer): boolean {
    const file = this.#file(xid);
    if (subXid !== xid && !file.subs.some((sub) => sub.xid === subXid)) {
      file.subs.push({ xid: subXid, offset: file.written + file.pendingBytes });
    }
    const header = Buffer.allocUnsafe(4);
    header.writeUInt32BE(message.length);
    file.pending.push(header, message);
    file.pendingBytes += 4 + message.length;
    return file.pendingBytes >= FLUSH_BYTES;
  }

  async flush(xid: number): Promise<void> {
    const file = this.#file(xid);
    const bytes = Buffer.concat(file.pending, file.pendingBytes);
    let done = 0;
    while (done < bytes.length) {
      const { bytesWritten } = await file.handle.write(bytes, done, bytes.length - done, file.written + done);
      done += bytesWritten;
    }
    file.written += bytes.length;
    file.pending = [];
    file.pendingBytes = 0;
  }

  /** Forgets a subtransaction: its changes and, since subtransactions nest, everything after its first one. */
  async abort(xid: number, subXid: number): Promise<void> {
    const file = this.#files.get(xid);
    if (file === undefined) return;
    if (xid === subXid) return await this.drop(xid);
    const index = file.subs.findIndex((sub) => sub.xid === subXid);
    if (index === -1) return;
    const { offset } = file.subs[index] as { offset: number };
    await this.flush(xid);
    await file.handle.truncate(offset);
    file.written = offset;
    file.subs.length = index;
  }

  /** Reads a transaction back, in order. */
  async read(xid: number): Promise<SpoolReader> {
    await this.flush(xid);
    const file = this.#file(xid);
    return new SpoolReader(file.handle, file.written);
  }

  async drop(xid: number): Promise<void> {
    const file = this.#files.get(xid);
    if (file === undefined) return;
    this.#files.delete(xid);
    await file.handle.close();
    await rm(file.path, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const file of this.#files.values()) await file.handle.close().catch(() => undefined);
    this.#files.clear();
    await this.clear();
  }

  #file(xid: number): SpoolFile {
    const file = this.#files.get(xid);
    if (file === undefined)
      throw new VerdigrisError(
        'SOURCE_PROTOCOL',
        `The source ended transaction ${xid}, of which it sent no block.`,
      );
    return file;
  }
}

/** Walks the messages of one spooled transaction. */
export class SpoolReader {
  /** The message that {@link next} moved to. */
  buffer: Buffer = Buffer.alloc(0);
  start = 0;
  end = 0;
  readonly #handle: FileHandle;
  readonly #size: number;
  #read = 0;
  #at = 0;

  constructor(handle: FileHandle, size: number) {
    this.#handle = handle;
    this.#size = size;
  }

  /** Moves to the next message; false when {@link fill} has to run first, or at the end. */
  next(): boolean {
    const left = this.buffer.length - this.#at;
    if (left < 4) return false;
    const length = this.buffer.readUInt32BE(this.#at);
    if (left < 4 + length) return false;
    this.start = this.#at + 4;
    this.end = this.start + length;
    this.#at = this.end;
    return true;
  }

  /** Reads on; false at the end of the transaction. */
  async fill(): Promise<boolean> {
    if (this.#read >= this.#size) return false;
    const rest = this.buffer.subarray(this.#at);
    const needed = rest.length >= 4 ? Math.max(READ_BYTES, 4 + rest.readUInt32BE(0)) : READ_BYTES;
    const wanted = Math.min(needed, this.#size - this.#read);
    const buffer = Buffer.allocUnsafe(rest.length + wanted);
    rest.copy(buffer);
    let done = 0;
    while (done < wanted) {
      const { bytesRead } = await this.#handle.read(
        buffer,
        rest.length + done,
        wanted - done,
        this.#read + done,
      );
      if (bytesRead === 0)
        throw new VerdigrisError('INTERNAL', 'The spool file is shorter than what was written to it.');
      done += bytesRead;
    }
    this.#read += wanted;
    this.buffer = buffer;
    this.#at = 0;
    return true;
  }
}
