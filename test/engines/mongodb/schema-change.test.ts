import { describe, expect, test } from 'vitest';

import { MongoRun } from '../../support/mongo-run.ts';
import { HoldPoints } from '../../support/run.ts';

const ROWS = 1_200;

const create = (): Promise<MongoRun> =>
  MongoRun.create({
    collections: ['items'],
    settings: 'copy: { workers: 1, chunk: { max_rows: 300 } }',
    seed: async (db) => {
      await db
        .collection<{ _id: number; v: number }>('items')
        .insertMany(Array.from({ length: ROWS }, (_, at) => ({ _id: at + 1, v: at })));
    },
  });

/** What takes the collection away from under its name. */
const GONE: readonly (readonly [string, (run: MongoRun) => Promise<unknown>])[] = [
  ['rename', (run) => run.blue.collection('items').rename('elsewhere')],
  ['drop', (run) => run.blue.collection('items').drop()],
  [
    'drop and make again',
    async (run) => {
      await run.blue.collection('items').drop();
      await run.blue.collection<{ _id: number }>('items').insertOne({ _id: 1 });
    },
  ],
  [
    'rename of another one onto it',
    async (run) => {
      await run.blue.collection<{ _id: number }>('other').insertOne({ _id: 1 });
      await run.blue.collection('other').rename('items', { dropTarget: true });
    },
  ],
  ['dropDatabase', (run) => run.blue.dropDatabase()],
  ['convertToCapped', (run) => run.blue.command({ convertToCapped: 'items', size: 1_000_000 })],
];

/** Green has its own: what blue's say of its documents is in the documents. */
const HARMLESS: readonly (readonly [string, (run: MongoRun) => Promise<unknown>])[] = [
  ['createIndexes', (run) => run.blue.collection('items').createIndex({ v: 1 }, { unique: true })],
  ['dropIndexes', (run) => run.blue.collection('items').dropIndex('v_1')],
  [
    'collMod of the validation',
    (run) => run.blue.command({ collMod: 'items', validator: { v: { $exists: true } } }),
  ],
  [
    'collMod of the images',
    (run) => run.blue.command({ collMod: 'items', changeStreamPreAndPostImages: { enabled: true } }),
  ],
];

describe('a copied collection of blue that changes', () => {
  test.each(GONE)(
    '%s while it streams: parked where it happened, green keeps what blue had before',
    async (_, change) => {
      await using run = await create();
      await run.start();
      const migration = await run.engine.migration();
      await migration.pause('apply', 'test');
      await run.blue.collection<{ _id: number }>('items').updateOne({ _id: 7 }, { $set: { v: -7 } });
      await change(run);
      await migration.resume('apply');
      const status = await run.parked('SCHEMA_CHANGED');
      expect(status.error?.message).toContain(`${run.name}.`);
      const items = run.green.collection<{ _id: number; v: number }>('items');
      expect(await items.countDocuments()).toBe(ROWS);
      expect(await items.findOne({ _id: 7 })).toMatchObject({ v: -7 });
      // Tried again, it is what it is.
      await migration.resume('all');
      await run.parked('SCHEMA_CHANGED');
      expect(await items.countDocuments()).toBe(ROWS);
    },
    60_000,
  );

  test.each(GONE)(
    '%s in the middle of the copy: parked, whichever notices first, and no range counts as copied that was read afterwards',
    async (_, change) => {
      await using run = await create();
      const points = new HoldPoints();
      await run.begin({ failpoints: points });
      await points.hold('copy.rows-written');
      const reached = points.hold('copy.window-open');
      points.release('copy.rows-written');
      await reached;
      await change(run);
      points.release('copy.window-open');
      await run.parked('SCHEMA_CHANGED');
      const ranges = run.greenState.collection<{ unit: string; upto: string | null; rows: number }>('ranges');
      const done = await ranges.find({ upto: { $ne: null }, unit: /items/ }).toArray();
      expect(done.length).toBeGreaterThan(0);
      expect(done.filter(({ rows }) => rows < 100)).toEqual([]);
    },
    60_000,
  );

  test('indexes, validation and images are its own affair: it goes on, in the middle of the copy and of the stream', async () => {
    await using run = await create();
    const points = new HoldPoints();
    await run.begin({ failpoints: points });
    const items = run.blue.collection<{ _id: number; v: number }>('items');
    for (const [, change] of HARMLESS) {
      await points.hold('copy.window-open');
      await change(run);
      points.release('copy.window-open');
    }
    await run.started();
    await run.settled();
    for (const [, change] of HARMLESS) {
      await change(run);
      await items.updateOne({ _id: 5 }, { $inc: { v: 100_000 } });
    }
    await run.settled();
    expect(await run.same()).toBeGreaterThan(ROWS);
    expect(
      (await run.green.collection('items').listIndexes().toArray()).map(({ name }) => name as string),
    ).toEqual(['_id_']);
  }, 60_000);

  test('images of a collection whose fields are mapped are switched off: parked with what to do, and nothing is guessed', async () => {
    await using run = await MongoRun.create({
      collections: ['items'],
      images: ['items'],
      entries: {
        items: '"to": [{ "table": "$db.items", "columns": { "amount": { "from": "v" }, "*": "copy" } }]',
      },
      seed: async (db) => {
        await db.collection<{ _id: number; v: number }>('items').insertOne({ _id: 1, v: 1 });
      },
    });
    await run.start();
    await run.blue.command({ collMod: 'items', changeStreamPreAndPostImages: { enabled: false } });
    const items = run.blue.collection<{ _id: number; v: number }>('items');
    await items.updateOne({ _id: 1 }, { $set: { v: 2 } });
    const status = await run.parked('SCHEMA_UNSUPPORTED');
    expect(status).toMatchObject({
      condition: 'blocked',
      error: { remedy: expect.stringContaining('bring whole documents') as unknown },
    });
    expect(await run.green.collection<{ _id: number }>('items').findOne({ _id: 1 })).toMatchObject({
      amount: 1,
    });
  }, 60_000);
});
