import { BSON, type Db } from 'mongodb';

/** Documents at scale 1: a little more than 300,000. */
const DOCUMENTS = { customers: 100_000, products: 5_000, orders: 120_000, audit: 80_000 } as const;
const LOT = 5_000;

/** How many documents there are of what clients pick from by number. */
export interface Seeded {
  readonly rows: number;
  readonly customers: number;
  readonly products: number;
  /** This shop has none. */
  readonly warehouses: 0;
}

/** Creates the shop on blue and fills it. The same scale gives the same documents. */
export async function seed(db: Db, scale: number, clients: number): Promise<Seeded> {
  const n = (name: keyof typeof DOCUMENTS): number => Math.max(160, Math.round(DOCUMENTS[name] * scale));
  for (const name of ['customers', 'orders', 'tally', 'audit']) await db.createCollection(name);
  // Its fields are mapped, so its log has to bring whole documents.
  await db.createCollection('products', { changeStreamPreAndPostImages: { enabled: true } });
  await db.collection('customers').createIndex({ email: 1 }, { unique: true });
  await db.collection('orders').createIndex({ customer: 1, state: 1 });
  await fill(db, 'customers', n('customers'), (g) => ({
    _id: g,
    name: g % 7 === 0 ? `Mono${g}` : { first: 'Ada', last: `Lovelace ${g}` },
    email: `user${g}@example.org`,
    tags: g % 2 === 0 ? ['a b', 'c"d', String(g)] : [],
    visits: 0,
    ...(g % 3 === 0 ? { street: null } : { street: `Road ${g % 500}` }),
    '7': g % 5,
    '1': BSON.Long.fromNumber(g),
  }));
  // Some have no supplier, some no weight, and the order of fields differs.
  await fill(db, 'products', n('products'), (g) => ({
    _id: g,
    title: `Thing ${g}`,
    ...(g % 5 === 0 ? {} : { supplierName: g % 4 === 0 ? null : `Supplier ${g % 90}` }),
    stock: 1_000_000,
    ...(g % 3 === 0 ? { code: g % 6 === 0 ? `C-${g}` : { old: g } } : {}),
    ...(g % 7 === 0 ? {} : { weight: `${g % 100}.${String(g % 10)}0` }),
    price: BSON.Decimal128.fromString(`${g}.10`),
  }));
  await fill(db, 'orders', n('orders'), (g) => ({
    _id: `s-${g}`,
    customer: 1 + (g % n('customers')),
    state: g % 4 === 0 ? 'open' : 'paid',
    lines: Array.from({ length: g % 4 }, (_, line) => ({
      product: 1 + ((g + line) % n('products')),
      quantity: line,
    })),
    placed: new Date(1_700_000_000_000 + g * 1_000),
  }));
  await fill(db, 'audit', n('audit'), (g) => ({
    _id: `s-${g}`,
    client: -1,
    action: 'seed',
    at: new Date(1_700_000_000_000 + g * 1_000),
  }));
  await fill(db, 'tally', clients, (g) => ({ _id: g - 1, count: 0 }));
  const rows = n('customers') + n('products') + n('orders') + n('audit') + clients;
  return { rows, customers: n('customers'), products: n('products'), warehouses: 0 };
}

async function fill(db: Db, name: string, count: number, make: (g: number) => BSON.Document): Promise<void> {
  for (let from = 1; from <= count; from += LOT) {
    const lot = Array.from({ length: Math.min(LOT, count - from + 1) }, (_, at) => make(from + at));
    await db.collection(name).insertMany(lot as never, { ordered: false });
  }
}
