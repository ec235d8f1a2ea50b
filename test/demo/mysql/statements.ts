/** What the shop asks of its database: the same question in the words of the tables of today and in those of tomorrow. */
const STATEMENTS = {
  take: {
    today:
      'UPDATE stock SET quantity = quantity - :quantity WHERE warehouse = :warehouse AND product_id = :product',
    tomorrow:
      'UPDATE stock_level SET quantity = quantity - :quantity WHERE warehouse = :warehouse AND product_id = :product',
  },
  newOrder: {
    today:
      'INSERT INTO orders (public_id, customer_id, total, items, note) VALUES (:public, :customer, :total, :items, :note)',
    tomorrow:
      'INSERT INTO sales_order (public_id, client_id, total_cents, order_lines, note) VALUES (:public, :customer, :total * 100, :items, :note)',
  },
  invoice: {
    today: 'INSERT INTO invoices (order_id, amount) VALUES (:order, :amount)',
    tomorrow: 'INSERT INTO invoice (order_id, amount_cents) VALUES (:order, :amount * 100)',
  },
  payment: {
    today: 'INSERT INTO payments (id, order_id, amount, receipt) VALUES (:id, :order, :amount, :receipt)',
    tomorrow:
      'INSERT INTO payment (id, order_id, amount_cents, receipt) VALUES (:id, :order, :amount * 100, :receipt)',
  },
  customer: {
    today: 'SELECT full_name, balance, street, city, status FROM customers WHERE id = :id',
    tomorrow: `SELECT CONCAT_WS(' ', first_name, last_name) AS full_name, CAST(balance_cents / 100 AS decimal(12,2)) AS balance, street, city, status - 1 AS status
      FROM (SELECT first_name, last_name, balance_cents, street, city, status + 0 AS status FROM client WHERE id = :id) AS found`,
  },
  changeCustomer: {
    today:
      'UPDATE customers SET full_name = :name, street = :street, city = :city, balance = balance + 1.25, status = :status WHERE id = :id',
    tomorrow: `UPDATE client SET first_name = SUBSTRING_INDEX(:name, ' ', 1), last_name = IF(LOCATE(' ', :name) = 0, NULL, SUBSTRING(:name, LOCATE(' ', :name) + 1)),
      street = :street, city = :city, balance_cents = balance_cents + 125, status = :status + 1, loyalty_points = loyalty_points + 1 WHERE id = :id`,
  },
  price: {
    today: `SELECT price, CHAR_LENGTH(JSON_UNQUOTE(JSON_EXTRACT(datasheet, '$.text'))) AS length, JSON_EXTRACT(datasheet, '$.product') AS product FROM products WHERE id = :id`,
    tomorrow: `SELECT CAST(price_cents / 100 AS decimal(10,2)) AS price, CHAR_LENGTH(JSON_UNQUOTE(JSON_EXTRACT(datasheet, '$.text'))) AS length,
      JSON_EXTRACT(datasheet, '$.product') AS product FROM product WHERE id = :id`,
  },
  changePrice: {
    today: 'UPDATE products SET price = :price, labels = :labels WHERE id = :id',
    tomorrow: 'UPDATE product SET price_cents = :price * 100, labels = :labels WHERE id = :id',
  },
  supplier: {
    today: 'SELECT supplier FROM product_suppliers WHERE product_id = :id',
    tomorrow: 'SELECT name AS supplier FROM product_supplier WHERE product_id = :id',
  },
  addSupplier: {
    today:
      'INSERT INTO product_suppliers (product_id, supplier, weight_grams, rating) VALUES (:id, :supplier, :weight, :rating)',
    tomorrow:
      'INSERT INTO product_supplier (product_id, name, weight_grams, rating) VALUES (:id, :supplier, :weight, :rating)',
  },
  dropSupplier: {
    today: 'DELETE FROM product_suppliers WHERE product_id = :id',
    tomorrow: 'DELETE FROM product_supplier WHERE product_id = :id',
  },
  changeSupplier: {
    today: 'UPDATE product_suppliers SET supplier = :supplier, weight_grams = :weight WHERE product_id = :id',
    tomorrow: 'UPDATE product_supplier SET name = :supplier, weight_grams = :weight WHERE product_id = :id',
  },
  ship: {
    today: `UPDATE orders SET status = 'shipped' WHERE id = :id`,
    tomorrow: `UPDATE sales_order SET status = 'shipped' WHERE id = :id`,
  },
  order: {
    today: 'SELECT note, items FROM orders WHERE id = :id',
    tomorrow: 'SELECT note, order_lines AS items FROM sales_order WHERE id = :id',
  },
  billed: {
    today: 'SELECT COUNT(*) AS n FROM invoices WHERE order_id = :id',
    tomorrow: 'SELECT COUNT(*) AS n FROM invoice WHERE order_id = :id',
  },
  review: {
    today:
      'INSERT INTO reviews (product_id, customer_id, stars, body) VALUES (:product, :customer, :stars, :body)',
    tomorrow:
      'INSERT INTO review (product_id, client_id, stars, body) VALUES (:product, :customer, :stars, :body)',
  },
  dropReview: {
    today: 'DELETE FROM reviews WHERE id = :id',
    tomorrow: 'DELETE FROM review WHERE id = :id',
  },
  addProduct: {
    today:
      'INSERT INTO products (public_id, title, price, labels, datasheet, thumbnail) VALUES (:public, :title, 9.99, :labels, :sheet, :thumbnail)',
    tomorrow: `INSERT INTO product (public_id, title, price_cents, labels, datasheet, thumbnail)
      VALUES (:public, :title, 999, :labels, :sheet, :thumbnail)`,
  },
  sheet: {
    today: `SELECT JSON_UNQUOTE(JSON_EXTRACT(datasheet, '$.text')) AS sheet FROM products WHERE id = :id`,
    tomorrow: `SELECT JSON_UNQUOTE(JSON_EXTRACT(datasheet, '$.text')) AS sheet FROM product WHERE id = :id`,
  },
  dropProduct: {
    today: 'DELETE FROM products WHERE id = :id',
    tomorrow: 'DELETE FROM product WHERE id = :id',
  },
  audit: {
    today:
      'INSERT INTO audit_log (transaction_id, client, action, detail) VALUES (:transaction, :client, :action, :detail)',
    tomorrow:
      'INSERT INTO audit_entry (transaction_id, client, action, detail) VALUES (:transaction, :client, :action, :detail)',
  },
  note: {
    today: `UPDATE audit_log SET detail = '{"noted": true}' WHERE transaction_id = :transaction`,
    tomorrow: `UPDATE audit_entry SET detail = '{"noted": true}' WHERE transaction_id = :transaction`,
  },
  audited: {
    today: 'SELECT COUNT(*) AS n FROM audit_log WHERE transaction_id = :transaction',
    tomorrow: 'SELECT COUNT(*) AS n FROM audit_entry WHERE transaction_id = :transaction',
  },
} as const;

export type StatementName = keyof typeof STATEMENTS;

/** Which tables a connection finds. The application knows both, and looks when it connects. */
export type Words = 'today' | 'tomorrow';

export const statement = (name: StatementName, words: Words): string => STATEMENTS[name][words];
