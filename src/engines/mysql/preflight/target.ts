import { showTable } from '../../../core/table.ts';
import { qualified } from '../sql.ts';
import { picked, setting, type Check } from './check.ts';

const SLOW_MS = 20;
const PROBES = 20;

/** What is asked of the server that is written to. */
export const TARGET_CHECKS: readonly Check[] = [
  {
    id: 'MT1',
    title: 'round trip',
    level: 'warn',
    expected: `99 of 100 statements within ${SLOW_MS} ms`,
    run: async ({ link }) => {
      const times: number[] = [];
      for (let probe = 0; probe < PROBES; probe += 1) {
        const started = performance.now();
        await link.rows('SELECT 1');
        times.push(performance.now() - started);
      }
      const worst = times.sort((left, right) => left - right).at(-2) as number;
      if (worst <= SLOW_MS) return `${worst.toFixed(1)} ms`;
      return [
        {
          observed: `${worst.toFixed(1)} ms`,
          remedy: 'Run the engine nearer to this server: every group costs several round trips.',
        },
      ];
    },
  },
  {
    id: 'MT4',
    title: 'tables are empty',
    level: 'block',
    expected: 'no row in them before the first copy',
    run: async ({ link, scope, layouts }) => {
      if (!scope.fresh) return 'not asked: state of this run stands there';
      const full: { observed: string; remedy: string }[] = [];
      for (const { table } of layouts) {
        if ((await link.value(`SELECT 1 FROM ${qualified(table)} LIMIT 1`)) !== null)
          full.push({
            observed: `${showTable(table)} holds rows`,
            remedy: 'Empty it, or name another database: nothing is overwritten.',
          });
      }
      return full;
    },
  },
  {
    id: 'MT8',
    title: 'no triggers',
    level: 'block',
    expected: 'none: they cannot be held back during apply',
    run: async (context) => {
      const rows = await context.link.rows(
        `SELECT EVENT_OBJECT_TABLE, TRIGGER_NAME FROM information_schema.TRIGGERS WHERE ${picked(context, 'EVENT_OBJECT_SCHEMA', 'EVENT_OBJECT_TABLE')}`,
      );
      return rows.map(([table, name]) => ({
        observed: `${table}: ${name}`,
        remedy: 'What a trigger of blue changes comes through the log. Create this one after the switch.',
        sql: `DROP TRIGGER ${name}`,
      }));
    },
  },
  {
    id: 'MT9',
    title: 'durability of commits',
    level: 'warn',
    expected: 'innodb_flush_log_at_trx_commit = 1 and sync_binlog = 1',
    run: async (context) => {
      const flush = await setting(context, 'innodb_flush_log_at_trx_commit');
      const sync = await setting(context, 'sync_binlog');
      if (flush === '1' && sync === '1') return 'as expected';
      return [
        {
          observed: `innodb_flush_log_at_trx_commit = ${flush}, sync_binlog = ${sync}`,
          remedy:
            'After a crash of the machine the checkpoint and the rows go back together; before the switch set both to 1.',
        },
      ];
    },
  },
  {
    id: 'MT10',
    title: 'bulk loading',
    level: 'warn',
    expected: 'local_infile = ON for as long as the first copy runs',
    run: async (context) => {
      if ((await setting(context, 'local_infile')) === '1') return 'local_infile = ON';
      return [
        {
          observed: 'local_infile = OFF',
          remedy:
            'Rows are written with INSERT then, which takes green about twice the work. No file is read: what is loaded is our own stream.',
          sql: 'SET GLOBAL local_infile = ON',
        },
      ];
    },
  },
  {
    id: 'MT5',
    title: 'arrays',
    level: 'block',
    expected: 'none that is written element by element: that is not supported on this engine yet',
    run: async ({ scope }) =>
      scope.targets
        .filter((target) => target.elements !== undefined)
        .map(({ relation }) => ({
          observed: showTable(relation.table),
          remedy: 'Map each table to a table of its own.',
        })),
  },
];
