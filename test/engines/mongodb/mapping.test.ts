import { BSON, type Collection } from 'mongodb';
import { describe, expect, it } from 'vitest';

import { createEngine } from '../../../src/app/engine.ts';
import { loadConfig } from '../../../src/app/load.ts';
import { startMongo } from '../../support/mongo.ts';
import { MongoRun, rawDocuments } from '../../support/mongo-run.ts';
import { turn } from '../../support/turn.ts';

const { Decimal128, Int32, ObjectId } = BSON;

const COLUMNS = {
  '*': 'copy',
  'customer.name': { from: 'name' },
  'customer.contact.mail': { from: 'p\\.q.$mail' },
  total: { cast: 'decimal' },
  buyer: { from: 'buyerId', cast: 'string' },
  colour: { from: 'color' },
};
const BACK = { total: { cast: 'string' }, buyerId: { from: 'buyer', cast: 'objectId' } };
const ENTRY = JSON.stringify({
  to: [{ table: '$db.items', columns: COLUMNS }],
  reverse: { columns: BACK },
}).slice(1, -1);

type Pairs = readonly (readonly [string, unknown])[];
type Item = BSON.Document & { readonly _id: number };

const buyer = (n: number): BSON.ObjectId => new ObjectId(n.toString(16).padStart(24, '0'));

/** Blue's documents by hand: parents that are missing, null or filled, hostile names, orders that differ. */
const SHAPES: readonly ((n: number) => Pairs)[] = [
  (n) => [
    ['_id', n],
    ['name', `n${n}`],
    ['total', '12.50'],
    ['buyerId', buyer(n)],
    ['color', 'red'],
    ['z', n],
  ],
  (n) => [
    ['color', null],
    ['9', 'nine'],
    ['1', 'one'],
    ['_id', n],
    ['total', null],
    [
      'p.q',
      new Map<string, unknown>([
        ['$mail', 'm'],
        ['r', 1],
      ]),
    ],
  ],
  (n) => [
    ['_id', n],
    ['customer', new Map([['vip', true]])],
    ['name', null],
    ['p.q', null],
    ['a', [{ name: 'inside' }]],
  ],
  (n) => [
    ['_id', n],
    ['p', new Map([['q', new Map([['$mail', 'another path']])]])],
    ['total', new Int32(7)],
  ],
  (n) => [['_id', n]],
];

/** What the mapping has to make of them, written down anew and not with its code. */
function byHand(pairs: Pairs): Pairs {
  const get = (name: string): unknown => pairs.find(([one]) => one === name)?.[1];
  const made: [string, unknown][] = [];
  for (const [name, value] of pairs) {
    if (name === 'name' || name === 'buyerId') continue;
    if (name === 'color') made.push(['colour', value]);
    else if (name === 'total')
      made.push(['total', value === null ? null : Decimal128.fromString(String(value))]);
    else if (name === 'p.q' && value instanceof Map)
      made.push([name, new Map([...(value as Map<string, unknown>)].filter(([one]) => one !== '$mail'))]);
    else made.push([name, value]);
  }
  const at = pairs.findIndex(([name]) => name === 'buyerId');
  if (at >= 0) {
    const before = pairs.slice(0, at).filter(([name]) => name !== 'name').length;
    made.splice(before, 0, ['buyer', String(get('buyerId'))]);
  }
  const mail = get('p.q') instanceof Map ? (get('p.q') as Map<string, unknown>).get('$mail') : undefined;
  const inside: [string, unknown][] = [];
  if (get('name') !== undefined) inside.push(['name', get('name')]);
  if (mail !== undefined) inside.push(['contact', new Map([['mail', mail]])]);
  const known = made.findIndex(([name]) => name === 'customer');
  if (inside.length > 0 && known >= 0)
    made[known] = ['customer', new Map([...(made[known] as [string, Map<string, unknown>])[1], ...inside])];
  else if (inside.length > 0) made.push(['customer', new Map(inside)]);
  return made;
}

const bytesOf = (pairs: Pairs): string => Buffer.from(BSON.serialize(new Map(pairs))).toString('latin1');

/** Documents of blue as pairs, in their order. */
async function pairsOf(run: MongoRun): Promise<Pairs[]> {
  return (await rawDocuments(run.blue, 'items')).map((bytes) => pairs(bytes));
}

function pairs(bytes: Uint8Array): Pairs {
  // Names in the order of the bytes: an object would put names that are numbers first.
  const names: string[] = [];
  for (let at = 4; bytes[at] !== 0;) {
    const zero = bytes.indexOf(0, at + 1);
    names.push(Buffer.from(bytes.subarray(at + 1, zero)).toString('utf8'));
    at = zero + 1 + sizeAt(bytes, bytes[at] as number, zero + 1);
  }
  const values = BSON.deserialize(bytes, { promoteValues: false }) as Record<string, unknown>;
  return names.map((name) => [name, ordered(values[name])] as const);
}

function ordered(value: unknown): unknown {
  return value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype
    ? new Map(Object.entries(value).map(([name, one]) => [name, ordered(one)]))
    : value;
}

function sizeAt(bytes: Uint8Array, type: number, at: number): number {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (type === 2) return 4 + view.readInt32LE(at);
  if (type === 3 || type === 4) return view.readInt32LE(at);
  const sizes: Record<number, number> = { 7: 12, 8: 1, 10: 0, 16: 4, 18: 8, 19: 16 };
  return sizes[type] as number;
}

async function expectByHand(run: MongoRun): Promise<number> {
  const blue = await pairsOf(run);
  const green = await rawDocuments(run.green, 'items');
  expect(green.length).toBe(blue.length);
  for (const [index, document] of green.entries())
    expect(document.toString('latin1')).toBe(bytesOf(byHand(blue[index] as Pairs)));
  return blue.length;
}

async function change(items: Collection<Item>, round: number): Promise<void> {
  const _id = (round * 7) % 400;
  const color = `c${round}`;
  switch (round % 7) {
    case 0:
      await items.deleteOne({ _id });
      return;
    case 1: {
      const shape = SHAPES[round % SHAPES.length] as (typeof SHAPES)[number];
      await items.replaceOne({ _id }, new Map(shape(_id)) as unknown as Item, { upsert: true });
      return;
    }
    case 2:
      await items.updateOne({ _id }, { $set: { color, total: `${round}.50`, [`n${round % 3}.x`]: round } });
      return;
    case 3:
      await items.updateOne({ _id }, { $unset: { name: '' }, $push: { list: round } as never });
      return;
    case 4:
      await items.updateOne({ _id }, { $set: { name: `again ${round}` }, $rename: { z: 'y' } });
      return;
    case 5:
      await items.updateOne({ _id }, { $set: { buyerId: buyer(round) } });
      return;
    default:
      await items.updateOne({ _id }, { $unset: { 'customer.vip': '', color: '' } });
  }
}

describe('fields of documents that are mapped', () => {
  it('asks for images of documents before it starts, and says how to switch them on', async () => {
    await using run = await MongoRun.create({ collections: ['items'], entries: { items: ENTRY } });
    await using engine = createEngine(await loadConfig(run.file));
    const { checks } = await engine.plan();
    const blocked = checks.find(({ id, level }) => id === 'G9' && level === 'block');
    expect(blocked).toMatchObject({ outcome: 'finding', side: 'blue' });
    expect(blocked?.sql).toContain('changeStreamPreAndPostImages: { enabled: true }');
  });

  it('copies and follows them, compares them, and brings them back', async () => {
    await using blue = await startMongo();
    await using green = await startMongo();
    await using run = await MongoRun.create({
      collections: ['items', 'plain'],
      entries: { items: ENTRY },
      images: ['items'],
      settings: 'copy: { chunk: { max_rows: 100 } }\ngates: { stable_for: 1ms }',
      blueUri: blue.uri(),
      greenUri: green.uri(),
      seed: async (db) => {
        const documents = Array.from(
          { length: 300 },
          (_, n) => new Map((SHAPES[n % SHAPES.length] as (typeof SHAPES)[number])(n)),
        );
        await db.collection('items').insertMany(documents as never);
        await db.collection('plain').insertMany(documents as never);
      },
    });
    const items = run.blue.collection<Item>('items');
    await run.startUnderWrites(700, (round) => change(items, round));
    await run.settled();
    expect(await expectByHand(run)).toBeGreaterThan(150);
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });

    // Damage is found, though the collections are not alike.
    const damaged = run.green.collection<Item>('items');
    const first = (await damaged.findOne({})) as Item;
    await damaged.updateOne({ _id: first._id }, { $set: { 'customer.name': 'x' } });
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: false });
    await damaged.replaceOne({ _id: first._id }, first);
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });

    expect(await turn(run.engine, { act: 'cutover', migration: run.name, gatesMs: 60_000 })).toMatchObject({
      outcome: 'switched',
    });
    const onGreen = run.green.collection<Item>('items');
    await onGreen.insertOne({
      _id: 1_000,
      colour: 'blue',
      buyer: String(buyer(5)),
      total: Decimal128.fromString('3.10'),
      customer: { contact: { mail: 'new' }, name: 'late', vip: false },
    });
    await onGreen.updateMany({ _id: { $lt: 50 } }, { $set: { colour: 'new', 'customer.name': 'green' } });
    await onGreen.deleteMany({ _id: { $gte: 50, $lt: 60 } });
    expect(await turn(run.engine, { act: 'rollback', migration: run.name, gatesMs: 60_000 })).toMatchObject({
      outcome: 'switched',
    });
    const late = (await rawDocuments(run.blue, 'items'))
      .map(pairs)
      .find((one) => one.some(([, value]) => String(value) === '1000'));
    expect(bytesOf(late as Pairs)).toBe(
      bytesOf([
        ['_id', new Int32(1_000)],
        ['color', 'blue'],
        ['buyerId', buyer(5)],
        ['total', '3.10'],
        ['customer', new Map<string, unknown>([['vip', false]])],
        ['name', 'late'],
        ['p.q', new Map([['$mail', 'new']])],
      ]),
    );
    const found = await items.find({ _id: { $lt: 60 } }).toArray();
    expect(found.every((one) => one._id < 50 && one['color'] === 'new' && one['name'] === 'green')).toBe(
      true,
    );
    // Forward again: what came back is mapped to what green has, save for the order of fields.
    await run.settled();
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
  }, 240_000);
});
