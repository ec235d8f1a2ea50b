import { setTimeout as sleep } from 'node:timers/promises';
import { pipeline } from 'node:stream/promises';
import type pg from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import { IS_READ } from '../src/engines/postgres/source-names.ts';
import { Workplace, type EngineProcess } from '../test/support/engine-process.ts';
import { waitFor } from '../test/support/wait.ts';
import { compare, same, type Pair } from './compare.ts';
import { diesOf, endOurs, startOurs } from './ours.ts';
import type { BenchOptions, Contender, Facts, Prepared, Profile, Run } from './profile.ts';
import { cloneDatabase, Rig, row } from './rig.ts';
import { Sampler } from './sampler.ts';

/** A backlog and who has to catch up with it. */
export interface CatchUpSpec {
  readonly name: string;
  readonly what: string;
  /** Tables of blue that take part, qualified; the marker of the end comes by itself. */
  readonly tables: readonly string[];
  /** Makes and fills the tables of blue. */
  seed(blue: pg.Client, rig: Rig, options: BenchOptions): Promise<void>;
  /** Writes the backlog. */
  backlog(
    blue: pg.Client,
    rig: Rig,
    options: BenchOptions,
  ): Promise<Pick<Facts, 'distinctKeys' | 'rowBytes'>>;
  /** DDL of blue's tables, for the peer's green and, unless it is mapped, for ours. */
  readonly ddl: string;
  /** When rows are reshaped: green's DDL, the tables section of the configuration, and what has to be there. */
  readonly mapped?: { readonly ddl: string; readonly yaml: string; readonly pairs: readonly Pair[] };
  /** More of our configuration. */
  readonly yaml?: string;
}

const END = 'public.bench_end';
const END_DDL = `CREATE TABLE ${END} (id integer PRIMARY KEY);`;
const OURS_SLOT = 'verdigris_bench';
const PEER_SLOT = 'bench_peer';
const BLUE = 'app';
const MOST_MS = 20 * 60_000;

/** The same backlog for ours and for a subscription of the server, again and again: slots and databases are copied. */
export const catchUp = (spec: CatchUpSpec): Profile => ({
  name: spec.name,
  what: spec.what,
  prepare: (options) => CatchUp.prepare(spec, options),
});

class CatchUp implements Prepared {
  readonly facts: Facts;
  readonly verdigris: Contender;
  readonly peers: readonly Contender[];
  readonly notes: readonly string[];
  readonly #spec: CatchUpSpec;
  readonly #options: BenchOptions;
  readonly #rig: Rig;
  readonly #place: Workplace;
  readonly #blue: pg.Client;
  readonly #admin: pg.Client;

  private constructor(
    spec: CatchUpSpec,
    options: BenchOptions,
    parts: { rig: Rig; place: Workplace; blue: pg.Client; admin: pg.Client; facts: Facts },
  ) {
    this.#spec = spec;
    this.#options = options;
    this.#rig = parts.rig;
    this.#place = parts.place;
    this.#blue = parts.blue;
    this.#admin = parts.admin;
    this.facts = parts.facts;
    this.verdigris = { name: 'verdigris', run: () => this.#ours() };
    this.peers = [{ name: 'subscription', run: () => this.#peer() }];
    this.notes = [
      'both sides commit asynchronously on a server with fsync on; the clock runs from the moment the slot is in use until the last row is visible on green',
    ];
  }

  static async prepare(spec: CatchUpSpec, options: BenchOptions): Promise<CatchUp> {
    const { say } = options;
    const rig = await Rig.start();
    let place: Workplace | null = null;
    try {
      const maintenance = await rig.connect('blue', 'postgres');
      await maintenance.query(`CREATE DATABASE ${BLUE}`);
      const blue = await rig.connect('blue', BLUE);
      say('filling blue');
      await blue.query(`${spec.ddl}; ${END_DDL}`);
      await spec.seed(blue, rig, options);
      const tables = [...spec.tables, END];
      await blue.query(`CREATE PUBLICATION ${PEER_SLOT} FOR TABLE ${tables.join(', ')}`);
      const admin = await rig.connect('green', 'postgres');

      say('first copy of ours');
      await admin.query('CREATE DATABASE ours');
      place = await Workplace.create({
        'green.sql': `${spec.mapped?.ddl ?? spec.ddl}; ${END_DDL}`,
        'verdigris.yaml': configuration(spec, rig),
      });
      const engine = place.start({ args: ['--interval', '1s'] });
      await Promise.race([
        engine.until('it replicates', (status) => status.phase === 'replicating', MOST_MS),
        diesOf(engine),
      ]);
      await engine.kill('SIGTERM');
      await cloneDatabase(admin, 'ours_base', 'ours');
      await slotCopy(blue, OURS_SLOT, 'ours_base');

      say('first copy of the peer');
      await admin.query('CREATE DATABASE peer_base');
      const green = await rig.connect('green', 'peer_base');
      await green.query(`${spec.ddl}; ${END_DDL}`);
      for (const table of spec.tables) {
        await pipeline(
          blue.query(copyTo(`COPY ${table} TO STDOUT`)),
          green.query(copyFrom(`COPY ${table} FROM STDIN`)),
        );
      }
      await green.query('VACUUM ANALYZE');
      await green.end();
      await blue.query(`SELECT pg_create_logical_replication_slot('peer_base', 'pgoutput')`);

      say('writing the backlog');
      await blue.query('SELECT pg_stat_reset()');
      const start = await row<{ lsn: string; xid: string }>(
        blue,
        `SELECT pg_current_wal_lsn()::text AS lsn, pg_snapshot_xmax(pg_current_snapshot())::text AS xid`,
      );
      const keys = await spec.backlog(blue, rig, options);
      const transactions = await row<{ n: string }>(
        blue,
        `SELECT (pg_snapshot_xmax(pg_current_snapshot())::text::bigint - $1::bigint)::text AS n`,
        [start.xid],
      );
      await blue.query(`INSERT INTO ${END} VALUES (1)`);
      const { bytes } = await row<{ bytes: string }>(
        blue,
        `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), $1::pg_lsn)::bigint::text AS bytes`,
        [start.lsn],
      );
      // Backends report their counters when they end or after a while.
      await sleep(1_500);
      const { changes } = await row<{ changes: string }>(
        blue,
        `SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::text AS changes FROM pg_stat_user_tables
         WHERE schemaname || '.' || relname = ANY ($1)`,
        [spec.tables],
      );
      await blue.query('CHECKPOINT');
      const facts = {
        ...keys,
        changes: Number(changes),
        transactions: Number(transactions.n),
        bytes: Number(bytes),
      };
      return new CatchUp(spec, options, { rig, place, blue, admin, facts });
    } catch (error) {
      await place?.[Symbol.asyncDispose]();
      await rig[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #ours(): Promise<Run> {
    const { cpuProfile } = this.#options;
    await cloneDatabase(this.#admin, 'ours', 'ours_base');
    await dropSlot(this.#blue, OURS_SLOT);
    await slotCopy(this.#blue, 'ours_base', OURS_SLOT);
    await this.#admin.query('CHECKPOINT');
    let pid: number | null = null;
    const started = Promise.withResolvers<EngineProcess>();
    const run = await Promise.race([
      this.#measure(
        'ours',
        OURS_SLOT,
        () => pid,
        async () => {
          const engine = await startOurs(this.#place, cpuProfile);
          pid = engine.pid;
          started.resolve(engine);
        },
      ),
      started.promise.then(diesOf),
    ]);
    await endOurs(await started.promise);
    await this.#compared('ours', this.#spec.mapped?.pairs);
    return run;
  }

  async #peer(): Promise<Run> {
    await cloneDatabase(this.#admin, 'peer', 'peer_base');
    await slotCopy(this.#blue, 'peer_base', PEER_SLOT);
    const green = await this.#rig.connect('green', 'peer');
    await green.query(
      `CREATE SUBSCRIPTION bench CONNECTION '${this.#rig.conninfo('blue', BLUE)}' PUBLICATION ${PEER_SLOT}
       WITH (create_slot = false, slot_name = ${PEER_SLOT}, copy_data = false, enabled = false)`,
    );
    await this.#admin.query('CHECKPOINT');
    const run = await this.#measure(
      'peer',
      PEER_SLOT,
      () => null,
      async () => {
        await green.query('ALTER SUBSCRIPTION bench ENABLE');
      },
    );
    await green.query('ALTER SUBSCRIPTION bench DISABLE');
    await green.query('ALTER SUBSCRIPTION bench SET (slot_name = NONE)');
    await green.query('DROP SUBSCRIPTION bench');
    await green.end();
    await dropSlot(this.#blue, PEER_SLOT);
    await this.#compared('peer');
    return run;
  }

  async #measure(
    database: string,
    slot: string,
    engine: () => number | null,
    start: () => Promise<void>,
  ): Promise<Run> {
    const green = await this.#rig.connect('green', database);
    const watch = await this.#rig.connect('blue', BLUE);
    const find = async (): Promise<{ pid: number; name: string }[]> => {
      const [senders, appliers] = await Promise.all([
        watch.query<{ pid: number; name: string }>(
          `SELECT active_pid AS pid, CASE WHEN temporary THEN 'backlog' ELSE 'walsender' END AS name
           FROM pg_replication_slots WHERE active_pid IS NOT NULL`,
        ),
        this.#admin.query<{ pid: number }>(
          `SELECT pid FROM pg_stat_activity WHERE datname = $1 AND application_name <> 'bench' AND backend_type <> 'autovacuum worker'`,
          [database],
        ),
      ]);
      const own = engine();
      return [
        ...(own === null ? [] : [{ pid: own, name: 'engine' }]),
        ...senders.rows,
        ...appliers.rows.map(({ pid }) => ({ pid, name: 'apply' })),
      ];
    };
    const sampler = new Sampler(find);
    await sampler.start();
    const commanded = performance.now();
    await start();
    const timeoutMs = MOST_MS;
    await waitFor(
      async () =>
        (await watch.query(`SELECT FROM pg_replication_slots WHERE ${IS_READ}`, [slot])).rows.length > 0,
      { what: `slot ${slot} in use`, timeoutMs, everyMs: 3 },
    );
    const began = performance.now();
    await sampler.begin();
    await waitFor(async () => (await green.query(`SELECT FROM ${END}`)).rows.length > 0, {
      what: `the end of the backlog on green`,
      timeoutMs,
      everyMs: 10,
    });
    const seconds = (performance.now() - began) / 1000;
    const used = await sampler.stop();
    await green.end();
    await watch.end();
    return { seconds, startSeconds: (began - commanded) / 1000, ...used };
  }

  async #compared(database: string, pairs: readonly Pair[] = this.#spec.tables.map(same)): Promise<void> {
    const green = await this.#rig.connect('green', database);
    try {
      await compare(this.#blue, green, pairs);
    } finally {
      await green.end();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#place[Symbol.asyncDispose]();
    await this.#rig[Symbol.asyncDispose]();
  }
}

function configuration(spec: CatchUpSpec, rig: Rig): string {
  const plain = [...(spec.mapped === undefined ? spec.tables : []), END]
    .map((table) => `  - { from: ${table}, to: [{ table: ${table} }] }`)
    .join('\n');
  return `version: 1
migration: bench
blue: { engine: postgres, url: "${rig.url('blue', BLUE)}", replication: { slot: ${OURS_SLOT} } }
green: { engine: postgres, url: "${rig.url('green', 'ours')}", schema_file: ./green.sql }
verify: { after_copy: "off" }
${spec.yaml ?? ''}
tables:
${spec.mapped?.yaml ?? ''}
${plain}
`;
}

const slotCopy = (client: pg.Client, from: string, to: string): Promise<unknown> =>
  client.query('SELECT pg_copy_logical_replication_slot($1, $2)', [from, to]);

async function dropSlot(client: pg.Client, slot: string): Promise<void> {
  await waitFor(
    async () => {
      const { rows } = await client.query<{ active: boolean }>(
        'SELECT active FROM pg_replication_slots WHERE slot_name = $1',
        [slot],
      );
      return rows[0]?.active !== true;
    },
    { what: `slot ${slot} to be free` },
  );
  await client.query(
    'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1',
    [slot],
  );
}
