import { catchUp } from '../catch-up.ts';

const ROWS = 2_000_000;

export default catchUp({
  name: 'huge-transaction',
  what: 'one transaction of 2 million rows: resident memory, and all of it at once on green',
  tables: ['public.item'],
  ddl: 'CREATE TABLE public.item (id integer PRIMARY KEY, n integer NOT NULL, note text NOT NULL);',
  async seed(blue) {
    await blue.query(`INSERT INTO public.item VALUES (0, 0, 'first')`);
  },
  async backlog(blue, _rig, { scale }) {
    const rows = Math.round(ROWS * scale);
    await blue.query(`INSERT INTO public.item SELECT g, g, 'note ' || g FROM generate_series(1, ${rows}) g`);
    return { distinctKeys: rows, rowBytes: 30 };
  },
});
