import { catchUp } from '../catch-up.ts';

/** Rows of one transaction and transactions of the backlog. */
const ROWS = 10_000;
const TRANSACTIONS = 90;

const DDL = `
CREATE TABLE public.event (
  id bigint PRIMARY KEY, account integer NOT NULL, kind text NOT NULL, title text NOT NULL, body text NOT NULL, amount numeric(14,4) NOT NULL,
  ratio double precision, flag boolean NOT NULL, at timestamptz NOT NULL, day date NOT NULL, tag uuid NOT NULL, detail jsonb NOT NULL);
CREATE INDEX ON public.event (account);
`;

const columns = (salt: string): string =>
  `(hashint8(g + ${salt}) & 65535), 'kind ' || (g % 7), 'title of ' || g, repeat(md5((g + ${salt})::text), 18), (g % 100000) / 7.0, g / 3.0, g % 2 = 0,
   '2026-01-01Z'::timestamptz + g * interval '1 s', '2026-01-01'::date + (g % 365)::int, md5((g + ${salt})::text)::uuid,
   jsonb_build_object('n', g, 'text', 'a "quoted" value', 'list', jsonb_build_array(g, g + 1))`;

export default catchUp({
  name: 'bulk-catchup',
  what: 'few large transactions over wide rows: inserts, updates and deletes',
  tables: ['public.event'],
  ddl: DDL,
  async seed(blue) {
    await blue.query(`INSERT INTO public.event SELECT g, ${columns('0')} FROM generate_series(1, 100000) g`);
  },
  async backlog(blue, _rig, { scale }) {
    const count = Math.max(3, Math.round(TRANSACTIONS * scale));
    let next = 100_000;
    for (let i = 0; i < count; i++) {
      // Of three transactions one inserts, one updates older rows, one inserts and deletes.
      const insert = (rows: number): Promise<unknown> => {
        const from = next + 1;
        next += rows;
        return blue.query(
          `INSERT INTO public.event SELECT g, ${columns('0')} FROM generate_series(${from}, ${next}) g`,
        );
      };
      await blue.query('BEGIN');
      if (i % 3 === 0) await insert(ROWS);
      else if (i % 3 === 1) {
        await blue.query(
          `UPDATE public.event e SET (account, kind, title, body, amount, ratio, flag, at, day, tag, detail) = (SELECT ${columns(String(i))})
           FROM generate_series(${(i * ROWS) % 90_000}, ${((i * ROWS) % 90_000) + ROWS - 1}) g WHERE e.id = g`,
        );
      } else {
        await insert(ROWS / 2);
        await blue.query(
          `DELETE FROM public.event WHERE id IN (SELECT id FROM public.event WHERE id > 100000 ORDER BY id LIMIT ${ROWS / 2})`,
        );
      }
      await blue.query('COMMIT');
    }
    return { distinctKeys: next - 100_000 + Math.round(Math.min(90_000, (count * ROWS) / 3)), rowBytes: 900 };
  },
});
