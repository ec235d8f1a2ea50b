-- The shop as it is today: integer keys, amounts as decimals, whole names, statuses as numbers.
CREATE TABLE customers (
  id int NOT NULL AUTO_INCREMENT PRIMARY KEY,
  full_name varchar(200) NOT NULL,
  email varchar(200) NOT NULL,
  balance decimal(12,2) NOT NULL DEFAULT 0,
  status tinyint NOT NULL DEFAULT 0,
  street varchar(200),
  city varchar(100),
  tags set('gold','news','wholesale') NOT NULL DEFAULT '',
  legacy_code varchar(20),
  created_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  KEY (email)
);

CREATE TABLE products (
  id int NOT NULL AUTO_INCREMENT PRIMARY KEY,
  public_id binary(16) NOT NULL UNIQUE,
  title varchar(200) NOT NULL,
  price decimal(10,2) NOT NULL,
  labels json NOT NULL,
  thumbnail varbinary(64),
  datasheet json NOT NULL
);

CREATE TABLE product_suppliers (
  product_id int NOT NULL PRIMARY KEY,
  supplier varchar(100) NOT NULL,
  weight_grams int,
  rating decimal(3,2),
  FOREIGN KEY (product_id) REFERENCES products (id)
);

CREATE TABLE stock (
  warehouse smallint NOT NULL,
  product_id int NOT NULL,
  quantity int NOT NULL,
  reserved int NOT NULL DEFAULT 0,
  available int GENERATED ALWAYS AS (quantity - reserved) STORED,
  PRIMARY KEY (warehouse, product_id),
  FOREIGN KEY (product_id) REFERENCES products (id)
);

CREATE TABLE orders (
  id int NOT NULL AUTO_INCREMENT PRIMARY KEY,
  public_id binary(16) NOT NULL,
  customer_id int NOT NULL,
  status enum('new','paid','shipped','cancelled') NOT NULL DEFAULT 'new',
  total decimal(12,2) NOT NULL,
  items json NOT NULL,
  note text,
  placed_at datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  FOREIGN KEY (customer_id) REFERENCES customers (id)
);

CREATE TABLE invoices (
  number int NOT NULL AUTO_INCREMENT PRIMARY KEY,
  order_id int NOT NULL,
  amount decimal(12,2) NOT NULL,
  issued_at datetime NOT NULL DEFAULT CURRENT_TIMESTAMP,
  FOREIGN KEY (order_id) REFERENCES orders (id)
) AUTO_INCREMENT = 1000;

CREATE TABLE payments (
  id binary(16) NOT NULL PRIMARY KEY,
  order_id int NOT NULL,
  amount decimal(12,2) NOT NULL,
  receipt blob NOT NULL,
  paid_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
  FOREIGN KEY (order_id) REFERENCES orders (id)
);

CREATE TABLE reviews (
  id int NOT NULL AUTO_INCREMENT PRIMARY KEY,
  product_id int NOT NULL,
  customer_id int NOT NULL,
  stars tinyint NOT NULL,
  body text,
  FOREIGN KEY (product_id) REFERENCES products (id),
  FOREIGN KEY (customer_id) REFERENCES customers (id)
);

-- No primary key, and nothing that keeps a row from being there twice: what is applied twice shows here.
CREATE TABLE audit_log (
  transaction_id binary(16) NOT NULL,
  client smallint NOT NULL,
  action varchar(40) NOT NULL,
  detail json,
  at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  KEY (transaction_id)
);
