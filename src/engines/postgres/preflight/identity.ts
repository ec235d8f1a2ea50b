import { showTable, tableId } from '../../../core/table.ts';
import { ident, qualified } from '../sql.ts';
import type { Finding } from '../../../core/preflight.ts';
import {
  holdingRows,
  mappedOnly,
  megabytes,
  oidsOf,
  rowsOf,
  type Check,
  type CheckContext,
} from './check.ts';

const LARGE_BYTES = 2 ** 30;

/** What is asked of the way rows are identified. */
export const IDENTITY_CHECKS: readonly Check[] = [
  {
    id: 'P10',
    title: 'replica identity',
    level: 'block',
    expected:
      'a primary key that is not deferrable, an identity index, or FULL; FULL where the mapping needs whole old rows',
    run: async (context) => [...(await unidentified(context)), ...notFull(context)],
  },
  {
    id: 'P11',
    title: 'FULL identity on large tables',
    level: 'warn',
    expected: 'FULL only where rows are few or rarely changed',
    run: largeFull,
  },
  {
    id: 'P31',
    title: 'key to cut the table by',
    level: 'warn',
    expected: 'a primary key, or a unique index over columns that are NOT NULL',
    run: keys,
  },
  {
    id: 'P32',
    title: 'deferrable and exclusion constraints',
    level: 'info',
    expected: 'constraints that hold after every statement',
    run: async (context) =>
      (
        await rowsOf<{ table: string; name: string; kind: string }>(
          context,
          `SELECT format('%I.%I', n.nspname, c.relname) AS table, o.conname AS name,
                  CASE WHEN o.contype = 'x' THEN 'exclusion' ELSE 'deferrable' END AS kind
           FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE o.conrelid = ANY ($1::oid[]) AND (o.contype = 'x' OR (o.condeferrable AND o.contype IN ('p', 'u'))) ORDER BY 1, 2`,
          [oidsOf(mappedOnly(context.members))],
        )
      ).map((row) => ({
        observed: `${row.table} has the ${row.kind} constraint ${row.name}`,
        remedy: 'Nothing to do: changes that collide on the way are applied as delete and insert.',
      })),
  },
];

interface IdentityRow {
  readonly oid: string;
  readonly primary_key: string | null;
  readonly deferrable: string;
  readonly identity_ok: string;
  readonly candidate: string | null;
}

const IDENTITY = `
SELECT c.oid::text AS oid,
  (SELECT ic.relname FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid) AS primary_key,
  EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND NOT i.indimmediate) AS deferrable,
  EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid AND i.indimmediate) AS identity_ok,
  (SELECT min(ic.relname) FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
   WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
     AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(n, o)
                     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.n WHERE k.o <= i.indnkeyatts AND NOT a.attnotnull)) AS candidate
FROM pg_class c WHERE c.oid = ANY ($1::oid[]) ORDER BY c.oid`;

async function unidentified(context: CheckContext): Promise<readonly Finding[]> {
  const members = holdingRows(context.members).filter((member) => member.persistence === 'p');
  const facts = new Map(
    (await rowsOf<IdentityRow>(context, IDENTITY, [oidsOf(members)])).map((row) => [row.oid, row]),
  );
  const found: Finding[] = [];
  for (const member of members) {
    const row = facts.get(member.oid) as IdentityRow;
    const why = unusable(member.identity, row);
    if (why === null) continue;
    const table = qualified(member.table);
    const index = row.candidate;
    if (row.deferrable === 't' && index === null) {
      found.push({
        observed: `${showTable(member.table)}: ${why}`,
        remedy: `Drop the primary key ${row.primary_key ?? ''} and add it again without DEFERRABLE.`,
      });
      continue;
    }
    found.push({
      observed: `${showTable(member.table)}: ${why}; updates and deletes would fail as soon as it is published`,
      remedy:
        index === null
          ? 'Add a primary key, or identify rows by all their columns.'
          : `Identify rows by the index ${index}.`,
      sql:
        index === null
          ? `ALTER TABLE ${table} REPLICA IDENTITY FULL`
          : index === row.primary_key
            ? `ALTER TABLE ${table} REPLICA IDENTITY DEFAULT`
            : `ALTER TABLE ${table} REPLICA IDENTITY USING INDEX ${ident(index)}`,
    });
  }
  return found;
}

function unusable(identity: string, row: IdentityRow): string | null {
  if (identity === 'f') {
    return row.deferrable === 't'
      ? 'its primary key is deferrable, so that two rows may have one key for a moment and a change of keys cannot be followed'
      : null;
  }
  if (identity === 'n') return 'its replica identity is NOTHING';
  if (identity === 'i')
    return row.identity_ok === 't' ? null : 'the index of its replica identity is gone or not usable';
  if (row.primary_key === null) return 'it has no primary key and the default replica identity';
  return row.deferrable === 't' ? 'its primary key is deferrable, which cannot identify rows' : null;
}

function notFull(context: CheckContext): readonly Finding[] {
  return context.scope.needsFullImages.flatMap(({ table, why }) =>
    holdingRows(context.members)
      .filter((member) => tableId(member.mapped) === tableId(table) && member.identity !== 'f')
      .map((member) => ({
        observed: `${showTable(member.table)}: the mapping needs whole old rows (${why}), its replica identity does not send them`,
        expected: 'REPLICA IDENTITY FULL',
        remedy: 'Set it. Updates and deletes then write the whole old row into the log.',
        sql: `ALTER TABLE ${qualified(member.table)} REPLICA IDENTITY FULL`,
      })),
  );
}

async function largeFull(context: CheckContext): Promise<readonly Finding[]> {
  const full = holdingRows(context.members).filter((member) => member.identity === 'f');
  const rows = await rowsOf<{ schema: string; name: string; bytes: string; changes: string }>(
    context,
    `SELECT n.nspname AS schema, c.relname AS name, pg_table_size(c.oid)::text AS bytes, coalesce(s.n_tup_upd + s.n_tup_del, 0)::text AS changes
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
     WHERE c.oid = ANY ($1::oid[]) ORDER BY pg_table_size(c.oid) DESC`,
    [oidsOf(full)],
  );
  return rows
    .filter((row) => Number(row.bytes) > LARGE_BYTES)
    .map((row) => ({
      observed: `${showTable(row)} has REPLICA IDENTITY FULL, ${megabytes(Number(row.bytes))} and ${row.changes} updates and deletes so far`,
      remedy:
        'Every update and delete writes the old row into the log as well: watch the volume, or give it a key.',
    }));
}

async function keys(context: CheckContext): Promise<readonly Finding[]> {
  const tables = mappedOnly(context.members).filter((member) => ['r', 'p'].includes(member.relkind));
  const facts = new Map(
    (await rowsOf<IdentityRow>(context, IDENTITY, [oidsOf(tables)])).map((row) => [row.oid, row]),
  );
  return tables
    .filter((member) => {
      const row = facts.get(member.oid);
      return row?.primary_key === null && row.candidate === null;
    })
    .map((member) => ({
      observed: `${showTable(member.table)} has no key: it is copied in one piece, and rows that are equal in all columns are told apart by number only`,
      remedy: 'Add a primary key if you can; else copy it in a quiet time.',
    }));
}
