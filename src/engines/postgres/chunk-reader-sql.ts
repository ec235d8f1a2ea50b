import type pg from 'pg';
import type { KeyRange } from '../../core/snapshot.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { showTable, type Cell, type Relation } from '../../core/table.ts';
import { ident, literal, qualified } from './sql.ts';

/** How one key column is compared on the server. */
export interface KeyColumn {
  readonly name: string;
  /** Type under all domains, quoted, without length: a cast to it never cuts a value. */
  readonly type: string;
  /** Schema of its comparison operators, quoted: not always pg_catalog (extensions). */
  readonly operators: string;
  /** `COLLATE …` of the column, or empty. */
  readonly collate: string;
  /** The server can sort it and find it among boundaries. */
  readonly sortable: boolean;
}

/** What SQL over a table has to know beyond its columns. */
export interface TableAccess {
  /** `ONLY "s"."t"` for a table of its own (its inheritance children are other tables), the root for a partitioned one. */
  readonly from: string;
  readonly partitioned: boolean;
  readonly key: readonly KeyColumn[];
}

const ACCESS = `
WITH RECURSIVE col AS (
  SELECT c.relkind, a.attname, a.attcollation, a.atttypid FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY ($3::text[])
  WHERE n.nspname = $1 AND c.relname = $2
), base(attname, oid, typtype, over) AS (
  SELECT col.attname, t.oid, t.typtype, t.typbasetype FROM col JOIN pg_catalog.pg_type t ON t.oid = col.atttypid
  UNION ALL
  SELECT base.attname, t.oid, t.typtype, t.typbasetype FROM base JOIN pg_catalog.pg_type t ON t.oid = base.over WHERE base.typtype = 'd'
)
SELECT col.relkind, col.attname AS name, CASE WHEN t.oid IS NOT NULL THEN format('%I.%I', tn.nspname, t.typname) END AS type,
  coalesce((SELECT format('%I', opn.nspname) FROM pg_catalog.pg_opclass oc
    JOIN pg_catalog.pg_am am ON am.oid = oc.opcmethod AND am.amname = 'btree'
    JOIN pg_catalog.pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy = 1 AND ao.amoplefttype = t.oid AND ao.amoprighttype = t.oid
    JOIN pg_catalog.pg_operator op ON op.oid = ao.amopopr JOIN pg_catalog.pg_namespace opn ON opn.oid = op.oprnamespace
    WHERE oc.opcintype = t.oid AND oc.opcdefault), 'pg_catalog') AS operators,
  coalesce((SELECT format('COLLATE %I.%I', cn.nspname, co.collname) FROM pg_catalog.pg_collation co
    JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace WHERE co.oid = col.attcollation), '') AS collate,
  t.typtype IN ('b', 'e', 'r', 'm') AND NOT (t.typcategory = 'A' AND t.typelem <> 0) AND t.typarray <> 0 AS sortable
FROM col LEFT JOIN base ON base.attname = col.attname AND base.typtype <> 'd'
LEFT JOIN pg_catalog.pg_type t ON t.oid = base.oid LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace`;

interface AccessRow {
  readonly relkind: string;
  readonly name: string | null;
  readonly type: string;
  readonly operators: string;
  readonly collate: string;
  readonly sortable: string | boolean;
}

/**
 * Reads how a table and its key are addressed.
 * @throws VerdigrisError SCHEMA_TABLE_MISSING, SCHEMA_CHANGED when a key column is gone
 */
export async function readAccess(client: pg.ClientBase, relation: Relation): Promise<TableAccess> {
  const names = relation.key.map((index) => relation.columns[index]?.name ?? '');
  const { rows } = await client.query<AccessRow>({
    name: 'verdigris_access',
    text: ACCESS,
    values: [relation.table.schema, relation.table.name, names],
  });
  const relkind = rows[0]?.relkind;
  if (relkind === undefined) {
    throw new VerdigrisError(
      'SCHEMA_TABLE_MISSING',
      `The table ${showTable(relation.table)} does not exist.`,
    );
  }
  const key = names.map((name): KeyColumn => {
    const row = rows.find((candidate) => candidate.name === name);
    if (row === undefined) {
      throw new VerdigrisError(
        'SCHEMA_CHANGED',
        `${showTable(relation.table)} has no key column ${ident(name)} any more.`,
      );
    }
    const { type, operators, collate, sortable } = row;
    return { name, type, operators, collate, sortable: sortable === true || sortable === 't' };
  });
  const partitioned = relkind === 'p';
  return { from: `${partitioned ? '' : 'ONLY '}${qualified(relation.table)}`, partitioned, key };
}

const text = (cell: Cell): string => {
  if (typeof cell === 'string') return cell;
  if (typeof cell === 'number' || typeof cell === 'bigint') return String(cell);
  throw new VerdigrisError('INTERNAL', 'A key cell is not text.');
};

/** Condition for the rows of a range, over the table under its alias `t`. Empty: all rows. */
export function rangePredicate(access: TableAccess, range: KeyRange): string {
  if ('keys' in range)
    return keysPredicate(range.on?.map((place) => access.key[place] as KeyColumn) ?? access.key, range.keys);
  const { lower, upper } = range;
  if (lower === null && upper === null) return '';
  const first = access.key[0];
  if (first === undefined)
    throw new VerdigrisError('INTERNAL', 'A range of a table without a key has bounds.');
  const bound = (operator: string, cell: Cell): string =>
    `t.${ident(first.name)} OPERATOR(${first.operators}.${operator}) ${literal(text(cell))}::${first.type}`;
  return [
    ...(lower === null ? [] : [bound('>=', lower)]),
    ...(upper === null ? [] : [bound('<', upper)]),
  ].join(' AND ');
}

/** EXISTS, so that a key that is named twice is read once. */
function keysPredicate(columns: readonly KeyColumn[], keys: readonly (readonly Cell[])[]): string {
  if (columns.length === 0) throw new VerdigrisError('INTERNAL', 'Keys of a table without a key.');
  if (keys.length === 0) return 'false';
  const arrays = columns.map(
    (_, index) => `${literal(arrayLiteral(keys.map((key) => text(key[index] as Cell))))}::text[]`,
  );
  const names = columns.map((_, index) => `k${index}`);
  const equal = columns.map(
    (column, index) => `t.${ident(column.name)} OPERATOR(${column.operators}.=) k.k${index}::${column.type}`,
  );
  return `EXISTS (SELECT FROM unnest(${arrays.join(', ')}) AS k(${names.join(', ')}) WHERE ${equal.join(' AND ')})`;
}

/** A one-dimensional `text[]` literal. */
export const arrayLiteral = (values: readonly string[]): string =>
  `{${values.map((value) => `"${value.replace(/["\\]/g, '\\$&')}"`).join(',')}}`;

export interface ReadSql {
  readonly columns: readonly number[];
  readonly range: KeyRange;
  readonly ordered?: boolean;
}

/** `SELECT` of some columns of a range. */
export function selectRange(relation: Relation, access: TableAccess, read: ReadSql): string {
  const list = read.columns.map((index) => `t.${ident(relation.columns[index]?.name ?? '')}`).join(', ');
  const where = rangePredicate(access, read.range);
  const order = access.key.map((column) => `t.${ident(column.name)}`).join(', ');
  return `SELECT ${list} FROM ${access.from} AS t${where === '' ? '' : ` WHERE ${where}`}${read.ordered === true && order !== '' ? ` ORDER BY ${order}` : ''}`;
}
