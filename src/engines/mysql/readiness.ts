import type { Readiness, ReadinessReader } from '../../core/readiness.ts';
import { showTable, type TableName } from '../../core/table.ts';
import type { WithLink } from './catalog.ts';
import { translate, type Where } from './errors.ts';
import { preparedTransactions } from './fence-writers.ts';
import { literal } from './sql.ts';

export function createReadiness(options: {
  readonly withLink: WithLink;
  readonly where: Where;
}): ReadinessReader {
  return {
    async read(tables: readonly TableName[]): Promise<Readiness> {
      if (tables.length === 0)
        return {
          ddlInProgress: [],
          invalidIndexes: [],
          unvalidatedConstraints: [],
          tablesWithoutStatistics: [],
        };
      const names = tables.map(({ schema, name }) => `(${literal(schema)}, ${literal(name)})`).join(', ');
      try {
        return await options.withLink(async (link) => {
          const running = await link.rows(
            `SELECT ID, INFO FROM information_schema.PROCESSLIST
             WHERE ID <> CONNECTION_ID() AND INFO REGEXP '^[[:space:]]*(ALTER|CREATE|DROP|RENAME|TRUNCATE|OPTIMIZE|REPAIR)[[:space:]]'`,
          );
          const ddl = running
            .filter(([, info]) => tables.some(({ name }) => info?.toLowerCase().includes(name.toLowerCase())))
            .map(([id]) => `a change of layout in session ${id}`);
          const without = await link
            .rows(
              `SELECT t.TABLE_SCHEMA, t.TABLE_NAME FROM information_schema.TABLES t
             LEFT JOIN mysql.innodb_table_stats s ON s.database_name = t.TABLE_SCHEMA AND s.table_name = t.TABLE_NAME
             WHERE (t.TABLE_SCHEMA, t.TABLE_NAME) IN (${names}) AND t.ENGINE = 'InnoDB' AND s.table_name IS NULL
               AND NOT EXISTS (SELECT 1 FROM mysql.innodb_table_stats p WHERE p.database_name = t.TABLE_SCHEMA AND p.table_name LIKE CONCAT(t.TABLE_NAME, '#%'))`,
            )
            .catch(() => []);
          return {
            ddlInProgress: [...ddl, ...(await preparedTransactions(link))],
            // An index or constraint is there as a whole or not at all.
            invalidIndexes: [],
            unvalidatedConstraints: [],
            tablesWithoutStatistics: without.map(([schema, name]) =>
              showTable({ schema: schema as string, name: name as string }),
            ),
          };
        });
      } catch (error) {
        throw translate(error, options.where);
      }
    },
  };
}
