import { ident, literal } from '../sql.ts';
import type { Finding } from '../../../core/preflight.ts';
import { mappedOnly, oidsOf, rowsOf, type Check, type CheckContext } from './check.ts';

const LONG_SECONDS = 15;
const LAG_SECONDS = 10;

/** What is asked of everybody else who uses the server. */
export const ACTIVITY_CHECKS: readonly Check[] = [
  {
    id: 'P16',
    title: 'long and prepared transactions',
    level: 'warn',
    expected: `no transaction older than ${LONG_SECONDS} s, none prepared: creating a slot waits for every one of them`,
    run: longTransactions,
  },
  {
    id: 'P26',
    title: 'subscriptions that write here',
    level: 'warn',
    expected: 'none on mapped tables',
    run: subscriptions,
  },
  {
    id: 'P27',
    title: 'event triggers and jobs',
    level: 'warn',
    expected: 'nothing that changes tables by itself',
    run: automation,
  },
  {
    id: 'P33',
    title: 'who writes',
    level: 'info',
    expected: 'every writer is known and goes through the proxy',
    run: writers,
  },
  {
    id: 'P34',
    title: 'replicas keep up',
    level: 'warn',
    expected: `no replica more than ${LAG_SECONDS} s behind`,
    run: replicas,
  },
];

async function longTransactions(context: CheckContext): Promise<readonly Finding[] | string> {
  const running = await rowsOf<{ pid: string; application: string; age: string; state: string }>(
    context,
    `SELECT pid::text AS pid, application_name AS application, extract(epoch FROM clock_timestamp() - xact_start)::int::text AS age, state
     FROM pg_stat_activity WHERE xact_start < clock_timestamp() - make_interval(secs => $1) AND pid <> pg_backend_pid()
       AND backend_type = 'client backend' ORDER BY xact_start`,
    [LONG_SECONDS],
  );
  const prepared = await rowsOf<{ gid: string; age: string }>(
    context,
    `SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::int::text AS age FROM pg_prepared_xacts ORDER BY prepared`,
  );
  const found: Finding[] = [
    ...running.map((row) => ({
      observed: `pid ${row.pid} (${row.application || 'no application_name'}) has been in a transaction for ${row.age} s, ${row.state}`,
      remedy: 'Let it end, or end it.',
      sql: `SELECT pg_terminate_backend(${row.pid})`,
    })),
    ...prepared.map((row) => ({
      observed: `the prepared transaction ${row.gid} has been waiting for ${row.age} s`,
      remedy: 'Ask its owner whether it is to be committed; both statements are possible.',
      sql: `ROLLBACK PREPARED ${literal(row.gid).trim()}`,
    })),
  ];
  if (found.length > 0) return found;
  // Other roles' transactions have no start time for a role without the privilege.
  const [hidden] = await rowsOf<{ n: string }>(
    context,
    `SELECT count(*)::text AS n FROM pg_stat_activity WHERE usename IS DISTINCT FROM session_user AND usename IS NOT NULL AND backend_type IS NULL`,
  );
  if (Number(hidden?.n) === 0) return 'none';
  return [
    {
      unknown: true,
      observed: `${hidden?.n} sessions of other roles cannot be looked at`,
      remedy: 'Let our role see them.',
      sql: `GRANT pg_read_all_stats TO ${ident(context.role)}`,
    },
  ];
}

async function subscriptions(context: CheckContext): Promise<readonly Finding[]> {
  const rows = await rowsOf<{ name: string; enabled: string; tables: string | null }>(
    context,
    `SELECT s.subname AS name, s.subenabled AS enabled,
            (SELECT string_agg(r.srrelid::regclass::text, ', ') FROM pg_subscription_rel r WHERE r.srsubid = s.oid AND r.srrelid = ANY ($1::oid[])) AS tables
     FROM pg_subscription s WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1`,
    [oidsOf(context.members)],
  );
  return rows.map((row) => ({
    level: row.tables !== null && row.enabled === 't' ? ('block' as const) : ('warn' as const),
    observed:
      row.tables === null
        ? `the subscription ${row.name} writes to this database, not to mapped tables`
        : `the subscription ${row.name} writes to ${row.tables}${row.enabled === 't' ? '' : ' (it is disabled)'}`,
    remedy:
      'Its writes stop when the fence is raised and its source then keeps log: disable it before the switch, or move it to green.',
    sql: `ALTER SUBSCRIPTION ${ident(row.name)} DISABLE`,
  }));
}

async function automation(context: CheckContext): Promise<readonly Finding[]> {
  const triggers = await rowsOf<{ name: string; event: string }>(
    context,
    `SELECT evtname AS name, evtevent AS event FROM pg_event_trigger WHERE evtenabled <> 'D' ORDER BY 1`,
  );
  const extensions = await rowsOf<{ name: string }>(
    context,
    `SELECT extname AS name FROM pg_extension WHERE extname IN ('pg_cron', 'pg_partman', 'timescaledb', 'pg_repack', 'citus', 'pglogical') ORDER BY 1`,
  );
  return [
    ...triggers.map((row) => ({
      observed: `the event trigger ${row.name} runs at ${row.event}`,
      remedy:
        'Check that it lets guards, publication and slot be created, and does not change mapped tables.',
    })),
    ...extensions.map((row) => ({
      observed: `the extension ${row.name} is installed: it may change tables by itself`,
      remedy: 'Stop its jobs on mapped tables for the time of the migration, and carry them over to green.',
    })),
  ];
}

async function writers(context: CheckContext): Promise<readonly Finding[] | string> {
  const rows = await rowsOf<{ role: string; tables: string; sessions: string }>(
    context,
    `SELECT g.role, count(DISTINCT g.oid)::text AS tables,
            (SELECT string_agg(DISTINCT format('%s from %s', coalesce(nullif(a.application_name, ''), 'no application_name'), coalesce(host(a.client_addr), 'a socket')), ', ')
             FROM pg_stat_activity a WHERE a.usename = g.role AND a.datname = current_database() AND a.pid <> pg_backend_pid()) AS sessions
     FROM (SELECT c.oid, CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END AS role
           FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) x
           WHERE c.oid = ANY ($1::oid[]) AND x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')) g
     GROUP BY g.role ORDER BY g.role`,
    [oidsOf(mappedOnly(context.members))],
  );
  return rows
    .filter((row) => row.role !== context.role)
    .map((row) => ({
      observed: `${row.role} may write ${row.tables} of the mapped tables${row.sessions === null ? '' : `; connected: ${row.sessions}`}`,
      remedy:
        'Check that its clients connect through the proxy: those that do not are refused from the switch on.',
    }));
}

async function replicas(context: CheckContext): Promise<readonly Finding[] | string> {
  const rows = await rowsOf<{ name: string; state: string | null; lag: string | null }>(
    context,
    `SELECT coalesce(application_name, 'pid ' || pid) AS name, state, extract(epoch FROM replay_lag)::text AS lag FROM pg_stat_replication
     WHERE NOT (coalesce(usename, '') = session_user AND coalesce(application_name, '') LIKE 'verdigris:%') ORDER BY 1`,
  );
  const found: Finding[] = [];
  for (const row of rows) {
    if (row.state === null) {
      found.push({
        unknown: true,
        observed: `the lag of ${row.name} is not visible to ${context.role}`,
        remedy: 'Let our role see it.',
        sql: `GRANT pg_monitor TO ${ident(context.role)}`,
      });
    } else if (Number(row.lag ?? 0) > LAG_SECONDS) {
      found.push({
        observed: `${row.name} is ${Math.round(Number(row.lag))} s behind`,
        remedy: 'Let it catch up first: the copy will put it further behind.',
      });
    }
  }
  return found.length > 0 ? found : `${rows.length} replicas`;
}
