import { BSON, type Db, type Document } from 'mongodb';
import { describe, expect, it } from 'vitest';

import { encode, rawDocument, rawInt, rawNull, rawString } from '../../../src/engines/mongodb/bson.ts';
import { write } from '../../../src/engines/mongodb/wire.ts';
import { MongoRun } from '../../support/mongo-run.ts';

const {
  Binary,
  BSONRegExp,
  Code,
  DBRef,
  Decimal128,
  Double,
  Int32,
  Long,
  MaxKey,
  MinKey,
  ObjectId,
  Timestamp,
} = BSON;

/** One of each type, with the values that are lost when they pass through JavaScript's. */
const VALUES: Readonly<Record<string, unknown>> = {
  beyond: Long.fromBigInt(9_007_199_254_740_993n),
  least: Long.fromBigInt(-(2n ** 63n)),
  int: new Int32(1),
  longOne: Long.fromNumber(1),
  doubleOne: new Double(1),
  negativeZero: new Double(-0),
  nan: new Double(Number.NaN),
  infinity: new Double(Number.POSITIVE_INFINITY),
  decimal: Decimal128.fromString('0.1000000000000000000000000000000001'),
  decimalZeros: Decimal128.fromString('1.00'),
  timestamp: new Timestamp({ t: 7, i: 9 }),
  minKey: new MinKey(),
  maxKey: new MaxKey(),
  regex: new BSONRegExp('^a.*"\\/', 'imx'),
  code: new Code('function() { return 1; }'),
  codeWithScope: new Code('return x;', { x: 1 }),
  uuid: new Binary(Buffer.alloc(16, 7), 4),
  generic: new Binary(Buffer.from('\0\x01\xff', 'latin1'), 0),
  user: new Binary(Buffer.from('x'), 0x80),
  id: new ObjectId('0123456789abcdef01234567'),
  ref: new DBRef('things', new ObjectId('0123456789abcdef01234567')),
  date: new Date(-1),
  text: 'ü\u0000"\\\n€😀',
  empty: '',
  nested: { null: null, deep: [null, [null, { a: null }], {}] },
  yes: true,
  nothing: null,
};

/** What the driver cannot write: undefined, an empty timestamp at the top, names twice and out of order, dots and dollars. */
const odd = (id: number): Buffer =>
  encode([
    ['_id', rawInt(id)],
    ['undefined', { type: 0x06, bytes: Buffer.alloc(0) }],
    ['empty', { type: 0x11, bytes: Buffer.alloc(8) }],
    ['symbol', { type: 0x0e, bytes: rawString('s').bytes }],
    ['10', rawInt(1)],
    ['2', rawInt(2)],
    ['a.b', rawInt(3)],
    ['$c', rawInt(4)],
    ['', rawInt(5)],
    [
      'inner',
      rawDocument([
        ['9', rawInt(1)],
        ['1', rawInt(2)],
        ['$x.y', rawString('z')],
      ]),
    ],
  ]);

async function insertRaw(run: MongoRun, db: Db, statements: readonly Buffer[]): Promise<void> {
  await run.blueClient.withSession((session) =>
    session.withTransaction(async () => {
      const command = { kind: 'insert', collection: 'all', statements, keepTimestamps: true } as const;
      const { error } = await write(db, command, session);
      if (error !== null) throw new Error(`refused with ${error.code}`);
    }),
  );
}

const KEYS: readonly unknown[] = [
  'text',
  'ü"\\',
  Long.fromBigInt(9_007_199_254_740_993n),
  new Int32(-1),
  new Double(0.5),
  Decimal128.fromString('0.1'),
  new ObjectId('0123456789abcdef01234567'),
  new Binary(Buffer.alloc(16, 9), 4),
  new Date(0),
  true,
  new MinKey(),
  new MaxKey(),
  new Timestamp({ t: 1, i: 2 }),
  { b: 1, a: { c: 'x' } },
];

describe('documents arrive byte by byte', () => {
  it('every type, by copy and by the log, and as keys', async () => {
    await using run = await MongoRun.create({
      collections: ['all', 'keys'],
      settings: 'copy: { chunk: { max_rows: 100 } }',
      seed: async (db) => {
        await db.collection<Document>('all').insertOne({ _id: 1 as never, ...VALUES });
        await db.collection<Document>('keys').insertMany(KEYS.map((_id, v) => ({ _id, v })) as Document[]);
        await db
          .collection<Document>('keys')
          .insertMany(
            Array.from({ length: 400 }, (_, n) => ({ _id: (n % 2 === 0 ? n : `k${n}`) as never, n })),
          );
      },
    });
    // The driver would give it another key.
    await insertRaw(run, run.blue, [odd(2), encode([['_id', rawNull]])]);
    await run.start();
    const all = run.blue.collection<Document>('all');
    await all.insertOne({ _id: 11 as never, ...VALUES });
    await all.updateOne(
      { _id: 11 as never },
      { $set: Object.fromEntries(Object.entries(VALUES).map(([k, v]) => [`${k}2`, v])) },
    );
    await insertRaw(run, run.blue, [odd(12), odd(13)]);
    const keys = run.blue.collection<Document>('keys');
    for (const _id of KEYS) {
      await keys.updateOne({ _id: { $eq: _id } as never }, { $set: { 'x.y': 1 }, $inc: { v: 1 } });
    }
    for (const _id of KEYS.slice(0, 5)) await keys.deleteOne({ _id: { $eq: _id } as never });
    await keys.insertOne({ _id: KEYS[0] as never, again: true });
    await run.settled();
    expect(await run.same()).toBe(1 + 2 + 3 + KEYS.length + 400 - 5 + 1 + 1);
  });

  it('an update leaves fields in their places, and what it moves goes to the end', async () => {
    await using run = await MongoRun.create({ collections: ['all'] });
    await run.start();
    const all = run.blue.collection<Document>('all');
    const id = { _id: 1 as never };
    await insertRaw(run, run.blue, [odd(7)]);
    await all.insertOne({
      ...id,
      z: 1,
      a: [1, 2, 3, 4, 5],
      m: { q: 1, b: [{ c: 1 }, { c: 2 }] },
      b: 2,
      c: 3,
    });
    const steps: readonly (Document | Document[])[] = [
      { $set: { b: 3, y: 1, d: 2 } },
      [{ $set: { zz: 1, aa: 2 } }],
      { $rename: { z: 'c' } },
      { $unset: { d: 1, y: 1 } },
      [{ $unset: 'b' }, { $set: { b: 9 } }],
      { $push: { a: { $each: [6, 7], $position: 1 } } },
      { $set: { 'a.12': 'far' } },
      { $pop: { a: -1 } },
      { $pull: { a: null } },
      { $set: { 'm.b.1.c': 5, 'm.b.1.e': { f: [] }, 'm.n': {} } },
      { $set: { 'm.b.1.e.f.2': 1 } },
      { $set: { a: 'no array any more' } },
      [{ $set: { a: [] } }],
      [{ $replaceWith: { $setField: { field: 'x.$y', input: '$$ROOT', value: { $literal: '$literal' } } } }],
      [
        {
          $replaceWith: { $setField: { field: { $literal: '$set' }, input: '$$ROOT', value: [1, { a: 1 }] } },
        },
      ],
      [{ $set: Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`f${(n * 7) % 60}`, n])) }],
      { $unset: Object.fromEntries(Array.from({ length: 40 }, (_, n) => [`f${n}`, 1])) },
      { $set: Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`m.g${n}.h.i`, n])) },
      { $set: Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`m.g${n}.h.i`, -n])) },
      { $set: { 'l.l.l.l.l.l.l.l.l.l.l.l': 1 } },
      { $set: { 'l.l.l.l.l.l.l.l.l.l.l.l': 2 } },
    ];
    for (const [index, step] of steps.entries()) {
      await all.updateOne(id, step);
      // Alone, and several in one group.
      if (index % 3 !== 1) await run.settled();
    }
    await all.updateOne({ _id: 7 as never }, { $set: { inner: 1, '2': 9 }, $unset: { '10': 1 } });
    await all.replaceOne(id, { x: 1, a: 2 });
    await all.updateOne(id, { $set: { a: 3 } });
    await run.settled();
    await run.same();
  });

  it('random updates of nested documents and arrays end the same', async () => {
    await using run = await MongoRun.create({ collections: ['all'] });
    await run.start();
    const all = run.blue.collection<Document>('all');
    const names = ['a', 'b', 'c', '0', '1'];
    let seed = 12_345;
    const random = (below: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed % below;
    };
    const value = (depth: number): unknown => {
      const kind = random(depth > 2 ? 3 : 6);
      if (kind < 3) return [random(9), `t${random(9)}`, null][kind];
      if (kind < 5)
        return Object.fromEntries(names.slice(0, random(5)).map((name) => [name, value(depth + 1)]));
      return Array.from({ length: random(5) }, () => value(depth + 1));
    };
    for (let _id = 0; _id < 20; _id++)
      await all.insertOne({ _id: _id as never, doc: value(0), list: [1, 2, 3] });
    for (let step = 0; step < 300; step++) {
      const _id = random(20) as never;
      const path = Array.from({ length: 1 + random(3) }, () => names[random(5)]).join('.');
      const update: Document | Document[] =
        random(5) === 0
          ? [{ $unset: `doc.a` }, { $set: { doc: value(0) } }]
          : ([
              { $set: { [`doc.${path}`]: value(1) } },
              { $unset: { [`doc.${path}`]: 1 } },
              { $push: { list: value(1) } },
              { $set: { doc: value(0), [`top${random(3)}`]: value(1) } },
              { $rename: { top0: 'top1' } },
            ][random(5)] as Document);
      // Many do not fit the document that is there; the server refuses those.
      await all.updateOne({ _id }, update, { writeConcern: { w: 1 } }).catch((error: unknown) => {
        if (!(error instanceof Error && 'code' in error)) throw error;
      });
      if (step % 100 === 99) await run.settled();
    }
    await run.settled();
    expect(await run.same()).toBeGreaterThan(20);
  });
});
