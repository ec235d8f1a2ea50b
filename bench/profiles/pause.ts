import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { Workplace } from '../../test/support/engine-process.ts';
import { databasesSection, startPgBouncer, type PgBouncer } from '../../test/support/pgbouncer.ts';
import type { BenchOptions, Prepared, Profile, Run } from '../profile.ts';
import { cloneDatabase, Rig, row } from '../rig.ts';
import { median, quantile, round } from '../stats.ts';

const CLIENTS = 16;
const TABLES = 8;
const ROWS = 5_000;
/** Between two writes of one client. */
const EVERY_MS = 60;
/** Under load before and after the switch. */
const AROUND_MS = 1_000;
const MOST_MS = 3 * 60_000;
const SHOP = 'shop';

const names = Array.from({ length: TABLES }, (_, n) => `public.note_${n}`);
const DDL = names
  .map(
    (table) =>
      `CREATE TABLE ${table} (client integer NOT NULL, n integer NOT NULL, text text NOT NULL, PRIMARY KEY (client, n));`,
  )
  .join('\n');

const profile: Profile = {
  name: 'pause',
  what: `the longest time ${CLIENTS} writing clients wait for an answer around a switch, beside PAUSE, RELOAD and RESUME of PgBouncer alone`,
  by: 'p99',
  async prepare({ scale, say }: BenchOptions): Promise<Prepared> {
    const rig = await Rig.start();
    try {
      const admins = {
        blue: await rig.connect('blue', 'postgres'),
        green: await rig.connect('green', 'postgres'),
      };
      for (const [side, admin] of Object.entries(admins)) {
        await admin.query('CREATE DATABASE base');
        const base = await rig.connect(side as 'blue', 'base');
        await base.query(DDL);
        if (side === 'blue') {
          say('filling blue');
          for (const table of names) {
            await base.query(
              `INSERT INTO ${table} SELECT -1, g, 'note ' || g FROM generate_series(1, ${Math.round(ROWS * scale)}) g`,
            );
          }
        }
        await base.end();
      }

      /** New databases behind a new proxy; clients write before, during and after `turn`. */
      const measured = async (turn: (stage: Stage) => Promise<void>, carried: boolean): Promise<Run> => {
        for (const admin of Object.values(admins)) await cloneDatabase(admin, SHOP, 'base');
        const at = (side: 'blue' | 'green') => ({ host: '127.0.0.1', port: rig[side].port, dbname: SHOP });
        await using bouncer = await startPgBouncer({ databases: { [SHOP]: at('blue') } });
        await using clients = new Clients(bouncer.url(SHOP));
        await clients.connect();
        let seconds = 0;
        await turn({
          rig,
          bouncer,
          blue: at('blue'),
          green: at('green'),
          switched: async (work) => {
            await sleep(AROUND_MS);
            const began = performance.now();
            clients.watch();
            await work();
            seconds = (performance.now() - began) / 1000;
            await sleep(AROUND_MS);
            await clients.stop();
          },
        });
        await checkLedger(rig, clients, carried);
        const waits = clients.longest;
        return {
          seconds,
          startSeconds: 0,
          cpu: {},
          peakMb: {},
          p50: quantile(waits, 0.5),
          p99: quantile(waits, 0.99),
          max: Math.max(...waits),
        };
      };

      const waits = { ours: [] as number[], bare: [] as number[] };
      const kept = async (series: number[], run: Promise<Run>): Promise<Run> => {
        const done = await run;
        series.push(done.p99 as number);
        return done;
      };
      const rows = TABLES * Math.round(ROWS * scale);
      return {
        facts: { changes: rows, transactions: 1, bytes: rows * 30, distinctKeys: rows, rowBytes: 30 },
        verdigris: { name: 'verdigris', run: () => kept(waits.ours, measured(ours, true)) },
        peers: [{ name: 'PgBouncer alone', run: () => kept(waits.bare, measured(bare, false)) }],
        get notes() {
          const difference = round(median(waits.ours) - median(waits.bare), 1);
          return [
            `${CLIENTS} clients, each a row every ${EVERY_MS} ms through PgBouncer in transaction mode; a figure is the longest wait of each client from the command until ${AROUND_MS} ms after it`,
            `p99 at the client: ${difference} ms more than PgBouncer alone (medians of the runs)`,
            'PgBouncer alone fences nothing, drains nothing and carries no row over; seconds are those of the whole command',
          ];
        },
        [Symbol.asyncDispose]: () => rig[Symbol.asyncDispose](),
      };
    } catch (error) {
      await rig[Symbol.asyncDispose]();
      throw error;
    }
  },
};

export default profile;

interface Stage {
  readonly rig: Rig;
  readonly bouncer: PgBouncer;
  readonly blue: { readonly host: string; readonly port: number; readonly dbname: string };
  readonly green: { readonly host: string; readonly port: number; readonly dbname: string };
  /** Runs the switch itself under the eyes of the clients. */
  readonly switched: (work: () => Promise<void>) => Promise<void>;
}

async function bare({ bouncer, green, switched }: Stage): Promise<void> {
  const admin = new pg.Client(bouncer.adminUrl);
  await admin.connect();
  try {
    await switched(async () => {
      await admin.query(`PAUSE ${SHOP}`);
      await writeFile(bouncer.databasesIniPath, databasesSection({ [SHOP]: green }));
      await admin.query('RELOAD');
      await admin.query(`RESUME ${SHOP}`);
    });
  } finally {
    await admin.end();
  }
}

async function ours({ rig, bouncer, blue, green, switched }: Stage): Promise<void> {
  await using place = await Workplace.create({
    'verdigris.yaml': `version: 1
migration: bench
blue: { engine: postgres, url: "${rig.url('blue', SHOP)}" }
green: { engine: postgres, url: "${rig.url('green', SHOP)}" }
gates: { stable_for: 500ms, max_round_trip: 5s, max_commit_lag: 5s }
cutover:
  max_write_pause: 60s
  proxies:
    - adapter: pgbouncer
      admin_url: ${bouncer.adminUrl}
      client_url: ${bouncer.url(SHOP)}
      ini: ${bouncer.databasesIniPath}
      databases: [${SHOP}]
      blue: ${JSON.stringify(blue)}
      green: ${JSON.stringify(green)}
tables:
${names.map((table) => `  - { from: ${table}, to: [{ table: ${table} }] }`).join('\n')}
`,
  });
  const engine = place.start({ args: ['--interval', '250ms', '--log-level', 'warn'] });
  try {
    await engine
      .until(
        'every gate to be open',
        ({ phase, gates }) => phase === 'replicating' && gates.length > 0 && gates.every(({ ok }) => ok),
        MOST_MS,
      )
      .catch((cause: unknown) => {
        const shut = engine.status?.gates
          .filter(({ ok }) => !ok)
          .map(({ name, reason }) => `${name}: ${reason}`);
        throw new Error(`phase ${engine.status?.phase}, shut: ${shut?.join('; ')}`, { cause });
      });
    const plan = join(place.dir, 'plan.json');
    await place.run('plan', '--out', plan);
    await switched(async () => {
      const { json } = await place.run('cutover', '--confirm', 'bench', '--plan', plan);
      if (!json.ok)
        throw new Error(`not switched: ${JSON.stringify(json.error ?? json.data).slice(0, 2000)}`);
    });
  } finally {
    await engine.kill('SIGTERM');
    // A database with a slot cannot be dropped.
    for (const side of ['blue', 'green'] as const) {
      const admin = await rig.connect(side, SHOP);
      await admin.query(
        `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'verdigris%' AND NOT active`,
      );
      await admin.end();
    }
  }
}

/**
 * No client saw an error, so each write was acknowledged, and its key says that it is there once: counts are enough. `carried`: what was
 * written to blue is on green too; else each row is where it was sent to.
 */
async function checkLedger(rig: Rig, clients: Clients, carried: boolean): Promise<void> {
  if (clients.failures.length > 0)
    throw new Error(`clients failed: ${clients.failures.slice(0, 3).join('; ')}`);
  const count = async (side: 'blue' | 'green'): Promise<number> => {
    const client = await rig.connect(side, SHOP);
    const each = names.map((table) => `(SELECT count(*) FROM ${table} WHERE client >= 0)`);
    const { n } = await row<{ n: string }>(client, `SELECT ${each.join(' + ')} AS n`);
    await client.end();
    return Number(n);
  };
  const [blue, green] = await Promise.all([count('blue'), count('green')]);
  if ((carried ? green : blue + green) !== clients.acknowledged) {
    throw new Error(`${clients.acknowledged} writes acknowledged, ${blue} on blue, ${green} on green`);
  }
}

/** Writers that never stop for one another, and how long each had to wait. */
class Clients implements AsyncDisposable {
  readonly failures: string[] = [];
  acknowledged = 0;
  /** Longest wait of each client since {@link watch}, ms. */
  longest: number[] = new Array<number>(CLIENTS).fill(0);
  readonly #url: string;
  readonly #clients: pg.Client[] = [];
  #watching = false;
  #on = true;
  #running: Promise<void> = Promise.resolve();

  constructor(url: string) {
    this.#url = url;
  }

  async connect(): Promise<void> {
    for (let i = 0; i < CLIENTS; i++) {
      const client = new pg.Client(this.#url);
      client.on('error', () => undefined);
      await client.connect();
      this.#clients.push(client);
    }
    this.#running = Promise.all(this.#clients.map((client, number) => this.#write(client, number))).then(
      () => undefined,
    );
  }

  watch(): void {
    this.#watching = true;
  }

  async stop(): Promise<void> {
    this.#on = false;
    await this.#running;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await Promise.all(this.#clients.map((client) => client.end().catch(() => undefined)));
  }

  async #write(client: pg.Client, number: number): Promise<void> {
    const table = names[number % TABLES] as string;
    let n = 0;
    while (this.#on) {
      const sent = performance.now();
      try {
        await client.query({
          name: table,
          text: `INSERT INTO ${table} (client, n, text) VALUES ($1, $2, 'x')`,
          values: [number, n++],
        });
        this.acknowledged += 1;
      } catch (error) {
        this.failures.push(String(error));
      }
      const waited = performance.now() - sent;
      // A request that was on its way when the switch began counts.
      if (this.#watching) this.longest[number] = Math.max(this.longest[number] as number, waited);
      await sleep(Math.max(0, EVERY_MS - waited));
    }
  }
}
