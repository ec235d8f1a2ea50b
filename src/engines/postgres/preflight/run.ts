import type pg from 'pg';
import type { PreflightScope, SessionEnv } from '../../../core/engine.ts';
import { resultsOf, type CheckResult } from '../../../core/preflight.ts';
import { tableId, type TableName } from '../../../core/table.ts';
import type { PostgresConfig } from '../config.ts';
import { connect, type ClientOptions } from '../connect.ts';
import { translate } from '../errors.ts';
import { ident } from '../sql.ts';
import { ACTIVITY_CHECKS } from './activity.ts';
import type { Check, CheckContext, TableFacts } from './check.ts';
import { IDENTITY_CHECKS } from './identity.ts';
import { LOG_CHECKS } from './log.ts';
import { RIGHTS_CHECKS } from './rights.ts';
import { SERVER_CHECKS } from './server.ts';
import { TABLE_CHECKS } from './tables.ts';
import { TARGET_CHECKS } from './target.ts';
import { TARGET_TABLE_CHECKS } from './target-tables.ts';

export interface PreflightOptions {
  readonly config: PostgresConfig;
  readonly env: SessionEnv;
}

const byNumber = (left: Check, right: Check): number =>
  Number(left.id.replace(/\D/g, '')) - Number(right.id.replace(/\D/g, ''));

/** Everything that is asked of a source. */
export const SOURCE: readonly Check[] = [
  ...SERVER_CHECKS,
  ...LOG_CHECKS,
  ...RIGHTS_CHECKS,
  ...IDENTITY_CHECKS,
  ...TABLE_CHECKS,
  ...ACTIVITY_CHECKS,
].sort(byNumber);

/** Questions about a server that matter for whoever writes to it, too. */
const ALSO_FOR_SINKS = new Set(['P1', 'P9', 'P17', 'P21', 'P23', 'P24', 'P25', 'P26', 'P27', 'P29', 'P30']);

/** Everything that is asked of a sink. */
export const SINK: readonly Check[] = [
  ...[...TARGET_CHECKS, ...TARGET_TABLE_CHECKS].sort(byNumber),
  ...SOURCE.filter((check) => ALSO_FOR_SINKS.has(check.id)),
];

/**
 * Asks everything about one side. Changes nothing: what has to be tried is tried in a transaction that is rolled back.
 * A check that fails says so (`could-not-check`); it never counts as passed.
 */
export async function runPreflight(options: PreflightOptions, scope: PreflightScope): Promise<CheckResult[]> {
  const { config, env } = options;
  const open = (more: Omit<ClientOptions, 'applicationName'>): Promise<pg.Client> =>
    connect(config, { ...more, applicationName: `verdigris:${env.migration}:preflight` });
  let client: pg.Client;
  try {
    client = await open({});
  } catch (error) {
    return [unreachable(scope, env, error)];
  }
  try {
    // Set here and not at startup: what the role and the database say about time-outs must stay readable.
    await client.query(`SET statement_timeout = '15s'; SET lock_timeout = '2s'`);
    const context = await contextOf(client, open, options, scope);
    const results: CheckResult[] = [];
    for (const check of scope.role === 'source' ? SOURCE : SINK)
      results.push(...(await answer(check, context)));
    return results;
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function answer(check: Check, context: CheckContext): Promise<CheckResult[]> {
  const { side } = context.env;
  try {
    return resultsOf(check, side, await check.run(context));
  } catch (error) {
    await context.client.query('ROLLBACK').catch(() => undefined);
    const state = (error as { code?: unknown }).code;
    return [
      {
        id: check.id,
        side,
        title: check.title,
        level: check.level,
        outcome: 'could-not-check',
        observed: `${typeof state === 'string' ? `SQLSTATE ${state}: ` : ''}${translate(error, 'source').message}`,
        expected: check.expected,
        remedy:
          state === '42501'
            ? `Let ${context.role} read what the message names (GRANT pg_monitor covers the server's statistics), then run it again.`
            : 'Remove what the message names, then run it again. What could not be checked is not known to be right.',
        ...(state === '42501' ? { sql: `GRANT pg_monitor TO ${ident(context.role)}` } : {}),
      },
    ];
  }
}

function unreachable(scope: PreflightScope, env: SessionEnv, error: unknown): CheckResult {
  const translated = translate(error, scope.role);
  return {
    id: scope.role === 'source' ? 'P1' : 'PT1',
    side: env.side,
    level: 'block',
    outcome: 'could-not-check',
    title: 'connection',
    observed: translated.message,
    expected: 'a connection',
    remedy: translated.remedy,
  };
}

const MEMBERS = `
WITH RECURSIVE wanted AS (
  SELECT w.schema, w.name, c.oid FROM unnest($1::text[], $2::text[]) AS w(schema, name)
  JOIN pg_namespace n ON n.nspname = w.schema JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
), tree AS (
  SELECT oid, schema, name FROM wanted
  UNION
  SELECT i.inhrelid, t.schema, t.name FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid
)
SELECT DISTINCT ON (c.oid) c.oid::text AS oid, n.nspname AS schema, c.relname AS name, t.schema AS mapped_schema, t.name AS mapped_name,
       c.relkind::text AS relkind, c.relpersistence::text AS persistence, c.relreplident::text AS identity,
       c.relispartition AS partition, pg_get_userbyid(c.relowner) AS owner, pg_has_role(c.relowner, 'USAGE') AS owned,
       row_security_active(c.oid) AS row_security
FROM tree t JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY c.oid, (n.nspname = t.schema AND c.relname = t.name) DESC`;

interface MemberRow {
  readonly oid: string;
  readonly schema: string;
  readonly name: string;
  readonly mapped_schema: string;
  readonly mapped_name: string;
  readonly relkind: string;
  readonly persistence: string;
  readonly identity: string;
  readonly partition: string;
  readonly owner: string;
  readonly owned: string;
  readonly row_security: string;
}

async function contextOf(
  client: pg.Client,
  open: CheckContext['connect'],
  options: PreflightOptions,
  scope: PreflightScope,
): Promise<CheckContext> {
  const wanted = wantedTables(scope);
  const { rows } = await client.query<MemberRow>(MEMBERS, [
    wanted.map((table) => table.schema),
    wanted.map((table) => table.name),
  ]);
  const members = rows.map((row): TableFacts => ({
    oid: row.oid,
    table: { schema: row.schema, name: row.name },
    mapped: { schema: row.mapped_schema, name: row.mapped_name },
    relkind: row.relkind,
    persistence: row.persistence,
    identity: row.identity,
    partition: row.partition === 't',
    child: row.partition !== 't' && (row.schema !== row.mapped_schema || row.name !== row.mapped_name),
    owner: row.owner,
    owned: row.owned === 't',
    rowSecurity: row.row_security === 't',
  }));
  const here = new Set(members.map((member) => tableId(member.table)));
  const self = await client.query<{ role: string; superuser: string; version: string }>(
    `SELECT session_user::text AS role, rolsuper AS superuser, current_setting('server_version_num') AS version
     FROM pg_roles WHERE rolname = session_user`,
  );
  const { role, superuser, version } = self.rows[0] as { role: string; superuser: string; version: string };
  return {
    ...options,
    client,
    connect: open,
    scope,
    version: Number(version),
    role,
    superuser: superuser === 't',
    members,
    missing: wanted.filter((table) => !here.has(tableId(table))),
  };
}

/** Source: the mapped tables. Sink: those, and what the plans write to. */
function wantedTables(scope: PreflightScope): readonly TableName[] {
  const all = [...scope.tables, ...scope.targets.map((target) => target.relation.table)];
  return [...new Map(all.map((table) => [tableId(table), table])).values()];
}
