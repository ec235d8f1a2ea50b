import { expect, test } from 'vitest';

import type { ChangeBatch } from '../../../src/core/change.ts';
import type { SessionEnv } from '../../../src/core/engine.ts';
import type { Position } from '../../../src/core/position.ts';
import { engine } from '../../../src/engines/mongodb/index.ts';
import { parsePosition } from '../../../src/engines/mongodb/position.ts';
import { createMongoDatabase } from '../../support/mongo-databases.ts';
import { Reader } from '../../support/stream-reader.ts';

/** More than the server answers with at once, so that a reply ends between documents of one cluster time. */
const DOCUMENTS = 3_000;

const inserted = (batch: ChangeBatch): number => batch.runs.reduce((sum, { after }) => sum + after.length, 0);

test('documents of one statement share a cluster time (server 8.1 and later): a stream that is opened again behind any batch brings the rest of them', async () => {
  await using database = await createMongoDatabase('blue');
  const { name, uri, db } = database;
  await db.createCollection('items');
  const parsed = engine.parseConfig({ url: uri });
  if (!('config' in parsed)) throw new Error('the address is refused');
  const env = { migration: name, side: 'blue', stateSchema: `${name}_state` } as SessionEnv;
  await using session = await engine.connect(parsed.config, env);
  const relation = await session.catalog.source({ schema: name, name: 'items' });
  const source = session.changes({ direction: 'forward', term: 1, maxBatchBytes: 20_000 });
  const start = await source.prepare([relation]);
  await db
    .collection<{ _id: number }>('items')
    .insertMany(Array.from({ length: DOCUMENTS }, (_, _id) => ({ _id })));
  let from: Position = start;
  let seen = 0;
  const times = new Set<bigint>();
  // Every batch is met by a stream of its own: as if the engine were killed behind each.
  while (seen < DOCUMENTS) {
    const reader = new Reader(await source.open(from, new AbortController().signal));
    const batch = (await reader.until(({ runs, end }) => runs.length > 0 && end !== null)).at(-1);
    await reader.close();
    from = batch?.end as Position;
    seen += batch === undefined ? 0 : inserted(batch);
    expect(times.has(parsePosition(from).time)).toBe(false);
    times.add(parsePosition(from).time);
  }
  expect(seen).toBe(DOCUMENTS);
  await source.retire();
}, 60_000);
