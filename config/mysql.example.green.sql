CREATE TABLE shop_v2.client (
  id         BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
  first_name VARCHAR(200) NOT NULL,
  last_name  VARCHAR(200) NOT NULL,
  email      VARCHAR(200) NOT NULL UNIQUE,
  status     ENUM('new', 'active', 'closed') NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE TABLE shop_v2.purchase (
  id        BIGINT    NOT NULL AUTO_INCREMENT PRIMARY KEY,
  client_id BIGINT    NOT NULL,
  placed_at TIMESTAMP NOT NULL,
  note      TEXT,
  KEY purchase_client (client_id),
  CONSTRAINT purchase_client FOREIGN KEY (client_id) REFERENCES shop_v2.client (id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
