import { MongoClient } from 'mongodb';
import { expect, it } from 'vitest';

import { createMongoDatabase } from '../mongo-databases.ts';
import { MONGO_PASSWORD, startMongo, waitForPrimary } from '../mongo.ts';

it('gives a database of a replica set that takes transactions and asks who one is', async () => {
  await using database = await createMongoDatabase('blue');
  const { client, db } = database;
  await db.createCollection('a');
  await client.withSession((session) =>
    session.withTransaction(async () => void (await db.collection('a').insertOne({ a: 1 }, { session }))),
  );
  expect(await db.collection('a').countDocuments()).toBe(1);
  const stranger = new MongoClient(database.uri.replace(/\/\/[^@]+@/, '//'));
  await expect(stranger.db(database.name).collection('a').findOne()).rejects.toMatchObject({ code: 13 });
  await stranger.close();
});

it('elects another primary when the first one is killed', async () => {
  await using set = await startMongo({ members: 3 });
  const first = await waitForPrimary(set);
  await set.members.find(({ port }) => port === first)?.stop('kill');
  expect(await waitForPrimary(set)).not.toBe(first);
  const client = await new MongoClient(set.uri()).connect();
  await client.db('admin').command({ createUser: 'app', pwd: MONGO_PASSWORD, roles: [] });
  await client.close();
});
