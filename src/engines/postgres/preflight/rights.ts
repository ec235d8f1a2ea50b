import { showTable } from '../../../core/table.ts';
import { ident, qualified } from '../sql.ts';
import type { Finding } from '../../../core/preflight.ts';
import { mappedOnly, oidsOf, publicationName, rowsOf, type Check, type CheckContext } from './check.ts';

/** What is asked of the role we connect as. */
export const RIGHTS_CHECKS: readonly Check[] = [
  {
    id: 'P5',
    title: 'role may replicate',
    level: 'block',
    expected: 'a role with REPLICATION that is not a superuser',
    run: async (context) => [...(await mayReplicate(context)), ...tooWide(context)],
  },
  {
    id: 'P6',
    title: 'replication connection',
    level: 'block',
    expected: 'a connection with replication=database that answers IDENTIFY_SYSTEM',
    run: replicationConnection,
  },
  {
    id: 'P7',
    title: 'ownership: publication, guards of the fence, state',
    level: 'block',
    expected: 'our role has the rights of the owner of every mapped table and may create in the database',
    run: ownership,
  },
  {
    id: 'P8',
    title: 'SELECT on tables and sequences',
    level: 'block',
    expected: 'SELECT on every mapped table and its sequences',
    run: reading,
  },
  {
    id: 'P9',
    title: 'row-level security hides nothing',
    level: 'block',
    expected: 'no policy applies to our role',
    run: async (context) =>
      context.members
        .filter((member) => member.rowSecurity)
        .map((member) => ({
          observed: `row-level security of ${showTable(member.table)} applies to ${context.role}: rows would be missing without an error`,
          remedy: 'Let our role bypass it.',
          sql: `ALTER ROLE ${ident(context.role)} BYPASSRLS`,
        })),
  },
];

export async function mayReplicate(context: CheckContext): Promise<readonly Finding[]> {
  const [row] = await rowsOf<{ ok: string; rds: string }>(
    context,
    `SELECT (rolreplication OR rolsuper) AS ok,
            coalesce((SELECT pg_has_role(g.oid, 'USAGE') FROM pg_roles g WHERE g.rolname = 'rds_replication'), false) AS rds
     FROM pg_roles WHERE rolname = session_user`,
  );
  if (row?.ok === 't' || row?.rds === 't') return [];
  return [
    {
      observed: `${context.role} has no REPLICATION`,
      remedy: 'Give it (on Amazon RDS: GRANT rds_replication).',
      sql: `ALTER ROLE ${ident(context.role)} REPLICATION`,
    },
  ];
}

function tooWide(context: CheckContext): readonly Finding[] {
  if (!context.superuser) return [];
  return [
    {
      level: 'warn',
      observed: `${context.role} is a superuser`,
      remedy:
        "Use a role of its own: LOGIN REPLICATION, member of the tables' owner, CREATE on the database.",
    },
  ];
}

async function replicationConnection(context: CheckContext): Promise<readonly Finding[] | string> {
  try {
    const client = await context.connect({ replication: true });
    try {
      await client.query('IDENTIFY_SYSTEM');
      return 'IDENTIFY_SYSTEM answered';
    } finally {
      await client.end();
    }
  } catch (error) {
    const state = (error as { code?: unknown }).code;
    return [
      {
        observed: `a replication connection failed${typeof state === 'string' ? ` (${state})` : ''}`,
        remedy:
          'The role needs REPLICATION, pg_hba.conf a line for this database (a logical replication connection is matched by the name of the database), ' +
          'and the address must be the server itself: poolers refuse replication.',
      },
    ];
  }
}

async function ownership(context: CheckContext): Promise<readonly Finding[] | string> {
  const [database] = await rowsOf<{ name: string; creates: string; published: string; state: string }>(
    context,
    `SELECT current_database() AS name, has_database_privilege(current_database(), 'CREATE') AS creates,
            EXISTS (SELECT FROM pg_publication WHERE pubname = $1) AS published,
            EXISTS (SELECT FROM pg_namespace WHERE nspname = $2) AS state`,
    [publicationName(context), context.env.stateSchema],
  );
  const found = notOwned(context);
  if (database?.creates !== 't' && (database?.published !== 't' || database.state !== 't')) {
    found.push({
      observed: `${context.role} may not create publications and schemas in ${database?.name}`,
      remedy: 'Let it create in this database.',
      sql: `GRANT CREATE ON DATABASE ${ident(database?.name as string)} TO ${ident(context.role)}`,
    });
  }
  if (found.length > 0) return found;
  if (context.members.length === 0) return 'no table to try it on';
  return tryPublication(context);
}

/** Publication, guards and their switching all need the owner's rights on each table. */
export function notOwned(context: CheckContext): Finding[] {
  return mappedOnly(context.members)
    .filter((member) => !member.owned)
    .map((member) => ({
      observed: `${context.role} does not have the rights of ${member.owner}, the owner of ${showTable(member.table)}`,
      remedy: 'Make it a member of the owner: a publication and the guards of the fence need that.',
      sql: `GRANT ${ident(member.owner)} TO ${ident(context.role)}`,
    }));
}

/** Creates a publication over exactly these tables and rolls it back. */
async function tryPublication(context: CheckContext): Promise<readonly Finding[] | string> {
  const tables = mappedOnly(context.members).filter(
    (member) => member.persistence === 'p' && ['r', 'p'].includes(member.relkind),
  );
  if (tables.length === 0) return 'no table to try it on';
  const name = `verdigris_try_${process.pid}_${Date.now()}`;
  const list = tables.map((member) => `ONLY ${qualified(member.table)}`).join(', ');
  await context.client.query('BEGIN READ WRITE');
  try {
    await context.client.query(
      `CREATE PUBLICATION ${ident(name)} FOR TABLE ${list} WITH (publish_via_partition_root = true)`,
    );
    return 'a publication over these tables could be created (rolled back)';
  } finally {
    await context.client.query('ROLLBACK');
  }
}

async function reading(context: CheckContext): Promise<readonly Finding[]> {
  const role = ident(context.role);
  const tables = await rowsOf<{ schema: string; name: string; usage: string; may: string }>(
    context,
    `SELECT n.nspname AS schema, c.relname AS name, has_schema_privilege(n.oid, 'USAGE') AS usage, has_table_privilege(c.oid, 'SELECT') AS may
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ($1::oid[]) AND c.relkind IN ('r', 'p', 'f', 'v', 'm') ORDER BY 1, 2`,
    [oidsOf(context.members)],
  );
  const sequences = await rowsOf<{ schema: string; name: string; table: string }>(
    context,
    `SELECT n.nspname AS schema, c.relname AS name, d.refobjid::regclass::text AS table
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
          AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
     WHERE c.relkind = 'S' AND d.refobjid = ANY ($1::oid[])
       AND NOT CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT') ELSE true END ORDER BY 1, 2`,
    [oidsOf(context.members)],
  );
  const schemas = new Map(tables.filter((row) => row.usage !== 't').map((row) => [row.schema, row]));
  return [
    ...[...schemas.keys()].map((schema) => ({
      observed: `${context.role} has no USAGE on schema ${schema}`,
      remedy: 'Grant it.',
      sql: `GRANT USAGE ON SCHEMA ${ident(schema)} TO ${role}`,
    })),
    ...tables
      .filter((row) => row.may !== 't')
      .map((row) => ({
        observed: `${context.role} may not read ${showTable(row)}`,
        remedy: 'Grant it.',
        sql: `GRANT SELECT ON ${qualified(row)} TO ${role}`,
      })),
    ...sequences.map((row) => ({
      observed: `${context.role} may not read the sequence ${showTable(row)} of ${row.table}`,
      remedy: 'Grant it: it must be moved on at the switch.',
      sql: `GRANT SELECT ON SEQUENCE ${qualified(row)} TO ${role}`,
    })),
  ];
}

/** Privileges a sink needs on the tables it writes, as findings. */
export async function writing(context: CheckContext): Promise<readonly Finding[]> {
  const rows = await rowsOf<{ schema: string; name: string; missing: string }>(
    context,
    `SELECT n.nspname AS schema, c.relname AS name, m.missing
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
     LATERAL (SELECT string_agg(p, ', ') AS missing FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p
              WHERE NOT has_table_privilege(c.oid, p)) m
     WHERE c.oid = ANY ($1::oid[]) AND m.missing IS NOT NULL ORDER BY 1, 2`,
    [oidsOf(mappedOnly(context.members))],
  );
  return rows.map((row) => ({
    observed: `${context.role} has no ${row.missing} on ${showTable(row)}`,
    remedy: 'Grant it.',
    sql: `GRANT ${row.missing} ON ${qualified(row)} TO ${ident(context.role)}`,
  }));
}
