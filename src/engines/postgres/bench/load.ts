import type { BenchFacts, BenchLoad, BenchProfile } from '../../../core/bench.ts';
import { ident } from '../sql.ts';

/** Rows of one INSERT, and transactions of one statement: a bench that is broken off does not wait long. */
const ROWS = 50_000;
const TRANSACTIONS = 1_000;

const TELLERS = 100;
const BRANCHES = 10;

/** What one profile makes and writes. All SQL is given the schema, quoted by {@link ident}. */
interface Shape {
  readonly tables: readonly string[];
  /** Not compared: its one row is the end of the backlog. */
  readonly end: string | null;
  ddl(schema: string): string;
  /** Statements that fill the tables; the same rows wherever they run. */
  rows(schema: string, size: number): string[];
  /** Statements that write the backlog, each a call of its own. */
  backlog(schema: string, size: number): string[];
  /** One row of text: changes, transactions, bytes, keys, width of a row. `$1` is where the log stood before the backlog. */
  facts(schema: string, size: number): string;
}

/** From 1 to `count` in parts of `most`. */
function* parts(count: number, most: number): Generator<readonly [from: number, to: number]> {
  for (let from = 1; from <= count; from += most) yield [from, Math.min(count, from + most - 1)];
}

const accountsOf = (transactions: number): number => Math.min(1_000_000, Math.max(1_000, 5 * transactions));

/** The tables and transactions of TPC-B as pgbench has them; the history has no key and only grows. */
const catchup: Shape = {
  tables: ['accounts', 'tellers', 'branches', 'history'],
  end: 'ending',
  ddl: (s) => `
    CREATE TABLE ${s}.accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
    CREATE TABLE ${s}.tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84));
    CREATE TABLE ${s}.branches (bid int PRIMARY KEY, bbalance int, filler char(88));
    CREATE TABLE ${s}.history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
    ALTER TABLE ${s}.history REPLICA IDENTITY FULL;
    CREATE TABLE ${s}.ending (id int PRIMARY KEY);`,
  rows: (s, size) => [
    `INSERT INTO ${s}.branches SELECT g, 0, '' FROM generate_series(1, ${BRANCHES}) g`,
    `INSERT INTO ${s}.tellers SELECT g, 1 + g % ${BRANCHES}, 0, '' FROM generate_series(1, ${TELLERS}) g`,
    ...[...parts(accountsOf(size), ROWS)].map(
      ([from, to]) =>
        `INSERT INTO ${s}.accounts SELECT g, 1 + g % ${BRANCHES}, 0, '' FROM generate_series(${from}, ${to}) g`,
    ),
  ],
  backlog: (s, size) => [
    // Nobody needs this backlog after a crash; what the readers of the log get is the same.
    'SET synchronous_commit = off',
    ...[...parts(size, TRANSACTIONS)].map(
      ([from, to]) => `DO $$ DECLARE a int; t int; b int; d int; BEGIN
        FOR i IN ${from}..${to} LOOP
          a := 1 + (hashint4(i) & 2147483647) % ${accountsOf(size)};
          t := 1 + (hashint4(-i) & 2147483647) % ${TELLERS};
          b := 1 + t % ${BRANCHES};
          d := hashint4(i + 1000000000) % 5000;
          UPDATE ${s}.accounts SET abalance = abalance + d WHERE aid = a;
          UPDATE ${s}.tellers SET tbalance = tbalance + d WHERE tid = t;
          UPDATE ${s}.branches SET bbalance = bbalance + d WHERE bid = b;
          INSERT INTO ${s}.history (tid, bid, aid, delta, mtime) VALUES (t, b, a, d, CURRENT_TIMESTAMP);
          COMMIT;
        END LOOP; END $$`,
    ),
    'RESET synchronous_commit',
    `INSERT INTO ${s}.ending VALUES (1)`,
  ],
  facts: (s, size) => `SELECT ${4 * size} AS changes, ${size} AS transactions,
    pg_wal_lsn_diff(pg_current_wal_lsn(), $1::pg_lsn)::bigint AS bytes,
    count(DISTINCT aid) + count(DISTINCT tid) + count(DISTINCT bid) + count(*) AS keys, 110 AS width FROM ${s}.history`,
};

/** Three tables with seven indexes: narrow rows, wide rows, JSON. Of eleven rows two, four and five. */
const copy: Shape = {
  tables: ['account', 'event', 'item'],
  end: null,
  ddl: (s) => `
    CREATE TABLE ${s}.account (id bigint PRIMARY KEY, email text NOT NULL UNIQUE, name text NOT NULL, balance numeric(14,2) NOT NULL, at timestamptz NOT NULL);
    CREATE TABLE ${s}.event (id bigint PRIMARY KEY, account bigint NOT NULL, kind int NOT NULL, body text NOT NULL, detail jsonb NOT NULL, at timestamptz NOT NULL);
    CREATE INDEX ON ${s}.event (account);
    CREATE INDEX ON ${s}.event (kind, at);
    CREATE TABLE ${s}.item (id int PRIMARY KEY, n int NOT NULL, note text NOT NULL);
    CREATE INDEX ON ${s}.item (n);`,
  rows: (s, size) => {
    const [accounts, events] = [Math.floor((size * 2) / 11), Math.floor((size * 4) / 11)];
    const at = `'2026-01-01Z'::timestamptz + g * interval '1 s'`;
    const fill = (count: number, columns: string, table: string): string[] =>
      [...parts(count, ROWS)].map(
        ([from, to]) =>
          `INSERT INTO ${s}.${table} SELECT g, ${columns} FROM generate_series(${from}, ${to}) g`,
      );
    return [
      ...fill(accounts, `'user' || g || '@example.org', 'Name of ' || g, g / 7.0, ${at}`, 'account'),
      ...fill(
        events,
        `hashint8(g) & 262143, g % 50, repeat(md5(g::text), 6), jsonb_build_object('n', g, 'text', 'some "quoted" text'), ${at}`,
        'event',
      ),
      ...fill(size - accounts - events, `hashint4(g), 'note ' || g`, 'item'),
    ];
  },
  backlog: () => [],
  facts: (s, size) => {
    const sizes = ['account', 'event', 'item'].map((table) => `pg_table_size('${s}.${table}')`).join(' + ');
    return `SELECT ${size} AS changes, 1 AS transactions, ${sizes} AS bytes, ${size} AS keys,
      ((${sizes}) / ${size})::bigint AS width WHERE $1::pg_lsn IS NOT NULL`;
  },
};

const SHAPES: Readonly<Record<BenchProfile, Shape>> = { catchup, copy };

export const shapeOf = ({ profile }: BenchLoad): Shape => SHAPES[profile];

/** Tables that take part, the end of the backlog included. */
export function tablesOf(load: BenchLoad): string[] {
  const { tables, end } = shapeOf(load);
  return end === null ? [...tables] : [...tables, end];
}

export const factsOf = (row: Readonly<Record<string, string>>): BenchFacts => ({
  changes: Number(row['changes']),
  transactions: Number(row['transactions']),
  bytes: Number(row['bytes']),
  distinctKeys: Number(row['keys']),
  rowBytes: Number(row['width']),
});

/** Count and sum of hashes of a whole table: the same text where the rows are the same. */
export const digestOf = (schema: string, table: string): string =>
  `SELECT count(*)::text || ' rows, ' || coalesce(sum(hashtextextended(t::text, 0)), 0)::text AS digest FROM ${ident(schema)}.${ident(table)} AS t`;
