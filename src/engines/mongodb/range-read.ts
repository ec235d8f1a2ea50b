import type { MongoClient, Timestamp } from 'mongodb';
import type { KeyRange } from '../../core/snapshot.ts';
import { rowOf, showTable, type Cell, type Relation } from '../../core/table.ts';
import { clusterTime, type ClusterTime } from './position.ts';
import { translate, type Where } from './errors.ts';
import { shapeOf } from './shape.ts';
import { valueOf } from './value.ts';
import { rawCursor, type RawReply } from './wire.ts';

/** Documents of the first reply; the server's own default is 101, which costs a round trip. */
const FIRST_BATCH = 1_000;

export interface RangeRead {
  /** The cluster time of the snapshot; known once the first reply is there. */
  readonly at: Promise<ClusterTime>;
  readonly batches: AsyncIterable<RawReply>;
}

/**
 * The documents of a range in the order of their keys, all from one snapshot. Bounds are bounds of the index, not conditions: a condition
 * would only find keys of the bound's own type.
 * @throws VerdigrisError by code; the signal's reason
 */
export function readRange(
  client: MongoClient,
  relation: Relation,
  range: KeyRange,
  options: {
    readonly where: Where;
    readonly signal?: AbortSignal;
    readonly idsOnly?: boolean;
    readonly at?: Timestamp;
    /** Longest single command, ms. */
    readonly timeoutMs?: number;
  },
): RangeRead {
  const { table } = relation;
  const at = Promise.withResolvers<ClusterTime>();
  at.promise.catch(() => undefined);
  const { signal } = options;
  const command = {
    find: table.name,
    ...bounds(relation, range),
    // Of several shards it would be the order of none.
    sort: { _id: 1 },
    ...(options.idsOnly === true ? { projection: { _id: 1 } } : {}),
    batchSize: FIRST_BATCH,
    readConcern: {
      level: 'snapshot',
      ...(options.at === undefined ? {} : { atClusterTime: options.at }),
    },
    ...(options.timeoutMs === undefined ? {} : { maxTimeMS: options.timeoutMs }),
  };

  async function* batches(): AsyncGenerator<RawReply> {
    const db = client.db(table.schema);
    const session = client.startSession({ causalConsistency: false });
    let open = 0n;
    const run = { session, ...(signal === undefined ? {} : { signal }) };
    try {
      let reply = await rawCursor(db, command, run);
      const seen = reply.cursor.get('atClusterTime')?.bytes;
      at.resolve(seen === undefined ? 0n : clusterTime(seen.readUInt32LE(4), seen.readUInt32LE(0)));
      for (;;) {
        open = reply.id;
        // The next one is on its way while this one is used.
        const next = open === 0n ? null : rawCursor(db, { getMore: open, collection: table.name }, run);
        next?.catch(() => undefined);
        yield reply;
        if (next === null) return;
        reply = await next;
      }
    } catch (error) {
      if (signal?.aborted === true) throw signal.reason;
      const translated = translate(error, options.where, { table: showTable(table) });
      at.reject(translated);
      throw translated;
    } finally {
      if (open !== 0n) {
        await db.command({ killCursors: table.name, cursors: [open] }, { session }).catch(() => undefined);
      }
      await session.endSession();
    }
  }
  return { at: at.promise, batches: batches() };
}

function bounds(relation: Relation, range: KeyRange): object {
  const shape = shapeOf(relation);
  if ('keys' in range) {
    const families = range.on !== undefined && range.on.length < relation.key.length;
    if (families) return { filter: anyOf(range.keys.map((key) => shape.family(key[0] as Cell))) };
    const ids = range.keys.map((key) => shape.id(rowOf(relation, key)));
    return { filter: { _id: { $in: ids.flatMap((id) => (id === null ? [] : [valueOf(id)])) } } };
  }
  const { lower, upper } = range;
  // `min` alone ends before MaxKey, which may be a key (seen on 8.2). The aggregation's comparison knows no types apart.
  if (upper === null && lower !== null) {
    const from = { $literal: shape.bound(lower) };
    return { filter: { $expr: { $gte: ['$_id', from] } }, hint: { _id: 1 } };
  }
  return {
    filter: {},
    hint: { _id: 1 },
    ...(lower === null ? {} : { min: { _id: shape.bound(lower) } }),
    ...(upper === null ? {} : { max: { _id: shape.bound(upper) } }),
  };
}

/** An empty list is no condition of the server's. */
const anyOf = (conditions: readonly object[]): object =>
  conditions.length === 0 ? { _id: { $in: [] } } : { $or: conditions };
