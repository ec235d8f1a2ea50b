import type { Document, MongoServerError } from 'mongodb';
import { VerdigrisError } from '../../core/errors.ts';
import type { TargetTable } from '../../core/plan.ts';
import type { FinishStep } from '../../core/sink.ts';
import { showTable, type TableName } from '../../core/table.ts';
import { SERVER_CODE, codeOfError } from './errors.ts';
import type { SinkStream } from './sink-stream.ts';

/** An index of green that stands aside while its collection is copied, as `listIndexes` printed it. */
interface DeferredIndex {
  readonly _id: string;
  readonly stream: string;
  readonly table: TableName;
  readonly name: string;
  readonly spec: Document;
}

/** A collection that was looked at, so that a second call does not take its finished indexes off again. */
interface DeferredTable {
  readonly _id: string;
  readonly stream: string;
  readonly table: TableName;
}

/** Expires nothing: both sides would delete the same documents, each when it likes. Blue's deletes come with its log. */
const NEVER = 2_147_483_647;

/**
 * Takes the secondary indexes off the empty collections and remembers them: documents of a range are only together at its close, and a unique
 * index would refuse states that blue never had.
 */
export async function deferIndexes(stream: SinkStream, tables: readonly TargetTable[]): Promise<void> {
  const { client, db, id } = stream;
  const deferred = db.collection<DeferredIndex>('deferred');
  const seen = db.collection<DeferredTable>('deferred');
  for (const { relation } of tables) {
    const { table } = relation;
    const mark = JSON.stringify([id, table.schema, table.name]);
    if ((await seen.findOne({ _id: mark })) !== null) continue;
    const collection = client.db(table.schema).collection(table.name);
    const empty = (await collection.findOne({}, { projection: { _id: 1 } })) === null;
    if (empty) {
      for (const spec of await collection.listIndexes().toArray()) {
        const name = String((spec as Document)['name']);
        // Without the hash of `_id` a collection that is sharded by it would not be.
        if (name === '_id_' || ((spec as Document)['key'] as Document)['_id'] === 'hashed') continue;
        const _id = JSON.stringify([id, table.schema, table.name, name]);
        await deferred.replaceOne(
          { _id },
          { stream: id, table, name, spec: spec as Document },
          { upsert: true },
        );
        await collection.dropIndex(name);
      }
    }
    await seen.replaceOne({ _id: mark }, { stream: id, table }, { upsert: true });
  }
}

/** Collections whose indexes are built at the same time: a build of the server takes one core, and waits for the journal in between. */
const BUILDS = 2;

/** Builds what {@link deferIndexes} took off, all of a collection in one scan of it. Idempotent: an index that is there is not built again. */
export async function buildIndexes(
  stream: SinkStream,
  tables: readonly TargetTable[],
  progress: (step: FinishStep) => void,
  signal: AbortSignal,
): Promise<void> {
  const waiting = tables.map(({ relation }) => relation.table);
  const failed = new AbortController();
  const both = AbortSignal.any([signal, failed.signal]);
  const builder = async (): Promise<void> => {
    for (let table = waiting.shift(); table !== undefined; table = waiting.shift()) {
      both.throwIfAborted();
      await buildIndexesOf(stream, table, progress, both);
    }
  };
  // The first failure ends the others, and is the one that is told.
  await Promise.all(
    Array.from({ length: BUILDS }, () => builder().catch((error: unknown) => failed.abort(error))),
  );
  both.throwIfAborted();
}

async function buildIndexesOf(
  { client, db, id }: SinkStream,
  table: TableName,
  progress: (step: FinishStep) => void,
  signal: AbortSignal,
): Promise<void> {
  const specs = await db
    .collection<DeferredIndex>('deferred')
    .find({ stream: id, table, spec: { $exists: true } })
    .toArray();
  if (specs.length === 0) return;
  const name = specs.map((spec) => spec.name).join(', ');
  const report = (done: number): void => progress({ table, kind: 'index', name, done, total: specs.length });
  report(0);
  try {
    await client
      .db(table.schema)
      .command(
        { createIndexes: table.name, indexes: specs.map(({ spec }) => withoutExpiry(spec)) },
        { signal },
      );
  } catch (error) {
    signal.throwIfAborted();
    if (codeOfError(error) !== SERVER_CODE.duplicateKey) throw error;
    const index = refusedIndex(error, specs);
    throw new VerdigrisError(
      'SINK_CONFLICT',
      `The unique index ${index} of ${showTable(table)} cannot be built: documents of blue have the same key.`,
      { context: { table: showTable(table), index } },
    );
  }
  report(specs.length);
}

/** The index that found two documents with one key; the server names its fields. */
function refusedIndex(error: unknown, specs: readonly DeferredIndex[]): string {
  const fields = JSON.stringify((error as MongoServerError)['keyPattern']);
  const unique = specs.filter(({ spec }) => spec['unique'] === true);
  const found = unique.filter(({ spec }) => JSON.stringify(spec['key']) === fields);
  return (found.length > 0 ? found : unique).map(({ name }) => name).join(' or ');
}

function withoutExpiry(spec: Document): Document {
  const { v: _version, ns: _namespace, ...rest } = spec;
  return 'expireAfterSeconds' in rest ? { ...rest, expireAfterSeconds: NEVER } : rest;
}

/** Lets documents expire again as the indexes say: this side serves now. */
export async function resumeExpiry(
  client: SinkStream['client'],
  stateDatabase: string,
  tables: readonly TableName[],
): Promise<void> {
  const deferred = client.db(stateDatabase).collection<DeferredIndex>('deferred');
  for (const table of tables) {
    for (const { name, spec } of await deferred.find({ table, spec: { $exists: true } }).toArray()) {
      const seconds = spec['expireAfterSeconds'] as number | undefined;
      if (seconds === undefined) continue;
      await client
        .db(table.schema)
        .command({ collMod: table.name, index: { name, expireAfterSeconds: seconds } });
    }
  }
}
