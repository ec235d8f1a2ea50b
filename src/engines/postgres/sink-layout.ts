import { VerdigrisError } from '../../core/errors.ts';
import type { ArrayElements, MergePart, TargetTable } from '../../core/plan.ts';
import { showTable, tableId, type Relation, type TableName } from '../../core/table.ts';
import { ident, qualified } from './sql.ts';
import type { Outcome, Wire } from './sink-wire.ts';

/** A column as statements need it. */
export interface SinkColumn {
  /** Quoted. */
  readonly sql: string;
  /**
   * The type under all domains, without length or precision: `'abcdef'::varchar(3)` and `::bit(4)` cut in silence, an
   * assignment to the column raises.
   */
  readonly base: string;
  /** The declared type, with domain, length and precision. */
  readonly full: string;
  readonly generated: boolean;
  /** GENERATED ALWAYS AS IDENTITY: UPDATE may not set it. */
  readonly identityAlways: boolean;
  /** Expression that fills it when it is left out, or null. */
  readonly fallback: string | null;
}

/** A DEFERRABLE unique, primary or exclusion constraint. */
export interface LateConstraint {
  readonly name: string;
  readonly columns: readonly { readonly sql: string; readonly operator: string }[];
}

/** What the sink knows about a table of its own, in the order of the relation's columns. */
export interface SinkLayout {
  readonly relation: Relation;
  readonly table: TableName;
  readonly columns: readonly SinkColumn[];
  readonly key: readonly number[];
  /** Indexes of the columns that can be written. */
  readonly writable: readonly number[];
  /** A foreign key of another table points here. */
  readonly referenced: boolean;
  /** Deleting a row of it would, without replica role, delete or change rows elsewhere. */
  readonly cascades: boolean;
  /** Ids of the table and of its partitions: constraint errors name the partition. */
  readonly members: ReadonlySet<string>;
  readonly late: readonly LateConstraint[];
  /** Columns whose values the server compares between rows, one by one: in which order rows are updated may decide whether it takes them. */
  readonly compared: ReadonlySet<number>;
  readonly merge: { readonly owner: readonly number[]; readonly parts: readonly MergePart[] } | null;
  readonly prefix: number;
  /** Set when it is no table but the elements of an array, kept in the state: the parent, and the array's column there. */
  readonly elements: { readonly parent: Relation; readonly array: number } | null;
}

const COLUMNS = `
WITH RECURSIVE col AS (
  SELECT a.attnum, a.attname, a.atttypid, a.atttypmod, a.attgenerated, a.attidentity, a.attrelid
  FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
), base(attnum, typ) AS (
  SELECT attnum, atttypid FROM col
  UNION ALL
  SELECT b.attnum, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typ WHERE t.typtype = 'd'
)
SELECT col.attname, pg_catalog.format_type(b.typ, -1), pg_catalog.format_type(col.atttypid, col.atttypmod),
  (col.attgenerated <> '')::int::text, col.attidentity,
  CASE WHEN col.attgenerated <> '' THEN NULL
    WHEN col.attidentity <> '' THEN pg_catalog.format('pg_catalog.nextval(%L::pg_catalog.regclass)',
      pg_catalog.pg_get_serial_sequence(col.attrelid::regclass::text, col.attname))
    ELSE pg_catalog.pg_get_expr(d.adbin, d.adrelid) END
FROM col
JOIN base b ON b.attnum = col.attnum
JOIN pg_catalog.pg_type t ON t.oid = b.typ AND t.typtype <> 'd'
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = col.attrelid AND d.adnum = col.attnum
ORDER BY col.attnum`;

const TABLE = `
SELECT c.oid::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')`;

/** By table: a foreign key of another table points there; deleting a row of it would change rows elsewhere. */
const POINTED_TO = `
SELECT confrelid::oid::text, bool_or(conrelid <> confrelid)::int::text, bool_or(confdeltype IN ('c', 'n', 'd'))::int::text
FROM pg_catalog.pg_constraint WHERE contype = 'f' GROUP BY confrelid`;

type PointedTo = ReadonlyMap<string, Pick<SinkLayout, 'referenced' | 'cascades'>>;

const MEMBERS = `
SELECT n.nspname, c.relname FROM pg_catalog.pg_partition_tree($1::oid::regclass) p
JOIN pg_catalog.pg_class c ON c.oid = p.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace`;

const LATE = `
SELECT con.conname, pg_catalog.json_agg(a.attname ORDER BY k.n)::text,
  pg_catalog.json_agg(CASE WHEN o.oid IS NOT NULL THEN pg_catalog.format('OPERATOR(%I.%s)', opn.nspname, o.oprname)
    WHEN coalesce((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) THEN 'IS NOT DISTINCT FROM' ELSE '=' END ORDER BY k.n)::text
FROM pg_catalog.pg_constraint con
JOIN pg_catalog.pg_index i ON i.indexrelid = con.conindid
CROSS JOIN LATERAL unnest(con.conkey) WITH ORDINALITY k(attnum, n)
JOIN pg_catalog.pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.attnum
LEFT JOIN pg_catalog.pg_operator o ON o.oid = con.conexclop[k.n]
LEFT JOIN pg_catalog.pg_namespace opn ON opn.oid = o.oprnamespace
WHERE con.conrelid = $1::oid AND con.contype IN ('p', 'u', 'x') AND con.condeferrable
GROUP BY con.conname`;

/** Columns of unique indexes and exclusion constraints; null: an expression. */
const COMPARED = `
SELECT DISTINCT a.attname FROM pg_catalog.pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) k(attnum)
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = $1::oid AND (i.indisunique OR i.indisexclusion)`;

/** What is asked about each table. */
const QUERIES = [MEMBERS, LATE, COLUMNS, COMPARED];

/** Layouts of the tables that a sink writes, read on first use. */
export class Layouts {
  readonly #targets = new Map<string, TargetTable>();
  readonly #known = new Map<string, SinkLayout>();
  readonly #related = new Map<string, readonly Relation[]>();
  /** Read once for all tables: the catalog has no index for it. */
  #pointedTo: PointedTo | null = null;
  /** How often layouts were forgotten. */
  #changes = 0;

  /** Tells which tables are merged or exploded; others are plain. */
  register(targets: readonly TargetTable[]): void {
    this.#changes += 1;
    for (const target of targets) {
      const id = tableId(target.relation.table);
      this.#targets.set(id, target);
      this.#known.delete(id);
    }
    this.#related.clear();
    this.#pointedTo = null;
    for (const { relation, parent } of this.elements) {
      const [own, of] = [tableId(relation.table), tableId(parent.table)];
      this.#related.set(own, [parent]);
      this.#related.set(of, [...(this.#related.get(of) ?? []), relation]);
    }
  }

  /** The same, without forgetting the layouts of tables that are known. */
  registerNew(targets: readonly TargetTable[]): void {
    this.register(targets.filter((target) => !this.#targets.has(tableId(target.relation.table))));
  }

  /** The elements of arrays of a table, or the table of such elements: what is written together. */
  related(table: TableName): readonly Relation[] {
    return this.#related.get(tableId(table)) ?? [];
  }

  /** All that are elements of arrays. */
  get elements(): readonly { readonly relation: Relation; readonly parent: Relation }[] {
    return [...this.#targets.values()].flatMap(({ relation, elements }) =>
      elements === undefined ? [] : [{ relation, parent: elements.of }],
    );
  }

  /** After DDL. */
  forget(): void {
    this.#changes += 1;
    this.#known.clear();
    this.#pointedTo = null;
  }

  known(relation: Relation): SinkLayout | undefined {
    const layout = this.#known.get(tableId(relation.table));
    return layout !== undefined && sameColumns(layout.relation, relation) ? layout : undefined;
  }

  /**
   * The layout for a run's relation.
   * @throws VerdigrisError SCHEMA_TABLE_MISSING, SCHEMA_CHANGED when the table lacks a column of the relation
   */
  async of(wire: Wire, relation: Relation): Promise<SinkLayout> {
    const [layout] = await this.all(wire, [relation]);
    return layout as SinkLayout;
  }

  /** The layouts of several, in order; those that are not known yet are read together. @throws as {@link Layouts.of} */
  async all(wire: Wire, relations: readonly Relation[]): Promise<readonly SinkLayout[]> {
    const elementsOf = ({ table }: Relation): ArrayElements | undefined =>
      this.#targets.get(tableId(table))?.elements;
    // Kept here: what is known may be forgotten while the rest is read, and what is read then may be older than the change.
    const layouts = new Map<Relation, SinkLayout>();
    const wanted: Wanted[] = [];
    for (const relation of new Set(relations.map((one) => elementsOf(one)?.of ?? one))) {
      const known = this.known(relation);
      if (known !== undefined) layouts.set(relation, known);
      else wanted.push({ relation, target: this.#targets.get(tableId(relation.table)) ?? null });
    }
    const changes = this.#changes;
    const keep = (relation: Relation, layout: SinkLayout): void => {
      layouts.set(relation, layout);
      if (this.#changes === changes) this.#known.set(tableId(layout.table), layout);
    };
    if (wanted.length > 0) {
      const read = await readSinkLayouts(wire, wanted, await this.#foreignKeys(wire));
      for (const layout of read) keep(layout.relation, layout);
    }
    for (const relation of relations) {
      const elements = elementsOf(relation);
      if (elements === undefined || layouts.has(relation)) continue;
      const parent = layouts.get(elements.of) as SinkLayout;
      keep(relation, this.known(relation) ?? elementsLayout(relation, elements, parent));
    }
    return relations.map((relation) => layouts.get(relation) as SinkLayout);
  }

  async #foreignKeys(wire: Wire): Promise<PointedTo> {
    const known = this.#pointedTo;
    if (known !== null) return known;
    const changes = this.#changes;
    const { rows } = await wire.one(POINTED_TO);
    const found = new Map(
      rows.map(([oid, referenced, cascades]) => [
        oid as string,
        { referenced: referenced === '1', cascades: cascades === '1' },
      ]),
    );
    if (this.#changes === changes) this.#pointedTo = found;
    return found;
  }
}

const sameColumns = (left: Relation, right: Relation): boolean =>
  left === right ||
  (left.version === right.version &&
    left.columns.length === right.columns.length &&
    left.columns.every((column, index) => column.name === right.columns[index]?.name));

interface Wanted {
  readonly relation: Relation;
  readonly target: TargetTable | null;
}

/** Two round trips, however many tables. */
async function readSinkLayouts(
  wire: Wire,
  wanted: readonly Wanted[],
  pointedTo: PointedTo,
): Promise<readonly SinkLayout[]> {
  const found = await wire.all(
    wanted.map(({ relation: { table } }) => ({ text: TABLE, values: [table.schema, table.name] })),
  );
  const oids = found.map(({ rows }, index) => {
    const oid = rows[0]?.[0];
    if (typeof oid === 'string') return oid;
    const { table } = (wanted[index] as Wanted).relation;
    throw new VerdigrisError('SCHEMA_TABLE_MISSING', `The sink has no table ${showTable(table)}.`);
  });
  const answers = await wire.all(oids.flatMap((oid) => QUERIES.map((text) => ({ text, values: [oid] }))));
  return wanted.map((one, index) => {
    const [members, constraints, attributes, compared] = answers
      .slice(QUERIES.length * index, QUERIES.length * (index + 1))
      .map(({ rows }) => rows);
    const rows = { members, constraints, attributes, compared } as Found;
    return sinkLayout(one, rows, pointedTo.get(oids[index] as string));
  });
}

interface Found {
  readonly members: Outcome['rows'];
  readonly constraints: Outcome['rows'];
  readonly attributes: Outcome['rows'];
  readonly compared: Outcome['rows'];
}

function sinkLayout(
  { relation, target }: Wanted,
  { members, constraints, attributes, compared }: Found,
  pointed: Pick<SinkLayout, 'referenced' | 'cascades'> = { referenced: false, cascades: false },
): SinkLayout {
  const { table } = relation;
  const late = constraints.map(([name, names, operators]): LateConstraint => ({
    name: name as string,
    columns: (JSON.parse(names as string) as string[]).map((column, index) => ({
      sql: ident(column),
      operator: (JSON.parse(operators as string) as string[])[index] as string,
    })),
  }));
  const names = new Set(compared.map(([name]) => name));
  const byName = new Map(attributes.map((row) => [row[0] as string, row]));
  const columns = relation.columns.map((column): SinkColumn => {
    const row = byName.get(column.name);
    if (row === undefined) {
      throw new VerdigrisError(
        'SCHEMA_CHANGED',
        `Table ${showTable(table)} of the sink has no column ${column.name}.`,
      );
    }
    return {
      sql: ident(column.name),
      base: row[1] as string,
      full: row[2] as string,
      generated: row[3] === '1',
      identityAlways: row[4] === 'a',
      fallback: row[5] as string | null,
    };
  });
  return {
    relation,
    table,
    columns,
    key: relation.key,
    writable: columns.flatMap((column, index) => (column.generated ? [] : [index])),
    ...pointed,
    members: new Set([
      tableId(table),
      ...members.map(([schema, name]) => tableId({ schema: schema as string, name: name as string })),
    ]),
    late,
    compared: new Set(
      relation.columns.flatMap(({ name }, index) => (names.has(null) || names.has(name) ? [index] : [])),
    ),
    merge: target?.merge ?? null,
    prefix: target?.prefix ?? 0,
    elements: null,
  };
}

function elementsLayout(relation: Relation, { of, array }: ArrayElements, parent: SinkLayout): SinkLayout {
  const plain = { generated: false, identityAlways: false, fallback: null };
  const keys = of.key.map((index) => parent.columns[index] as SinkColumn);
  const names = elementColumns(relation);
  const types = [...keys.map(({ base }) => base), 'integer', 'json'];
  return {
    relation,
    table: relation.table,
    columns: names.map((sql, at): SinkColumn => ({
      sql,
      base: types[at] as string,
      full: types[at] as string,
      ...plain,
    })),
    key: relation.key,
    writable: [...names.keys()],
    referenced: false,
    cascades: false,
    members: new Set(),
    late: [],
    compared: new Set(),
    merge: null,
    prefix: 0,
    elements: { parent: of, array },
  };
}

/** Columns of the storage of elements, in the order of their relation. Not the names of the parent's key, which could be ours. */
export const elementColumns = (relation: Relation): readonly string[] => [
  ...relation.columns.slice(0, -2).map((_, index) => `k${index + 1}`),
  'ordinal',
  'element',
];

/** A table that statements are written for: the real one, or its shadow in the exact fallback. */
export interface Place {
  readonly layout: SinkLayout;
  /** Quoted and qualified. */
  readonly sql: string;
  /** Table of the waiting parts, when the table is merged. */
  readonly waiting: string | null;
  readonly shadow: boolean;
}

/** @param storageOf quoted name of the table in our state, for tables that have one */
export const realPlace = (layout: SinkLayout, storageOf: (layout: SinkLayout) => string): Place => ({
  layout,
  sql: layout.elements === null ? qualified(layout.table) : storageOf(layout),
  waiting: layout.merge === null ? null : storageOf(layout),
  shadow: false,
});
