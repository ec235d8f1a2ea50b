import { Long, type MongoClient } from 'mongodb';
import type { TableName } from '../../core/table.ts';
import { isRouter } from './cluster.ts';

/** Of so many made up keys there is one for each shard that has at least a hundredth of the hashes. */
const TRIED = 1_000;

interface Chunk {
  readonly shard: string;
  readonly min: { readonly _id: unknown };
  readonly max: { readonly _id: unknown };
}

/**
 * Keys of documents that are on no side, one for each shard that has a part of the collection: each shard blocks writes by itself. Null: any key will do,
 * since one server has all of it. The collection is sharded by `_id` or by its hash: preflight has seen to that.
 */
export async function probeIds(client: MongoClient, table: TableName): Promise<readonly unknown[] | null> {
  if (!(await isRouter(client))) return null;
  const config = client.db('config');
  const known = await config
    .collection<{ _id: string; uuid: unknown; unsplittable?: boolean; key: { _id?: unknown } }>('collections')
    .findOne({ _id: `${table.schema}.${table.name}` });
  if (known === null || known.unsplittable === true) return null;
  const chunks = await config
    .collection<Chunk>('chunks')
    .find({ uuid: known.uuid }, { promoteLongs: false })
    .toArray();
  const ids = new Map<string, unknown>();
  if (known.key._id !== 'hashed') for (const { shard, min } of chunks) ids.set(shard, min._id);
  else {
    for (const { id, hash } of await hashed(client)) {
      const chunk = chunks.find(({ min, max }) => isWithin(hash, min._id, max._id));
      if (chunk !== undefined) ids.set(chunk.shard, id);
    }
  }
  return [...ids.values()];
}

async function hashed(client: MongoClient): Promise<readonly { readonly id: string; readonly hash: Long }[]> {
  const made = Array.from({ length: TRIED }, (_, at) => ({ id: `verdigris: proof of the fence ${at}` }));
  const pipeline = [{ $documents: made }, { $set: { hash: { $toHashedIndexKey: '$id' } } }];
  const found = await client.db('admin').aggregate(pipeline, { promoteLongs: false }).toArray();
  return found as unknown as { readonly id: string; readonly hash: Long }[];
}

/** The ends of all hashes are MinKey and MaxKey. */
const isWithin = (hash: Long, min: unknown, max: unknown): boolean =>
  !(min instanceof Long && hash.lessThan(min)) && !(max instanceof Long && hash.greaterThanOrEqual(max));
