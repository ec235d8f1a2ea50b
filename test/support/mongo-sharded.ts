import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { type Db, Long, MaxKey, MinKey, MongoClient } from 'mongodb';

import { freePort } from './free-port.ts';
import { mongoLibraries, mongoProgram, mongoUri, newMongoKey, own, startMongo } from './mongo.ts';
import type { MongoReplicaSet } from './mongo.ts';
import { newDir } from './run-dir.ts';
import { ServerProcess } from './server-process.ts';
import { waitFor } from './wait.ts';

/** A sharded cluster with authorization, on 127.0.0.1: a router, a config server and two shards of one member each. */
export interface MongoCluster extends AsyncDisposable {
  readonly shards: readonly MongoReplicaSet[];
  /** Of the router; `user` was made through it. */
  uri(user?: string): string;
}

export async function startMongoCluster(): Promise<MongoCluster> {
  const key = newMongoKey();
  await using stack = new AsyncDisposableStack();
  const part = async (role: 'configsvr' | 'shardsvr', set: string): Promise<MongoReplicaSet> =>
    stack.use(await startMongo({ part: { role, set, key }, cacheGb: 0.25 }));
  const config = await part('configsvr', 'config');
  const shards = [await part('shardsvr', 'shard0'), await part('shardsvr', 'shard1')];
  const home = await newDir('mongos');
  stack.defer(() => rm(home, { recursive: true, force: true }));
  await own(home);
  const keyFile = join(home, 'key');
  await writeFile(keyFile, key, { mode: 0o600 });
  await own(keyFile);
  const place = (set: MongoReplicaSet, name: string): string =>
    `${name}/127.0.0.1:${String(set.members[0]?.port)}`;
  const port = await freePort();
  const router = await ServerProcess.launch({
    name: `mongos on port ${port}`,
    program: '/usr/bin/env',
    args: [
      `LD_LIBRARY_PATH=${await mongoLibraries()}`,
      await mongoProgram('mongos'),
      ...['--configdb', place(config, 'config'), '--bind_ip', '127.0.0.1', '--port', String(port)],
      ...['--keyFile', keyFile, '--nounixsocket', '--quiet'],
    ],
    cwd: home,
    logFile: join(home, 'mongos.log'),
    killSignal: 'SIGKILL',
  });
  stack.defer(() => router.end('SIGKILL'));
  const uri = (user?: string): string => mongoUri([port], user).replace('replicaSet=rs0&', '');
  await waitFor(
    async () => {
      if (!router.running) throw new Error(`mongos did not start:\n${router.log().slice(-2_000)}`);
      await using client = new MongoClient(uri(), { serverSelectionTimeoutMS: 1_000 });
      for (const [index, shard] of shards.entries())
        await client.db('admin').command({ addShard: place(shard, `shard${index}`) });
      return true;
    },
    { what: 'the router to take its shards', timeoutMs: 60_000 },
  );
  const all = stack.move();
  return { shards, uri, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

const namespace = (db: Db, collection: string): string => `${db.databaseName}.${collection}`;

/** A range of keys; of a collection that is sharded by the hash of `_id` the bounds are hashes. */
export interface Range {
  readonly min: unknown;
  readonly max: unknown;
}

/** A quarter of all hashes: each of two shards begins with one half of them. */
export const FIRST_QUARTER: Range = { min: new MinKey(), max: Long.fromString('-4611686018427387904') };
export const LAST_QUARTER: Range = { min: Long.fromString('4611686018427387904'), max: new MaxKey() };

/** Spreads an empty collection over both shards of a cluster: by the hash of `_id`, or by ranges of it, of which the second begins there. */
export async function spread(db: Db, collection: string, at?: string | number): Promise<void> {
  const admin = db.client.db('admin');
  const ns = namespace(db, collection);
  await admin.command({ shardCollection: ns, key: { _id: at === undefined ? 'hashed' : 1 } });
  if (at !== undefined) await moveRange(db, collection, { min: at, max: new MaxKey() });
}

/**
 * Has that range go from the shard that has its lower end to the other one. What was there before may not come back for 15 minutes: the shard still
 * has its documents, and removes them then.
 */
export async function moveRange(db: Db, collection: string, { min, max }: Range): Promise<void> {
  const ns = namespace(db, collection);
  const config = db.client.db('config');
  const known = await config.collection<{ _id: string; uuid: unknown }>('collections').findOne({ _id: ns });
  // Compared as the server orders keys; a condition would only find bounds of the same type.
  const from = { $literal: min };
  const chunk = await config.collection<{ shard: string }>('chunks').findOne({
    uuid: known?.uuid,
    $expr: { $and: [{ $lte: ['$min._id', from] }, { $gt: ['$max._id', from] }] },
  });
  const toShard = chunk?.shard === 'shard0' ? 'shard1' : 'shard0';
  await db.client
    .db('admin')
    .command({ moveRange: ns, min: { _id: min }, max: { _id: max }, toShard, waitForDelete: false });
}

/** How many documents each shard has, those included that it has given away and not removed yet. */
export async function stored(cluster: MongoCluster, db: Db, collection: string): Promise<number[]> {
  const counts: number[] = [];
  for (const shard of cluster.shards) {
    await using client = new MongoClient(shard.uri());
    counts.push(await client.db(db.databaseName).collection(collection).countDocuments());
  }
  return counts;
}
