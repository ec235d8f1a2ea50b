import { ident } from '../sql.ts';
import type { Finding } from '../../../core/preflight.ts';
import { rowsOf, settingOf, type Check, type CheckContext } from './check.ts';
import { senders, slots, walLevel } from './log.ts';
import { mayReplicate, notOwned } from './rights.ts';

const SLOW_MS = 20;
const PROBES = 20;

/** What is asked of the server that is written to. */
export const TARGET_CHECKS: readonly Check[] = [
  {
    id: 'PT1',
    title: 'round trip',
    level: 'warn',
    expected: `99 of 100 statements within ${SLOW_MS} ms`,
    run: roundTrip,
  },
  {
    id: 'PT2',
    title: 'server version and extensions',
    level: 'block',
    expected: 'PostgreSQL 14 or newer',
    run: async (context) => {
      const major = Math.floor(context.version / 10_000);
      if (context.version < 140_000) return [{ observed: `PostgreSQL ${major}`, remedy: 'Use 14 or newer.' }];
      const rows = await rowsOf<{ name: string }>(
        context,
        `SELECT extname || ' ' || extversion AS name FROM pg_extension ORDER BY 1`,
      );
      return `PostgreSQL ${major}; ${rows.map((row) => row.name).join(', ')}`;
    },
  },
  {
    id: 'PT3',
    title: 'triggers and foreign keys can be held back during apply',
    level: 'block',
    expected: 'the role may set session_replication_role',
    run: replicationRole,
  },
  {
    id: 'PT9',
    title: 'settings for a large load',
    level: 'info',
    expected: 'max_wal_size of 4 GiB and maintenance_work_mem of 256 MiB or more',
    run: loadSettings,
  },
  {
    id: 'PT10',
    title: 'the way back is possible',
    level: 'block',
    expected: "wal_level logical, free slots and senders, REPLICATION, and the owner's rights on the tables",
    run: async (context) => {
      const parts = [
        await walLevel(context),
        await slots(context),
        await senders(context),
        await mayReplicate(context),
        notOwned(context),
      ];
      return [
        ...parts.flatMap((part) => (typeof part === 'string' ? [] : part)),
        ...(await mayCreate(context)),
      ];
    },
  },
  {
    id: 'PT12',
    title: 'what nobody carries over by itself',
    level: 'info',
    expected: 'grants, materialized views and jobs are in place',
    run: satellites,
  },
];

async function roundTrip(context: CheckContext): Promise<readonly Finding[] | string> {
  const times: number[] = [];
  for (let probe = 0; probe < PROBES; probe += 1) {
    const started = performance.now();
    await context.client.query('SELECT 1');
    times.push(performance.now() - started);
  }
  const worst = times.sort((left, right) => left - right).at(-2) as number;
  if (worst <= SLOW_MS) return `${worst.toFixed(1)} ms`;
  return [
    {
      observed: `${worst.toFixed(1)} ms`,
      remedy: 'Run the engine nearer to this server: every group costs at least one round trip.',
    },
  ];
}

async function replicationRole(context: CheckContext): Promise<readonly Finding[] | string> {
  if (context.config.session.session_replication_role === 'origin')
    return 'session.session_replication_role is origin: triggers fire';
  await context.client.query('BEGIN');
  try {
    await context.client.query('SET LOCAL session_replication_role = replica');
    return 'it may';
  } catch (error) {
    if ((error as { code?: string }).code !== '42501') throw error;
    const grant = context.version >= 150_000;
    return [
      {
        observed: `${context.role} may not set session_replication_role`,
        remedy: grant
          ? 'Grant it, or set session.session_replication_role to origin when no trigger and no foreign key of green does harm.'
          : 'Before version 15 only a superuser may: use one, or set session.session_replication_role to origin.',
        ...(grant
          ? { sql: `GRANT SET ON PARAMETER session_replication_role TO ${ident(context.role)}` }
          : {}),
      },
    ];
  } finally {
    await context.client.query('ROLLBACK');
  }
}

async function loadSettings(context: CheckContext): Promise<readonly Finding[]> {
  const found: Finding[] = [];
  const wal = Number(await settingOf(context, 'max_wal_size'));
  if (wal < 4_096) {
    found.push({
      observed: `max_wal_size is ${wal} MiB: a copy will force checkpoints all the time`,
      remedy:
        'Raise it for the time of the copy. The free disk of a server cannot be seen from here: look at it yourself.',
      sql: `ALTER SYSTEM SET max_wal_size = '8GB'`,
    });
  }
  const memory = Number(await settingOf(context, 'maintenance_work_mem'));
  if (memory < 256 * 1_024) {
    found.push({
      observed: `maintenance_work_mem is ${Math.round(memory / 1_024)} MiB: indexes are built slowly`,
      remedy: 'Raise it for the time of the copy.',
      sql: `ALTER SYSTEM SET maintenance_work_mem = '1GB'`,
    });
  }
  return found;
}

async function mayCreate(context: CheckContext): Promise<readonly Finding[]> {
  const [row] = await rowsOf<{ name: string; may: string }>(
    context,
    `SELECT current_database() AS name, has_database_privilege(current_database(), 'CREATE') AS may`,
  );
  if (row?.may === 't') return [];
  return [
    {
      observed: `${context.role} may not create the state schema and the publication of the way back in ${row?.name}`,
      remedy: 'Let it create in this database.',
      sql: `GRANT CREATE ON DATABASE ${ident(row?.name as string)} TO ${ident(context.role)}`,
    },
  ];
}

async function satellites(context: CheckContext): Promise<readonly Finding[]> {
  const views = await rowsOf<{ name: string }>(
    context,
    `SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'm' AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1`,
  );
  const alone = await rowsOf<{ name: string }>(
    context,
    `SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.oid = ANY ($1::oid[]) AND c.relacl IS NULL AND NOT c.relispartition ORDER BY 1`,
    [context.members.map((member) => member.oid)],
  );
  return [
    ...views.map((row) => ({
      observed: `${row.name} is a materialized view`,
      remedy: 'Refresh it before the switch.',
      sql: `REFRESH MATERIALIZED VIEW ${row.name}`,
    })),
    ...alone.map((row) => ({
      observed: `nobody but the owner has a privilege on ${row.name}`,
      remedy: 'Grant to the application what it has on blue, unless it connects as the owner.',
    })),
  ];
}
