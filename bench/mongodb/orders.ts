import type { Db, Document } from 'mongodb';
import type { Facts } from '../profile.ts';

/** A shop: single writes to two collections, of inserts, updates and deletes. */
export const COLLECTIONS = ['customer', 'purchase'] as const;
export const END = 'bench_end';

/** Indexes beside those of `_id`. */
export const INDEXES: Readonly<Record<string, Document>> = {
  purchase: { customer: 1 },
};

interface Row extends Document {
  readonly _id: number;
}

const WRITES = 30_000;
const CUSTOMERS = 50_000;
/** Purchases that are there; the first half of them may be cancelled, the others may be paid. */
const PURCHASES = 50_000;
const WRITERS = 16;
const BATCH = 5_000;

export async function seed(db: Db): Promise<void> {
  for (const name of [...COLLECTIONS, END]) await db.createCollection(name);
  for (const [name, key] of Object.entries(INDEXES)) await db.collection(name).createIndex(key as never);
  await fill(db, 'customer', CUSTOMERS, (id) => ({
    _id: id,
    email: `user${id}@example.org`,
    name: `Name of ${id}`,
    balance: id / 7,
    orders: 0,
    seen: new Date(1_767_225_600_000 + id * 1_000),
  }));
  await fill(db, 'purchase', PURCHASES, (id) => purchase(id, 1 + (id % CUSTOMERS)));
}

export async function fill(
  db: Db,
  name: string,
  count: number,
  make: (id: number) => Document,
): Promise<void> {
  for (let from = 1; from <= count; from += BATCH) {
    const documents = Array.from({ length: Math.min(BATCH, count - from + 1) }, (_, i) => make(from + i));
    await db.collection(name).insertMany(documents, { ordered: false });
  }
}

const purchase = (id: number, customer: number): Row => ({
  _id: id,
  customer,
  state: 'placed',
  total: id / 11,
  note: `Leave it at the door, please: ${id}`,
  lines: [
    { product: id % 977, quantity: 1, price: 12.5 },
    { product: id % 1_009, quantity: 2, price: 7.75 },
  ],
  history: ['placed'],
  at: new Date(1_767_225_600_000 + id * 1_000),
});

/** Writes one document after the other from several connections, and the mark of the end behind them. */
export async function backlog(
  db: Db,
  scale: number,
): Promise<Pick<Facts, 'changes' | 'transactions' | 'distinctKeys' | 'rowBytes'>> {
  const count = Math.round(WRITES * scale);
  const touched = new Set<string>();
  let next = 0;
  await Promise.all(
    Array.from({ length: WRITERS }, async () => {
      for (let index = next++; index < count; index = next++) touched.add(await write(db, index));
    }),
  );
  await db.collection<Row>(END).insertOne({ _id: 1 });
  const [stats] = await db
    .collection('purchase')
    .aggregate<Document>([{ $collStats: { storageStats: {} } }])
    .toArray();
  return {
    changes: count,
    transactions: count,
    distinctKeys: touched.size,
    rowBytes: Number((stats as Document)['storageStats'].avgObjSize),
  };
}

/** Four of ten place an order, three pay one, two change a customer, one cancels an order. */
async function write(db: Db, index: number): Promise<string> {
  const kind = index % 10;
  const customer = 1 + (scramble(index) % CUSTOMERS);
  const nth = Math.floor(index / 10);
  const purchases = db.collection<Row>('purchase');
  if (kind < 4) {
    await purchases.insertOne(purchase(1_000_000 + index, customer));
    return `p${1_000_000 + index}`;
  }
  if (kind < 7) {
    const _id = PURCHASES / 2 + 1 + ((nth * 3 + kind - 4) % (PURCHASES / 2));
    await purchases.updateOne({ _id }, {
      $set: { state: 'paid' },
      $inc: { total: 1 },
      $push: { history: `paid ${index}` },
    } as never);
    return `p${_id}`;
  }
  if (kind < 9) {
    await db
      .collection<Row>('customer')
      .updateOne({ _id: customer }, { $inc: { orders: 1, balance: index % 100 } });
    return `c${customer}`;
  }
  const _id = 1 + nth;
  if (_id > PURCHASES / 2) throw new Error('the scale is too large: no purchase is left to cancel');
  await purchases.deleteOne({ _id });
  return `p${_id}`;
}

/** Spreads numbers, always in the same way. */
const scramble = (n: number): number => (Math.imul(n + 1, 2_654_435_761) >>> 0) % 1_000_003;
