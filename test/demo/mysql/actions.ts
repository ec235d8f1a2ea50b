import { randomBytes } from 'node:crypto';

import type { ClientOptions } from '../ledger.ts';
import type { StatementName } from './statements.ts';

export interface Answer {
  readonly rows: readonly Record<string, unknown>[];
  readonly affected: number;
  readonly insertId: number;
}

export type Values = Record<string, string | number | Buffer | null>;
export type Ask = (name: StatementName, values: Values) => Promise<Answer>;
/** Does its statements; what it gives is done once the transaction is known to be committed. */
type Act = (ask: Ask) => Promise<(() => void) | void>;

/** A read that did not give what this client had written: no second attempt makes it good. */
export class WrongRead extends Error {}

/**
 * What one client does, and what it must find. Customers and products belong to one client each, so that it can tell what they must hold;
 * stock is everybody's.
 */
export class Actions {
  readonly #number: number;
  readonly #options: ClientOptions;
  readonly #lastTransaction: () => string | null;
  readonly #prices = new Map<number, string>();
  readonly #suppliers = new Map<number, string | null>();
  #customer: { readonly id: number; readonly expect: unknown } | null = null;
  #orders: { readonly id: number; readonly note: string; readonly items: string }[] = [];
  #reviews: number[] = [];
  #made: { readonly id: number; readonly sheet: string }[] = [];

  /** @param lastTransaction id of the newest transaction of this client that is committed */
  constructor(number: number, options: ClientOptions, lastTransaction: () => string | null) {
    this.#number = number;
    this.#options = options;
    this.#lastTransaction = lastTransaction;
  }

  pick(): [string, Act] {
    const at = Math.random() * 100;
    if (at < 30) return ['order', (ask) => this.#order(ask)];
    if (at < 48) return ['customer', (ask) => this.#changeCustomer(ask)];
    if (at < 60) return ['supplier', (ask) => this.#changeSupplier(ask)];
    if (at < 72) return ['price', (ask) => this.#changePrice(ask)];
    if (at < 78) return ['ship', (ask) => this.#ship(ask)];
    if (at < 86) return ['review', (ask) => this.#review(ask)];
    if (at < 88) return ['product', (ask) => this.#addProduct(ask)];
    if (at < 92) return ['delete', (ask) => this.#delete(ask)];
    // Rare: a row without a key is looked for by all its values.
    if (at < 92.3) return ['note', (ask) => this.#note(ask)];
    return ['read', (ask) => this.#read(ask)];
  }

  /** A number between 1 and `count` that is this client's alone. */
  #mine(count: number): number {
    const { count: clients } = this.#options;
    const share = Math.floor(count / clients);
    return this.#number + clients * Math.floor(Math.random() * share) + 1;
  }

  async #order(ask: Ask): Promise<() => void> {
    const { products, warehouses } = this.#options;
    // In one order of rows for everybody, or two of them could wait for each other.
    const wanted = [
      ...new Set(
        [1, 2, 3]
          .slice(0, 1 + Math.floor(Math.random() * 3))
          .map(() => 1 + Math.floor(Math.random() * products)),
      ),
    ].sort((a, b) => a - b);
    const items = wanted.map((product, index) => ({
      product,
      quantity: index + 1,
      cents: 100 + ((product * 7) % 5000),
    }));
    const amount = (items.reduce((sum, item) => sum + item.quantity * item.cents, 0) / 100).toFixed(2);
    const note = `client ${this.#number} ${randomBytes(4).toString('hex')}`;
    const warehouse = 1 + Math.floor(Math.random() * warehouses);
    for (const { product, quantity } of items) {
      const { affected } = await ask('take', { quantity, warehouse, product });
      same('stock is there', affected, 1);
    }
    const { insertId: id } = await ask('newOrder', {
      public: randomBytes(16),
      customer: this.#mine(this.#options.customers),
      total: amount,
      items: JSON.stringify(items),
      note,
    });
    await ask('invoice', { order: id, amount });
    if (Math.random() < 0.5)
      await ask('payment', { id: randomBytes(16), order: id, amount, receipt: randomBytes(48) });
    return () => this.#orders.push({ id, note, items: shown(items) });
  }

  async #changeCustomer(ask: Ask): Promise<() => void> {
    const known = this.#customer;
    if (known !== null) {
      const { rows } = await ask('customer', { id: known.id });
      same('customer', rows[0], known.expect);
    }
    const id = known !== null && Math.random() < 0.7 ? known.id : this.#mine(this.#options.customers);
    const city = Math.random() < 0.5 ? null : `Town ${this.#number}`;
    const street = city === null || Math.random() < 0.3 ? null : `Street ${Math.floor(Math.random() * 100)}`;
    const name = Math.random() < 0.2 ? `Solo${this.#number}` : `Grace Höpper ${this.#number}`;
    const status = Math.floor(Math.random() * 4);
    const { affected } = await ask('changeCustomer', { id, name, street, city, status });
    same('changed customers', affected, 1);
    const { rows } = await ask('customer', { id });
    const [changed] = rows;
    same(
      'changed customer',
      [changed?.['full_name'], changed?.['street'], changed?.['city'], changed?.['status']],
      [name, street, city, status],
    );
    return () => {
      this.#customer = { id, expect: changed };
    };
  }

  async #changePrice(ask: Ask): Promise<() => void> {
    const id = this.#mine(this.#options.products);
    const known = this.#prices.get(id);
    const { rows } = await ask('price', { id });
    const [found] = rows;
    if (known !== undefined) same('price', found?.['price'], known);
    same('datasheet', [found?.['length'], String(found?.['product'])], [9280, String(id)]);
    const price = (Math.random() * 500).toFixed(2);
    await ask('changePrice', { id, price, labels: JSON.stringify(['sale', `c${this.#number}`]) });
    return () => this.#prices.set(id, price);
  }

  /** Changed, taken away, put back. */
  async #changeSupplier(ask: Ask): Promise<() => void> {
    const id = this.#mine(this.#options.products);
    const known = this.#suppliers.get(id);
    const { rows } = await ask('supplier', { id });
    const present = (rows[0]?.['supplier'] as string | undefined) ?? null;
    if (known !== undefined) same('supplier', present, known);
    const supplier = `Maker ${this.#number} ${randomBytes(3).toString('hex')}`;
    if (present === null) {
      await ask('addSupplier', { id, supplier, weight: 77, rating: '4.25' });
    } else if (Math.random() < 0.3) {
      await ask('dropSupplier', { id });
      return () => this.#suppliers.set(id, null);
    } else {
      await ask('changeSupplier', { id, supplier, weight: Math.floor(Math.random() * 900) });
    }
    return () => this.#suppliers.set(id, supplier);
  }

  async #ship(ask: Ask): Promise<void> {
    const order = this.#orders.at(-1);
    if (order === undefined) return;
    const { affected } = await ask('ship', { id: order.id });
    same('shipped orders', affected, 1);
  }

  async #review(ask: Ask): Promise<() => void> {
    const { insertId } = await ask('review', {
      product: 1 + Math.floor(Math.random() * this.#options.products),
      customer: this.#mine(this.#options.customers),
      stars: 1 + Math.floor(Math.random() * 5),
      body: Math.random() < 0.5 ? null : 'good\tvalue \\ "money" 🙂',
    });
    return () => this.#reviews.push(insertId);
  }

  async #addProduct(ask: Ask): Promise<() => void> {
    const sheet = randomBytes(4_500).toString('hex');
    const { insertId: id } = await ask('addProduct', {
      public: randomBytes(16),
      title: `New of ${this.#number}`,
      labels: '[]',
      sheet: JSON.stringify({ text: sheet, revision: 1 }),
      thumbnail: randomBytes(32),
    });
    if (Math.random() < 0.5)
      await ask('addSupplier', { id, supplier: 'New maker', weight: null, rating: '1.00' });
    return () => this.#made.push({ id, sheet });
  }

  async #delete(ask: Ask): Promise<(() => void) | void> {
    const product = this.#made[0];
    if (product !== undefined && Math.random() < 0.4) {
      await ask('dropSupplier', { id: product.id });
      const { affected } = await ask('dropProduct', { id: product.id });
      same('deleted products', affected, 1);
      return () => void this.#made.shift();
    }
    const review = this.#reviews[0];
    if (review === undefined) return;
    const { affected } = await ask('dropReview', { id: review });
    same('deleted reviews', affected, 1);
    return () => void this.#reviews.shift();
  }

  /** A change of a row that has no key. */
  async #note(ask: Ask): Promise<void> {
    const last = this.#lastTransaction();
    if (last === null) return;
    const { affected } = await ask('note', { transaction: Buffer.from(last.replaceAll('-', ''), 'hex') });
    same('own audit rows', affected, 1);
  }

  async #read(ask: Ask): Promise<void> {
    const order = this.#orders.at(-1);
    if (order !== undefined) {
      const { rows } = await ask('order', { id: order.id });
      const items: unknown = JSON.parse(String(rows[0]?.['items'] ?? '[]'));
      same('order', [rows[0]?.['note'], shown(items)], [order.note, order.items]);
      const { rows: billed } = await ask('billed', { id: order.id });
      same('invoice', Number(billed[0]?.['n']), 1);
    }
    const made = this.#made.at(-1);
    if (made !== undefined) {
      const { rows } = await ask('sheet', { id: made.id });
      same('new product', rows[0]?.['sheet'], made.sheet);
    }
    const last = this.#lastTransaction();
    if (last !== null) {
      const { rows } = await ask('audited', { transaction: Buffer.from(last.replaceAll('-', ''), 'hex') });
      same('last audit rows', Number(rows[0]?.['n']), 1);
    }
  }
}

/** Lines of an order in one spelling, whatever the order of keys. */
const shown = (items: unknown): string =>
  (items as readonly { product: number; quantity: number; cents: number }[])
    .map((line) => `${line.product} ${line.quantity} ${line.cents}`)
    .join(', ');

function same(what: string, found: unknown, expected: unknown): void {
  const [left, right] = [JSON.stringify(found), JSON.stringify(expected)];
  if (left !== right) throw new WrongRead(`${what}: read ${left}, wrote ${right}`);
}
