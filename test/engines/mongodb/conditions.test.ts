import type { Collection, Document } from 'mongodb';
import { describe, expect, it } from 'vitest';

import { startMongo } from '../../support/mongo.ts';
import { MongoRun } from '../../support/mongo-run.ts';
import { turn } from '../../support/turn.ts';

type Item = Document & { readonly _id: number };

const ENTRY = JSON.stringify({
  when: 'row.tenant.id == 7',
  to: [
    {
      table: '$db.items',
      columns: { '*': 'copy', state: { from: 'status' } },
      emit_when: 'row.status == null || row.status != "draft"',
    },
  ],
}).slice(1, -1);
const PLAIN = JSON.stringify({ when: 'row.n >= 0' }).slice(1, -1);

/** The conditions once more, by hand. */
const isTaken = (item: Item): boolean => item['tenant']?.id === 7 && item['status'] !== 'draft';

const STATUS = ['draft', 'open', null, undefined];

const item = (n: number, round: number): Item => ({
  _id: n,
  n: n % 3 === 0 ? -1 : n,
  ...(round % 5 === 0 ? {} : { tenant: { id: round % 2 === 0 ? 7 : round % 9 } }),
  ...(STATUS[round % 4] === undefined ? {} : { status: STATUS[round % 4] }),
});

async function change(items: Collection<Item>, round: number): Promise<void> {
  const _id = (round * 7) % 200;
  switch (round % 6) {
    case 0:
      await items.deleteOne({ _id });
      return;
    case 1:
      await items.replaceOne({ _id }, item(_id, round), { upsert: true });
      return;
    case 2:
      await items.updateOne({ _id }, { $set: { 'tenant.id': round % 4 === 0 ? 7 : 8, n: round - 300 } });
      return;
    case 3:
      await items.updateOne({ _id }, { $set: { status: STATUS[round % 3] as never } });
      return;
    case 4:
      await items.updateOne({ _id }, { $unset: { [round % 4 === 0 ? 'tenant' : 'status']: '' } as never });
      return;
    default:
      await items.updateMany({ _id: { $gte: _id, $lt: _id + 5 } }, { $set: { 'tenant.id': 7, n: round } });
  }
}

const sorted = (items: Collection<Item>): Promise<Item[]> => items.find().sort({ _id: 1 }).toArray();

async function expectByHand(run: MongoRun): Promise<number> {
  const blue = await sorted(run.blue.collection<Item>('items'));
  const taken = blue.filter(isTaken).map(({ status, ...rest }) => ({
    ...rest,
    ...(status === undefined ? {} : { state: status }),
  }));
  expect(await sorted(run.green.collection<Item>('items'))).toEqual(taken);
  const plain = (await sorted(run.blue.collection<Item>('plain'))).filter((one) => one['n'] >= 0);
  expect(await sorted(run.green.collection<Item>('plain'))).toEqual(plain);
  return taken.length + plain.length;
}

describe('conditions on documents', () => {
  it('ask for images of documents before the start', async () => {
    await using run = await MongoRun.create({ collections: ['plain'], entries: { plain: PLAIN } });
    await run.begin();
    const { checks } = await run.engine.plan();
    expect(checks.find(({ id, level }) => id === 'G9' && level === 'block')).toMatchObject({
      outcome: 'finding',
      side: 'blue',
    });
  });

  it('bring documents to green and take them off as they come true and false, and back again', async () => {
    await using blue = await startMongo();
    await using green = await startMongo();
    const seed = Array.from({ length: 200 }, (_, n) => item(n, n));
    await using run = await MongoRun.create({
      collections: ['items', 'plain'],
      entries: { items: ENTRY, plain: PLAIN },
      images: ['items', 'plain'],
      settings: 'copy: { chunk: { max_rows: 100 } }\ngates: { stable_for: 1ms }',
      blueUri: blue.uri(),
      greenUri: green.uri(),
      seed: async (db) => {
        for (const name of ['items', 'plain']) await db.collection<Item>(name).insertMany(seed);
      },
    });
    await run.startUnderWrites(400, async (round) => {
      for (const name of ['items', 'plain']) await change(run.blue.collection<Item>(name), round);
    });
    await run.settled();
    expect(await expectByHand(run)).toBeGreaterThan(50);
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });

    // One that has no place on green is a difference.
    const items = run.green.collection<Item>('items');
    const stray = (await sorted(run.blue.collection<Item>('items'))).find((one) => !isTaken(one)) as Item;
    await items.insertOne(stray);
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: false });
    await items.deleteOne({ _id: stray._id });
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });

    const left = await sorted(run.blue.collection<Item>('items'));
    expect(await turn(run.engine, { act: 'cutover', migration: run.name, gatesMs: 60_000 })).toMatchObject({
      outcome: 'switched',
    });
    const first = left.find(isTaken) as Item;
    const second = left.filter(isTaken)[1] as Item;
    await items.insertOne({ _id: 1_000, n: 1, tenant: { id: 7 }, state: 'open' });
    await items.updateOne({ _id: first._id }, { $set: { state: 'sold' } });
    await items.deleteOne({ _id: second._id });
    expect(await turn(run.engine, { act: 'rollback', migration: run.name, gatesMs: 60_000 })).toMatchObject({
      outcome: 'switched',
    });
    const back = await sorted(run.blue.collection<Item>('items'));
    expect(back.find(({ _id }) => _id === 1_000)).toEqual({
      _id: 1_000,
      n: 1,
      tenant: { id: 7 },
      status: 'open',
    });
    expect(back.find(({ _id }) => _id === first._id)).toMatchObject({ status: 'sold' });
    expect(back.some(({ _id }) => _id === second._id)).toBe(false);
    // What the conditions kept from green is on blue as it was.
    expect(back.filter((one) => !isTaken(one))).toEqual(left.filter((one) => !isTaken(one)));
    await run.settled();
    await expectByHand(run);
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
  }, 240_000);
});
