import type { ClientSession } from 'mongodb';
import type { TableName } from '../../core/table.ts';
import { TYPE, encode, fieldOf, fields, rawArray, rawString, type Raw } from './bson.ts';
import { idFilter } from './key.ts';
import type { SinkStream } from './sink-stream.ts';
import { deleteStatement } from './update.ts';
import { valueOf } from './value.ts';
import { documentsOf, rawCursor, write } from './wire.ts';

/**
 * The documents that a range has written before it is done, where they do not stand in the same range of the sink: nothing else tells which
 * they are. One document of ours for each transaction of the range; they go with the attempt, or when the range is done.
 */
const COLLECTION = 'written';

/** Part of the transaction that writes the documents. */
export async function noteWritten(
  stream: SinkStream,
  session: ClientSession,
  { range, table, ids }: { readonly range: string; readonly table: TableName; readonly ids: readonly Raw[] },
): Promise<void> {
  const note = encode([
    ['stream', rawString(stream.id)],
    ['range', rawString(range)],
    ['schema', rawString(table.schema)],
    ['name', rawString(table.name)],
    ['ids', rawArray(ids)],
  ]);
  const { keepTimestamps } = stream;
  const command = { kind: 'insert', collection: COLLECTION, statements: [note], keepTimestamps } as const;
  await write(stream.db, command, session);
}

/** A transaction that belongs to one attempt. */
type InAttempt = (work: (session: ClientSession) => Promise<void>) => Promise<void>;

/** Takes them off the sink. */
export async function removeWritten(stream: SinkStream, range: string, inAttempt: InAttempt): Promise<void> {
  const notes = stream.db.collection(COLLECTION);
  for (const { _id } of await notes.find({ range }, { projection: { _id: 1 } }).toArray()) {
    await inAttempt(async (session) => {
      const { batch } = await rawCursor(stream.db, { find: COLLECTION, filter: { _id } }, { session });
      for (const note of documentsOf(batch)) {
        const ids = fieldOf(note, 'ids')?.bytes;
        const statements =
          ids === undefined ? [] : [...fields(ids)].map((id) => deleteStatement(idFilter(id)));
        const collection = textIn(note, 'name');
        const command = { kind: 'delete', collection, statements, keepTimestamps: false } as const;
        await write(stream.client.db(textIn(note, 'schema')), command, session);
      }
      await notes.deleteOne({ _id }, { session });
    });
  }
}

/** The range that wrote a document and is not done; null: none. */
export async function writerOf(stream: SinkStream, table: TableName, id: Raw): Promise<string | null> {
  const { schema, name } = table;
  const ids = { $eq: valueOf(id) };
  const note = await stream.db.collection(COLLECTION).findOne({ schema, name, ids } as object, {
    projection: { range: 1 },
  });
  return note === null ? null : String(note['range']);
}

export async function forgetWritten(
  stream: SinkStream,
  session: ClientSession,
  range: string,
): Promise<void> {
  await stream.db.collection(COLLECTION).deleteMany({ range }, { session });
}

function textIn(document: Buffer, name: string): string {
  const field = fieldOf(document, name);
  return field?.type === TYPE.string ? field.bytes.toString('utf8', 4, field.bytes.length - 1) : '';
}
