import { randomBytes, randomUUID } from 'node:crypto';

import pg from 'pg';

import type { Client } from '../client-process.ts';
import type { Book, ClientOptions } from '../ledger.ts';

/** A wait that is kept: shorter ones cannot be the longest. */
const NOTED_MS = 5;

type Rows = readonly Record<string, unknown>[];

/** A row the client owns, or one statement about it: named, so that it is prepared on the protocol level. */
type Ask = (name: string, sql: string, values?: readonly unknown[]) => Promise<Rows>;

interface Own {
  readonly id: number;
  readonly expect: Readonly<Record<string, unknown>>;
}

/**
 * One client of the shop: one connection, one transaction after the other. Knows the tables by their names of today and nothing of a move. Customers and products belong to one client
 * each, so that it can tell what they must hold; stock is everybody's.
 */
export class Shopper implements Client {
  readonly #number: number;
  readonly #options: ClientOptions;
  readonly #book: Book;
  readonly #connection: pg.Client;
  readonly #prices = new Map<number, string>();
  readonly #suppliers = new Map<number, string | null>();
  #customer: Own | null = null;
  #orders: { readonly id: number; readonly note: string; readonly items: string }[] = [];
  #reviews: number[] = [];
  #made: { readonly id: number; readonly sheet: string }[] = [];
  #lastTransaction: string | null = null;
  #holding = false;

  constructor(number: number, options: ClientOptions, book: Book) {
    this.#number = number;
    this.#options = options;
    this.#book = book;
    this.#connection = new pg.Client({ connectionString: options.url });
    // A lost connection also fails the statement that waits, or the next one: it is counted there.
    this.#connection.on('error', () => undefined);
  }

  async connect(): Promise<void> {
    await this.#connection.connect();
  }

  hold(): void {
    this.#holding = true;
  }

  /** Until it is held. */
  async shop(): Promise<void> {
    const { thinkMs } = this.#options;
    while (!this.#holding) {
      await this.#transaction();
      await new Promise((resolve) => setTimeout(resolve, thinkMs * (0.5 + Math.random())));
    }
    await this.#connection.end().catch(() => undefined);
  }

  async #transaction(): Promise<void> {
    const [action, act] = this.#pick();
    const transaction = randomUUID();
    try {
      await this.#ask('begin', 'BEGIN');
      const settle = await act(this.#ask);
      await this.#ask(
        'audit',
        'INSERT INTO audit_log (transaction_id, client, action, detail) VALUES ($1, $2, $3, $4)',
        [transaction, this.#number, action, JSON.stringify({ own: this.#orders.length })],
      );
      await this.#ask('commit', 'COMMIT');
      this.#book.committed.push(transaction);
      this.#book.byAction[action] = (this.#book.byAction[action] ?? 0) + 1;
      this.#lastTransaction = transaction;
      settle?.();
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      this.#book.failures.push({
        transaction,
        action,
        message: code === undefined ? message : `${code} ${message}`,
        atMs: Date.now(),
      });
      await this.#connection.query('ROLLBACK').catch(() => undefined);
    }
  }

  readonly #ask: Ask = async (name, text, values = []) => {
    const atMs = Date.now();
    const from = performance.now();
    try {
      return (await this.#connection.query<Record<string, unknown>>({ name, text, values: [...values] }))
        .rows;
    } finally {
      const ms = performance.now() - from;
      if (ms >= NOTED_MS) this.#book.waits.push({ atMs, ms });
    }
  };

  #pick(): [string, (ask: Ask) => Promise<(() => void) | void>] {
    const at = Math.random() * 100;
    if (at < 30) return ['order', (ask) => this.#order(ask)];
    if (at < 48) return ['customer', (ask) => this.#changeCustomer(ask)];
    if (at < 60) return ['supplier', (ask) => this.#changeSupplier(ask)];
    if (at < 72) return ['price', (ask) => this.#changePrice(ask)];
    if (at < 78) return ['ship', (ask) => this.#ship(ask)];
    if (at < 86) return ['review', (ask) => this.#review(ask)];
    if (at < 88) return ['product', (ask) => this.#addProduct(ask)];
    if (at < 92) return ['delete', (ask) => this.#delete(ask)];
    // Rare: a row without a key is looked for in the whole table, on green as well.
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
    const customer = this.#mine(this.#options.customers);
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
    const cents = items.reduce((sum, item) => sum + item.quantity * item.cents, 0);
    const note = `client ${this.#number} ${randomBytes(4).toString('hex')}`;
    const warehouse = 1 + Math.floor(Math.random() * warehouses);
    for (const { product, quantity } of items) {
      const [level] = await ask(
        'take',
        'UPDATE stock SET quantity = quantity - $1 WHERE warehouse = $2 AND product_id = $3 RETURNING available',
        [quantity, warehouse, product],
      );
      same('stock is there', level !== undefined, true);
    }
    const [order] = await ask(
      'new order',
      `INSERT INTO orders (public_id, customer_id, total, items, note) VALUES ($1, $2, $3, $4, $5) RETURNING id`,
      [randomUUID(), customer, (cents / 100).toFixed(2), JSON.stringify(items), note],
    );
    const id = Number(order?.['id']);
    const [drawn] = await ask('invoice number', `SELECT nextval('invoice_number') AS number`);
    await ask('invoice', 'INSERT INTO invoices (number, order_id, amount) VALUES ($1, $2, $3)', [
      drawn?.['number'],
      id,
      (cents / 100).toFixed(2),
    ]);
    if (Math.random() < 0.5) {
      await ask('payment', 'INSERT INTO payments (id, order_id, amount, receipt) VALUES ($1, $2, $3, $4)', [
        randomUUID(),
        id,
        (cents / 100).toFixed(2),
        randomBytes(48),
      ]);
    }
    return () => this.#orders.push({ id, note, items: shown(items) });
  }

  async #changeCustomer(ask: Ask): Promise<() => void> {
    const known = this.#customer;
    if (known !== null) {
      const [found] = await ask(
        'customer',
        'SELECT full_name, balance::text AS balance, street, city, status FROM customers WHERE id = $1',
        [known.id],
      );
      same('customer', found, known.expect);
    }
    // The same one again, so that an address comes and goes while the row is copied, streamed and switched.
    const id = known !== null && Math.random() < 0.7 ? known.id : this.#mine(this.#options.customers);
    const city = Math.random() < 0.5 ? null : `Town ${this.#number}`;
    const street = city === null || Math.random() < 0.3 ? null : `Street ${Math.floor(Math.random() * 100)}`;
    const name = Math.random() < 0.2 ? `Solo${this.#number}` : `Grace Hopper ${this.#number}`;
    const [changed] = await ask(
      'change customer',
      `UPDATE customers SET full_name = $1, street = $2, city = $3, balance = balance + $4, status = ($5)::smallint WHERE id = $6
       RETURNING full_name, balance::text AS balance, street, city, status`,
      [name, street, city, '1.25', Math.floor(Math.random() * 4), id],
    );
    same(
      'changed customer',
      [changed?.['full_name'], changed?.['street'], changed?.['city']],
      [name, street, city],
    );
    return () => {
      this.#customer = { id, expect: changed ?? {} };
    };
  }

  async #changePrice(ask: Ask): Promise<() => void> {
    const id = this.#mine(this.#options.products);
    const known = this.#prices.get(id);
    const [found] = await ask(
      'price',
      `SELECT price::text AS price, octet_length(datasheet ->> 'text') AS length, datasheet ->> 'product' AS product FROM products WHERE id = $1`,
      [id],
    );
    if (known !== undefined) same('price', found?.['price'], known);
    same('datasheet', [found?.['length'], found?.['product']], [9280, String(id)]);
    const price = (Math.random() * 500).toFixed(2);
    await ask('change price', 'UPDATE products SET price = $1, labels = $2 WHERE id = $3', [
      price,
      ['sale', `c${this.#number}`],
      id,
    ]);
    return () => this.#prices.set(id, price);
  }

  /** The other half of what becomes one row of green: changed, taken away, put back. */
  async #changeSupplier(ask: Ask): Promise<() => void> {
    const id = this.#mine(this.#options.products);
    const known = this.#suppliers.get(id);
    const [found] = await ask('supplier', 'SELECT supplier FROM product_suppliers WHERE product_id = $1', [
      id,
    ]);
    const present = (found?.['supplier'] as string | undefined) ?? null;
    if (known !== undefined) same('supplier', present, known);
    const supplier = `Maker ${this.#number} ${randomBytes(3).toString('hex')}`;
    if (present === null) {
      await ask(
        'add supplier',
        'INSERT INTO product_suppliers (product_id, supplier, weight_grams, rating) VALUES ($1, $2, $3, $4)',
        [id, supplier, 77, '4.25'],
      );
    } else if (Math.random() < 0.3) {
      await ask('drop supplier', 'DELETE FROM product_suppliers WHERE product_id = $1', [id]);
      return () => this.#suppliers.set(id, null);
    } else {
      await ask(
        'change supplier',
        'UPDATE product_suppliers SET supplier = $1, weight_grams = $2 WHERE product_id = $3',
        [supplier, Math.floor(Math.random() * 900), id],
      );
    }
    return () => this.#suppliers.set(id, supplier);
  }

  async #ship(ask: Ask): Promise<void> {
    const order = this.#orders.at(-1);
    if (order === undefined) return;
    const [found] = await ask('ship', `UPDATE orders SET status = 'shipped' WHERE id = $1 RETURNING note`, [
      order.id,
    ]);
    same('shipped order', found?.['note'], order.note);
  }

  async #review(ask: Ask): Promise<() => void> {
    const product = 1 + Math.floor(Math.random() * this.#options.products);
    const [made] = await ask(
      'review',
      'INSERT INTO reviews (product_id, customer_id, stars, body) VALUES ($1, $2, $3, $4) RETURNING id',
      [
        product,
        this.#mine(this.#options.customers),
        1 + Math.floor(Math.random() * 5),
        Math.random() < 0.5 ? null : 'good\tvalue \\ "money"',
      ],
    );
    return () => this.#reviews.push(Number(made?.['id']));
  }

  async #addProduct(ask: Ask): Promise<() => void> {
    const sheet = randomBytes(4_500).toString('hex');
    const [made] = await ask(
      'product',
      'INSERT INTO products (title, price, datasheet, thumbnail) VALUES ($1, $2, $3, $4) RETURNING id',
      [`New of ${this.#number}`, '9.99', JSON.stringify({ text: sheet }), randomBytes(32)],
    );
    const id = Number(made?.['id']);
    if (Math.random() < 0.5) {
      await ask(
        'add supplier',
        'INSERT INTO product_suppliers (product_id, supplier, weight_grams, rating) VALUES ($1, $2, $3, $4)',
        [id, 'New maker', null, '1.00'],
      );
    }
    return () => this.#made.push({ id, sheet });
  }

  async #delete(ask: Ask): Promise<(() => void) | void> {
    const product = this.#made[0];
    if (product !== undefined && Math.random() < 0.4) {
      await ask('delete product', 'DELETE FROM products WHERE id = $1', [product.id]);
      return () => void this.#made.shift();
    }
    const review = this.#reviews[0];
    if (review === undefined) return;
    await ask('delete review', 'DELETE FROM reviews WHERE id = $1', [review]);
    return () => void this.#reviews.shift();
  }

  /** A change of a row that has no key. */
  async #note(ask: Ask): Promise<void> {
    if (this.#lastTransaction === null) return;
    const rows = await ask(
      'note',
      `UPDATE audit_log SET detail = '{"noted": true}' WHERE transaction_id = $1 RETURNING client`,
      [this.#lastTransaction],
    );
    same('own audit rows', rows.length, 1);
  }

  async #read(ask: Ask): Promise<void> {
    const order = this.#orders.at(-1);
    if (order !== undefined) {
      const [found] = await ask('order', 'SELECT note, items FROM orders WHERE id = $1', [order.id]);
      same('order', [found?.['note'], shown(found?.['items'])], [order.note, order.items]);
      const [billed] = await ask('billed', 'SELECT count(*)::int AS n FROM invoices WHERE order_id = $1', [
        order.id,
      ]);
      same('invoice', billed?.['n'], 1);
    }
    const made = this.#made.at(-1);
    if (made !== undefined) {
      const [found] = await ask('sheet', `SELECT datasheet ->> 'text' AS sheet FROM products WHERE id = $1`, [
        made.id,
      ]);
      same('new product', found?.['sheet'], made.sheet);
    }
    if (this.#lastTransaction !== null) {
      const rows = await ask('last audit', 'SELECT client FROM audit_log WHERE transaction_id = $1', [
        this.#lastTransaction,
      ]);
      same('last audit row', rows.length, 1);
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
  if (left !== right) throw new Error(`${what}: read ${left}, wrote ${right}`);
}
