import { test } from 'vitest';

import { startMongo } from '../../support/mongo.ts';
import { startMongoCluster } from '../../support/mongo-sharded.ts';
import { severalAgain } from './merge-back-rig.ts';

test('from a cluster to a replica set, collections become one and are several again', async () => {
  const [first, second] = await Promise.all([startMongoCluster(), startMongo()]);
  await using blue = first;
  await using green = second;
  await severalAgain(blue, green);
}, 300_000);

test('from a replica set to a cluster, collections become one and are several again', async () => {
  const [first, second] = await Promise.all([startMongo(), startMongoCluster()]);
  await using blue = first;
  await using green = second;
  await severalAgain(blue, green);
}, 300_000);
