import { describe, test } from 'vitest';

import { ShardedRig } from './sharded-rig.ts';

describe('a sharded cluster to a replica set', () => {
  const rig = new ShardedRig({ blue: 'cluster', green: 'set' });
  test(
    'under load, with ranges of blue that move, a killed engine; there and back',
    () => rig.wholeWay(),
    180_000,
  );
});

describe('a replica set to a sharded cluster', () => {
  const rig = new ShardedRig({ blue: 'set', green: 'cluster' });
  test(
    'under load, with ranges of green that move, a killed engine; there and back',
    () => rig.wholeWay(),
    180_000,
  );
});

describe('a sharded cluster to another one', () => {
  const rig = new ShardedRig({ blue: 'cluster', green: 'cluster' });
  test(
    'under load, with ranges of both that move, a killed engine; there and back',
    () => rig.wholeWay(),
    180_000,
  );
});
