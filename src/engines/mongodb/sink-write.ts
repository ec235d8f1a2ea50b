import type { ClientSession, Db, Document, MongoClient } from 'mongodb';
import { VerdigrisError } from '../../core/errors.ts';
import { showTable, type TableName } from '../../core/table.ts';
import { fieldOf, rawNull, type Raw } from './bson.ts';
import { SERVER_CODE, TOO_LARGE } from './errors.ts';
import type { Shape } from './shape.ts';
import { documentsOf, rawCursor, write, type Written } from './wire.ts';

export interface ApplyOptions {
  readonly client: MongoClient;
  readonly session: ClientSession;
  /** Changes may have been applied before: what is there already counts as done. */
  readonly lenient: boolean;
  readonly keepTimestamps: boolean;
  /** Tables (by `tableId`) whose unique indexes refuse an order that their final documents would not be refused in. */
  readonly exact: ReadonlySet<string>;
  /** Where documents of such tables are put together: a collection of ours without indexes, empty. */
  readonly shadow: { readonly db: Db; readonly name: string };
  /** Where parts of a merged collection wait for its owner. */
  readonly waiting: (table: TableName) => { readonly db: Db; readonly name: string };
  /** Told the bytes of documents that a merge writes; may throw. Absent: the rows were cut by them already. */
  readonly spend?: (bytes: number) => void;
}

/** A unique index of a table refused a document; the transaction is gone. */
export class UniqueClash extends Error {
  readonly table: TableName;
  readonly conflict: VerdigrisError;

  constructor(table: TableName) {
    super('unique index');
    this.table = table;
    this.conflict = new VerdigrisError(
      'SINK_CONFLICT',
      `A unique index of ${showTable(table)} refuses a document, whatever the order.`,
      { context: { table: showTable(table) } },
    );
  }
}

/** An `_id` that a document is to come to belongs to another one; the transaction is gone. */
export class KeyTaken extends Error {
  readonly table: TableName;
  readonly id: Raw;
  readonly conflict: VerdigrisError;

  constructor(table: TableName, id: Raw, context: Readonly<Record<string, unknown>>) {
    super('_id');
    this.table = table;
    this.id = id;
    this.conflict = new VerdigrisError(
      'SINK_CONFLICT',
      `A document of ${showTable(table)} is there already.`,
      { context },
    );
  }
}

/** Where the documents of a table are written. */
export interface Place {
  readonly db: Db;
  readonly collection: string;
  readonly table: TableName;
  readonly shape: Shape;
  /** Of a merged collection. */
  readonly merged: MergedPlace | null;
}

/** What several collections of the source make one of. */
export interface MergedPlace {
  /** Fields of each part, in the order of the relation's columns. */
  readonly parts: readonly (readonly string[])[];
  /** Where parts wait while there is no document of the owner; null: the documents are made by the parts. */
  readonly waiting: Place | null;
}

export const readAll = (place: Place, filter: object, session: ClientSession): Promise<Buffer[]> =>
  allOf(place, { find: place.collection, filter }, session);

/** What a command finds. Without a session it sees what is committed. */
export async function allOf(
  { db, collection }: Place,
  command: Document,
  session: ClientSession | null,
): Promise<Buffer[]> {
  const options = session === null ? {} : { session };
  const found: Buffer[] = [];
  let reply = await rawCursor(db, command, options);
  for (;;) {
    for (const document of documentsOf(reply.batch)) found.push(Buffer.from(document));
    if (reply.id === 0n) return found;
    reply = await rawCursor(db, { getMore: reply.id, collection }, options);
  }
}

export async function send(
  kind: 'insert' | 'update' | 'delete',
  statements: readonly Buffer[],
  { db, collection, table }: Place,
  { session, keepTimestamps }: ApplyOptions,
): Promise<Written> {
  if (statements.length === 0) return { n: 0, error: null };
  const written = await write(db, { kind, collection, statements, keepTimestamps }, session);
  if (written.error === null) return written;
  const { code, index: ofStatement, keys } = written.error;
  if (code === SERVER_CODE.duplicateKey && !(keys.length === 1 && keys[0] === '_id'))
    throw new UniqueClash(table);
  const context = { table: showTable(table), serverCode: code, statement: ofStatement };
  if (code === SERVER_CODE.duplicateKey) throw new KeyTaken(table, idIn(statements, ofStatement), context);
  if (code === SERVER_CODE.writeConflict)
    throw new VerdigrisError('SINK_TRANSIENT', 'Another transaction wrote the same document.', { context });
  if (TOO_LARGE.has(code))
    throw new VerdigrisError('SINK_TRANSIENT', 'A transaction does not fit into the cache of the sink.', {
      context,
    });
  const refused = code === SERVER_CODE.documentValidation ? 'its validation' : `code ${code}`;
  throw new VerdigrisError('SINK_CONFLICT', `${showTable(table)} refuses a document (${refused}).`, {
    context,
  });
}

/** Of an insert; an update that makes a document names it by `q`. */
function idIn(statements: readonly Buffer[], index: number): Raw {
  const statement = statements[index] as Buffer;
  const asked = fieldOf(statement, 'q');
  return (asked === null ? fieldOf(statement, '_id') : null) ?? rawNull;
}

export function expect(found: number, wanted: number, kind: string, table: TableName): void {
  if (found === wanted) return;
  throw new VerdigrisError(
    'SINK_CONFLICT',
    `${wanted - found} of ${wanted} documents of ${showTable(table)} were not there for the ${kind}.`,
    { context: { table: showTable(table), expected: wanted, found } },
  );
}
