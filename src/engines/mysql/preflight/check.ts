import type { PreflightScope, SessionEnv } from '../../../core/engine.ts';
import type { Check as AnyCheck } from '../../../core/preflight.ts';
import type { TableName } from '../../../core/table.ts';
import type { Layout } from '../catalog-layout.ts';
import type { MysqlConfig } from '../config.ts';
import type { Link } from '../connect.ts';
import { literal } from '../sql.ts';

/** What a check may look at. The link is one session with bounded statements; a check leaves no transaction open. */
export interface CheckContext {
  readonly link: Link;
  readonly config: MysqlConfig;
  readonly env: SessionEnv;
  readonly scope: PreflightScope;
  /** `'user'@'host'` of our account. */
  readonly account: string;
  readonly tables: readonly TableName[];
  readonly layouts: readonly Layout[];
  readonly missing: readonly TableName[];
}

export interface Check extends AnyCheck<CheckContext> {
  /** Asked of only one of the two kinds of server. */
  readonly only?: 'mysql' | 'mariadb';
}

export const setting = async (context: CheckContext, name: string): Promise<string> =>
  (await context.link.value(`SELECT @@global.${name}`)) ?? '';

/** A setting that must have one value. */
export function mustBe(
  check: Pick<Check, 'id' | 'title' | 'only'> & { readonly level?: Check['level'] },
  variable: string,
  value: { readonly raw: string; readonly shown: string },
): Check {
  return {
    level: 'block',
    ...check,
    expected: `${variable} = ${value.shown}`,
    run: async (context) => {
      const found = await setting(context, variable);
      if (found.toUpperCase() === value.raw) return `${variable} = ${value.shown}`;
      return [
        {
          observed: `${variable} = ${found === '' ? '(empty)' : found}`,
          remedy: 'Set it globally and in the configuration of the server; sessions must be opened anew.',
          sql: `SET GLOBAL ${variable} = ${/^\d+$/.test(value.raw) ? value.shown : literal(value.shown)}`,
        },
      ];
    },
  };
}

/** Condition on TABLE_SCHEMA and TABLE_NAME (or the names given) that picks the tables; false when there are none. */
export function picked(context: CheckContext, schema = 'TABLE_SCHEMA', name = 'TABLE_NAME'): string {
  if (context.tables.length === 0) return 'FALSE';
  return `(${schema}, ${name}) IN (${context.tables.map((table) => `(${literal(table.schema)}, ${literal(table.name)})`).join(', ')})`;
}
