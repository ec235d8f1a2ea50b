import { MongoClient, type ClientSession } from 'mongodb';
import { expect, test } from 'vitest';

import { endOlderTerms } from '../../../src/engines/mongodb/lease.ts';
import { createMongoDatabase } from '../../support/mongo-databases.ts';

test('a new term ends the open transactions of older streams of its migration, and neither its own nor those of its record', async () => {
  await using database = await createMongoDatabase('green');
  await database.db.createCollection('t');
  await using stack = new AsyncDisposableStack();
  const open = async (appName: string): Promise<ClientSession> => {
    const client = new MongoClient(database.uri, { appName });
    stack.defer(() => client.close());
    const session = client.startSession();
    session.startTransaction();
    await client.db(database.name).collection('t').insertOne({ appName }, { session });
    return session;
  };
  const { name } = database;
  const kept = [
    `verdigris:${name}:green:t0`,
    `verdigris:${name}:forward:t3`,
    `verdigris:other_${name}:forward:t1`,
    'shop',
  ];
  const ended = [`verdigris:${name}:forward:t2`, `verdigris:${name}:reverse:t1`];
  const sessions = new Map<string, ClientSession>();
  for (const app of [...kept, ...ended]) sessions.set(app, await open(app));
  await endOlderTerms(database.client, name, 3);
  for (const app of kept) await sessions.get(app)?.commitTransaction();
  for (const app of ended) await expect(sessions.get(app)?.commitTransaction()).rejects.toThrow();
  const there = await database.db.collection('t').find().toArray();
  expect(there.map((one) => one['appName'] as string).toSorted()).toEqual(kept.toSorted());
});
