import { setTimeout as delay } from 'node:timers/promises';

import { MongoClient, type Db } from 'mongodb';

import { SERVER_CODE, codeOfError } from '../../../src/engines/mongodb/errors.ts';
import { waitFor } from '../../support/wait.ts';

/** Between two transactions of a client: a load, and still a test that shares its two cores. */
const THINK_MS = 10;

interface Order {
  readonly _id: string;
  readonly client: number;
  readonly lines: readonly number[];
}

/**
 * Clients of one replica set over its elections: each writes an order and its own tally in one transaction, again and again; after an error it
 * looks whether the order is there and tries again where it is not. A fence ends a client.
 */
export class ShopClients implements AsyncDisposable {
  /** Orders whose commit was answered, or that were found afterwards. */
  readonly acknowledged = new Set<string>();
  readonly #client: MongoClient;
  readonly #db: Db;
  readonly #work: Promise<void>[];
  readonly #ended = new AbortController();

  constructor(uri: string, database: string, count: number) {
    this.#client = new MongoClient(uri, { w: 'majority', serverSelectionTimeoutMS: 30_000 });
    this.#db = this.#client.db(database);
    const run = String(process.hrtime.bigint());
    this.#work = Array.from({ length: count }, (_, client) => this.#shop(client, run));
  }

  async more(count = 40): Promise<void> {
    const from = this.acknowledged.size;
    await waitFor(() => this.acknowledged.size >= from + count, {
      what: `${count} more transactions of the clients`,
      timeoutMs: 60_000,
    });
  }

  /** All were ended by a fence. */
  async fenced(): Promise<void> {
    await Promise.all(this.#work);
  }

  async stop(): Promise<void> {
    this.#ended.abort();
    await Promise.all(this.#work);
  }

  async #shop(client: number, run: string): Promise<void> {
    for (let number = 1; !this.#ended.signal.aborted; number += 1) {
      const id = `${client}-${number}-${run}`;
      for (let attempt = 1; ; attempt += 1) {
        try {
          const orders = this.#db.collection<Order>('orders');
          const known =
            attempt > 1 && (await orders.findOne({ _id: id }, { readConcern: 'majority' })) !== null;
          if (!known) await this.#order(id, client);
          break;
        } catch (error) {
          if (codeOfError(error) === SERVER_CODE.userWritesBlocked) return;
          await delay(THINK_MS);
        }
      }
      this.acknowledged.add(id);
      await delay(THINK_MS);
    }
  }

  async #order(id: string, client: number): Promise<void> {
    const session = this.#client.startSession();
    try {
      session.startTransaction();
      await this.#db
        .collection<Order>('orders')
        .insertOne({ _id: id, client, lines: [1, 2, 3] }, { session });
      await this.#db
        .collection<{ _id: number; count: number }>('tally')
        .updateOne({ _id: client }, { $inc: { count: 1 } }, { session, upsert: true });
      await session.commitTransaction();
    } finally {
      if (session.inTransaction()) await session.abortTransaction().catch(() => undefined);
      await session.endSession();
    }
    // A write of one document, which the driver itself sends again.
    await this.#db.collection<Order>('orders').updateOne({ _id: id }, { $push: { lines: 4 } });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#client.close();
  }
}

/** Each acknowledged order is on this side once, and no client's tally says more or less. */
export async function differences(db: Db, acknowledged: ReadonlySet<string>): Promise<readonly string[]> {
  const found: string[] = [];
  const orders = await db.collection<Order>('orders').find().toArray();
  const there = new Set(orders.map(({ _id }) => _id));
  for (const id of acknowledged) if (!there.has(id)) found.push(`lost ${id}`);
  for await (const { _id, count } of db.collection<{ _id: number; count: number }>('tally').find()) {
    const counted = orders.filter(({ client }) => client === _id).length;
    if (counted !== count) found.push(`client ${_id} counts ${count}, its orders are ${counted}`);
  }
  return found;
}
