import { randomBytes } from 'node:crypto';

import { type Db, MongoClient } from 'mongodb';

import { MONGO_ROOT, mongoUri, startMongo, type MongoReplicaSet } from './mongo.ts';
import { SHARED_HOST_VARIABLE } from './shared-host.ts';

export type MongoSide = 'blue' | 'green';

/** A database of a test's own on one of the two replica sets that a run shares. Dropped with what it holds. */
export interface MongoDatabase extends AsyncDisposable {
  readonly name: string;
  readonly uri: string;
  readonly client: MongoClient;
  readonly db: Db;
}

const own = new Map<MongoSide, Promise<MongoReplicaSet>>();

/** The address of the run's shared replica set of that side, or of one that is there already. Outside vitest this process keeps it, for the process's life. */
export async function sharedMongo(side: MongoSide): Promise<string> {
  const existing =
    process.env[side === 'blue' ? 'VERDIGRIS_TEST_MONGO_URL' : 'VERDIGRIS_TEST_MONGO_GREEN_URL'];
  if (existing !== undefined && existing !== '') return existing;
  const host = process.env[SHARED_HOST_VARIABLE];
  if (host !== undefined && host !== '') {
    const answer = await fetch(`${host}/mongo/${side}`);
    const body = await answer.text();
    if (!answer.ok) throw new Error(`no shared MongoDB: ${body}`);
    return mongoUri([Number(body)], MONGO_ROOT);
  }
  let set = own.get(side);
  if (set === undefined) own.set(side, (set = startMongo()));
  return (await set).uri();
}

export async function createMongoDatabase(side: MongoSide, name?: string): Promise<MongoDatabase> {
  return openMongoDatabase(await sharedMongo(side), name);
}

/** The same on a server of the test's own. */
export async function openMongoDatabase(
  uri: string,
  name = `t${randomBytes(6).toString('hex')}`,
): Promise<MongoDatabase> {
  const client = await new MongoClient(uri, { serverSelectionTimeoutMS: 30_000 }).connect();
  const db = client.db(name);
  return {
    name,
    uri,
    client,
    db,
    async [Symbol.asyncDispose]() {
      await db.dropDatabase();
      await client.close();
    },
  };
}
