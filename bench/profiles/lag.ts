import { setTimeout as sleep } from 'node:timers/promises';
import { Workplace } from '../../test/support/engine-process.ts';
import { waitFor } from '../../test/support/wait.ts';
import { compare, same } from '../compare.ts';
import { diesOf, startOurs } from '../ours.ts';
import type { BenchOptions, Prepared, Profile, Run } from '../profile.ts';
import { Rig, row } from '../rig.ts';
import { Sampler } from '../sampler.ts';
import { lagsOf, quantile } from '../stats.ts';

const SECONDS = 15;
/** Rows of the trial that finds the peer's maximum. */
const TRIAL = 40_000;
/** What one writing session keeps up with; beyond it the schedule and not the replication would be measured. */
const MOST_PER_SECOND = 6_000;
const MOST_MS = 10 * 60_000;

const DDL = `CREATE TABLE public.tick (id integer PRIMARY KEY, n integer NOT NULL, note text NOT NULL);`;

/**
 * Row i is due at start + i / rate and carries nothing but its number: a row that is written late is late all the same. Written in the
 * server, so that no client's round trip stands between two rows.
 */
const WRITER = `
CREATE PROCEDURE public.write_ticks(start double precision, per_second double precision, count integer) LANGUAGE plpgsql AS $$
DECLARE due double precision; wait double precision;
BEGIN
  FOR i IN 1 .. count LOOP
    IF per_second > 0 THEN
      due := start + i / per_second;
      wait := due - extract(epoch FROM clock_timestamp());
      IF wait > 0.0005 THEN PERFORM pg_sleep(wait); END IF;
    END IF;
    INSERT INTO public.tick VALUES (i, i % 100, 'tick ' || i);
    COMMIT;
  END LOOP;
END $$`;

const profile: Profile = {
  name: 'lag',
  what: "single-row transactions at half of the peer's maximum: from when a row was due to when green shows it",
  by: 'p99',
  async prepare({ scale, say, cpuProfile }: BenchOptions): Promise<Prepared> {
    // Commits are not waited for: the server's default of 200 ms until they are flushed, and then sent, would hide everything else.
    const rig = await Rig.start({ wal_writer_delay: '10ms' });
    try {
      const maintenance = await rig.connect('blue', 'postgres');
      await maintenance.query('CREATE DATABASE app');
      const blue = await rig.connect('blue', 'app');
      const writer = await rig.connect('blue', 'app');
      await writer.query('SET synchronous_commit = off');
      await blue.query(`${DDL} ${WRITER}`);
      await blue.query('CREATE PUBLICATION bench_peer FOR TABLE public.tick');
      const admin = await rig.connect('green', 'postgres');
      for (const name of ['ours', 'peer']) await admin.query(`CREATE DATABASE ${name}`);
      const sides = { ours: await rig.connect('green', 'ours'), peer: await rig.connect('green', 'peer') };
      await sides.peer.query(DDL);

      const measured = async (
        side: 'ours' | 'peer',
        rate: number,
        count: number,
        pid: number | null,
      ): Promise<Run> => {
        const green = sides[side];
        await blue.query('TRUNCATE public.tick');
        const newest = async (): Promise<number> =>
          (await row<{ newest: number }>(green, 'SELECT coalesce(max(id), 0) AS newest FROM public.tick'))
            .newest;
        await waitFor(async () => (await newest()) === 0, { what: 'an empty table on green' });
        const sampler = new Sampler(async () => {
          const senders = await blue.query<{ pid: number }>('SELECT pid FROM pg_stat_replication');
          const appliers = await admin.query<{ pid: number }>(
            `SELECT pid FROM pg_stat_activity WHERE datname = $1 AND application_name <> 'bench' AND backend_type <> 'autovacuum worker'`,
            [side],
          );
          return [
            ...(pid === null ? [] : [{ pid, name: 'engine' }]),
            ...senders.rows.map((sender) => ({ pid: sender.pid, name: 'walsender' })),
            ...appliers.rows.map((applier) => ({ pid: applier.pid, name: 'apply' })),
          ];
        });
        await sampler.start();
        const start = Date.now() + 500;
        const due = Array.from({ length: count }, (_, i) => start + ((i + 1) * 1000) / rate);
        const writing = writer.query('CALL public.write_ticks($1, $2, $3)', [start / 1000, rate, count]);
        writing.catch(() => undefined);
        const looks: { newest: number; at: number }[] = [];
        const deadline = Date.now() + MOST_MS;
        for (let seen = 0; seen < count;) {
          seen = await newest();
          looks.push({ newest: seen, at: performance.timeOrigin + performance.now() });
          if (Date.now() > deadline) throw new Error(`${seen} of ${count} rows after ${MOST_MS} ms`);
          await sleep(2);
        }
        await writing;
        const used = await sampler.stop();
        await compare(blue, green, [same('public.tick')]);
        const lags = lagsOf(due, looks);
        return {
          seconds: ((looks.at(-1)?.at ?? start) - start) / 1000,
          startSeconds: 0,
          ...used,
          p50: quantile(lags, 0.5),
          p99: quantile(lags, 0.99),
          max: Math.max(...lags.slice(-100_000)),
        };
      };

      const subscribed = async <T>(work: () => Promise<T>): Promise<T> => {
        await sides.peer.query('TRUNCATE public.tick');
        await sides.peer.query(
          `CREATE SUBSCRIPTION bench CONNECTION '${rig.conninfo('blue', 'app')}' PUBLICATION bench_peer`,
        );
        await waitFor(
          async () =>
            (await sides.peer.query(`SELECT FROM pg_subscription_rel WHERE srsubstate = 'r'`)).rows.length ===
            1,
          { what: 'the initial sync' },
        );
        try {
          return await work();
        } finally {
          await sides.peer.query('DROP SUBSCRIPTION bench');
        }
      };

      say("finding the peer's maximum");
      const max = await subscribed(async () => {
        await blue.query('TRUNCATE public.tick');
        const began = performance.now();
        await writer.query('CALL public.write_ticks(0, 0, $1)', [Math.round(TRIAL * Math.min(1, scale))]);
        await waitFor(
          async () =>
            (await row<{ n: number }>(sides.peer, 'SELECT count(*)::int AS n FROM public.tick')).n ===
            Math.round(TRIAL * Math.min(1, scale)),
          { what: 'the trial on green', timeoutMs: MOST_MS, everyMs: 5 },
        );
        return (TRIAL * Math.min(1, scale) * 1000) / (performance.now() - began);
      });
      const rate = Math.min(MOST_PER_SECOND, Math.floor(max / 2));
      const count = Math.round(rate * SECONDS * Math.min(1, scale));
      say(`the peer takes ${Math.round(max)} rows a second; measured at ${rate}`);

      const ours = async (): Promise<Run> => {
        await admin.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1', [
          'ours',
        ]);
        await admin.query('DROP DATABASE ours');
        await admin.query('CREATE DATABASE ours');
        sides.ours = await rig.connect('green', 'ours');
        await blue.query('TRUNCATE public.tick');
        await using place = await Workplace.create({
          'green.sql': DDL,
          'verdigris.yaml': `version: 1
migration: bench
blue: { engine: postgres, url: "${rig.url('blue', 'app')}" }
green: { engine: postgres, url: "${rig.url('green', 'ours')}", schema_file: ./green.sql }
verify: { after_copy: "off" }
tables:
  - { from: public.tick, to: [{ table: public.tick }] }
`,
        });
        const engine = await startOurs(place, cpuProfile);
        const died = diesOf(engine);
        await Promise.race([
          engine.until('it replicates', (status) => status.phase === 'replicating', MOST_MS),
          died,
        ]);
        const run = await Promise.race([measured('ours', rate, count, engine.pid), died]);
        died.catch(() => undefined);
        await engine.kill('SIGTERM');
        await blue.query(
          `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'verdigris%'`,
        );
        await blue.query('DROP PUBLICATION IF EXISTS verdigris_bench');
        await blue.query('DROP SCHEMA IF EXISTS verdigris CASCADE');
        return run;
      };

      return {
        facts: { changes: count, transactions: count, bytes: count * 100, distinctKeys: count, rowBytes: 30 },
        verdigris: { name: 'verdigris', run: ours },
        peers: [{ name: 'subscription', run: () => subscribed(() => measured('peer', rate, count, null)) }],
        notes: [
          `${rate} rows a second; lag counts from when a row was due (no coordinated omission); the ratio is of the 99th percentiles`,
        ],
        [Symbol.asyncDispose]: () => rig[Symbol.asyncDispose](),
      };
    } catch (error) {
      await rig[Symbol.asyncDispose]();
      throw error;
    }
  },
};

export default profile;
