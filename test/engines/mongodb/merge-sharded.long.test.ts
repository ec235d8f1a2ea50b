import { test } from 'vitest';

import { startMongo } from '../../support/mongo.ts';
import { startMongoCluster } from '../../support/mongo-sharded.ts';
import { severalAgain } from './merge-back-rig.ts';

test.each([
  ['a cluster to a replica set', startMongoCluster, startMongo],
  ['a replica set to a cluster', startMongo, startMongoCluster],
] as const)(
  'from %s, collections become one and are several again',
  async (_, startBlue, startGreen) => {
    const [first, second] = await Promise.all([startBlue(), startGreen()]);
    await using blue = first;
    await using green = second;
    await severalAgain(blue, green);
  },
  300_000,
);
