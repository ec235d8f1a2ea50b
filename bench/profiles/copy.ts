import { Workplace, type EngineProcess } from '../../test/support/engine-process.ts';
import { waitFor } from '../../test/support/wait.ts';
import { compare, same } from '../compare.ts';
import type { BenchOptions, Contender, Prepared, Profile, Run } from '../profile.ts';
import { pgcopydb, runProgram } from '../programs.ts';
import { Rig, row } from '../rig.ts';
import { Sampler } from '../sampler.ts';

/** Tables copied at the same time: ours, the subscription's sync workers, pgcopydb's. */
const JOBS = 2;
const MOST_MS = 20 * 60_000;
const TABLES = ['public.account', 'public.event', 'public.item'];

const DDL = `
CREATE TABLE public.account (id bigint PRIMARY KEY, email text NOT NULL UNIQUE, name text NOT NULL, balance numeric(14,2) NOT NULL, at timestamptz NOT NULL);
CREATE TABLE public.event (id bigint PRIMARY KEY, account bigint NOT NULL, kind integer NOT NULL, body text NOT NULL, detail jsonb NOT NULL, at timestamptz NOT NULL);
CREATE INDEX ON public.event (account);
CREATE INDEX ON public.event (kind, at);
CREATE TABLE public.item (id integer PRIMARY KEY, n integer NOT NULL, note text NOT NULL);
CREATE INDEX ON public.item (n);
`;

const profile: Profile = {
  name: 'copy',
  what: 'the first copy of three tables with their indexes',
  async prepare({ scale, say, cpuProfile }: BenchOptions): Promise<Prepared> {
    // pgcopydb dumps the schema with Debian's pg_dump 15, which refuses newer servers.
    const rig = await Rig.start(
      { max_sync_workers_per_subscription: `${JOBS}`, max_logical_replication_workers: '8' },
      15,
    );
    try {
      const maintenance = await rig.connect('blue', 'postgres');
      await maintenance.query('CREATE DATABASE app');
      const blue = await rig.connect('blue', 'app');
      say('filling blue');
      await blue.query(DDL);
      const rows = (n: number): number => Math.round(n * scale);
      await blue.query(
        `INSERT INTO account SELECT g, 'user' || g || '@example.org', 'Name of ' || g, g / 7.0, '2026-01-01Z'::timestamptz + g * interval '1 s' FROM generate_series(1, ${rows(400_000)}) g`,
      );
      await blue.query(
        `INSERT INTO event SELECT g, hashint8(g) & 262143, g % 50, repeat(md5(g::text), 6), jsonb_build_object('n', g, 'text', 'some "quoted" text'), '2026-01-01Z'::timestamptz + g * interval '1 s' FROM generate_series(1, ${rows(800_000)}) g`,
      );
      await blue.query(
        `INSERT INTO item SELECT g, hashint4(g), 'note ' || g FROM generate_series(1, ${rows(1_000_000)}) g`,
      );
      await blue.query('VACUUM ANALYZE');
      await blue.query(`CREATE PUBLICATION bench_peer FOR TABLE ${TABLES.join(', ')}`);
      await blue.query('CHECKPOINT');
      const { bytes } = await row<{ bytes: string }>(
        blue,
        `SELECT sum(pg_table_size(t::regclass))::text AS bytes FROM unnest($1::text[]) t`,
        [TABLES],
      );
      const count = rows(400_000) + rows(800_000) + rows(1_000_000);
      const admin = await rig.connect('green', 'postgres');

      /** Fresh green; measures until `finished`; compares. */
      const measure = async (
        database: string,
        work: (track: (pid: number, name: string) => void) => Promise<void>,
      ): Promise<Run> => {
        const own: { pid: number; name: string }[] = [];
        const watch = await rig.connect('blue', 'postgres');
        const sampler = new Sampler(async () => {
          const sql = `SELECT pid FROM pg_stat_activity WHERE datname = $1 AND application_name <> 'bench' AND backend_type NOT LIKE 'autovacuum%'`;
          const [left, right] = await Promise.all([
            watch.query<{ pid: number }>(sql, ['app']),
            admin.query<{ pid: number }>(sql, [database]),
          ]);
          return [
            ...own,
            ...left.rows.map(({ pid }) => ({ pid, name: 'blue' })),
            ...right.rows.map(({ pid }) => ({ pid, name: 'green' })),
          ];
        });
        await admin.query('CHECKPOINT');
        await sampler.start();
        const began = performance.now();
        await work((pid, name) => own.push({ pid, name }));
        const seconds = (performance.now() - began) / 1000;
        const used = await sampler.stop();
        await watch.end();
        const green = await rig.connect('green', database);
        await compare(blue, green, TABLES.map(same));
        const { indexes } = await row<{ indexes: string }>(
          green,
          `SELECT count(*)::text AS indexes FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND indisvalid`,
        );
        await green.end();
        if (indexes !== '7') throw new Error(`${database} has ${indexes} indexes, not 7`);
        return { seconds, startSeconds: 0, ...used };
      };

      const fresh = async (database: string, ddl: string): Promise<void> => {
        await admin.query(`DROP DATABASE IF EXISTS ${database} WITH (FORCE)`);
        await admin.query(`CREATE DATABASE ${database}`);
        if (ddl === '') return;
        const green = await rig.connect('green', database);
        await green.query(ddl);
        await green.end();
      };

      const ours = async (): Promise<Run> => {
        await fresh('ours', '');
        await using place = await Workplace.create({
          'green.sql': DDL,
          'verdigris.yaml': `version: 1
migration: bench
blue: { engine: postgres, url: "${rig.url('blue', 'app')}" }
green: { engine: postgres, url: "${rig.url('green', 'ours')}", schema_file: ./green.sql }
verify: { after_copy: "off" }
copy: { workers: ${JOBS} }
tables:
${TABLES.map((table) => `  - { from: ${table}, to: [{ table: ${table} }] }`).join('\n')}
`,
        });
        let engine: EngineProcess | null = null;
        const run = await measure('ours', async (track) => {
          const started = place.start({
            args: ['--interval', '100ms', '--log-level', 'warn'],
            env: cpuProfile === null ? {} : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${cpuProfile}` },
          });
          engine = started;
          track(started.pid, 'engine');
          await Promise.race([
            started.until('it replicates', (status) => status.phase === 'replicating', MOST_MS),
            started.ended.then((code) => {
              throw new Error(`the engine ended with ${code}:\n${started.output().slice(-4000)}`);
            }),
          ]);
        });
        // Nothing changes meanwhile: all of it is digested on both sides.
        const { json } = await place.run('verify', '--mode', 'full');
        if (!json.ok) throw new Error(`the verification failed: ${JSON.stringify(json.error)}`);
        const verified = json.data as { readonly rows: number; readonly seconds: number };
        await (engine as EngineProcess | null)?.kill('SIGTERM');
        await blue.query(
          `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'verdigris%'`,
        );
        await blue.query('DROP PUBLICATION IF EXISTS verdigris_bench');
        await blue.query('DROP SCHEMA IF EXISTS verdigris CASCADE');
        return {
          ...run,
          more: {
            verifySeconds: verified.seconds,
            digestRowsPerSecond: verified.rows / verified.seconds,
            copyRowsPerSecond: count / run.seconds,
            verifyShareOfCopy: verified.seconds / run.seconds,
          },
        };
      };

      const subscription = async (): Promise<Run> => {
        await fresh('peer', DDL);
        const green = await rig.connect('green', 'peer');
        const run = await measure('peer', async () => {
          await green.query(
            `CREATE SUBSCRIPTION bench CONNECTION '${rig.conninfo('blue', 'app')}' PUBLICATION bench_peer`,
          );
          await waitFor(
            async () =>
              (await green.query(`SELECT FROM pg_subscription_rel WHERE srsubstate <> 'r'`)).rows.length ===
              0,
            { what: 'the initial sync', timeoutMs: MOST_MS, everyMs: 50 },
          );
        });
        await green.query('DROP SUBSCRIPTION bench');
        await green.end();
        return run;
      };

      const program = await pgcopydb().catch((error: unknown) => String(error));
      const peers: Contender[] = [{ name: 'subscription', run: subscription }];
      const notes = [
        'the clock runs from the command until all rows are there and every index is valid; ours includes starting the process',
      ];
      if (typeof program === 'string') notes.push(`pgcopydb is not there: ${program.split('\n')[0]}`);
      else {
        peers.push({
          name: 'pgcopydb',
          run: async () => {
            await fresh('pgcopydb', '');
            return measure('pgcopydb', async () => {
              await runProgram(program, [
                ...['clone', '--source', rig.url('blue', 'app'), '--target', rig.url('green', 'pgcopydb')],
                ...[
                  '--table-jobs',
                  `${JOBS}`,
                  '--index-jobs',
                  `${JOBS}`,
                  '--restart',
                  '--not-consistent',
                  '--skip-extensions',
                  '--no-owner',
                ],
              ]);
            });
          },
        });
      }
      return {
        facts: {
          changes: count,
          transactions: 1,
          bytes: Number(bytes),
          distinctKeys: count,
          rowBytes: Math.round(Number(bytes) / count),
        },
        verdigris: { name: 'verdigris', run: ours },
        peers,
        notes,
        [Symbol.asyncDispose]: () => rig[Symbol.asyncDispose](),
      };
    } catch (error) {
      await rig[Symbol.asyncDispose]();
      throw error;
    }
  },
};

export default profile;
