import { catchUp } from '../catch-up.ts';
import { row } from '../rig.ts';

const TABLES = 500;
const ROWS = 200;
const TRANSACTIONS = 180_000;

const name = (n: number): string => `public.part_${String(n).padStart(3, '0')}`;
const all = Array.from({ length: TABLES }, (_, n) => name(n));

export default catchUp({
  name: 'many-tables',
  what: `small transactions over ${TABLES} tables`,
  tables: all,
  ddl: all
    .map(
      (table) =>
        `CREATE TABLE ${table} (id integer PRIMARY KEY, n integer NOT NULL, note text NOT NULL, at timestamptz NOT NULL);`,
    )
    .join('\n'),
  async seed(blue) {
    for (const table of all) {
      await blue.query(
        `INSERT INTO ${table} SELECT g, 0, 'note ' || g, '2026-01-01Z' FROM generate_series(1, ${ROWS}) g`,
      );
    }
  },
  async backlog(blue, _rig, { scale }) {
    // In the server: half a million statements from here would take longer than everything that is measured.
    await blue.query(`
      CREATE OR REPLACE PROCEDURE public.churn(count integer) LANGUAGE plpgsql AS $$
      DECLARE t integer; r integer;
      BEGIN
        PERFORM setseed(0.5);
        FOR i IN 1 .. count LOOP
          FOR j IN 1 .. 3 LOOP
            t := floor(random() * ${TABLES});
            r := 1 + floor(random() * ${ROWS});
            EXECUTE format('UPDATE public.part_%s SET n = n + 1, note = $2, at = clock_timestamp() WHERE id = $1', lpad(t::text, 3, '0')) USING r, 'change ' || i;
          END LOOP;
          t := floor(random() * ${TABLES});
          EXECUTE format('INSERT INTO public.part_%s VALUES ($1, 0, $2, clock_timestamp())', lpad(t::text, 3, '0')) USING 1000 + i, 'row ' || i;
          COMMIT;
        END LOOP;
      END $$`);
    const count = Math.round(TRANSACTIONS * scale);
    await blue.query(`CALL public.churn(${count})`);
    const { keys } = await row<{ keys: string }>(
      blue,
      `SELECT sum(n)::text AS keys FROM (${all.map((table) => `SELECT count(*) AS n FROM ${table} WHERE n > 0`).join(' UNION ALL ')}) AS t`,
    );
    return { distinctKeys: Number(keys) + count, rowBytes: 60 };
  },
});
