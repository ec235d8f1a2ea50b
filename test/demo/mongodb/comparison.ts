import { createHash } from 'node:crypto';

import { BSON, type Db } from 'mongodb';

import type { Compared } from '../comparison.ts';

const COLLECTIONS = ['customers', 'products', 'orders', 'tally', 'audit'] as const;

/**
 * Compares blue, in the shape of green by hand, with green: to the byte where nothing is mapped; regardless of the order of fields in
 * products, whose fields change places.
 */
export async function compare(blue: Db, green: Db): Promise<Compared[]> {
  const compared: Compared[] = [];
  for (const name of COLLECTIONS) {
    const wanted = await digests(blue, name, name === 'products' ? product : null);
    const found = await digests(green, name, name === 'products' ? (one) => one : null);
    let missing = 0;
    let extra = 0;
    for (const [digest, times] of wanted) missing += Math.max(0, times - (found.get(digest) ?? 0));
    for (const [digest, times] of found) extra += Math.max(0, times - (wanted.get(digest) ?? 0));
    compared.push({ table: `shop.${name}`, rows: sum(found), missing, extra });
  }
  return compared;
}

const sum = (counted: ReadonlyMap<string, number>): number =>
  [...counted.values()].reduce((a, b) => a + b, 0);

async function digests(
  db: Db,
  name: string,
  shape: ((document: BSON.Document) => BSON.Document) | null,
): Promise<Map<string, number>> {
  const counted = new Map<string, number>();
  for await (const raw of db.collection(name).find({}, { raw: true, batchSize: 5_000 })) {
    const bytes = raw as unknown as Uint8Array;
    const content =
      shape === null
        ? bytes
        : JSON.stringify(sorted(shape(BSON.deserialize(bytes, { promoteValues: false }))));
    const digest = createHash('sha1').update(content).digest('base64');
    counted.set(digest, (counted.get(digest) ?? 0) + 1);
  }
  return counted;
}

/** What the mapping is meant to say, said a second time. */
function product(document: BSON.Document): BSON.Document {
  const { supplierName, code, weight, ...rest } = document;
  const supplier = {
    ...(supplierName === undefined ? {} : { name: supplierName as unknown }),
    ...(code === undefined ? {} : { code: code as unknown }),
  };
  return {
    ...rest,
    ...(Object.keys(supplier).length === 0 ? {} : { supplier }),
    ...(weight === undefined ? {} : { weight: BSON.Decimal128.fromString(String(weight)) }),
  };
}

/** Fields by name, types in sight. */
function sorted(value: unknown): unknown {
  const shown = BSON.EJSON.serialize(value as BSON.Document, { relaxed: false }) as unknown;
  const order = (one: unknown): unknown =>
    Array.isArray(one)
      ? one.map(order)
      : one !== null && typeof one === 'object'
        ? Object.fromEntries(
            Object.entries(one)
              .sort(([a], [b]) => (a < b ? -1 : 1))
              .map(([name, inner]) => [name, order(inner)]),
          )
        : one;
  return order(shown);
}

/** What clients were told, against what is there: transactions by their id, and the tallies, in which one that was applied twice shows. */
export async function countTransactions(
  db: Db,
  committed: readonly string[],
  tallied: Readonly<Record<number, number>>,
): Promise<{ readonly lost: number; readonly duplicated: number }> {
  const wanted = new Set(committed);
  let there = 0;
  const audit = db.collection<{ _id: string; client: number }>('audit');
  for await (const { _id } of audit.find({ client: { $gte: 0 } }, { projection: { _id: 1 } }))
    if (wanted.has(_id)) there += 1;
  let duplicated = 0;
  let short = 0;
  for await (const { _id, count } of db.collection<{ _id: number; count: number }>('tally').find()) {
    const told = tallied[_id] ?? 0;
    duplicated += Math.max(0, count - told);
    short += Math.max(0, told - count);
  }
  return { lost: Math.max(wanted.size - there, short), duplicated };
}
