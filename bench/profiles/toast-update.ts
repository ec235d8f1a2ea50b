import { catchUp } from '../catch-up.ts';
import { pgbench, runProgram } from '../programs.ts';
import { row } from '../rig.ts';
import { script } from '../scripts.ts';
import { TEST_PASSWORD } from '../../test/support/postgres.ts';

const ROWS = 20_000;
const TRANSACTIONS = 800_000;
const CLIENTS = 6;

/** EXTERNAL: not compressed, so that the large value really lies outside of the row. */
const DDL = `
CREATE TABLE public.document (id integer PRIMARY KEY, views integer NOT NULL, state text NOT NULL, seen timestamptz NOT NULL, body text NOT NULL);
ALTER TABLE public.document ALTER body SET STORAGE EXTERNAL;
`;

const BODY = `(SELECT string_agg(md5((g + x)::text), '') FROM generate_series(1, 128) x)`;

export default catchUp({
  name: 'toast-update',
  what: 'updates that leave a value of 4 KB as it is; one of twenty changes it',
  tables: ['public.document'],
  ddl: DDL,
  async seed(blue) {
    await blue.query(
      `INSERT INTO public.document SELECT g, 0, 'new', '2026-01-01Z', ${BODY} FROM generate_series(1, ${ROWS}) g`,
    );
  },
  async backlog(blue, rig, { scale }) {
    const each = Math.ceil((TRANSACTIONS * scale) / CLIENTS);
    const small = await script(
      `\\set id random(1, ${ROWS})\nUPDATE public.document SET views = views + 1, state = 'state ' || (views % 5), seen = clock_timestamp() WHERE id = :id;`,
    );
    const large = await script(
      `\\set id random(1, ${ROWS})\nUPDATE public.document d SET views = views + 1, body = (SELECT string_agg(md5((d.views + x)::text), '') FROM generate_series(1, 128) x) WHERE id = :id;`,
    );
    const target = `postgres://postgres:${TEST_PASSWORD}@127.0.0.1:${rig.blue.port}/app`;
    const common = ['-n', '-c', `${CLIENTS}`, '-j', '2', '-t', `${each}`];
    await runProgram(await pgbench(), [...common, '-f', `${small}@19`, '-f', `${large}@1`, target]);
    const { keys } = await row<{ keys: string }>(
      blue,
      `SELECT count(*)::text AS keys FROM public.document WHERE views > 0`,
    );
    return { distinctKeys: Number(keys), rowBytes: 4200 };
  },
});
