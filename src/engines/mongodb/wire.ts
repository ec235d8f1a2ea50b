import type { ClientSession, Db, Document, RunCommandOptions } from 'mongodb';
import commands from 'mongodb/lib/cmap/commands.js';
import { TYPE, asBuffer, broken, fieldMap, numberOf, type Field } from './bson.ts';
import { isRouter } from './cluster.ts';

/** A write command takes at most so many statements and so many bytes (48 MB of a message, less its head). */
const MOST_STATEMENTS = 50_000;
const MOST_BYTES = 40 * 2 ** 20;

const NOTHING = {};

/** Bytes of a document without fields. */
const LEAST = 5;

export interface WriteFailure {
  readonly index: number;
  readonly code: number;
  /** Fields of the unique index that refused. */
  readonly keys: readonly string[];
}

export interface Written {
  /** Documents inserted, matched or deleted. */
  readonly n: number;
  /** Of the statement that failed first. */
  readonly error: WriteFailure | null;
}

/**
 * Sends statements that are bytes already. Stops at the first one that fails.
 * @param statements insert: documents, also several behind one another in one buffer; update: `{ q, u }`; delete: `{ q, limit }`
 */
export async function write(
  db: Db,
  command: {
    readonly kind: 'insert' | 'update' | 'delete';
    readonly collection: string;
    readonly statements: readonly Uint8Array[];
    /** The server knows `bypassEmptyTsReplacement`: Timestamp(0,0) stays what it is. */
    readonly keepTimestamps: boolean;
  },
  session: ClientSession,
): Promise<Written> {
  const { kind, collection, statements } = command;
  const field = kind === 'insert' ? 'documents' : kind === 'update' ? 'updates' : 'deletes';
  // In their order a router sends each run of statements that are of one shard by itself. They are of different documents, and a transaction ends with the first
  // that fails in any order.
  const ordered = !(await isRouter(db.client));
  let n = 0;
  for (let from = 0; from < statements.length;) {
    const sequence = new commands.DocumentSequence(field);
    let bytes = 0;
    let to = from;
    while (to < statements.length && to - from < MOST_STATEMENTS) {
      const statement = statements[to] as Uint8Array;
      if (to > from && bytes + statement.length > MOST_BYTES) break;
      sequence.push(NOTHING, statement);
      bytes += statement.length;
      to += 1;
    }
    const reply = await db.command(
      {
        [kind]: collection,
        [field]: sequence,
        ordered,
        ...(kind !== 'delete' && command.keepTimestamps ? { bypassEmptyTsReplacement: true } : {}),
      },
      { session },
    );
    n += Number(reply['n']);
    const failed = (reply['writeErrors'] as readonly Document[] | undefined)?.[0];
    if (failed !== undefined)
      return {
        n,
        error: {
          index: from + Number(failed['index']),
          code: Number(failed['code']),
          keys: Object.keys((failed['keyPattern'] ?? {}) as Document),
        },
      };
    from = to;
  }
  return { n, error: null };
}

/** One reply of a cursor, its documents as they came. */
export interface RawReply {
  readonly id: bigint;
  /** The array of documents, as a document. */
  readonly batch: Buffer;
  readonly bytes: number;
  readonly cursor: ReadonlyMap<string, Field>;
}

/** Runs a command that answers with a cursor, and leaves the documents alone. */
export async function rawCursor(
  db: Db,
  command: Document,
  options: RunCommandOptions = {},
): Promise<RawReply> {
  const reply = await db.command(command, { ...options, raw: true });
  const cursor = fieldMap(asBuffer(reply['cursor'] as Uint8Array));
  const batch = (cursor.get('firstBatch') ?? cursor.get('nextBatch')) as Field;
  const id = cursor.get('id') as Field;
  return {
    id: id.bytes.length === 8 ? id.bytes.readBigInt64LE() : BigInt(numberOf(id)),
    batch: batch.bytes,
    bytes: batch.bytes.length,
    cursor,
  };
}

/** The documents of a reply, as views. @throws VerdigrisError SOURCE_PROTOCOL */
export function documentsOf(batch: Buffer): Buffer[] {
  const spans = spansOf(batch);
  return Array.from({ length: spans.length / 2 }, (_, index) =>
    batch.subarray(spans[index * 2], spans[index * 2 + 1]),
  );
}

/**
 * Where each document of a reply begins and ends, one behind the other: a view of each would cost more than a small document's bytes. The
 * names, which are the numbers of an array, are not read.
 * @throws VerdigrisError SOURCE_PROTOCOL
 */
export function spansOf(batch: Buffer): number[] {
  const spans: number[] = [];
  const end = batch.readInt32LE(0) - 1;
  if (end + 1 > batch.length) throw broken();
  for (let at = 4; at < end;) {
    // A type, a short name with a zero behind it, the document.
    let from = at + 1;
    while (batch[from] !== 0 && from < end) from += 1;
    from += 1;
    const size = from + 4 > end ? 0 : batch.readInt32LE(from);
    if (size < LEAST || from + size > end || batch[at] !== TYPE.document) throw broken();
    at = from + size;
    spans.push(from, at);
  }
  return spans;
}
