import { BatchBuilder } from '../../core/batch-builder.ts';
import type { ChangeBatch } from '../../core/change.ts';
import { VerdigrisError } from '../../core/errors.ts';
import type { Position } from '../../core/position.ts';
import { Decoder } from './decoder.ts';
import type { Message, RelationMessage, RowMessage } from './decoder-messages.ts';
import type { FrameQueue } from './plugin-frames.ts';
import { formatLsn } from './position.ts';
import { APPLY_PREFIX, isOwnApply, MARK_PREFIX, markLabel } from './source-mark.ts';
import type { Spool, SpoolReader } from './spool.ts';
import type { RelationMap } from './stream-relations.ts';

/** Whole transactions are handed out from this size on: between two batches the rest of the process gets its turn. */
const WHOLE_BYTES = 512 * 1024;

export interface AssemblerParts {
  readonly queue: FrameQueue;
  readonly relations: RelationMap;
  readonly spool: Spool;
  readonly migration: string;
  readonly direction: 'forward' | 'reverse';
  /** Transactions whose commit record starts before it were applied already. */
  readonly from: bigint;
  readonly maxBatchBytes: number;
  /** A message was taken out of the queue, or it was found empty. */
  readonly consumed: () => void;
  /** A transaction with nothing of ours ends here. */
  readonly quiet: (endLsn: bigint) => void;
}

/** Turns queued messages into batches: decoding, layouts, marks, and the detour of in-progress transactions through the spool. */
export class Assembler {
  readonly #parts: AssemblerParts;
  readonly #decoder = new Decoder();
  readonly #builder = new BatchBuilder();
  /** Where the commit record of the open transaction starts. */
  #commitLsn = 0n;
  #ready: ChangeBatch[] = [];
  /** What has to happen before decoding goes on. */
  #work: (() => Promise<void>) | null = null;
  /** The in-progress transaction whose block is being received. */
  #block: number | null = null;
  #replay: { readonly reader: SpoolReader; readonly xid: number; readonly endLsn: bigint } | null = null;
  /** Rows of the open transaction are not handed out: it was applied before this stream began, or it is an apply of ours. */
  #skipping = false;
  /** In-progress transactions that are applies of ours: only layouts are kept of them. */
  readonly #ours = new Set<number>();
  /** Nothing of the block that is being received has come yet, and it is the first of its transaction. */
  #opening = false;

  constructor(parts: AssemblerParts) {
    this.#parts = parts;
  }

  /** Bytes decoded and not yet handed out. */
  get bytes(): number {
    return this.#builder.bytes;
  }

  /** Messages were received that have not been handed out. */
  get open(): boolean {
    return (
      !this.#parts.queue.empty ||
      this.#builder.inTransaction ||
      this.#builder.hasWhole ||
      this.#ready.length > 0 ||
      this.#work !== null ||
      this.#block !== null ||
      this.#replay !== null ||
      this.#parts.spool.open > 0
    );
  }

  /** The next batch, or null when what is queued does not make one. @throws what decoding, the catalog or the spool throws */
  async next(): Promise<ChangeBatch | null> {
    for (;;) {
      const batch = this.#ready.shift() ?? this.#consume();
      if (batch !== null || this.#work === null) return batch;
      const work = this.#work;
      this.#work = null;
      await work();
    }
  }

  /** Decodes what is queued until a batch is full or nothing is left. */
  #consume(): ChangeBatch | null {
    const { maxBatchBytes, queue, consumed } = this.#parts;
    const builder = this.#builder;
    for (;;) {
      const replay = this.#replay;
      if (replay !== null) {
        if (!replay.reader.next()) {
          this.#work = () => this.#continueReplay();
          return null;
        }
        const { buffer, start, end } = replay.reader;
        if (this.#skipping && isRow(buffer[start])) continue;
        builder.count(end - start);
        this.#apply(this.#decoder.decode(buffer, start, end));
      } else {
        const found = queue.next();
        consumed();
        if (!found) return builder.takeWhole();
        this.#receive(queue.buffer, queue.start, queue.end);
      }
      if (this.#work !== null) return null;
      if (builder.bytes >= WHOLE_BYTES && builder.hasWhole && !builder.inTransaction)
        return builder.takeWhole();
      if (builder.bytes >= maxBatchBytes) {
        const batch = builder.takeWhole() ?? builder.takePart(this.#withinOpen);
        if (batch !== null) return batch;
      }
    }
  }

  #receive(buffer: Buffer, start: number, end: number): void {
    if (this.#block !== null && buffer[start] !== 0x45) {
      this.#spoolMessage(this.#block, buffer, start, end);
      return;
    }
    if (this.#skipping && isRow(buffer[start])) return;
    const message = this.#decoder.decode(buffer, start, end);
    if (message.kind === 'begin') this.#begin(message.xid, message.commitLsn, message.commitMs);
    this.#builder.count(end - start);
    if (message.kind !== 'begin') this.#apply(message);
  }

  #begin(xid: number, commitLsn: bigint, commitMs: number): void {
    if (this.#builder.inTransaction) protocol('a transaction inside a transaction');
    // Commit records before our position were applied already; a slot restored from disk may be older than what it was told.
    this.#skipping = commitLsn < this.#parts.from;
    this.#commitLsn = commitLsn;
    this.#builder.begin(String(xid), commitMs);
  }

  /** Strictly after everything that committed before, whose end may be where this commit record starts. */
  readonly #withinOpen = (): Position => formatLsn(this.#commitLsn + 1n);

  #commit(endLsn: bigint): void {
    if (!this.#builder.inTransaction) protocol('a commit outside of a transaction');
    this.#skipping = false;
    if (!this.#builder.commit(() => formatLsn(endLsn))) this.#parts.quiet(endLsn);
  }

  #apply(message: Message): void {
    switch (message.kind) {
      case 'insert':
      case 'update':
      case 'delete':
        return this.#row(message);
      case 'truncate':
        if (this.#skipping) return;
        for (const relation of message.relations) {
          if (!this.#builder.truncate(this.#parts.relations.of(relation)))
            protocol('a truncate outside of a transaction');
        }
        return;
      case 'commit':
        return this.#commit(message.endLsn);
      case 'relation':
        return this.#announced(message);
      case 'message': {
        if (!message.transactional || this.#skipping) return;
        // After a row it says nothing: what was handed out cannot be taken back, and ours comes first.
        if (message.prefix === APPLY_PREFIX && this.#builder.inTransaction && !this.#builder.hasRows)
          this.#skipping = isOwnApply(this.#parts, message.content);
        if (message.prefix !== MARK_PREFIX) return;
        const label = markLabel(this.#parts.migration, message.content);
        if (label !== null) this.#builder.mark(label);
        return;
      }
      case 'streamStart': {
        const { xid } = message;
        this.#opening = message.first;
        if (this.#builder.inTransaction) protocol('a block of another transaction inside a transaction');
        this.#block = xid;
        this.#work = () => this.#parts.spool.block(xid);
        return;
      }
      case 'streamStop': {
        if (this.#block === null) protocol('the end of a block that did not begin');
        this.#block = null;
        return;
      }
      case 'streamAbort': {
        const { xid, subXid } = message;
        if (xid === subXid) this.#ours.delete(xid);
        this.#work = () => this.#parts.spool.abort(xid, subXid);
        return;
      }
      case 'streamCommit': {
        const { xid, commitLsn, endLsn, commitMs } = message;
        this.#ours.delete(xid);
        this.#begin(xid, commitLsn, commitMs);
        this.#work = async () => {
          this.#replay = { reader: await this.#parts.spool.read(xid), xid, endLsn };
          this.#decoder.inStream = true;
        };
        return;
      }
      case 'begin':
        return protocol('a transaction inside a streamed one');
      case 'origin':
      case 'type':
        return;
    }
  }

  #row(row: RowMessage): void {
    if (this.#skipping) return;
    if (!this.#builder.add(this.#parts.relations.of(row.relation), row.kind, row.before, row.after))
      protocol('a row outside of a transaction');
  }

  #announced(message: RelationMessage): void {
    const { relations } = this.#parts;
    if (relations.repeats(message)) return;
    this.#work = async () => {
      const { relation, change } = await relations.reconcile(message);
      if (change === null) return;
      // The batch before ends here, whole transactions apart from the part of the open one.
      const whole = this.#builder.takeWhole();
      if (whole !== null) this.#ready.push(whole);
      const part = this.#builder.takePart(this.#withinOpen);
      if (part !== null) this.#ready.push(part);
      this.#builder.schemaChange(change);
      if (relation === null) this.#ready.push(this.#builder.takeSchemaChange());
    };
  }

  /** Inside a block every message starts with the id of its (sub)transaction, except Origin, which says nothing we use. */
  #spoolMessage(xid: number, buffer: Buffer, start: number, end: number): void {
    if (buffer[start] === 0x4f) return;
    if (end - start < 5) protocol('a message in a block that is cut off');
    if (this.#opening) {
      this.#opening = false;
      if (this.#signed(buffer, start, end)) this.#ours.add(xid);
    } else if (isRow(buffer[start]) && this.#ours.has(xid)) return;
    const { spool } = this.#parts;
    if (spool.append(xid, buffer.readUInt32BE(start + 1), buffer.subarray(start, end))) {
      this.#work = () => spool.flush(xid);
    }
  }

  /** The first message of an in-progress transaction says that it is an apply of ours. */
  #signed(buffer: Buffer, start: number, end: number): boolean {
    if (buffer[start] !== 0x4d) return false;
    this.#decoder.inStream = true;
    const message = this.#decoder.decode(buffer, start, end);
    this.#decoder.inStream = false;
    return (
      message.kind === 'message' &&
      message.transactional &&
      message.prefix === APPLY_PREFIX &&
      isOwnApply(this.#parts, message.content)
    );
  }

  async #continueReplay(): Promise<void> {
    const replay = this.#replay;
    if (replay === null || (await replay.reader.fill())) return;
    this.#replay = null;
    this.#decoder.inStream = false;
    this.#commit(replay.endLsn);
    await this.#parts.spool.drop(replay.xid);
  }
}

/** Insert, Update, Delete, Truncate. */
const isRow = (tag: number | undefined): boolean =>
  tag === 0x49 || tag === 0x55 || tag === 0x44 || tag === 0x54;

function protocol(what: string): never {
  throw new VerdigrisError('SOURCE_PROTOCOL', `The source sent ${what}.`);
}
