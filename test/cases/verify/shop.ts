import { randomInt } from 'node:crypto';
import type pg from 'pg';
import { Run, type RunOptions } from '../../support/run.ts';

/**
 * Every way a row comes to green, with rows to break: untouched (account), renamed and recast (person), split (person and contact),
 * exploded (line), merged (product), under a text key, and without a key (log).
 */
export const SHOP = {
  blue: `
    CREATE TABLE public.account (id int PRIMARY KEY, name text, note text, at timestamptz NOT NULL, amount numeric NOT NULL, doc jsonb, raw json);
    CREATE TABLE public.person (id int PRIMARY KEY, full_name text NOT NULL, email text, cents numeric(12,2) NOT NULL, raw json);
    ALTER TABLE public.person REPLICA IDENTITY FULL;
    CREATE TABLE public.orders (id int PRIMARY KEY, items jsonb NOT NULL);
    ALTER TABLE public.orders REPLICA IDENTITY FULL;
    CREATE TABLE public.product (id int PRIMARY KEY, title text NOT NULL);
    CREATE TABLE public.stock (product_id int PRIMARY KEY, amount int NOT NULL, shelf text);
    CREATE TABLE public.tag (name text PRIMARY KEY, n int NOT NULL);
    CREATE TABLE public.log (n int, what text);
    ALTER TABLE public.log REPLICA IDENTITY FULL;`,
  green: `
    CREATE SCHEMA shop;
    CREATE TABLE shop.account (id int PRIMARY KEY, name text, note text, at timestamptz NOT NULL, amount numeric NOT NULL, doc jsonb, raw json);
    CREATE TABLE shop.person (id bigint PRIMARY KEY, first text NOT NULL, email text, cents bigint NOT NULL, raw json);
    CREATE TABLE shop.contact (person bigint, kind text, email text, PRIMARY KEY (person, kind));
    CREATE TABLE shop.orders (id int PRIMARY KEY);
    CREATE TABLE shop.line (order_id int, line_no int, sku text, PRIMARY KEY (order_id, line_no));
    CREATE TABLE shop.product (id int PRIMARY KEY, title text NOT NULL, amount int NOT NULL, shelf text);
    CREATE TABLE shop.tag (name text PRIMARY KEY, n int NOT NULL);
    CREATE TABLE shop.log (n int, what text);`,
  tables: `
- from: public.account
  to: [{ table: shop.account }]
- from: public.person
  to:
    - table: shop.person
      columns:
        id: { from: id, cast: bigint }
        first: { from: full_name, op: split, by: " ", take: first }
        email: { from: email }
        cents: { from: cents, op: scale, factor: 100, cast: bigint }
        raw: { from: raw }
    - table: shop.contact
      key: { person: id, kind: { value: mail } }
      emit_when: "row.email != null"
      columns: { person: { from: id, cast: bigint }, kind: { value: mail }, email: { from: email } }
- from: public.orders
  to:
    - table: shop.orders
      columns: { id: copy }
      drop: [items]
    - table: shop.line
      key: { order_id: id }
      explode: { array: items, as: item, ordinal: line_no }
      columns: { order_id: { from: id }, sku: { from: item.sku } }
- from: public.product
  to: [{ table: shop.product, owner: true, columns: { id: copy, title: copy } }]
- from: public.stock
  to: [{ table: shop.product, key: { id: product_id }, columns: { id: { from: product_id }, amount: { from: amount, absent: 0 }, shelf: copy } }]
- from: public.tag
  to: [{ table: shop.tag }]
- from: public.log
  to: [{ table: shop.log }]`,
} as const;

/** Rows 1 … STILL are never touched by {@link churn}: faults are put there; the others change all the time. */
export const STILL = 600;
export const ROWS = 1_500;

const FILL = [
  `INSERT INTO public.account SELECT g, 'name ' || g, NULL, timestamptz '2026-01-01 00:00:00.123456+00' + g * interval '1 second', g + 0.10, '{"a": 1, "b": 2}', '{"a":1,"b":2}' FROM generate_series(1, ${ROWS}) g`,
  `INSERT INTO public.person SELECT g, 'First' || g || ' Last', CASE WHEN g % 3 > 0 THEN 'm' || g || '@x' END, g + 0.25, '{"a":1,"b":2}' FROM generate_series(1, ${ROWS}) g`,
  `INSERT INTO public.orders SELECT g, jsonb_build_array(jsonb_build_object('sku', 'a' || g), jsonb_build_object('sku', 'b' || g)) FROM generate_series(1, ${ROWS}) g`,
  `INSERT INTO public.product SELECT g, 'title ' || g FROM generate_series(1, ${ROWS}) g`,
  `INSERT INTO public.stock SELECT g, g, 'shelf ' || g FROM generate_series(1, ${ROWS}) g WHERE g % 5 > 0`,
  `INSERT INTO public.tag SELECT 'Tag-' || g, g FROM generate_series(1, ${ROWS}) g`,
  `INSERT INTO public.log SELECT g % 100, 'line ' || (g % 50) FROM generate_series(1, ${ROWS}) g`,
];

export const LOOKS = 'recheck: { attempts: 8, delay: 100ms }';

export async function shop(options: Partial<RunOptions> = {}): Promise<Run> {
  const run = await Run.create({
    ...SHOP,
    settings: `copy: { workers: 2, chunk: { max_rows: 200 } }\nverify: { after_copy: "off", ${LOOKS} }\napply: { heartbeat: 200ms }`,
    ...options,
  });
  if (options.blue === undefined) for (const sql of FILL) await run.blue.query(sql);
  return run;
}

/** Changes of the rows past {@link STILL} by `clients` connections until it is told to stop; returns the number of transactions. */
export function churn(run: Run, clients: number): { stop: () => Promise<number> } {
  let stopped = false;
  let fresh = ROWS + 1;
  const some = (): number => randomInt(STILL + 1, ROWS + 1);
  const one = async (client: pg.Client): Promise<void> => {
    const [a, b] = [some(), some()].sort((x, y) => x - y) as [number, number];
    fresh += 1;
    const id = fresh;
    const acts: (readonly [string, ...unknown[]])[][] = [
      [['UPDATE public.account SET note = $2, amount = amount + 1 WHERE id = ANY ($1)', [a, b], `n${id}`]],
      [['UPDATE public.person SET full_name = $2, cents = cents + 1 WHERE id = $1', a, `Other${id} Name`]],
      [['UPDATE public.person SET email = CASE WHEN email IS NULL THEN $2 END WHERE id = $1', a, `e${id}@x`]],
      [
        [
          'UPDATE public.orders SET items = $2 WHERE id = $1',
          a,
          JSON.stringify(Array.from({ length: id % 4 }, (_, n) => ({ sku: `${id}-${n}` }))),
        ],
      ],
      [['UPDATE public.stock SET amount = amount + 1 WHERE product_id = $1', a]],
      [
        ['DELETE FROM public.stock WHERE product_id = $1', a],
        ['INSERT INTO public.stock VALUES ($1, $2, NULL) ON CONFLICT DO NOTHING', b, id],
      ],
      [
        ['DELETE FROM public.product WHERE id = $1', a],
        ['INSERT INTO public.product VALUES ($1, $2) ON CONFLICT DO NOTHING', a, `t${id}`],
      ],
      [
        ['INSERT INTO public.account VALUES ($1, $2, NULL, now(), 1.50, NULL, NULL)', id, `new ${id}`],
        ['DELETE FROM public.account WHERE id = $1', id - 20],
      ],
      [['UPDATE public.tag SET n = n + 1 WHERE name = $1', `Tag-${a}`]],
      [
        ['INSERT INTO public.tag VALUES ($1, 1)', `new-${id}`],
        ['DELETE FROM public.tag WHERE name = $1', `new-${id - 20}`],
      ],
      [['INSERT INTO public.log VALUES ($1, $2)', id % 100, `new ${id % 40}`]],
      [
        [
          'DELETE FROM public.log WHERE ctid IN (SELECT ctid FROM public.log WHERE what LIKE $1 LIMIT 2)',
          `new ${id % 40}`,
        ],
      ],
    ];
    await client.query('BEGIN');
    for (const [text, ...values] of acts[randomInt(acts.length)] ?? []) await client.query(text, values);
    await client.query('COMMIT');
  };
  const running = Promise.all(
    Array.from({ length: clients }, async () => {
      const client = await run.blue.connect();
      let done = 0;
      try {
        while (!stopped) {
          try {
            await one(client);
            done += 1;
          } catch (error) {
            // Two clients that wait for each other: the server ends one of the transactions.
            if ((error as { code?: string }).code !== '40P01') throw error;
            await client.query('ROLLBACK');
          }
        }
      } finally {
        await client.end();
      }
      return done;
    }),
  );
  running.catch(() => undefined);
  return {
    stop: async () => {
      stopped = true;
      return (await running).reduce((sum, done) => sum + done, 0);
    },
  };
}

/**
 * Changes green behind everybody's back: the guards take this session for the applier, and green's log takes the transaction for one
 * of our own.
 */
export async function breakGreen(run: Run, sql: readonly string[]): Promise<void> {
  const client = await run.green.connect();
  try {
    await client.query(`SET verdigris.applier = '${run.name}'`);
    for (const text of sql) {
      await client.query('BEGIN');
      await client.query(`SELECT pg_logical_emit_message(true, 'verdigris.apply', $1)`, [
        JSON.stringify([run.name, 'forward']),
      ]);
      await client.query(text);
      await client.query('COMMIT');
    }
  } finally {
    await client.end();
  }
}
