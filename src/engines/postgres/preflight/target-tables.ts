import type { TargetTable } from '../../../core/plan.ts';
import { showTable, tableId } from '../../../core/table.ts';
import { ident, qualified } from '../sql.ts';
import type { Finding } from '../../../core/preflight.ts';
import { mappedOnly, oidsOf, rowsOf, type Check, type CheckContext } from './check.ts';
import { writing } from './rights.ts';

/** What is asked of the tables that are written to. */
export const TARGET_TABLE_CHECKS: readonly Check[] = [
  {
    id: 'PT4',
    title: 'target tables',
    level: 'block',
    expected: 'ordinary tables that our role may write, empty unless they are ours',
    run: async (context) => [
      ...missing(context),
      ...wrongKind(context),
      ...(await writing(context)),
      ...(await notEmpty(context)),
    ],
  },
  {
    id: 'PT5',
    title: 'columns that nothing fills',
    level: 'block',
    expected: 'every column that the mapping leaves out is nullable or has a default',
    run: unfilled,
  },
  {
    id: 'PT6',
    title: 'target keys',
    level: 'block',
    expected: 'a key on every target table that is merged or exploded',
    run: targetKeys,
  },
  {
    id: 'PT7',
    title: 'further unique constraints',
    level: 'info',
    expected: 'none that the rows of blue do not satisfy',
    run: uniques,
  },
  {
    id: 'PT8',
    title: 'triggers and rules that fire during apply',
    level: 'warn',
    expected: 'none',
    run: firing,
  },
  {
    id: 'PT11',
    title: 'who else may write',
    level: 'info',
    expected: 'nobody: guards refuse them from the preparation until the switch',
    run: otherWriters,
  },
];

const RELKINDS: Readonly<Record<string, string>> = {
  v: 'a view',
  m: 'a materialized view',
  f: 'a foreign table',
};

function missing(context: CheckContext): readonly Finding[] {
  const wanted = new Set(context.scope.targets.map((target) => tableId(target.relation.table)));
  return context.missing.map((table) =>
    wanted.has(tableId(table))
      ? {
          observed: `${showTable(table)} does not exist`,
          remedy: 'Create it, or correct the name in the mapping.',
        }
      : {
          level: 'info' as const,
          observed: `${showTable(table)} does not exist yet`,
          remedy: 'It must come from the schema file; the checks of its columns run again then.',
        },
  );
}

function wrongKind(context: CheckContext): readonly Finding[] {
  return context.members.flatMap((member): Finding[] => {
    const name = showTable(member.table);
    if (member.relkind !== 'r' && member.relkind !== 'p') {
      return [
        { observed: `${name} is ${RELKINDS[member.relkind] ?? 'not a table'}`, remedy: 'Name a table.' },
      ];
    }
    if (member.persistence === 'p') return [];
    return [
      {
        observed: `${name} is ${member.persistence === 'u' ? 'unlogged: a crash would empty it, and the way back does not see it' : 'temporary'}`,
        remedy: member.persistence === 'u' ? 'Make it a logged table.' : 'Name a permanent table.',
        ...(member.persistence === 'u' ? { sql: `ALTER TABLE ${qualified(member.table)} SET LOGGED` } : {}),
      },
    ];
  });
}

async function notEmpty(context: CheckContext): Promise<readonly Finding[]> {
  if (!context.scope.fresh) return [];
  const found: Finding[] = [];
  const readable = await rowsOf<{ oid: string }>(
    context,
    `SELECT o::text AS oid FROM unnest($1::oid[]) o WHERE has_table_privilege(o, 'SELECT') AND has_schema_privilege((SELECT relnamespace FROM pg_class c WHERE c.oid = o), 'USAGE')`,
    [oidsOf(mappedOnly(context.members))],
  );
  const may = new Set(readable.map((row) => row.oid));
  for (const member of mappedOnly(context.members)) {
    if (!['r', 'p'].includes(member.relkind)) continue;
    const name = showTable(member.table);
    if (!may.has(member.oid)) {
      found.push({
        unknown: true,
        observed: `whether ${name} is empty cannot be seen without SELECT`,
        remedy: 'Grant it, then run this again.',
      });
      continue;
    }
    const [row] = await rowsOf<{ some: string }>(
      context,
      `SELECT EXISTS (SELECT FROM ${qualified(member.table)}) AS some`,
    );
    if (row?.some !== 't') continue;
    found.push({
      observed: `${name} holds rows, and no state of this migration stands here`,
      remedy: 'Nothing is ever overwritten: empty it if the rows are not wanted, or name another table.',
      sql: `TRUNCATE ${qualified(member.table)}`,
    });
  }
  return found;
}

/** Columns a target's plan sets, as far as the plan itself says; the relation where it does not. */
function filled(target: TargetTable): ReadonlySet<string> {
  const { columns } = target.relation;
  if (target.merge === null) return new Set(columns.map((column) => column.name));
  const indexes = [
    ...target.relation.key,
    ...target.merge.owner,
    ...target.merge.parts.flatMap((part) => part.columns),
  ];
  return new Set(indexes.map((index) => columns[index]?.name ?? ''));
}

async function unfilled(context: CheckContext): Promise<readonly Finding[] | string> {
  if (context.scope.targets.length === 0) return 'no target layout is known yet';
  const byTable = new Map(context.scope.targets.map((target) => [tableId(target.relation.table), target]));
  const rows = await rowsOf<{ schema: string; name: string; column: string }>(
    context,
    `SELECT n.nspname AS schema, c.relname AS name, a.attname AS column
     FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND (a.attnotnull OR t.typnotnull)
       AND NOT a.atthasdef AND a.attidentity = '' AND t.typdefault IS NULL ORDER BY 1, 2, a.attnum`,
    [oidsOf(mappedOnly(context.members))],
  );
  return rows
    .filter((row) => {
      const target = byTable.get(tableId(row));
      return target !== undefined && !filled(target).has(row.column);
    })
    .map((row) => ({
      observed: `${showTable(row)}.${row.column} is NOT NULL without a default, and the mapping does not fill it`,
      remedy: 'Map it, or give it a default.',
    }));
}

function targetKeys(context: CheckContext): Promise<readonly Finding[]> {
  const found: Finding[] = [];
  for (const target of context.scope.targets) {
    if (target.relation.key.length > 0) continue;
    const shaped = target.merge !== null || target.prefix > 0;
    found.push({
      level: shaped ? 'block' : 'warn',
      observed: `${showTable(target.relation.table)} has no key${shaped ? ', and its rows are put together from several' : ''}`,
      remedy: 'Give it a primary key.',
    });
  }
  return Promise.resolve(found);
}

/** Whether blue's rows satisfy them cannot be seen from this side; the catalog only says that the question is there. */
async function uniques(context: CheckContext): Promise<readonly Finding[] | string> {
  const rows = await rowsOf<{ table: string; name: string; definition: string }>(
    context,
    `SELECT i.indrelid::regclass::text AS table, c.relname AS name, pg_get_indexdef(i.indexrelid) AS definition
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid = ANY ($1::oid[]) AND NOT i.indisprimary AND (i.indisunique OR i.indisexclusion) ORDER BY 1, 2`,
    [oidsOf(mappedOnly(context.members))],
  );
  if (rows.length === 0) return 'none';
  return rows.map((row) => ({
    unknown: true,
    observed: `${row.table} has ${row.name}: whether the mapped rows satisfy it is only known when it is built after the copy`,
    remedy: 'Look for duplicates on blue over the columns that feed it.',
  }));
}

async function firing(context: CheckContext): Promise<readonly Finding[]> {
  const replica = context.config.session.session_replication_role === 'replica';
  const triggers = await rowsOf<{ schema: string; name: string; trigger: string; enabled: string }>(
    context,
    `SELECT n.nspname AS schema, c.relname AS name, t.tgname AS trigger, t.tgenabled::text AS enabled
     FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_proc p ON p.oid = t.tgfoid
     WHERE t.tgrelid = ANY ($1::oid[]) AND NOT t.tgisinternal AND p.pronamespace IS DISTINCT FROM (SELECT oid FROM pg_namespace WHERE nspname = $2)
       AND (t.tgenabled IN ('A', 'R') OR (NOT $3::boolean AND t.tgenabled = 'O')) ORDER BY 1, 2, 3`,
    [oidsOf(context.members), context.env.stateSchema, replica],
  );
  const rules = await rowsOf<{ schema: string; name: string; rule: string }>(
    context,
    `SELECT n.nspname AS schema, c.relname AS name, r.rulename AS rule
     FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE r.ev_class = ANY ($1::oid[]) AND r.ev_type <> '1' AND (r.ev_enabled IN ('A', 'R') OR (NOT $2::boolean AND r.ev_enabled = 'O')) ORDER BY 1, 2, 3`,
    [oidsOf(context.members), replica],
  );
  return [
    ...triggers.map((row) => ({
      observed: `the trigger ${row.trigger} of ${showTable(row)} fires during apply: its effects have happened on blue already`,
      remedy: 'Let it fire only for clients.',
      sql: `ALTER TABLE ${qualified(row)} ENABLE TRIGGER ${ident(row.trigger)}`,
    })),
    ...rules.map((row) => ({
      observed: `the rule ${row.rule} of ${showTable(row)} rewrites what is applied`,
      remedy: 'Disable it until the switch.',
      sql: `ALTER TABLE ${qualified(row)} DISABLE RULE ${ident(row.rule)}`,
    })),
  ];
}

async function otherWriters(context: CheckContext): Promise<readonly Finding[] | string> {
  const rows = await rowsOf<{ role: string; tables: string }>(
    context,
    `SELECT CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END AS role, string_agg(DISTINCT c.oid::regclass::text, ', ') AS tables
     FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) x
     WHERE c.oid = ANY ($1::oid[]) AND x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE') GROUP BY 1 ORDER BY 1`,
    [oidsOf(mappedOnly(context.members))],
  );
  const others = rows.filter((row) => row.role !== context.role);
  if (others.length === 0) return 'nobody but us and superusers';
  return others.map((row) => ({
    observed: `${row.role} may write ${row.tables}`,
    remedy: 'Keep its clients away until the switch: their writes are refused.',
  }));
}
