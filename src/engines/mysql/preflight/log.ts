import { executedGtids } from '../source-log.ts';
import { isKnownCharset } from '../charsets.ts';
import { literal } from '../sql.ts';
import type { Finding } from '../../../core/preflight.ts';
import { mustBe, picked, setting, type Check, type CheckContext } from './check.ts';

const DAY = 86_400;

/** What is asked of the server whose log is read. */
export const LOG_CHECKS: readonly Check[] = [
  mustBe({ id: 'M2', title: 'binary log' }, 'log_bin', { raw: '1', shown: 'ON' }),
  mustBe({ id: 'M3', title: 'rows in the log' }, 'binlog_format', { raw: 'ROW', shown: 'ROW' }),
  mustBe({ id: 'M4', title: 'whole rows in the log' }, 'binlog_row_image', { raw: 'FULL', shown: 'FULL' }),
  mustBe({ id: 'M5', title: 'names and types in the log' }, 'binlog_row_metadata', {
    raw: 'FULL',
    shown: 'FULL',
  }),
  mustBe({ id: 'M6', title: 'no partial JSON in the log', only: 'mysql' }, 'binlog_row_value_options', {
    raw: '',
    shown: '',
  }),
  mustBe({ id: 'M7', title: 'no compressed transactions', only: 'mysql' }, 'binlog_transaction_compression', {
    raw: '0',
    shown: 'OFF',
  }),
  mustBe({ id: 'M7', title: 'no compressed events', only: 'mariadb' }, 'log_bin_compress', {
    raw: '0',
    shown: 'OFF',
  }),
  {
    id: 'M8',
    title: 'checksums of the log',
    level: 'info',
    expected: 'CRC32',
    run: async (context) => `binlog_checksum = ${await setting(context, 'binlog_checksum')}`,
  },
  {
    id: 'M9',
    title: 'how long the log is kept',
    level: 'block',
    expected: 'binlog_expire_logs_seconds 86400 or more, or 0',
    run: async (context) => {
      const seconds = Number(await setting(context, 'binlog_expire_logs_seconds'));
      if (seconds === 0 || seconds >= DAY) return `${seconds} s`;
      return [
        {
          observed: `${seconds} s`,
          remedy:
            'Keep the log for longer than the copy takes: what is purged before it was read means a new copy.',
          sql: `SET GLOBAL binlog_expire_logs_seconds = ${7 * DAY}`,
        },
      ];
    },
  },
  {
    id: 'M10',
    title: 'size of the log',
    level: 'info',
    expected: 'room for it on disk',
    run: async (context) => {
      const rows = await context.link.rows('SHOW BINARY LOGS');
      const bytes = rows.reduce((sum, row) => sum + Number(row[1] ?? 0), 0);
      return `${rows.length} files, ${Math.round(bytes / 2 ** 20)} MiB`;
    },
  },
  {
    ...mustBe({ id: 'M11', title: 'GTIDs', only: 'mysql' }, 'gtid_mode', { raw: 'ON', shown: 'ON' }),
    run: async (context) => {
      const mode = await setting(context, 'gtid_mode');
      if (mode === 'ON') return 'gtid_mode = ON';
      return [
        {
          observed: `gtid_mode = ${mode}`,
          remedy:
            'Turn it on, which takes the steps OFF_PERMISSIVE and ON_PERMISSIVE and no restart. Files and offsets as positions are not supported: they do not survive a failover.',
        },
      ];
    },
  },
  {
    id: 'M12',
    title: 'the server logs all that it executes',
    level: 'block',
    expected: 'it is no replica, or log_replica_updates is on',
    run: async (context) => {
      if ((await replicas(context)).length === 0) return 'no replica';
      const updates = await setting(
        context,
        context.link.flavour === 'mysql' ? 'log_replica_updates' : 'log_slave_updates',
      );
      if (updates === '1') return 'a replica that logs what it executes';
      return [
        {
          observed: 'a replica without log_replica_updates',
          remedy: 'Read from its source, or turn the setting on.',
        },
      ];
    },
  },
  {
    id: 'M13',
    title: 'number of our reader',
    level: 'warn',
    expected: 'no other reader of the log has it',
    run: async (context) => {
      const wanted = context.config.replication.server_id;
      const own = await setting(context, 'server_id');
      if (own === '0')
        return [
          {
            observed: 'server_id = 0',
            level: 'block',
            remedy: 'Give the server a server_id: it refuses readers without one.',
          },
        ];
      if (wanted !== undefined && String(wanted) === own)
        return [
          {
            observed: `replication.server_id is ${own}, the server's own`,
            level: 'block',
            remedy: 'Choose another number.',
          },
        ];
      return wanted === undefined ? 'chosen from the name of the migration' : `server_id ${wanted}`;
    },
  },
  {
    ...mustBe(
      { id: 'M14', title: 'order of commits', level: 'warn', only: 'mysql' },
      'binlog_order_commits',
      { raw: '1', shown: 'ON' },
    ),
  },
  {
    id: 'M15',
    title: 'no filters of the log',
    level: 'block',
    expected: 'no binlog-do-db or binlog-ignore-db',
    run: async (context) => {
      const rows = await context.link.rows(
        context.link.flavour === 'mysql' && context.link.version[0] * 100 + context.link.version[1] >= 802
          ? 'SHOW BINARY LOG STATUS'
          : 'SHOW MASTER STATUS',
      );
      const only = rows[0]?.[2] ?? '';
      const without = rows[0]?.[3] ?? '';
      if (only === '' && without === '') return 'none';
      return [
        {
          observed: `do: ${only || '-'}, ignore: ${without || '-'}`,
          remedy: 'Remove the filters and restart the server.',
        },
      ];
    },
  },
  {
    id: 'M23',
    title: 'types and character sets that can be read from the log',
    level: 'block',
    expected: 'every column of a type and character set that is copied exactly',
    run: charsets,
  },
  {
    id: 'M30',
    title: 'nobody else writes here through replication',
    level: 'warn',
    expected: 'no replica of another server',
    run: async (context) => {
      const found = await replicas(context);
      if (found.length === 0) return 'no replica';
      return [
        {
          observed: 'a replica of another server',
          remedy: 'Its writes pass read_only: stop the replication before the switch.',
        },
      ];
    },
  },
  {
    id: 'M31',
    title: 'group replication and Galera',
    level: 'warn',
    expected: 'neither',
    run: async (context) => {
      const rows = await context.link.rows(
        "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('wsrep_on', 'group_replication_group_name') AND Value NOT IN ('', 'OFF')",
      );
      if (rows.length === 0) return 'neither';
      return [
        {
          observed: rows.map(([name]) => name).join(', '),
          remedy: 'read_only stops one node only, and others go on: this was never tried with a cluster.',
          level: 'block',
        },
      ];
    },
  },
  {
    id: 'M1',
    title: 'server',
    level: 'block',
    expected: 'MySQL 8.0.23 or newer, or MariaDB 10.11 or newer',
    run: server,
  },
];

const OLDEST = { mysql: [8, 0, 23], mariadb: [10, 11, 0] } as const;

/** Servers that speak the protocol and have another log, by a word of their version. */
const OTHERS = /vitess|planetscale|tidb|oceanbase|heatwave/i;

async function server({ link }: CheckContext): Promise<readonly Finding[] | string> {
  const comment = (await link.value("SELECT CONCAT(VERSION(), ' ', @@version_comment)")) ?? '';
  const shown = `${link.flavour === 'mysql' ? 'MySQL' : 'MariaDB'} ${link.version.join('.')}`;
  const other = OTHERS.exec(comment)?.[0];
  if (other !== undefined)
    return [
      {
        observed: `${shown}, ${other}`,
        remedy: 'Use a MySQL or MariaDB server: its binary log is what is read.',
      },
    ];
  const oldest = OLDEST[link.flavour];
  const place = link.version.findIndex((number, index) => number !== oldest[index]);
  if (place >= 0 && (link.version[place] as number) < (oldest[place] as number))
    return [{ observed: shown, remedy: `Upgrade the server to ${oldest.join('.')} or newer first.` }];
  return `${shown}, log at ${(await executedGtids(link)) || '(nothing)'}`;
}

async function replicas({ link }: CheckContext): Promise<readonly unknown[]> {
  return await link.rows(link.flavour === 'mysql' ? 'SHOW REPLICA STATUS' : 'SHOW ALL REPLICAS STATUS');
}

async function charsets(context: CheckContext): Promise<readonly Finding[] | string> {
  const rows = await context.link.rows(
    `SELECT DISTINCT c.TABLE_NAME, c.COLUMN_NAME, c.CHARACTER_SET_NAME, s.MAXLEN FROM information_schema.COLUMNS c
     JOIN information_schema.CHARACTER_SETS s ON s.CHARACTER_SET_NAME = c.CHARACTER_SET_NAME WHERE ${picked(context, 'c.TABLE_SCHEMA', 'c.TABLE_NAME')}`,
  );
  const unknown = rows.filter(([, , charset, most]) => !isKnownCharset(charset as string, Number(most)));
  const compressed = await context.link.rows(
    `SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, 1 FROM information_schema.COLUMNS WHERE ${picked(context)} AND COLUMN_TYPE LIKE ${literal('%COMPRESSED%')}`,
  );
  const found = [...unknown, ...compressed];
  if (found.length === 0) return 'all of them';
  return found.map(([table, column, what]) => ({
    observed: `${table}.${column}: ${what}`,
    remedy: 'Leave the table out, or change the column.',
  }));
}
