import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { MongoClient } from 'mongodb';

import { freePort } from './free-port.ts';
import { mongoLibraries, mongoProgram, mongoUri, newMongoKey, own, startMongo } from './mongo.ts';
import type { MongoReplicaSet } from './mongo.ts';
import { newDir } from './run-dir.ts';
import { ServerProcess } from './server-process.ts';
import { waitFor } from './wait.ts';

/** A sharded cluster with authorization, on 127.0.0.1: a router, a config server and two shards of one member each. */
export interface MongoCluster extends AsyncDisposable {
  readonly shards: readonly MongoReplicaSet[];
  /** Of the router. */
  uri(): string;
}

export async function startMongoCluster(): Promise<MongoCluster> {
  const key = newMongoKey();
  await using stack = new AsyncDisposableStack();
  const part = async (role: 'configsvr' | 'shardsvr', set: string): Promise<MongoReplicaSet> =>
    stack.use(await startMongo({ part: { role, set, key } }));
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
  const uri = mongoUri([port]).replace('replicaSet=rs0&', '');
  await waitFor(
    async () => {
      if (!router.running) throw new Error(`mongos did not start:\n${router.log().slice(-2_000)}`);
      await using client = new MongoClient(uri, { serverSelectionTimeoutMS: 1_000 });
      for (const [index, shard] of shards.entries())
        await client.db('admin').command({ addShard: place(shard, `shard${index}`) });
      return true;
    },
    { what: 'the router to take its shards', timeoutMs: 60_000 },
  );
  const all = stack.move();
  return { shards, uri: () => uri, [Symbol.asyncDispose]: () => all.disposeAsync() };
}
