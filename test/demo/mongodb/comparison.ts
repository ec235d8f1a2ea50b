import { createHash } from 'node:crypto';

import { BSON, type Db, type Timestamp } from 'mongodb';

import type { Compared, Counted } from '../result.ts';
import { TALLIED } from './shopper.ts';

const COLLECTIONS = ['customers', 'products', 'orders', 'tally', 'audit'] as const;

/** One side as it is now, or as it was at a cluster time of the last five minutes. */
export interface View {
  readonly db: Db;
  readonly at?: Timestamp;
}

/**
 * Compares blue, in the shape of green by hand, with green: to the byte where nothing is mapped; regardless of the order of fields in
 * products, whose fields change places.
 */
export async function compare(blue: View, green: View): Promise<readonly Compared[]> {
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
  { db, at }: View,
  name: string,
  shape: ((document: BSON.Document) => BSON.Document) | null,
): Promise<Map<string, number>> {
  const counted = new Map<string, number>();
  const readConcern = at === undefined ? {} : { readConcern: { level: 'snapshot', atClusterTime: at } };
  for await (const raw of db.runCursorCommand(
    { find: name, batchSize: 5_000, ...readConcern },
    { raw: true },
  )) {
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

/**
 * Looks for every transaction in the log of the shop. Each is there once at most, by its id; one that was applied twice shows in the
 * tally of its client, which then counts more than the log has.
 */
export async function countTransactions(db: Db, committed: readonly string[]): Promise<Counted> {
  const there = new Set<string>();
  const logged = new Map<number, number>();
  const audit = db.collection<{ _id: string; client: number; action: string }>('audit');
  for await (const { _id, client, action } of audit.find({ client: { $gte: 0 } })) {
    there.add(_id);
    if (TALLIED.includes(action)) logged.set(client, (logged.get(client) ?? 0) + 1);
  }
  let duplicated = 0;
  let short = 0;
  for await (const { _id, count } of db.collection<{ _id: number; count: number }>('tally').find()) {
    duplicated += Math.max(0, count - (logged.get(_id) ?? 0));
    short += Math.max(0, (logged.get(_id) ?? 0) - count);
  }
  return { lost: committed.filter((id) => !there.has(id)).length + short, duplicated };
}
