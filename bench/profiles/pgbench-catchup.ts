import { catchUp } from '../catch-up.ts';
import { pgbench, runProgram } from '../programs.ts';
import { row } from '../rig.ts';
import { TEST_PASSWORD } from '../../test/support/postgres.ts';

const TRANSACTIONS = 500_000;
const CLIENTS = 8;

/** What `pgbench -i` makes, with its keys. Without a key a table says FULL, or it could not be updated once it is published. */
const DDL = `
CREATE TABLE public.pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
ALTER TABLE public.pgbench_history REPLICA IDENTITY FULL;
CREATE TABLE public.pgbench_tellers (tid int NOT NULL PRIMARY KEY, bid int, tbalance int, filler char(84)) WITH (fillfactor=100);
CREATE TABLE public.pgbench_accounts (aid int NOT NULL PRIMARY KEY, bid int, abalance int, filler char(84)) WITH (fillfactor=100);
CREATE TABLE public.pgbench_branches (bid int NOT NULL PRIMARY KEY, bbalance int, filler char(88)) WITH (fillfactor=100);
`;

export default catchUp({
  name: 'pgbench-catchup',
  what: 'a backlog of TPC-B transactions made by the real pgbench',
  tables: [
    'public.pgbench_accounts',
    'public.pgbench_tellers',
    'public.pgbench_branches',
    'public.pgbench_history',
  ],
  ddl: DDL,
  async seed(_blue, rig) {
    await runProgram(await pgbench(), ['-i', '-I', 'G', '-s', '10', ...target(rig.blue.port)]);
  },
  async backlog(blue, rig, { scale }) {
    const each = Math.ceil((TRANSACTIONS * scale) / CLIENTS);
    await runProgram(await pgbench(), [
      '-n',
      '-c',
      `${CLIENTS}`,
      '-j',
      '2',
      '-t',
      `${each}`,
      ...target(rig.blue.port),
    ]);
    const { keys } = await row<{ keys: string }>(
      blue,
      `SELECT (count(DISTINCT aid) + count(DISTINCT tid) + count(DISTINCT bid) + count(*))::text AS keys FROM pgbench_history`,
    );
    return { distinctKeys: Number(keys), rowBytes: 110 };
  },
});

const target = (port: number): string[] => [`postgres://postgres:${TEST_PASSWORD}@127.0.0.1:${port}/app`];
