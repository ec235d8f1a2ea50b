import { ident } from '../sql.ts';
import type { Finding } from '../../../core/preflight.ts';
import { rowsOf, settingOf, type Check, type CheckContext } from './check.ts';

const OLDEST = 140_000;
const NEWEST_MAJOR = 18;

/** What is asked of the server as a whole. */
export const SERVER_CHECKS: readonly Check[] = [
  {
    id: 'P1',
    title: 'server version',
    level: 'block',
    expected: `PostgreSQL 14 to ${NEWEST_MAJOR}`,
    run: async ({ version }) => {
      const major = Math.floor(version / 10_000);
      if (version < OLDEST) {
        return [
          {
            observed: `PostgreSQL ${major}`,
            remedy: 'Upgrade to 14 or newer: older ones cannot stream what is needed.',
          },
        ];
      }
      if (major > NEWEST_MAJOR) {
        return [
          {
            level: 'warn',
            observed: `PostgreSQL ${major}`,
            remedy: 'This version has not been tested; rehearse the whole migration first.',
          },
        ];
      }
      return `PostgreSQL ${major}`;
    },
  },
  {
    id: 'P17',
    title: 'time-outs that would end our sessions',
    level: 'warn',
    expected:
      'no statement, transaction or idle time-out for our role; wal_sender_timeout 0 or at least 10 s',
    run: timeouts,
  },
  {
    id: 'P21',
    title: 'primary, not a standby',
    level: 'block',
    expected:
      'a primary: chunks are read where the log is written, and a fence cannot be raised on a standby',
    run: async (context) => {
      const [row] = await rowsOf<{ standby: string }>(context, 'SELECT pg_is_in_recovery() AS standby');
      if (row?.standby !== 't') return 'primary';
      return [
        { observed: 'the server is in recovery (a standby)', remedy: 'Name the primary in the address.' },
      ];
    },
  },
  {
    id: 'P23',
    title: 'one server behind the address',
    level: 'block',
    expected: 'every connection reaches the same server process',
    run: oneServer,
  },
  {
    id: 'P24',
    title: 'no pooler between us and the server',
    level: 'block',
    expected: 'the backend that answers is the one we connected to',
    run: async (context) => {
      const announced = (context.client as unknown as { processID: number | null }).processID;
      const [row] = await rowsOf<{ pid: string }>(context, 'SELECT pg_backend_pid() AS pid');
      if (announced !== null && String(announced) === row?.pid) return 'direct connection';
      return [
        {
          observed:
            'the connection goes through a pooler: the server process is not the one that was announced',
          remedy:
            'Give the address of the server itself: session settings, snapshots and replication do not survive a pooler.',
        },
      ];
    },
  },
  {
    id: 'P25',
    title: 'connection headroom',
    level: 'block',
    expected: 'room for the connections of the run beside those of the application',
    run: connections,
  },
  {
    id: 'P29',
    title: 'encoding and collation version',
    level: 'warn',
    expected: 'UTF8, and collations of the version they were built with',
    run: encoding,
  },
  {
    id: 'P30',
    title: 'age of the oldest transaction id',
    level: 'block',
    expected: 'less than 1,200 million: a replication slot holds back the cleanup of catalogs',
    run: async (context) => {
      const [row] = await rowsOf<{ age: string; multi: string }>(
        context,
        `SELECT age(datfrozenxid)::text AS age, mxid_age(datminmxid)::text AS multi FROM pg_database WHERE datname = current_database()`,
      );
      const oldest = Math.max(Number(row?.age), Number(row?.multi));
      if (oldest <= 1_200_000_000) return `${Math.round(oldest / 1e6)} million`;
      return [
        {
          observed: `${Math.round(oldest / 1e6)} million`,
          remedy: 'Freeze first, then start.',
          sql: 'VACUUM (FREEZE, VERBOSE)',
        },
      ];
    },
  },
];

async function timeouts(context: CheckContext): Promise<readonly Finding[]> {
  // reset_val: what the configuration, the database and the role give a session, whatever ours has set since.
  const rows = await rowsOf<{ name: string; value: string }>(
    context,
    `SELECT name, reset_val AS value FROM pg_settings WHERE name IN
     ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout', 'wal_sender_timeout')`,
  );
  const role = ident(context.role);
  return rows
    .filter((row) =>
      row.name === 'wal_sender_timeout'
        ? Number(row.value) > 0 && Number(row.value) < 10_000
        : Number(row.value) > 0,
    )
    .map((row) => ({
      observed: `${row.name} is ${row.value} ms for ${context.role}`,
      remedy: 'Give our role its own setting.',
      sql: `ALTER ROLE ${role} SET ${row.name} = ${row.name === 'wal_sender_timeout' ? `'60s'` : 0}`,
    }));
}

async function oneServer(context: CheckContext): Promise<readonly Finding[] | string> {
  const fingerprint = `SELECT concat_ws(' ', inet_server_addr(), inet_server_port(), pg_postmaster_start_time(),
    (SELECT system_identifier FROM pg_control_system())) AS server`;
  const seen = new Set((await rowsOf<{ server: string }>(context, fingerprint)).map((row) => row.server));
  for (let attempt = 0; attempt < 3; attempt += 1) {
    const other = await context.connect({});
    try {
      for (const row of await rowsOf<{ server: string }>({ client: other }, fingerprint))
        seen.add(row.server);
    } finally {
      await other.end();
    }
  }
  if (seen.size === 1) return '4 connections, one server';
  return [
    {
      observed: `4 connections reached ${seen.size} servers`,
      remedy:
        'Give the address of one server instead of a load balancer: a chunk read elsewhere shows another snapshot.',
    },
  ];
}

async function connections(context: CheckContext): Promise<readonly Finding[] | string> {
  const number = async (name: string): Promise<number> => Number((await settingOf(context, name)) ?? 0);
  const maximum = await number('max_connections');
  const reserved = (await number('superuser_reserved_connections')) + (await number('reserved_connections'));
  // pg_stat_database counts for everybody; pg_stat_activity hides other roles' rows in part.
  const [row] = await rowsOf<{ used: string; limit: string; mine: string; database: string; here: string }>(
    context,
    `SELECT (SELECT sum(numbackends) FROM pg_stat_database)::text AS used,
            (SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user)::text AS limit,
            (SELECT count(*) FROM pg_stat_activity WHERE usename = session_user)::text AS mine,
            (SELECT datconnlimit FROM pg_database WHERE datname = current_database())::text AS database,
            (SELECT numbackends FROM pg_stat_database WHERE datname = current_database())::text AS here`,
  );
  const need = context.scope.connections;
  const free = maximum - reserved - Number(row?.used);
  const found: Finding[] = [];
  if (free < need) {
    found.push({
      observed: `${free} connections are free (max_connections ${maximum}, ${reserved} reserved, ${row?.used} in use), ${need} are needed`,
      remedy: 'Raise max_connections (restart), or lower limits.max_connections of this side.',
      sql: `ALTER SYSTEM SET max_connections = ${maximum + need - free}`,
    });
  }
  const limit = Number(row?.limit);
  if (limit >= 0 && limit - Number(row?.mine) < need) {
    found.push({
      observed: `the role ${context.role} may have ${limit} connections, ${need} are needed`,
      remedy: 'Raise the limit of the role.',
      sql: `ALTER ROLE ${ident(context.role)} CONNECTION LIMIT ${need + Number(row?.mine)}`,
    });
  }
  const database = Number(row?.database);
  if (database >= 0 && database - Number(row?.here) < need) {
    found.push({
      observed: `the database may have ${database} connections, ${need} are needed`,
      remedy: 'Raise the limit of the database.',
    });
  }
  return found.length > 0 ? found : `${free} free, ${need} needed`;
}

async function encoding(context: CheckContext): Promise<readonly Finding[] | string> {
  const [row] = await rowsOf<{ encoding: string; name: string; collate: string }>(
    context,
    `SELECT pg_encoding_to_char(encoding) AS encoding, datname AS name, datcollate AS collate FROM pg_database WHERE datname = current_database()`,
  );
  const found: Finding[] = [];
  if (row?.encoding !== 'UTF8') {
    const ascii = row?.encoding === 'SQL_ASCII';
    found.push({
      ...(ascii ? { level: 'block' as const } : {}),
      observed: `encoding ${row?.encoding}`,
      remedy: ascii
        ? 'The server does not know what its bytes mean, and they are read as UTF-8: find out, and convert the database.'
        : 'The server converts to UTF-8 for us; characters without a place there will be refused. Rehearse the copy.',
    });
  }
  if (context.version >= 150_000) {
    const [version] = await rowsOf<{ stored: string | null; actual: string | null }>(
      context,
      `SELECT datcollversion AS stored, pg_database_collation_actual_version(oid) AS actual FROM pg_database WHERE datname = current_database()`,
    );
    if (version !== undefined && version.stored !== null && version.stored !== version.actual) {
      found.push({
        observed: `the database was built with collation version ${version.stored}, the server has ${version.actual}`,
        remedy:
          'Rebuild the indexes on text columns (REINDEX), then refresh the version: until then order and uniqueness may be wrong.',
        sql: `ALTER DATABASE ${ident(row?.name as string)} REFRESH COLLATION VERSION`,
      });
    }
  }
  return found.length > 0 ? found : `${row?.encoding}, ${row?.collate}`;
}
