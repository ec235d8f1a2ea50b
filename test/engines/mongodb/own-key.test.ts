import { BSON, type Collection, type Document } from 'mongodb';
import { describe, expect, it } from 'vitest';

import { Workplace } from '../../support/engine-process.ts';
import { startMongo } from '../../support/mongo.ts';
import { MongoRun } from '../../support/mongo-run.ts';
import { turn } from '../../support/turn.ts';

const { ObjectId } = BSON;

/** By a number of its own, and by the same id as text. */
const ORDERS = JSON.stringify({
  to: [{ table: '$db.orders', columns: { '*': 'copy', _id: { from: 'no' }, old: { from: '_id' } } }],
}).slice(1, -1);
const PEOPLE = JSON.stringify({
  to: [{ table: '$db.people', columns: { '*': 'copy', _id: { cast: 'string' } } }],
  reverse: { columns: { _id: { cast: 'objectid' } } },
}).slice(1, -1);

type Order = Document & { readonly _id: number };
type Person = Document & { readonly _id: BSON.ObjectId };

const person = (n: number): BSON.ObjectId => new ObjectId(n.toString(16).padStart(24, '0'));
/** Wide enough for a range in several transactions, of which a killed engine leaves some behind. */
const TEXT = 'x'.repeat(100_000);
const order = (n: number, no = `no-${n}`): Order => ({ _id: n, no, ...(n < 120 ? { TEXT } : {}) });

async function change(run: MongoRun, round: number): Promise<void> {
  const orders = run.blue.collection<Order>('orders');
  const people = run.blue.collection<Person>('people');
  const _id = (round * 7) % 300;
  switch (round % 6) {
    case 0:
      await orders.updateOne({ _id }, { $set: { no: `no-${_id}-${round}`, round } });
      return;
    case 1: {
      // The number goes from one document to another, whose range may not be as far.
      const other = await orders.findOneAndDelete({ _id });
      if (other !== null) await orders.insertOne(order(1_000 + round, String(other['no'])));
      return;
    }
    case 2:
      await orders.updateOne({ _id }, { $push: { list: round } as never });
      return;
    case 3:
      await orders.replaceOne({ _id }, { no: `again-${round}` }, { upsert: true });
      return;
    case 4:
      await people.updateOne({ _id: person(_id) }, { $set: { round } });
      return;
    default:
      await people.deleteOne({ _id: person(_id) });
      await people.insertOne({ _id: person(1_000 + round), round });
  }
}

const all = async (items: Collection<Document>): Promise<Document[]> => {
  const found = await items.find().toArray();
  return found.sort((a, b) => (String(a['_id']) < String(b['_id']) ? -1 : 1));
};

/** What the mapping has to make, by hand. */
async function expectByHand(run: MongoRun): Promise<void> {
  const orders = await all(run.blue.collection('orders'));
  const wanted = orders.map(({ _id, no, ...rest }) => ({ ...rest, _id: no as string, old: _id }));
  wanted.sort((a, b) => (a._id < b._id ? -1 : 1));
  const found = await all(run.green.collection('orders'));
  expect(found.length).toBe(wanted.length);
  expect(found).toEqual(wanted);
  const people = await all(run.blue.collection('people'));
  expect(await all(run.green.collection('people'))).toEqual(
    people.map((one) => ({ ...one, _id: String(one._id) })),
  );
}

describe('another _id on green', () => {
  it('is found again after a killed copy, moves with its field, and comes back', async () => {
    const [first, second] = await Promise.all([startMongo(), startMongo()]);
    await using blue = first;
    await using green = second;
    await using run = await MongoRun.create({
      collections: ['orders', 'people'],
      entries: { orders: ORDERS, people: PEOPLE },
      images: ['orders', 'people'],
      settings: 'copy: { workers: 1, chunk: { max_rows: 150 } }\ngates: { stable_for: 1ms }',
      blueUri: blue.uri(),
      greenUri: green.uri(),
      seed: async (db) => {
        const numbers = Array.from({ length: 300 }, (_, n) => n);
        await db.collection<Order>('orders').insertMany(numbers.map((n) => order(n)));
        await db.collection<Person>('people').insertMany(numbers.map((n) => ({ _id: person(n), n })));
      },
    });
    await using place = new Workplace(run.dir);
    const killed = place.start({ failpoint: 'copy.rows-written:exit@1' });
    expect(await killed.ended, killed.output().slice(-2_000)).toBe('SIGKILL');
    // Its rows stand on green, and nothing but the notes of the range tells which they are.
    const left = await run.green.collection('orders').countDocuments();
    expect(left).toBeGreaterThan(0);
    expect(await run.greenState.collection('written').countDocuments()).toBeGreaterThan(0);
    for (let round = 0; round < 60; round++) await change(run, round);
    let round = 60;
    let writing = true;
    const writer = (async () => {
      for (; writing; round++) await change(run, round);
    })();
    await run.start({ takeover: true }).finally(() => {
      writing = false;
    });
    await writer;
    expect(round).toBeGreaterThan(60);
    for (let more = 0; more < 60; more++) await change(run, round++);
    await run.settled();
    await expectByHand(run);
    expect(await run.greenState.collection('written').countDocuments()).toBe(0);
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
    const damaged = run.green.collection<Document & { _id: string }>('orders');
    const one = (await damaged.findOne({ TEXT: { $exists: true } })) as Document & { _id: string };
    await damaged.deleteOne({ _id: one._id });
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: false });
    await damaged.insertOne(one);
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });

    expect(await turn(run.engine, { act: 'cutover', migration: run.name, gatesMs: 60_000 })).toMatchObject({
      outcome: 'switched',
    });
    await damaged.insertOne({ _id: 'late', old: 5_000, n: 1 } as never);
    await damaged.updateOne({ _id: one._id }, { $set: { n: 'green' } });
    const [gone, moved] = (await damaged
      .find({ TEXT: { $exists: false } })
      .limit(2)
      .toArray()) as Document[];
    if (gone === undefined || moved === undefined) throw new Error('there are too few documents');
    await damaged.deleteOne({ old: gone['old'] });
    // A document under another number is another document of green, and the same one of blue.
    await run.greenClient.withSession((session) =>
      session.withTransaction(async () => {
        await damaged.deleteOne({ old: moved['old'] }, { session });
        await damaged.insertOne({ ...moved, _id: 'renumbered' } as never, { session });
      }),
    );
    await run.green
      .collection<{ _id: string; n: number }>('people')
      .insertOne({ _id: String(person(9_000)), n: 2 });
    expect(await turn(run.engine, { act: 'rollback', migration: run.name, gatesMs: 60_000 })).toMatchObject({
      outcome: 'switched',
    });
    const orders = run.blue.collection<Order>('orders');
    expect(await orders.findOne({ _id: 5_000 })).toEqual({ _id: 5_000, no: 'late', n: 1 });
    expect(await orders.findOne({ _id: one['old'] as number })).toMatchObject({ n: 'green', no: one._id });
    expect(await orders.findOne({ _id: gone['old'] as number })).toBeNull();
    expect(await orders.findOne({ _id: moved['old'] as number })).toMatchObject({ no: 'renumbered' });
    expect(await run.blue.collection('people').findOne({ _id: person(9_000) })).toMatchObject({ n: 2 });
    await run.settled();
    await expectByHand(run);
  }, 240_000);
});
