-- The shop as it will be: other names, wide keys, cents, two names, statuses as words, and what only green knows.
CREATE TABLE client (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  first_name varchar(200) NOT NULL,
  last_name varchar(200),
  email varchar(320) NOT NULL,
  balance_cents bigint NOT NULL,
  status enum('prospect','active','suspended','closed') NOT NULL,
  street varchar(200),
  city varchar(100),
  tags set('gold','news','wholesale') NOT NULL DEFAULT '',
  created_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  loyalty_points int NOT NULL DEFAULT 0,
  KEY (email)
);

CREATE TABLE product (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  public_id binary(16) NOT NULL UNIQUE,
  title varchar(400) NOT NULL,
  price_cents bigint NOT NULL,
  labels json NOT NULL,
  thumbnail varbinary(64),
  datasheet json NOT NULL
);

CREATE TABLE product_supplier (
  product_id bigint NOT NULL PRIMARY KEY,
  name varchar(100) NOT NULL,
  weight_grams int,
  rating decimal(3,2),
  FOREIGN KEY (product_id) REFERENCES product (id)
);

CREATE TABLE stock_level (
  warehouse smallint NOT NULL,
  product_id bigint NOT NULL,
  quantity bigint NOT NULL,
  reserved bigint NOT NULL DEFAULT 0,
  available bigint GENERATED ALWAYS AS (quantity - reserved) STORED,
  PRIMARY KEY (warehouse, product_id),
  FOREIGN KEY (product_id) REFERENCES product (id)
);

CREATE TABLE sales_order (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  public_id binary(16) NOT NULL,
  client_id bigint NOT NULL,
  status enum('new','paid','shipped','cancelled') NOT NULL DEFAULT 'new',
  total_cents bigint NOT NULL,
  order_lines json NOT NULL,
  note mediumtext,
  placed_at datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  channel varchar(20) NOT NULL DEFAULT 'shop',
  FOREIGN KEY (client_id) REFERENCES client (id)
);

CREATE TABLE invoice (
  number bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  order_id bigint NOT NULL,
  amount_cents bigint NOT NULL,
  currency char(3) NOT NULL DEFAULT 'EUR',
  issued_at datetime NOT NULL DEFAULT CURRENT_TIMESTAMP,
  FOREIGN KEY (order_id) REFERENCES sales_order (id)
) AUTO_INCREMENT = 1000;

CREATE TABLE payment (
  id binary(16) NOT NULL PRIMARY KEY,
  order_id bigint NOT NULL,
  amount_cents bigint NOT NULL,
  receipt blob NOT NULL,
  paid_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
  FOREIGN KEY (order_id) REFERENCES sales_order (id)
);

CREATE TABLE review (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  product_id bigint NOT NULL,
  client_id bigint NOT NULL,
  stars tinyint NOT NULL,
  body text,
  FOREIGN KEY (product_id) REFERENCES product (id),
  FOREIGN KEY (client_id) REFERENCES client (id)
);

CREATE TABLE audit_entry (
  transaction_id binary(16) NOT NULL,
  client smallint NOT NULL,
  action varchar(80) NOT NULL,
  detail json,
  at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  KEY (transaction_id)
);
