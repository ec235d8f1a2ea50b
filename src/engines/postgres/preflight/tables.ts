import { showTable, type TableName } from '../../../core/table.ts';
import { ident, qualified } from '../sql.ts';
import type { Finding } from '../../../core/preflight.ts';
import { mappedOnly, oidsOf, rowsOf, type Check, type CheckContext } from './check.ts';

/** What is asked of the tables and their columns. */
export const TABLE_CHECKS: readonly Check[] = [
  {
    id: 'P12',
    title: 'kinds of tables',
    level: 'block',
    expected: 'ordinary or partitioned tables that are logged',
    run: kinds,
  },
  {
    id: 'P13',
    title: 'large objects',
    level: 'warn',
    expected: 'none: they are not in the log',
    run: largeObjects,
  },
  {
    id: 'P14',
    title: 'generated and identity columns',
    level: 'info',
    expected: 'computed on green again; identity values are kept',
    run: computed,
  },
  {
    id: 'P15',
    title: 'column types',
    level: 'block',
    expected: 'types whose text form can be read back',
    run: types,
  },
  {
    id: 'P28',
    title: 'sequences',
    level: 'warn',
    expected: 'readable, and less than 80 % used',
    run: sequences,
  },
];

const RELKINDS: Readonly<Record<string, string>> = {
  v: 'a view',
  m: 'a materialized view',
  f: 'a foreign table',
  S: 'a sequence',
  c: 'a composite type',
  i: 'an index',
  I: 'an index',
};

async function kinds(context: CheckContext): Promise<readonly Finding[]> {
  const found: Finding[] = context.missing.map((table) => ({
    observed: `${showTable(table)} does not exist`,
    remedy: 'Create it, or correct the name in the mapping (names are case-sensitive there).',
  }));
  for (const member of context.members) {
    const name = showTable(member.table);
    if (member.relkind !== 'r' && member.relkind !== 'p') {
      found.push({
        observed: `${name} is ${RELKINDS[member.relkind] ?? 'not a table'}`,
        remedy: 'Leave it out of the mapping: it is not in the log.',
      });
    } else if (member.persistence === 'u') {
      found.push({
        observed: `${name} is unlogged: its changes are not in the log`,
        remedy: 'Make it a logged table (rewrites it), or leave it out.',
        sql: `ALTER TABLE ${qualified(member.table)} SET LOGGED`,
      });
    } else if (member.persistence === 't') {
      found.push({ observed: `${name} is temporary`, remedy: 'Leave it out of the mapping.' });
    } else if (member.child) {
      found.push({
        level: 'warn',
        observed: `${name} inherits from ${showTable(member.mapped)} and is not mapped: its rows stay behind`,
        remedy: 'Map it as a table of its own, if its rows are wanted.',
      });
    }
  }
  return found;
}

async function largeObjects(context: CheckContext): Promise<readonly Finding[]> {
  const [row] = await rowsOf<{ some: string }>(
    context,
    'SELECT EXISTS (SELECT FROM pg_largeobject_metadata) AS some',
  );
  const columns = await rowsOf<{ table: string; column: string }>(
    context,
    `SELECT a.attrelid::regclass::text AS table, a.attname AS column FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND t.typname = 'lo' ORDER BY 1, 2`,
    [oidsOf(mappedOnly(context.members))],
  );
  if (row?.some !== 't' && columns.length === 0) return [];
  const where = columns.map((column) => `${column.table}.${column.column}`).join(', ');
  return [
    {
      observed: `the database holds large objects${where === '' ? '' : `; referred to by ${where}`}`,
      remedy:
        'Copy them by other means (vacuumlo, pg_dump --large-objects) with writes stopped, or move them to bytea first.',
    },
  ];
}

async function computed(context: CheckContext): Promise<readonly Finding[]> {
  const rows = await rowsOf<{ table: string; column: string; kind: string }>(
    context,
    `SELECT a.attrelid::regclass::text AS table, a.attname AS column,
            CASE WHEN a.attgenerated = 's' THEN 'stored generated' WHEN a.attgenerated <> '' THEN 'virtual generated'
                 WHEN a.attidentity = 'a' THEN 'identity always' ELSE 'identity' END AS kind
     FROM pg_attribute a WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
       AND (a.attgenerated <> '' OR a.attidentity <> '') ORDER BY 1, a.attnum`,
    [oidsOf(mappedOnly(context.members))],
  );
  return rows.map((row) => ({
    observed: `${row.table}.${row.column} is ${row.kind}`,
    remedy: row.kind.includes('generated')
      ? 'Green computes it itself; a mapping cannot read it.'
      : 'Nothing to do: values are written as they are.',
  }));
}

/** Types without an input function: what was printed cannot be read back. */
const UNREADABLE = new Set([
  'pg_node_tree',
  'pg_ndistinct',
  'pg_dependencies',
  'pg_mcv_list',
  'pg_brin_bloom_summary',
  'pg_brin_minmax_multi_summary',
]);
/** Their values name or number objects of one database. */
const LOCAL = new Set([
  ...[
    'oid',
    'aclitem',
    'regclass',
    'regcollation',
    'regconfig',
    'regdictionary',
    'regnamespace',
    'regoper',
    'regoperator',
  ],
  ...[
    'regproc',
    'regprocedure',
    'regrole',
    'regtype',
    'xid',
    'xid8',
    'cid',
    'tid',
    'pg_lsn',
    'pg_snapshot',
    'txid_snapshot',
  ],
]);

const TYPES = `
WITH RECURSIVE used(attrelid, attnum, oid) AS (
  SELECT a.attrelid, a.attnum, a.atttypid FROM pg_attribute a WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
  UNION
  SELECT u.attrelid, u.attnum, d.oid FROM used u JOIN pg_type t ON t.oid = u.oid
  CROSS JOIN LATERAL (
    SELECT t.typbasetype WHERE t.typtype = 'd'
    UNION ALL SELECT t.typelem WHERE t.typcategory = 'A' AND t.typelem <> 0
    UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
    UNION ALL SELECT x.atttypid FROM pg_attribute x WHERE t.typtype = 'c' AND x.attrelid = t.typrelid AND x.attnum > 0 AND NOT x.attisdropped
  ) d(oid)
)
SELECT u.attrelid::regclass::text AS table, a.attname AS column, t.typname AS name, t.typtype::text AS kind,
       (t.typnamespace = 'pg_catalog'::regnamespace) AS builtin,
       (SELECT e.extname FROM pg_depend x JOIN pg_extension e ON e.oid = x.refobjid
        WHERE x.classid = 'pg_type'::regclass AND x.objid = t.oid AND x.deptype = 'e') AS extension
FROM used u JOIN pg_type t ON t.oid = u.oid JOIN pg_attribute a ON a.attrelid = u.attrelid AND a.attnum = u.attnum
ORDER BY 1, u.attnum, t.oid`;

interface TypeRow {
  readonly table: string;
  readonly column: string;
  readonly name: string;
  readonly kind: string;
  readonly builtin: string;
  readonly extension: string | null;
}

async function types(context: CheckContext): Promise<readonly Finding[]> {
  const found: Finding[] = [];
  for (const row of await rowsOf<TypeRow>(context, TYPES, [oidsOf(mappedOnly(context.members))])) {
    const where = `${row.table}.${row.column}`;
    if (row.builtin === 't' && UNREADABLE.has(row.name)) {
      found.push({
        observed: `${where} uses ${row.name}, which no server reads back`,
        remedy: 'Leave the column out of the mapping.',
      });
    } else if (row.builtin === 't' && LOCAL.has(row.name)) {
      found.push({
        level: 'warn',
        observed: `${where} uses ${row.name}, whose values mean something in this database only`,
        remedy: 'Check that they mean the same on green, or map them to text.',
      });
    } else if (row.builtin !== 't' && row.kind === 'b' && row.extension !== null) {
      found.push({
        level: 'info',
        observed: `${where} uses ${row.name} of the extension ${row.extension}`,
        remedy: 'Install the extension on green, in a version that reads the same text.',
      });
    } else if (row.builtin !== 't' && row.kind === 'b' && !row.name.startsWith('_')) {
      found.push({
        level: 'warn',
        observed: `${where} uses ${row.name}, a base type of this database alone`,
        remedy: 'Install it on green and rehearse the copy of this table.',
      });
    }
  }
  return found;
}

interface SequenceRow {
  readonly schema: string;
  readonly name: string;
  readonly readable: string;
  readonly used: string | null;
}

// The bound is that of the owning column where that is narrower; a descending sequence counts towards its minimum.
const SEQUENCES = `
SELECT n.nspname AS schema, c.relname AS name, r.readable,
       CASE WHEN r.readable AND NOT s.seqcycle THEN
         (CASE WHEN s.seqincrement > 0
           THEN (coalesce(v.last_value, s.seqstart)::numeric - s.seqmin) / nullif(least(s.seqmax, b.top)::numeric - s.seqmin, 0)
           ELSE (s.seqmax - coalesce(v.last_value, s.seqstart)::numeric) / nullif(s.seqmax::numeric - greatest(s.seqmin, -b.top - 1), 0) END)::text
       END AS used
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_sequences v ON v.schemaname = n.nspname AND v.sequencename = c.relname
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
     AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
CROSS JOIN LATERAL (SELECT CASE a.atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 ELSE 9223372036854775807 END AS top) b
CROSS JOIN LATERAL (SELECT has_schema_privilege(n.oid, 'USAGE') AND
     CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT') ELSE false END AS readable) r
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', $1) AND c.relpersistence <> 't'
ORDER BY 1, 2`;

async function sequences(context: CheckContext): Promise<readonly Finding[] | string> {
  const rows = await rowsOf<SequenceRow>(context, SEQUENCES, [context.env.stateSchema]);
  const name = (row: SequenceRow): TableName => ({ schema: row.schema, name: row.name });
  const found: Finding[] = rows
    .filter((row) => row.readable !== 't')
    .map((row) => ({
      observed: `the sequence ${showTable(name(row))} cannot be read and would not be moved on at the switch`,
      remedy: 'Grant it, or see to that sequence yourself.',
      sql: `GRANT SELECT ON SEQUENCE ${qualified(name(row))} TO ${ident(context.role)}`,
    }));
  for (const row of rows) {
    const used = Number(row.used ?? 0);
    if (used <= 0.8) continue;
    found.push({
      observed: `the sequence ${showTable(name(row))} is ${Math.round(used * 100)} % used`,
      remedy:
        'Widen its column and its bound before the switch: the headroom that is added there may not fit.',
    });
  }
  return found.length > 0 ? found : `${rows.length} sequences`;
}
