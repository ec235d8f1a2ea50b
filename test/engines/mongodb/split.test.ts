import { BSON, type Collection, type Document } from 'mongodb';
import { describe, expect, it } from 'vitest';

import { startMongo } from '../../support/mongo.ts';
import { MongoRun } from '../../support/mongo-run.ts';
import { turn } from '../../support/turn.ts';

type Item = Document & { readonly _id: number };

const ENTRY = JSON.stringify({
  to: [
    { table: '$db.items', columns: { '*': 'copy', label: { from: 'name' } } },
    {
      table: '$db.open_items',
      columns: { name: 'copy', 'by.n': { from: 'n', cast: 'long' } },
      emit_when: 'row.state == "open"',
    },
  ],
}).slice(1, -1);

const item = (n: number): Item => ({ _id: n, name: `n${n}`, n, state: n % 2 === 0 ? 'open' : 'sold' });

async function change(items: Collection<Item>, round: number): Promise<void> {
  const _id = (round * 7) % 300;
  const state = round % 3 === 0 ? 'open' : 'sold';
  switch (round % 4) {
    case 0:
      await items.deleteOne({ _id });
      return;
    case 1:
      await items.replaceOne({ _id }, { ...item(_id), state }, { upsert: true });
      return;
    case 2:
      await items.updateOne({ _id }, { $set: { state }, $push: { list: round } as never });
      return;
    default:
      await items.updateOne({ _id }, { $inc: { n: 1 }, $set: { name: `again ${round}` } });
  }
}

const sorted = (items: Collection<Item>): Promise<Item[]> => items.find().sort({ _id: 1 }).toArray();

const withLabel = ({ name, ...rest }: Item): Document => ({ ...rest, label: name });
const shortened = ({ _id, name, n }: Item): Document => ({ _id, name, by: { n } });

async function expectByHand(run: MongoRun): Promise<number> {
  const blue = await sorted(run.blue.collection<Item>('items'));
  const open = blue.filter(({ state }) => state === 'open');
  expect(await sorted(run.green.collection<Item>('items'))).toEqual(blue.map(withLabel));
  expect(await sorted(run.green.collection<Item>('open_items'))).toEqual(open.map(shortened));
  return open.length;
}

describe('a collection that feeds two', () => {
  it('keeps both as its documents say, and comes back from the one that has every document', async () => {
    await using blue = await startMongo();
    await using green = await startMongo();
    await using run = await MongoRun.create({
      collections: ['items'],
      entries: { items: ENTRY },
      images: ['items'],
      green: [{ create: 'open_items' }],
      settings: 'copy: { chunk: { max_rows: 100 } }\ngates: { stable_for: 1ms }',
      blueUri: blue.uri(),
      greenUri: green.uri(),
      seed: async (db) => {
        await db.collection<Item>('items').insertMany(Array.from({ length: 300 }, (_, n) => item(n)));
      },
    });
    const items = run.blue.collection<Item>('items');
    await run.startUnderWrites(300, (round) => change(items, round));
    await run.settled();
    expect(await expectByHand(run)).toBeGreaterThan(20);
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
    const second = run.green.collection<Item>('open_items');
    const [damaged] = await sorted(second);
    if (damaged === undefined) throw new Error('nothing is open');
    await second.updateOne({ _id: damaged._id }, { $set: { name: 'x' } });
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: false });
    await second.updateOne({ _id: damaged._id }, { $set: { name: damaged['name'] } });
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });

    expect(await turn(run.engine, { act: 'cutover', migration: run.name, gatesMs: 60_000 })).toMatchObject({
      outcome: 'switched',
    });
    // The application of green writes both.
    const first = run.green.collection<Item>('items');
    await first.insertOne({ _id: 1_000, label: 'late', n: 3, state: 'open' });
    await second.insertOne({ _id: 1_000, name: 'late', by: { n: BSON.Long.fromNumber(3) } });
    await first.updateOne({ _id: damaged._id }, { $set: { state: 'sold' } });
    await second.deleteOne({ _id: damaged._id });
    expect(await turn(run.engine, { act: 'rollback', migration: run.name, gatesMs: 60_000 })).toMatchObject({
      outcome: 'switched',
    });
    expect(await items.findOne({ _id: 1_000 })).toEqual({ _id: 1_000, name: 'late', n: 3, state: 'open' });
    expect(await items.findOne({ _id: damaged._id })).toMatchObject({ state: 'sold' });
    await run.settled();
    await items.updateOne({ _id: damaged._id }, { $set: { state: 'open' } });
    await run.settled();
    await expectByHand(run);
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
  }, 240_000);
});
