import type { Document, MongoClient } from 'mongodb';
import type { ChunkReader, ChunkRequest, SnapshotSource, Visibility } from '../../core/snapshot.ts';
import { showTable, type Cell, type Relation, type Tuple } from '../../core/table.ts';
import type { MongoConfig } from './config.ts';
import { statementTimeout } from './connect.ts';
import { shapeOf } from './shape.ts';
import { fieldOf } from './bson.ts';
import { translate } from './errors.ts';
import { keyTextOf } from './key.ts';
import { compareValues, keyComparator } from './order.ts';
import { parseTime, showTime, timestampOf, type ClusterTime } from './position.ts';
import { readRange, type RangeRead } from './range-read.ts';
import { documentsOf, rawCursor, type RawReply } from './wire.ts';

/** Keys looked at for one boundary: the sizes of the ranges then differ by a fifth or so. */
const SAMPLE_PER_RANGE = 20;
const MOST_SAMPLED = 200_000;

/** All transactions up to a cluster time are visible, and no other: reads with readConcern snapshot are of one time. */
function visibilityAt(time: ClusterTime): Visibility {
  return {
    sees: (transaction) => parseTime(transaction) <= time,
    describe: () => `cluster time ${showTime(time)}`,
  };
}

export function createSnapshotSource(parts: {
  readonly client: MongoClient;
  readonly config: MongoConfig;
  readonly stateDatabase: string;
}): SnapshotSource {
  const { client, config, stateDatabase } = parts;
  const compare = keyComparator();
  return {
    estimate: (relation) => guarded(relation, () => estimate(client, relation)),
    split: (relation, rows) => guarded(relation, () => split(client, relation, rows)),
    comparator: () => compare,
    bucket: (_relation, boundaries, values) =>
      Promise.resolve(values.map((value) => boundaries.filter((edge) => compare(edge, value) <= 0).length)),
    visibility: () =>
      guarded(null, async () => {
        const { cursor } = await rawCursor(client.db(stateDatabase), {
          find: 'marks',
          limit: 1,
          readConcern: { level: 'snapshot' },
          singleBatch: true,
        });
        return visibilityAt(cursor.get('atClusterTime')?.bytes.readBigUInt64LE() ?? 0n);
      }),
    open: (request, signal) => openChunk(client, request, signal, statementTimeout(config)),
  };
}

async function guarded<T>(relation: Relation | null, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw translate(error, 'source', relation === null ? {} : { table: showTable(relation.table) });
  }
}

export async function estimate(
  client: MongoClient,
  { table }: Relation,
): Promise<{ readonly rows: number; readonly bytes: number }> {
  const shards = await client
    .db(table.schema)
    .collection(table.name)
    .aggregate([{ $collStats: { storageStats: {} } }], { readConcern: { level: 'local' } })
    .toArray();
  const stored = shards.map((one) => (one['storageStats'] ?? {}) as Document);
  const sum = (field: string): number => stored.reduce((all, one) => all + Number(one[field] ?? 0), 0);
  return { rows: sum('count'), bytes: sum('size') };
}

/** Boundaries from a sample of the keys: reading all would take as long as copying them. */
export async function split(client: MongoClient, relation: Relation, rows: number): Promise<readonly Cell[]> {
  const { table } = relation;
  const ranges = Math.ceil((await estimate(client, relation)).rows / rows);
  if (ranges < 2) return [];
  const size = Math.min(ranges * SAMPLE_PER_RANGE, MOST_SAMPLED);
  const session = client.startSession({ causalConsistency: false });
  try {
    const db = client.db(table.schema);
    const keys: { readonly type: number; readonly bytes: Buffer }[] = [];
    let reply: RawReply = await rawCursor(
      db,
      {
        aggregate: table.name,
        pipeline: [{ $sample: { size } }, { $project: { _id: 1 } }],
        cursor: { batchSize: 10_000 },
        allowDiskUse: true,
        readConcern: { level: 'local' },
      },
      { session },
    );
    for (;;) {
      for (const document of documentsOf(reply.batch)) {
        const id = fieldOf(document, '_id');
        if (id !== null) keys.push({ type: id.type, bytes: Buffer.from(id.bytes) });
      }
      if (reply.id === 0n) break;
      reply = await rawCursor(db, { getMore: reply.id, collection: table.name }, { session });
    }
    keys.sort(compareValues);
    const edges: { readonly type: number; readonly bytes: Buffer }[] = [];
    for (let at = 1; at < ranges; at++) {
      const key = keys[Math.floor((at * keys.length) / ranges)];
      const last = edges.at(-1);
      // The random cursor may give a key twice.
      if (key !== undefined && (last === undefined || compareValues(last, key) < 0)) edges.push(key);
    }
    return edges.map(keyTextOf);
  } finally {
    await session.endSession();
  }
}

async function openChunk(
  client: MongoClient,
  { relations, range }: ChunkRequest,
  signal: AbortSignal,
  timeoutMs: number,
): Promise<ChunkReader> {
  // Asked for first and handed out last: the snapshot is taken by the first reply.
  const reads = new Map<
    Relation,
    { read: RangeRead; iterator: AsyncIterator<RawReply>; first: Promise<IteratorResult<RawReply>> }
  >();
  let time: ClusterTime | null = null;
  for (const relation of relations) {
    const read = readRange(client, relation, range, {
      where: 'source',
      signal,
      timeoutMs,
      ...(time === null ? {} : { at: timestampOf(time) }),
    });
    const iterator = read.batches[Symbol.asyncIterator]();
    const first = iterator.next();
    await first;
    time ??= await read.at;
    reads.set(relation, { read, iterator, first });
  }
  const batches = async function* (relation: Relation): AsyncGenerator<RawReply> {
    const opened = reads.get(relation);
    if (opened === undefined) return;
    for (let step = await opened.first; step.done !== true; step = await opened.iterator.next())
      yield step.value;
  };
  return {
    visibility: visibilityAt(time ?? 0n),
    async *raw(relation) {
      for await (const { batch } of batches(relation)) yield batch;
    },
    async *rows(relation) {
      for await (const rows of rowsOf(batches(relation), range, relation)) yield rows;
    },
    async [Symbol.asyncDispose]() {
      for (const { iterator } of reads.values()) await iterator.return?.().catch(() => undefined);
    },
  };
}

/** Rows of the replies; of single keys only those with exactly that key: for the server 1 and 1.0 are equal. */
export async function* rowsOf(
  replies: AsyncIterable<RawReply>,
  range: ChunkRequest['range'],
  relation: Relation,
): AsyncGenerator<readonly Tuple[]> {
  const shape = shapeOf(relation);
  const on = 'keys' in range && range.on !== undefined ? range.on : relation.key.map((_, place) => place);
  const keyIn = (row: Tuple): string =>
    JSON.stringify(on.map((place) => String(row[relation.key[place] as number])));
  const wanted = 'keys' in range ? new Set(range.keys.map((key) => JSON.stringify(key.map(String)))) : null;
  for await (const { batch } of replies) {
    const rows: Tuple[] = [];
    for (const document of documentsOf(batch)) {
      const row = shape.row(document);
      if (wanted === null || wanted.has(keyIn(row))) rows.push(row);
    }
    if (rows.length > 0) yield rows;
  }
}
