import { parseSize } from '../../../core/units.ts';
import { literal } from '../sql.ts';
import type { Finding } from '../../../core/preflight.ts';
import { megabytes, oidsOf, rowsOf, settingOf, slotName, type Check, type CheckContext } from './check.ts';

/** A cautious guess at the speed of a first copy, bytes per second, to forecast how much log it will keep. */
const COPY_BYTES_PER_SECOND = 20 * 2 ** 20;
const STALE_BYTES = 2 ** 30;

/** What is asked of the server's log and of what reads it. */
export const LOG_CHECKS: readonly Check[] = [
  { id: 'P2', title: 'wal_level', level: 'block', expected: 'logical', run: walLevel },
  {
    id: 'P3',
    title: 'replication slots',
    level: 'block',
    expected: 'a free slot for the stream and one to spare',
    run: slots,
  },
  { id: 'P4', title: 'WAL senders', level: 'block', expected: 'at least 2 free', run: senders },
  {
    id: 'P18',
    title: 'log kept during the copy',
    level: 'block',
    expected: 'the limits keep twice the log that a copy is expected to take',
    run: budget,
  },
  {
    id: 'P19',
    title: 'stale slots of others',
    level: 'warn',
    expected: 'no inactive slot that holds log',
    run: staleSlots,
  },
  {
    id: 'P20',
    title: 'decoding memory',
    level: 'info',
    expected: 'larger transactions are spilled to disk by the server while they are decoded',
    run: async (context) => {
      const memory = await settingOf(context, 'logical_decoding_work_mem');
      const [row] = await rowsOf<{ spilled: string | null }>(
        context,
        'SELECT sum(spill_bytes)::text AS spilled FROM pg_stat_replication_slots',
      );
      return `logical_decoding_work_mem ${memory} kB, ${megabytes(Number(row?.spilled ?? 0))} spilled so far`;
    },
  },
  {
    id: 'P22',
    title: 'failover keeps our slot',
    level: 'warn',
    expected: 'no standby, or slots that are synchronised to it',
    run: failover,
  },
];

export async function walLevel(context: CheckContext): Promise<readonly Finding[] | string> {
  const level = await settingOf(context, 'wal_level');
  if (level === 'logical') return 'logical';
  const managed = (await settingOf(context, 'rds.logical_replication')) !== null;
  return [
    {
      observed: `wal_level is ${level}`,
      remedy: managed
        ? 'Set rds.logical_replication = 1 in the parameter group and restart the server.'
        : 'Set it and restart the server.',
      ...(managed ? {} : { sql: `ALTER SYSTEM SET wal_level = 'logical'` }),
    },
  ];
}

export async function slots(context: CheckContext): Promise<readonly Finding[] | string> {
  const maximum = Number(await settingOf(context, 'max_replication_slots'));
  const [row] = await rowsOf<{ used: string; mine: string }>(
    context,
    `SELECT count(*)::text AS used, (count(*) FILTER (WHERE slot_name = $1))::text AS mine FROM pg_replication_slots`,
    [slotName(context)],
  );
  const free = maximum - Number(row?.used) + Number(row?.mine);
  if (free >= 2) return `${free} free of ${maximum}`;
  return [
    {
      ...(free >= 1 ? { level: 'warn' as const } : {}),
      observed: `${free} of ${maximum} slots are free`,
      remedy: 'Drop slots that nobody needs, or raise max_replication_slots (restart).',
      sql: `ALTER SYSTEM SET max_replication_slots = ${maximum + 2 - free}`,
    },
  ];
}

export async function senders(context: CheckContext): Promise<readonly Finding[] | string> {
  const maximum = Number(await settingOf(context, 'max_wal_senders'));
  const [row] = await rowsOf<{ used: string }>(
    context,
    `SELECT count(*)::text AS used FROM pg_stat_replication WHERE NOT (usename = session_user AND application_name LIKE 'verdigris:%')`,
  );
  const free = maximum - Number(row?.used);
  if (free >= 2) return `${free} free of ${maximum}`;
  return [
    {
      observed: `${free} of ${maximum} WAL senders are free`,
      remedy: 'Raise max_wal_senders (restart).',
      sql: `ALTER SYSTEM SET max_wal_senders = ${maximum + 2 - free}`,
    },
  ];
}

async function budget(context: CheckContext): Promise<readonly Finding[] | string> {
  const [row] = await rowsOf<{ bytes: string; rate: string | null }>(
    context,
    `SELECT (SELECT coalesce(sum(pg_total_relation_size(o)), 0) FROM unnest($1::oid[]) o)::text AS bytes,
            (SELECT wal_bytes / greatest(extract(epoch FROM clock_timestamp() - coalesce(stats_reset, pg_postmaster_start_time())), 60) FROM pg_stat_wal)::text AS rate`,
    [oidsOf(context.members)],
  );
  const seconds = Number(row?.bytes) / COPY_BYTES_PER_SECOND + 60;
  const rate = Number(row?.rate ?? 0);
  const forecast = rate * seconds;
  const shown = `a copy of ${megabytes(Number(row?.bytes))} while ${megabytes(rate * 60)} of log are written per minute keeps some ${megabytes(forecast)}`;
  const found: Finding[] = [];
  const keep = Number((await settingOf(context, 'max_slot_wal_keep_size')) ?? -1);
  if (keep >= 0 && keep * 2 ** 20 < 2 * forecast) {
    found.push({
      observed: `${shown}; max_slot_wal_keep_size is ${keep} MiB, beyond which the server drops our slot`,
      remedy: 'Raise it or remove the limit for the time of the migration.',
      sql: `ALTER SYSTEM SET max_slot_wal_keep_size = '${Math.ceil((2 * forecast) / 2 ** 20)}MB'`,
    });
  }
  const own = parseSize(context.config.limits.max_wal_retained) ?? 0;
  if (own < 2 * forecast) {
    found.push({
      level: 'warn',
      observed: `${shown}; limits.max_wal_retained is ${context.config.limits.max_wal_retained}`,
      remedy:
        'Raise limits.max_wal_retained if the disk of this server has the room, or copy in a quiet time.',
    });
  }
  const idle = Number((await settingOf(context, 'idle_replication_slot_timeout')) ?? 0);
  if (idle > 0) {
    found.push({
      level: 'warn',
      observed: `idle_replication_slot_timeout is set: a slot that nobody reads for that long is dropped`,
      remedy: 'Switch it off for the time of the migration.',
      sql: 'ALTER SYSTEM SET idle_replication_slot_timeout = 0',
    });
  }
  return found.length > 0 ? found : shown;
}

async function staleSlots(context: CheckContext): Promise<readonly Finding[]> {
  const rows = await rowsOf<{ name: string; bytes: string | null; status: string | null }>(
    context,
    `SELECT slot_name AS name, wal_status AS status,
            CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::text END AS bytes
     FROM pg_replication_slots WHERE NOT active AND NOT temporary AND slot_name <> $1 ORDER BY 1`,
    [slotName(context)],
  );
  return rows
    .filter((row) => row.status === 'lost' || Number(row.bytes ?? 0) > STALE_BYTES)
    .map((row) => ({
      observed: `the inactive slot ${row.name} holds ${megabytes(Number(row.bytes ?? 0))} of log (${row.status ?? 'unknown'})`,
      remedy: 'Find its owner; drop it when nobody needs it.',
      sql: `SELECT pg_drop_replication_slot(${literal(row.name).trim()})`,
    }));
}

async function failover(context: CheckContext): Promise<readonly Finding[] | string> {
  const [row] = await rowsOf<{ standbys: string }>(
    context,
    `SELECT count(*)::text AS standbys FROM pg_replication_slots WHERE slot_type = 'physical'`,
  );
  const [streams] = await rowsOf<{ standbys: string }>(
    context,
    `SELECT count(*)::text AS standbys FROM pg_stat_replication r
     WHERE NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')`,
  );
  const standbys = Math.max(Number(row?.standbys), Number(streams?.standbys));
  if (standbys === 0) return 'no standby is connected';
  if (context.version < 170_000) {
    return [
      {
        observed: `${standbys} standby(s), and this version does not carry logical slots to a standby`,
        remedy:
          'After a failover of this server the copy must start again: plan the migration outside of planned failovers.',
      },
    ];
  }
  if (context.config.replication.failover_slot === 'off') {
    return [
      {
        observed: `${standbys} standby(s), replication.failover_slot is off`,
        remedy: 'Set replication.failover_slot to auto.',
      },
    ];
  }
  const synchronized = (await settingOf(context, 'synchronized_standby_slots')) ?? '';
  if (synchronized !== '') return `synchronized_standby_slots is ${synchronized}`;
  return [
    {
      observed: `${standbys} standby(s), synchronized_standby_slots is empty: the stream may run ahead of the standby`,
      remedy: "Name the standbys' slots there, and set sync_replication_slots = on on the standby.",
    },
  ];
}
