/** Rows of the shop at scale 1: a little more than 300,000. */
export const ROWS = {
  customers: 50_000,
  products: 3_000,
  orders: 60_000,
  invoices: 50_000,
  payments: 40_000,
  reviews: 20_000,
  audit_log: 80_000,
} as const;
export const WAREHOUSES = 10;

/** How many rows there are of what clients pick from by number. */
export interface Seeded {
  readonly rows: number;
  readonly customers: number;
  readonly products: number;
  readonly warehouses: number;
}
