import type { TargetTable } from '../../core/plan.ts';
import type { TableName } from '../../core/table.ts';
import { plain, transact, type SinkStream } from './sink-session.ts';
import type { Outcome, Statement, Wire } from './sink-wire.ts';
import { ident, qualified } from './sql.ts';
import { stateTable } from './state-tables.ts';

/** What is needed to build a dropped object again. Stored as JSON in `deferred.detail`. */
export interface DeferredDetail {
  /** Tablespace of the index, when it is not the default one. */
  readonly tablespace: string | null;
  /** Index of the partitioned parent that this one is attached to. */
  readonly parent: string | null;
  /** The table is partitioned: it holds no rows itself. */
  readonly partitioned: boolean;
  /** Distance from the root of the partition tree. */
  readonly level: number;
  /** Constraint clauses behind USING INDEX. */
  readonly deferral: string;
  /** A foreign key that was valid is validated again. */
  readonly validate: boolean;
}

export type DeferredKind = 'index' | 'unique' | 'exclusion' | 'foreign key';

interface Found {
  readonly table: TableName;
  readonly kind: DeferredKind;
  readonly name: string;
  readonly definition: string;
  readonly detail: DeferredDetail;
  /** Goes with something else that is dropped. */
  readonly implied: boolean;
}

const FAMILY = `
SELECT p.relid::oid::text, n.nspname, c.relname, c.relkind, p.level::text
FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
CROSS JOIN LATERAL (
  SELECT t.relid, t.level FROM pg_catalog.pg_partition_tree(r.oid) t
  UNION SELECT r.oid, 0 WHERE r.relkind = 'r' AND NOT r.relispartition
) p
JOIN pg_catalog.pg_class c ON c.oid = p.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE rn.nspname = $1 AND r.relname = $2`;

/** Asks for a table and its partitions: oid, schema, name, kind, level. */
export const familyOf = ({ schema, name }: TableName): Statement => plain(FAMILY, [schema, name]);

/** Neither the key (apply needs it) nor what a foreign key from outside leans on. */
const INDEXES = `
SELECT i.indrelid::text, ic.relname, pg_catalog.pg_get_indexdef(i.indexrelid), con.conname,
  CASE WHEN con.oid IS NULL THEN 'index' WHEN i.indisexclusion THEN 'exclusion' ELSE 'unique' END,
  pg_catalog.pg_get_constraintdef(con.oid),
  CASE WHEN con.condeferrable THEN ' DEFERRABLE' || CASE WHEN con.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END ELSE '' END,
  ts.spcname, inh.inhparent::text, i.indexrelid::text, pn.nspname || '.' || pc.relname,
  (i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL)::int::text,
  (SELECT pg_catalog.json_agg(a.attname ORDER BY a.attname) FROM pg_catalog.pg_attribute a
   WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))::text,
  pn.nspname, pc.relname
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
LEFT JOIN pg_catalog.pg_constraint con ON con.conindid = i.indexrelid AND con.conrelid = i.indrelid AND con.contype IN ('u', 'x')
LEFT JOIN pg_catalog.pg_tablespace ts ON ts.oid = ic.reltablespace
LEFT JOIN pg_catalog.pg_inherits inh ON inh.inhrelid = i.indexrelid
LEFT JOIN pg_catalog.pg_class pc ON pc.oid = inh.inhparent
LEFT JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace
WHERE i.indrelid = ANY ($1::oid[]) AND NOT i.indisprimary AND NOT i.indisreplident AND i.indisvalid
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint f WHERE f.contype = 'f' AND f.conindid = i.indexrelid AND f.conrelid <> ALL ($1::oid[]))
ORDER BY ic.relname`;

const FOREIGN_KEYS = `
SELECT f.conrelid::text, f.conname, pg_catalog.pg_get_constraintdef(f.oid), f.convalidated::int::text
FROM pg_catalog.pg_constraint f
WHERE f.contype = 'f' AND f.conrelid = ANY ($1::oid[]) AND f.conparentid = 0
ORDER BY f.conname`;

/**
 * Records and drops what slows a copy or could be violated on the way: secondary indexes, unique and exclusion constraints, foreign
 * keys. Only of tables that are empty and have nothing recorded yet. One transaction: a crash leaves all or nothing.
 */
export async function deferIndexes(
  wire: Wire,
  stream: SinkStream,
  tables: readonly TargetTable[],
): Promise<void> {
  const deferred = stateTable(stream.env.stateSchema, 'deferred');
  const { migration } = stream.env;
  const { direction } = stream.options;
  const members = new Map<string, { table: TableName; partitioned: boolean; level: number; key: string }>();
  for (const { relation } of tables) {
    const empty = await wire.one(`SELECT 1 WHERE NOT EXISTS (SELECT FROM ${qualified(relation.table)})`);
    if (empty.rows.length === 0) continue;
    const [family] = (await wire.all([familyOf(relation.table)])) as [Outcome];
    const names = family.rows.map((row) => ({ schema: row[1] as string, name: row[2] as string }));
    const known = await wire.one(
      `SELECT table_schema, table_name FROM ${deferred} WHERE id = $1 AND direction = $2`,
      [migration, direction],
    );
    const recorded = new Set(known.rows.map((row) => JSON.stringify(row)));
    if (names.some(({ schema, name }) => recorded.has(JSON.stringify([schema, name])))) continue;
    const key = JSON.stringify(relation.key.map((index) => relation.columns[index]?.name ?? '').sort());
    family.rows.forEach((row, index) => {
      members.set(row[0] as string, {
        table: names[index] as TableName,
        partitioned: row[3] === 'p',
        level: Number(row[4]),
        key,
      });
    });
  }
  if (members.size === 0) return;
  const oids = `{${[...members.keys()].join(',')}}`;
  const found: Found[] = [];
  const indexRows = (await wire.one(INDEXES, [oids])).rows.filter((row) => {
    const isKey =
      row[11] === '1' &&
      row[12] !== null &&
      JSON.stringify(JSON.parse(row[12] as string)) === members.get(row[0] as string)?.key;
    return !isKey;
  });
  const chosen = new Set(indexRows.map((row) => row[9]));
  for (const row of indexRows) {
    const [oid, index, definition, constraint, kind, constraintDefinition, deferral, tablespace, parent] =
      row;
    // Attached to an index of a parent that stays: cannot be dropped alone.
    if (parent !== null && !chosen.has(parent as string)) continue;
    const { table, partitioned, level } = members.get(oid as string) as {
      table: TableName;
      partitioned: boolean;
      level: number;
    };
    found.push({
      table,
      kind: kind as DeferredKind,
      name: (constraint ?? index) as string,
      definition: (kind === 'exclusion' || (kind === 'unique' && partitioned)
        ? constraintDefinition
        : definition) as string,
      detail: {
        tablespace: tablespace ?? null,
        parent: parent === null ? null : qualified({ schema: row[13] as string, name: row[14] as string }),
        partitioned,
        level,
        deferral: deferral ?? '',
        validate: false,
      },
      implied: parent !== null,
    });
  }
  for (const row of (await wire.one(FOREIGN_KEYS, [oids])).rows) {
    const { table, partitioned, level } = members.get(row[0] as string) as {
      table: TableName;
      partitioned: boolean;
      level: number;
    };
    found.push({
      table,
      kind: 'foreign key',
      name: row[1] as string,
      definition: row[2] as string,
      detail: { tablespace: null, parent: null, partitioned, level, deferral: '', validate: row[3] === '1' },
      implied: false,
    });
  }
  if (found.length === 0) return;
  const record = (item: Found): Statement =>
    plain(
      `INSERT INTO ${deferred} (id, direction, table_schema, table_name, kind, name, definition, detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
      [
        migration,
        direction,
        item.table.schema,
        item.table.name,
        item.kind,
        item.name,
        item.definition,
        JSON.stringify(item.detail),
      ],
    );
  const drop = (item: Found): Statement =>
    plain(
      item.kind === 'index'
        ? `DROP INDEX ${qualified({ schema: item.table.schema, name: item.name })}`
        : `ALTER TABLE ${qualified(item.table)} DROP CONSTRAINT ${ident(item.name)}`,
    );
  // Foreign keys first: they lean on unique indexes.
  const order = [...found].sort(
    (a, b) => Number(b.kind === 'foreign key') - Number(a.kind === 'foreign key'),
  );
  await transact(wire, stream, [
    plain('SET LOCAL synchronous_commit = on'),
    ...order.map(record),
    ...order.filter((item) => !item.implied).map(drop),
  ]);
}
