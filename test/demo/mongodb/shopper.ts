import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';

import { type ClientSession, type Db, type Document, MongoClient } from 'mongodb';

import type { Client } from '../client-process.ts';
import type { Book, ClientOptions } from '../ledger.ts';

/** A client tries once more on a new connection, for as many switches as may fall into one transaction. */
const ATTEMPTS = 4;
/** A held connection is answered only when the proxy lets go. */
const CONNECT_MS = 60_000;
/** A wait that is kept: shorter ones cannot be the longest. */
const NOTED_MS = 5;

type Named = Document & { readonly _id: string };
type Numbered = Document & { readonly _id: number };

/**
 * One client of the shop. It knows the proxy and nothing of sides. An error makes it connect anew, look whether its transaction is
 * there (by the id it gave it), and try once more where it is not: what a retryable write does, across servers that do not know one
 * another's sessions.
 */
export class Shopper implements Client {
  readonly #number: number;
  readonly #options: ClientOptions;
  readonly #book: Book;
  readonly #held = new AbortController();
  #client: MongoClient | null = null;
  #connected = false;

  constructor(number: number, options: ClientOptions, book: Book) {
    this.#number = number;
    this.#options = options;
    this.#book = book;
    book.reconnects ??= 0;
  }

  hold(): void {
    this.#held.abort();
  }

  async connect(): Promise<void> {
    const client = new MongoClient(this.#options.url, {
      appName: 'shop',
      // Else the driver would follow the addresses that the members tell, past the proxy.
      directConnection: true,
      retryWrites: true,
      maxPoolSize: 1,
      serverSelectionTimeoutMS: CONNECT_MS,
      connectTimeoutMS: CONNECT_MS,
      w: 'majority',
    });
    // The driver connects anew by itself too, when a write is one that it may send again.
    client.on('connectionReady', () => {
      if (this.#connected) this.#book.reconnects = (this.#book.reconnects ?? 0) + 1;
      this.#connected = true;
    });
    this.#client = client;
    await client.db('shop').command({ ping: 1 });
  }

  async shop(): Promise<void> {
    for (let number = 0; !this.#held.signal.aborted; number += 1) {
      const transaction = randomUUID();
      const action = ACTIONS[number % ACTIONS.length] as (typeof ACTIONS)[number];
      const from = Date.now();
      await this.#once(transaction, action);
      const ms = Date.now() - from;
      if (ms >= NOTED_MS) this.#book.waits.push({ atMs: from, ms });
      await delay(this.#options.thinkMs);
    }
    await this.#client?.close();
  }

  async #once(transaction: string, action: Action): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        if (this.#client === null) await this.connect();
        const client = this.#client as unknown as MongoClient;
        const db = client.db('shop');
        const known =
          attempt > 1 && (await db.collection<Named>('audit').findOne({ _id: transaction })) !== null;
        if (!known) await action.run(this.#act(client, db, transaction));
        this.#book.committed.push(transaction);
        this.#book.byAction[action.name] = (this.#book.byAction[action.name] ?? 0) + 1;
        return;
      } catch (error) {
        const client = this.#client;
        this.#client = null;
        await client?.close().catch(() => undefined);
        if (attempt < ATTEMPTS) continue;
        const message = error instanceof Error ? error.message : String(error);
        this.#book.failures.push({ transaction, action: action.name, message, atMs: Date.now() });
        return;
      }
    }
  }

  #act(client: MongoClient, db: Db, transaction: string): Act {
    const { customers, products } = this.#options;
    return {
      client,
      db,
      transaction,
      number: this.#number,
      customer: 1 + Math.floor(Math.random() * customers),
      product: 1 + Math.floor(Math.random() * products),
    };
  }
}

interface Act {
  readonly client: MongoClient;
  readonly db: Db;
  readonly transaction: string;
  readonly number: number;
  readonly customer: number;
  readonly product: number;
}

interface Action {
  readonly name: string;
  /** It counts in the client's tally: a transaction that was applied twice shows there. */
  readonly tallies: boolean;
  run(act: Act): Promise<void>;
}

const audit = ({ db, transaction, number }: Act, action: string, session?: ClientSession): Promise<unknown> =>
  db
    .collection<Named>('audit')
    .insertOne(
      { _id: transaction, client: number, action, at: new Date() },
      session === undefined ? {} : { session },
    );

/** All or nothing; not `withTransaction`, which would repeat what was committed and not answered. */
async function together(
  act: Act,
  name: string,
  work: (session: ClientSession) => Promise<void>,
): Promise<void> {
  for (;;) {
    const session = act.client.startSession();
    try {
      session.startTransaction();
      await audit(act, name, session);
      await act.db
        .collection<Numbered>('tally')
        .updateOne({ _id: act.number }, { $inc: { count: 1 } }, { session });
      await work(session);
      await session.commitTransaction();
      return;
    } catch (error) {
      // Two clients wanted one document: nothing was committed.
      if ((error as { code?: unknown }).code !== WRITE_CONFLICT) throw error;
    } finally {
      await session.endSession();
    }
  }
}

const WRITE_CONFLICT = 112;

const ACTIONS: readonly Action[] = [
  {
    name: 'order',
    tallies: true,
    run: (act) =>
      together(act, 'order', async (session) => {
        const { db, customer, product } = act;
        await db
          .collection<Numbered>('products')
          .updateOne(
            { _id: product },
            { $inc: { stock: -1 }, $set: { 'sold.last': new Date() } },
            { session },
          );
        await db.collection<Named>('orders').insertOne(
          {
            _id: `o-${act.transaction}`,
            customer,
            state: 'open',
            lines: [{ product, quantity: 1, note: { gift: product % 3 === 0 } }],
            placed: new Date(),
          },
          { session },
        );
      }),
  },
  {
    name: 'pay',
    tallies: true,
    run: (act) =>
      together(act, 'pay', async (session) => {
        const { db, customer } = act;
        const orders = db.collection<Named>('orders');
        const open = await orders.findOne({ customer, state: 'open' }, { session });
        if (open !== null)
          await orders.updateOne(
            { _id: open._id },
            { $set: { state: 'paid', 'payment.at': new Date() }, $push: { lines: { fee: 1 } as never } },
            { session },
          );
        await db
          .collection<Numbered>('customers')
          .updateOne(
            { _id: customer },
            { $inc: { visits: 1 }, $set: { 'seen.by': act.number } },
            { session },
          );
      }),
  },
  {
    // One document, so the driver itself may send it again.
    name: 'look',
    tallies: false,
    run: async (act) => {
      await audit(act, 'look');
    },
  },
];

/** Whose transactions count in the tally of their client. */
export const TALLIED = ACTIONS.filter(({ tallies }) => tallies).map(({ name }) => name);
