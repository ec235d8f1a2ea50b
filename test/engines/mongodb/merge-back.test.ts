import { test } from 'vitest';

import { startMongo } from '../../support/mongo.ts';
import { severalAgain } from './merge-back-rig.ts';

// With clusters: merge-sharded.long.test.ts.
test('collections that became one are several again, with what only blue had of them, after a killed engine and a rollback', async () => {
  const [first, second] = await Promise.all([startMongo(), startMongo()]);
  await using blue = first;
  await using green = second;
  await severalAgain(blue, green);
}, 240_000);
