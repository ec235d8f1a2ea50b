import { BSON, type Collection, type Document } from 'mongodb';
import { describe, expect, it } from 'vitest';

import { Workplace } from '../../support/engine-process.ts';
import { startMongo } from '../../support/mongo.ts';
import { MongoRun } from '../../support/mongo-run.ts';
import { turn } from '../../support/turn.ts';

type Order = Document & { readonly _id: number };

const CHILDREN = {
  table: '$db.lines',
  explode: { array: 'lines', as: 'line', ordinal: '_id.n' },
  key: { '_id.order': '_id' },
  columns: {
    sku: { from: 'line.sku' },
    price: { from: 'line.price', cast: 'decimal' },
    'by.customer': { from: 'customer.id' },
    order: { from: '_id' },
    text: { from: 'line.text' },
  },
};
const ENTRY = JSON.stringify({ to: [{ table: '$db.orders' }, CHILDREN] }).slice(1, -1);

/** Wide enough for a range in several transactions, of which a killed engine leaves some behind. */
const TEXT = 'x'.repeat(60_000);
const line = (n: number): Document => ({
  sku: `s${n}`,
  price: `${n}.50`,
  more: n,
  ...(n < 120 ? { text: TEXT } : {}),
});
const order = (n: number): Order => ({
  _id: n,
  customer: { id: n % 9 },
  ...(n % 5 === 0 ? {} : { lines: Array.from({ length: n % 4 }, (_, at) => line(n + at)) }),
});

async function change(orders: Collection<Order>, round: number): Promise<void> {
  const _id = (round * 7) % 300;
  switch (round % 8) {
    case 0:
      await orders.updateOne({ _id }, { $push: { lines: line(round) } as never });
      return;
    case 1:
      await orders.updateOne({ _id, 'lines.0': { $exists: true } }, { $pop: { lines: -1 } as never });
      return;
    case 2:
      await orders.updateOne({ _id }, { $set: { lines: [line(round), line(round + 1)] } });
      return;
    case 3:
      await orders.updateOne({ _id }, { $unset: { lines: '' } });
      return;
    case 4:
      await orders.deleteOne({ _id });
      return;
    case 5:
      await orders.replaceOne({ _id }, { customer: { id: round }, lines: [line(round)] }, { upsert: true });
      return;
    case 6:
      await orders.updateOne({ _id }, { $set: { 'customer.id': round } });
      return;
    default:
      await orders.updateOne({ _id, 'lines.0': { $exists: true } }, { $set: { 'lines.0.sku': `t${round}` } });
  }
}

const sorted = (items: Collection<Document>): Promise<Document[]> => items.find().sort({ _id: 1 }).toArray();

/** What has to be there, by hand. */
async function expectByHand(run: MongoRun): Promise<number> {
  const orders = await sorted(run.blue.collection('orders'));
  const lines = orders.flatMap(({ _id, customer, lines: all }) =>
    ((all ?? []) as Document[]).map(({ sku, price, text }, at) => ({
      _id: { order: _id, n: at + 1 },
      sku,
      price: BSON.Decimal128.fromString(price),
      by: { customer: customer.id },
      order: _id,
      ...(text === undefined ? {} : { text }),
    })),
  );
  expect(await sorted(run.green.collection('orders'))).toEqual(orders);
  expect(await sorted(run.green.collection('lines'))).toEqual(lines);
  return lines.length;
}

describe('an array that becomes a collection', () => {
  it('follows its parents through a killed copy, is compared and repaired', async () => {
    const [first, second] = await Promise.all([startMongo(), startMongo()]);
    await using blue = first;
    await using green = second;
    await using run = await MongoRun.create({
      collections: ['orders'],
      entries: { orders: ENTRY },
      images: ['orders'],
      green: [{ create: 'lines' }],
      settings: 'copy: { workers: 1, chunk: { max_rows: 150 } }\ngates: { stable_for: 1ms }',
      blueUri: blue.uri(),
      greenUri: green.uri(),
      seed: async (db) => {
        await db.collection<Order>('orders').insertMany(Array.from({ length: 300 }, (_, n) => order(n)));
      },
    });
    await using place = new Workplace(run.dir);
    const killed = place.start({ failpoint: 'copy.rows-written:exit@1' });
    expect(await killed.ended, killed.output().slice(-2_000)).toBe('SIGKILL');
    expect(await run.green.collection('lines').countDocuments()).toBeGreaterThan(0);
    const orders = run.blue.collection<Order>('orders');
    let round = 0;
    for (; round < 80; round++) await change(orders, round);
    let writing = true;
    const writer = (async () => {
      for (; writing; round++) await change(orders, round);
    })();
    await run.start({ takeover: true }).finally(() => {
      writing = false;
    });
    await writer;
    for (let more = 0; more < 80; more++) await change(orders, round++);
    await run.settled();
    expect(await expectByHand(run)).toBeGreaterThan(100);
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });

    const lines = run.green.collection<Document & { _id: Document }>('lines');
    const [one, two] = (await sorted(lines as never)) as { _id: { order: number; n: number } }[];
    if (one === undefined || two === undefined) throw new Error('there are no lines');
    await lines.deleteOne({ _id: one._id });
    await lines.insertOne({ _id: { order: 4_000, n: new BSON.Int32(1) }, sku: 'nobody' } as never);
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: false });
    const migration = await run.engine.migration();
    expect(await migration.repair({})).toMatchObject({ repaired: 2, report: { ok: true } });
    await expectByHand(run);

    // The orders come back as wholes; the application of green keeps both alike.
    expect(await turn(run.engine, { act: 'cutover', migration: run.name, gatesMs: 60_000 })).toMatchObject({
      outcome: 'switched',
    });
    const onGreen = run.green.collection<Order>('orders');
    await onGreen.insertOne({ _id: 9_000, customer: { id: 1 }, lines: [line(501)] });
    await lines.insertOne({
      _id: { order: 9_000, n: new BSON.Int32(1) },
      sku: 's501',
      price: BSON.Decimal128.fromString('501.50'),
      by: { customer: 1 },
      order: 9_000,
    } as never);
    expect(await turn(run.engine, { act: 'rollback', migration: run.name, gatesMs: 60_000 })).toMatchObject({
      outcome: 'switched',
    });
    expect(await orders.findOne({ _id: 9_000 })).toMatchObject({ lines: [line(501)] });
    await run.settled();
    await orders.updateOne({ _id: 9_000 }, { $push: { lines: line(502) } as never });
    await run.settled();
    await expectByHand(run);
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
  }, 240_000);
});
