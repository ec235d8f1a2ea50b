import { expect, test } from 'vitest';

import { COLLECTIONS, prepareState } from '../../../src/engines/mongodb/state-database.ts';
import { createMongoDatabase } from '../../support/mongo-databases.ts';

test('state of a version that had fewer collections gets the others, and stays what it is', async () => {
  await using database = await createMongoDatabase('green');
  const { db } = database;
  await db.collection<{ _id: string; version: number }>('format').insertOne({ _id: 'state', version: 1 });
  await db.collection<{ _id: string; term: number }>('lease').insertOne({ _id: 'shop', term: 7 });
  await prepareState(db);
  const made = (await db.listCollections({}, { nameOnly: true }).toArray()).map(({ name }) => name);
  expect(made.toSorted()).toEqual([...COLLECTIONS].toSorted());
  expect(await db.collection('lease').find().toArray()).toEqual([{ _id: 'shop', term: 7 }]);
  expect(await db.collection('format').find().toArray()).toEqual([{ _id: 'state', version: 1 }]);
});
