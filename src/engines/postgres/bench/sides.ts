import type pg from 'pg';
import type {
  BenchFacts,
  BenchLoad,
  BenchOptions,
  BenchPeer,
  BenchSides,
  BenchTable,
  BenchWho,
} from '../../../core/bench.ts';
import { VerdigrisError } from '../../../core/errors.ts';
import type { Side } from '../../../core/engine.ts';
import { refuseListeners } from '../canary.ts';
import type { PostgresConfig } from '../config.ts';
import { connect } from '../connect.ts';
import { translate } from '../errors.ts';
import { IS_READ } from '../source-names.ts';
import { ident, literal } from '../sql.ts';
import { clear, schemasOf } from './clear.ts';
import { digestOf, factsOf, shapeOf, tablesOf } from './load.ts';
import { MADE_BY, namesOf, SCHEMAS } from './names.ts';
import { subscribe } from './peer.ts';
import { MOST_MS, until } from './until.ts';

/** A reader that does not begin within this time will not. */
const BEGIN_MS = 60_000;

type Configs = Readonly<Record<Side, PostgresConfig>>;
type Clients = Readonly<Record<Side, pg.Client>>;

const whereOf = (side: Side) => (side === 'blue' ? 'source' : 'sink');

/** @throws see {@link import('../../../core/bench.ts').Bench.open} */
export async function openSides(options: BenchOptions): Promise<BenchSides> {
  const configs = { blue: options.blue, green: options.green } as Configs;
  await using stack = new AsyncDisposableStack();
  const open = async (side: Side): Promise<pg.Client> => {
    try {
      const client = await connect(configs[side], { applicationName: `verdigris-bench:${side}` });
      stack.defer(() => client.end().catch(() => undefined));
      await refuse(client, side, namesOf(configs[side]).slots);
      return client;
    } catch (error) {
      throw translate(error, whereOf(side));
    }
  };
  const clients = { blue: await open('blue'), green: await open('green') };
  const pids = { blue: await pidOf(clients.blue), green: await pidOf(clients.green) };
  const cancel = (): void => {
    for (const side of ['blue', 'green'] as const) {
      // What cannot be cancelled is waited for by whoever clears up.
      void cancelStatement(configs[side], pids[side]).catch((error: unknown) =>
        options.log.debug({ error: translate(error, whereOf(side)) }, 'cancelling failed'),
      );
    }
  };
  options.signal.addEventListener('abort', cancel, { once: true });
  stack.defer(() => options.signal.removeEventListener('abort', cancel));
  const versions = { blue: await versionOf(clients.blue), green: await versionOf(clients.green) };
  return new PostgresBenchSides(configs, clients, versions, stack.move());
}

/** Keeps others of our kind away and refuses where we would disturb somebody. Before anything is changed. */
async function refuse(client: pg.Client, side: Side, ours: readonly string[]): Promise<void> {
  const lock = await client.query<{ got: 't' | 'f' }>(
    `SELECT pg_try_advisory_lock(hashtextextended('verdigris bench', 0)) AS got`,
  );
  if (lock.rows[0]?.got !== 't') {
    throw new VerdigrisError(
      'STATE_LEASE_HELD',
      `Another bench uses ${side}, or blue and green are one database.`,
      {
        remedy: 'Wait for it to end.',
      },
    );
  }
  const read = await client.query<{ slot: string }>(
    `SELECT slot_name::text AS slot FROM pg_replication_slots
     WHERE database = current_database() AND active AND slot_name ~ '^verdigris_' AND slot_name <> ALL ($1) LIMIT 1`,
    [ours],
  );
  const [slot] = read.rows;
  if (slot !== undefined) {
    throw new VerdigrisError(
      'STATE_LEASE_HELD',
      `A migration runs on ${side}: its replication slot ${slot.slot} is being read.`,
      { remedy: 'Run the bench before it, or on other databases.', context: { slot: slot.slot } },
    );
  }
  const foreign = (await schemasOf(client)).find((schema) => schema.ours === 'f');
  if (foreign !== undefined) {
    throw new VerdigrisError(
      'PREFLIGHT_FAILED',
      `Schema ${foreign.name} of ${side} was not made by a bench, which needs that name.`,
      { remedy: 'Rename or drop it, when it is yours to drop.', context: { schema: foreign.name } },
    );
  }
  await refuseListeners(client);
}

const one = async (client: pg.Client, sql: string): Promise<string> =>
  (await client.query<{ value: string }>(`SELECT (${sql})::text AS value`)).rows[0]?.value ?? '';
const pidOf = (client: pg.Client): Promise<string> => one(client, 'pg_backend_pid()');
const versionOf = (client: pg.Client): Promise<string> => one(client, `current_setting('server_version')`);

async function cancelStatement(config: PostgresConfig, pid: string): Promise<void> {
  const client = await connect(config, { applicationName: 'verdigris-bench:cancel' });
  try {
    await client.query('SELECT pg_cancel_backend($1::int)', [pid]);
  } finally {
    await client.end();
  }
}

const schemaOf = (who: BenchWho): string => SCHEMAS[who];

class PostgresBenchSides implements BenchSides {
  readonly stateSchema = SCHEMAS.state;
  readonly versions: BenchSides['versions'];
  readonly #configs: Configs;
  readonly #clients: Clients;
  readonly #stack: AsyncDisposableStack;

  constructor(
    configs: Configs,
    clients: Clients,
    versions: BenchSides['versions'],
    stack: AsyncDisposableStack,
  ) {
    this.#configs = configs;
    this.#clients = clients;
    this.versions = versions;
    this.#stack = stack;
  }

  async clear(): Promise<readonly string[]> {
    return await this.#on('green', () => clear(this.#configs.blue, this.#configs.green));
  }

  async seed(load: BenchLoad): Promise<readonly BenchTable[]> {
    await this.#on('blue', async (blue) => {
      await makeSchemas(blue, [SCHEMAS.peer, SCHEMAS.state]);
      await fill(blue, SCHEMAS.peer, load, shapeOf(load).rows(SCHEMAS.peer, load.size));
    });
    await this.#on('green', async (green) => {
      await makeSchemas(green, [SCHEMAS.ours, SCHEMAS.state]);
      await green.query(shapeOf(load).ddl(SCHEMAS.ours));
    });
    return tablesOf(load).map((name) => ({
      from: { schema: SCHEMAS.peer, name },
      to: { schema: SCHEMAS.ours, name },
    }));
  }

  async peer(load: BenchLoad): Promise<BenchPeer | { readonly impossible: string }> {
    return await this.#on('green', async (green) => {
      await makeSchemas(green, [SCHEMAS.peer]);
      // For a first copy its tables are empty, as ours are.
      const rows = load.profile === 'copy' ? [] : shapeOf(load).rows(SCHEMAS.peer, load.size);
      await fill(green, SCHEMAS.peer, load, rows);
      return subscribe(
        {
          ...this.#clients,
          configs: this.#configs,
          name: namesOf(this.#configs.blue).peer,
          tables: tablesOf(load).map((table) => `${ident(SCHEMAS.peer)}.${ident(table)}`),
        },
        load,
      );
    });
  }

  async write(load: BenchLoad): Promise<BenchFacts> {
    return await this.#on('blue', async (blue) => {
      const shape = shapeOf(load);
      const before = await one(blue, 'pg_current_wal_lsn()');
      for (const sql of shape.backlog(SCHEMAS.peer, load.size)) await blue.query(sql);
      const { rows } = await blue.query<Record<string, string>>(shape.facts(SCHEMAS.peer, load.size), [
        before,
      ]);
      return factsOf(rows[0] ?? {});
    });
  }

  async reading(who: BenchWho, signal: AbortSignal): Promise<void> {
    const names = namesOf(this.#configs.blue);
    const slot = who === 'ours' ? names.ourSlot : names.peer;
    await this.#on('blue', (blue) =>
      until(
        async () =>
          ((await blue.query(`SELECT FROM pg_replication_slots WHERE ${IS_READ}`, [slot])).rowCount ?? 0) > 0,
        {
          everyMs: 3,
          timeoutMs: BEGIN_MS,
          signal,
          late: new VerdigrisError('TIMED_OUT', `nobody began to read slot ${slot}: see the log of green`),
        },
      ),
    );
  }

  async arrived(who: BenchWho, signal: AbortSignal): Promise<void> {
    await this.#on('green', (green) =>
      until(async () => (await green.query(`SELECT FROM ${ident(schemaOf(who))}.ending`)).rowCount === 1, {
        everyMs: 10,
        timeoutMs: MOST_MS,
        signal,
        late: new VerdigrisError('TIMED_OUT', 'the end of the backlog did not arrive on green'),
      }),
    );
  }

  async compare(who: BenchWho, load: BenchLoad): Promise<void> {
    for (const table of shapeOf(load).tables) {
      const digest = (side: Side, schema: string): Promise<string> =>
        this.#on(side, async (client) => {
          const { rows } = await client.query<{ digest: string }>(digestOf(schema, table));
          return rows[0]?.digest ?? '';
        });
      const [left, right] = await Promise.all([digest('blue', SCHEMAS.peer), digest('green', schemaOf(who))]);
      if (left === right) continue;
      throw new VerdigrisError(
        'VERIFY_DIFFERENT',
        `${table} differs after a run: blue ${left}, green ${right}`,
        {
          remedy: 'The figures mean nothing. Report it, with the versions of both servers.',
          context: { table, who },
        },
      );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  async #on<T>(side: Side, work: (client: pg.Client) => Promise<T>): Promise<T> {
    try {
      return await work(this.#clients[side]);
    } catch (error) {
      throw translate(error, whereOf(side));
    }
  }
}

async function makeSchemas(client: pg.Client, names: readonly string[]): Promise<void> {
  // In one transaction, so that none stands there without the comment that says whose it is.
  await client.query(
    names
      .map((name) => `CREATE SCHEMA ${ident(name)}; COMMENT ON SCHEMA ${ident(name)} IS ${literal(MADE_BY)};`)
      .join(' '),
  );
}

async function fill(
  client: pg.Client,
  schema: string,
  load: BenchLoad,
  rows: readonly string[],
): Promise<void> {
  await client.query(shapeOf(load).ddl(schema));
  for (const sql of rows) await client.query(sql);
  for (const table of tablesOf(load)) await client.query(`VACUUM (ANALYZE) ${ident(schema)}.${ident(table)}`);
}
