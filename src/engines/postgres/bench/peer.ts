import type pg from 'pg';
import type { BenchLoad, BenchPeer } from '../../../core/bench.ts';
import { VerdigrisError } from '../../../core/errors.ts';
import type { PostgresConfig } from '../config.ts';
import { clientConfig, tlsOptions } from '../connect.ts';
import { ident, literal } from '../sql.ts';
import { dropSlots, dropSubscription } from './clear.ts';
import { MOST_MS, until } from './until.ts';

export interface PeerParts {
  readonly blue: pg.Client;
  readonly green: pg.Client;
  readonly configs: { readonly blue: PostgresConfig; readonly green: PostgresConfig };
  /** Of slot, publication and subscription. */
  readonly name: string;
  /** Blue's tables, qualified and quoted. The same stand on green. */
  readonly tables: readonly string[];
}

/** The server's own logical replication, which does not begin yet; or why it cannot be had. */
export async function subscribe(
  parts: PeerParts,
  { profile }: BenchLoad,
): Promise<BenchPeer | { readonly impossible: string }> {
  const { blue, green, configs, name, tables } = parts;
  const refused = await missingRight(green);
  if (refused !== null) return { impossible: refused };
  await blue.query(`CREATE PUBLICATION ${ident(name)} FOR TABLE ${tables.join(', ')}`);
  await blue.query(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, [name]);
  const conninfo = await conninfoOf(configs.blue, Number(await settingOf(green, 'server_version_num')));
  const durable = configs.green.session.synchronous_commit === 'on' ? 'on' : 'off';
  try {
    await hideStatements(green);
    await green.query(
      `CREATE SUBSCRIPTION ${ident(name)} CONNECTION ${literal(conninfo)} PUBLICATION ${ident(name)} WITH (create_slot = false,
       slot_name = ${literal(name)}, enabled = false, copy_data = ${profile === 'copy'}, synchronous_commit = ${durable})`,
    );
  } catch (error) {
    const reason = (error as Error).message.split('\n')[0] ?? '';
    return { impossible: `green refused a subscription to blue: ${reason}` };
  } finally {
    await green.query('RESET ALL');
  }
  return {
    name: 'subscription',
    notes: [
      profile === 'copy'
        ? `the subscription copies ${await settingOf(green, 'max_sync_workers_per_subscription')} tables at a time (max_sync_workers_per_subscription of green)`
        : `the subscription commits with synchronous_commit = ${durable}, as our sink does while it catches up`,
    ],
    start: async () => void (await green.query(`ALTER SUBSCRIPTION ${ident(name)} ENABLE`)),
    copied: (signal) =>
      until(
        async () =>
          (
            await green.query(
              `SELECT FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid
               WHERE s.subname = $1 AND r.srsubstate <> 'r'`,
              [name],
            )
          ).rowCount === 0,
        {
          everyMs: 50,
          timeoutMs: MOST_MS,
          signal,
          late: new VerdigrisError('TIMED_OUT', 'the first copy of the subscription did not end'),
        },
      ),
    stop: async () => {
      const oid = await dropSubscription(green, name);
      await dropSlots(blue, [name], oid);
    },
  };
}

/** Asked before anything with a password in it is sent: a statement that fails is written into the log of the server. */
async function missingRight(green: pg.Client): Promise<string | null> {
  const { rows } = await green.query<{ role: string; may: 't' | 'f'; version: string }>(
    `SELECT rolname::text AS role, current_setting('server_version_num') AS version,
       rolsuper OR coalesce((SELECT pg_has_role(session_user, g.oid, 'MEMBER') FROM pg_roles g WHERE g.rolname = 'pg_create_subscription'), false) AS may
     FROM pg_roles WHERE rolname = session_user`,
  );
  const [row] = rows;
  if (row === undefined || row.may === 't') return null;
  const needs = Number(row.version) >= 160_000 ? 'a member of pg_create_subscription' : 'a superuser';
  return `${row.role} may not create a subscription on green: it would have to be ${needs}`;
}

/** The address of blue, with its password, stays out of green's log where our role may say so. */
async function hideStatements(green: pg.Client): Promise<void> {
  for (const setting of [
    'log_statement = none',
    'log_min_error_statement = panic',
    'log_min_duration_statement = -1',
  ])
    await green.query(`SET ${setting}`).catch(() => undefined);
}

async function settingOf(client: pg.Client, name: string): Promise<string> {
  const { rows } = await client.query<{ value: string }>('SELECT current_setting($1) AS value', [name]);
  return rows[0]?.value ?? '';
}

/** The address of blue as green's server dials it, as strictly checked as by us: without a CA of its own by those of its system. */
async function conninfoOf(blue: PostgresConfig, greenVersion: number): Promise<string> {
  const { host, port, user, password, database } = await clientConfig(blue, { applicationName: '' });
  const tls = await tlsOptions(blue);
  const system = blue.tls.ca === undefined && blue.tls.mode !== 'verify-ca' && greenVersion >= 160_000;
  const parts: Readonly<Record<string, unknown>> = {
    host,
    port,
    dbname: database,
    user,
    password,
    sslmode: tls === undefined ? 'disable' : blue.tls.mode === 'verify-ca' ? 'verify-ca' : 'verify-full',
    ...(tls !== undefined && system ? { sslrootcert: 'system' } : {}),
  };
  return Object.entries(parts)
    .filter(([, value]) => value !== '' && value !== undefined)
    .map(([key, value]) => `${key}='${String(value).replaceAll(/[\\']/g, '\\$&')}'`)
    .join(' ');
}
