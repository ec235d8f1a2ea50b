import { showTable } from '../../../core/table.ts';
import { keyIndex } from '../catalog-layout.ts';
import { picked, setting, type Check } from './check.ts';

/** What is asked of the tables that are copied. */
export const TABLE_CHECKS: readonly Check[] = [
  {
    id: 'M17',
    title: 'transactional tables',
    level: 'block',
    expected: 'InnoDB',
    run: async ({ layouts, missing }) => {
      const wrong = layouts.filter(({ engine }) => engine !== 'InnoDB');
      return [
        ...missing.map((table) => ({
          observed: `${showTable(table)} does not exist`,
          remedy: 'Create it or correct the name.',
        })),
        ...wrong.map(({ table, engine }) => ({
          observed: `${showTable(table)}: ${engine}`,
          remedy: 'A snapshot means nothing there: convert the table or leave it out.',
          sql: `ALTER TABLE ${showTable(table)} ENGINE = InnoDB`,
        })),
      ];
    },
  },
  {
    id: 'M18',
    title: 'keys',
    level: 'warn',
    expected: 'a primary key, or a unique index over whole columns that are NOT NULL',
    run: async ({ layouts }) =>
      layouts
        .filter((layout) => keyIndex(layout) === null)
        .map(({ table }) => ({
          observed: `${showTable(table)} has none`,
          remedy:
            'It is copied in one piece, its writers wait for a moment while that begins, and changes find their row by all its values.',
        })),
  },
  {
    id: 'M19',
    title: 'foreign keys that change other rows',
    level: 'block',
    expected: 'no CASCADE, SET NULL or SET DEFAULT: their rows are not in the log',
    run: async (context) => {
      const rows = await context.link.rows(
        `SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, UPDATE_RULE, DELETE_RULE FROM information_schema.REFERENTIAL_CONSTRAINTS
         WHERE ${picked(context, 'CONSTRAINT_SCHEMA', 'TABLE_NAME')} AND (UPDATE_RULE NOT IN ('NO ACTION', 'RESTRICT') OR DELETE_RULE NOT IN ('NO ACTION', 'RESTRICT'))`,
      );
      return rows.map(([schema, table, name, onUpdate, onDelete]) => ({
        observed: `${showTable({ schema: schema as string, name: table as string })}: ${name} ON UPDATE ${onUpdate} ON DELETE ${onDelete}`,
        remedy:
          'Make it RESTRICT and let the application do what it did: the storage engine logs no row that a cascade changes.',
      }));
    },
  },
  {
    id: 'M20',
    title: 'triggers',
    level: 'info',
    expected: 'none that green has too',
    run: async (context) => {
      const rows = await context.link.rows(
        `SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE ${picked(context, 'EVENT_OBJECT_SCHEMA', 'EVENT_OBJECT_TABLE')}`,
      );
      return rows.length === 0
        ? 'none'
        : `what they change is in the log: ${rows.map(([name]) => name).join(', ')}`;
    },
  },
  {
    id: 'M21',
    title: 'generated and invisible columns',
    level: 'info',
    expected: 'known',
    run: async ({ layouts }) => {
      const found = layouts.flatMap((layout) =>
        layout.columns.flatMap((column) =>
          column.generated || column.invisible ? [`${layout.table.name}.${column.name}`] : [],
        ),
      );
      return found.length === 0 ? 'none' : found.join(', ');
    },
  },
  {
    id: 'M24',
    title: 'case of names',
    level: 'info',
    expected: 'the same on both sides',
    run: async (context) => `lower_case_table_names = ${await setting(context, 'lower_case_table_names')}`,
  },
  {
    id: 'M27',
    title: 'size of packets',
    level: 'warn',
    expected: 'max_allowed_packet of 4 MiB or more',
    run: async (context) => {
      const bytes = Number(await setting(context, 'max_allowed_packet'));
      if (bytes >= 4 * 2 ** 20) return `${Math.round(bytes / 2 ** 20)} MiB`;
      return [
        {
          observed: `${bytes} bytes`,
          remedy: 'Raise it: statements of half a megabyte and rows of any size are sent.',
          sql: 'SET GLOBAL max_allowed_packet = 67108864',
        },
      ];
    },
  },
  {
    id: 'M28',
    title: 'auto-increment',
    level: 'warn',
    expected: 'less than 80 % of the values used',
    run: async (context) => {
      const rows = await context.link.rows(
        `SELECT t.TABLE_NAME, c.COLUMN_TYPE, t.AUTO_INCREMENT FROM information_schema.TABLES t JOIN information_schema.COLUMNS c
         ON c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME AND c.EXTRA LIKE '%auto_increment%'
         WHERE ${picked(context, 't.TABLE_SCHEMA', 't.TABLE_NAME')} AND t.AUTO_INCREMENT > 1717986918 AND c.DATA_TYPE = 'int' AND c.COLUMN_TYPE NOT LIKE '%unsigned%'`,
      );
      return rows.map(([table, type, next]) => ({
        observed: `${table}: ${next} of ${type}`,
        remedy: 'Widen the column on green.',
      }));
    },
  },
  {
    id: 'M29',
    title: 'events',
    level: 'warn',
    expected: 'no event writes while traffic moves',
    run: async (context) => {
      if ((await setting(context, 'event_scheduler')) !== 'ON') return 'event_scheduler is not ON';
      const rows = await context.link.rows(
        "SELECT EVENT_NAME FROM information_schema.EVENTS WHERE STATUS = 'ENABLED'",
      );
      // Without the privilege the list is empty, whatever there is.
      const all = (await context.link.rows('SHOW GRANTS')).some(([grant]) =>
        /\b(ALL PRIVILEGES|EVENT)\b.* ON \*\.\*/.test(grant ?? ''),
      );
      if (rows.length === 0 && all) return 'none';
      if (rows.length === 0)
        return [
          {
            observed: 'event_scheduler is ON, and our account may not list the events',
            remedy: 'See for yourself that no event writes while traffic moves, or let our account look.',
            sql: `GRANT EVENT ON *.* TO ${context.account}`,
            unknown: true,
          },
        ];
      return [
        {
          observed: rows.map(([name]) => name).join(', '),
          remedy: 'Stop the scheduler during the switch, and see that events run on one side only.',
          sql: 'SET GLOBAL event_scheduler = OFF',
        },
      ];
    },
  },
  {
    id: 'M32',
    title: 'partitions',
    level: 'info',
    expected: 'known',
    run: async (context) => {
      const rows = await context.link.rows(
        `SELECT DISTINCT TABLE_NAME FROM information_schema.PARTITIONS WHERE ${picked(context)} AND PARTITION_NAME IS NOT NULL`,
      );
      return rows.length === 0
        ? 'none'
        : `DROP PARTITION and TRUNCATE PARTITION stop the stream: ${rows.map(([name]) => name).join(', ')}`;
    },
  },
];
