import { createHash } from 'node:crypto';
import type pg from 'pg';
import type { Catalog } from '../../core/catalog.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { showTable, type Column, type Relation, type TableName } from '../../core/table.ts';
import { readLayout, type Layout, type LayoutColumn, type LayoutIndex } from './catalog-layout.ts';
import { runSchemaFile, trySchemaFile } from './catalog-schema-file.ts';
import { translate, type Where } from './errors.ts';
import { kindOf } from './kinds.ts';
import { ident, qualified } from './sql.ts';

/** Runs `work` with a connection that nobody else uses meanwhile. */
export type WithClient = <T>(work: (client: pg.Client) => Promise<T>) => Promise<T>;

export interface CatalogOptions {
  readonly withClient: WithClient;
  /** A connection of its own for a schema file, which may change session settings; it is ended afterwards. */
  readonly openForSchema: () => Promise<pg.Client>;
  readonly stateSchema: string;
  readonly where: Where;
}

/**
 * The layout as the log of changes carries it: columns in table order without generated ones. The key is what the server
 * sends as old key: the columns of the replica identity index, or the primary key for the default and for FULL.
 * @throws VerdigrisError SCHEMA_TABLE_MISSING, SCHEMA_UNSUPPORTED
 */
export async function describeSource(client: pg.ClientBase, table: TableName): Promise<Relation> {
  return sourceRelation(table, await readLayout(client, table));
}

/**
 * The layout as something to write to: all columns, generated ones included. The key is the primary key, or else the first
 * unique index (by name) that is immediate, not partial, and over columns that are NOT NULL.
 * @throws VerdigrisError SCHEMA_TABLE_MISSING, SCHEMA_UNSUPPORTED
 */
export async function describeTarget(client: pg.ClientBase, table: TableName): Promise<Relation> {
  return targetRelation(table, await readLayout(client, table));
}

/**
 * Changes whenever the rows of the table (or of one of its partitions) are stored anew: a rewriting ALTER TABLE, TRUNCATE,
 * VACUUM FULL, CLUSTER. The first kind may change values without any row event.
 */
export async function rewriteMarker(client: pg.ClientBase, table: TableName): Promise<string> {
  const result = await client.query<{ marker: string | null }>({
    name: 'verdigris_rewrite_marker',
    text: `SELECT string_agg(p.relid::oid::text || ':' || coalesce(pg_catalog.pg_relation_filenode(p.relid), 0), ',' ORDER BY p.relid::oid) AS marker
      FROM (
        SELECT c.oid AS relid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2
        UNION
        SELECT t.relid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
        LATERAL pg_catalog.pg_partition_tree(c.oid) t
        WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'p'
      ) p`,
    values: [table.schema, table.name],
  });
  const marker = result.rows[0]?.marker;
  if (marker === null || marker === undefined) {
    throw new VerdigrisError('SCHEMA_TABLE_MISSING', `The table ${showTable(table)} does not exist.`);
  }
  return marker;
}

/** How the text of the first key column sorts, as {@link layoutVersion} recorded it. */
export const firstKeyByBytes = (relation: Relation): boolean => relation.version.endsWith('.bytes');

function sourceRelation(table: TableName, layout: Layout): Relation {
  const columns = layout.columns.filter((column) => !column.generated);
  const primary = layout.indexes.find((index) => index.primary);
  const named = layout.indexes.find((index) => index.identity);
  const byReplicaIdentity: Readonly<Record<string, LayoutIndex | undefined>> = {
    i: named,
    d: primary,
    f: primary,
  };
  const index = byReplicaIdentity[layout.replicaIdentity];
  const key = index === undefined ? null : keyIndexes(columns, index);
  // A deferrable primary key identifies no old row for the log: the server then refuses or sends nothing.
  const keySent = key !== null && index?.immediate === true;
  const identity = layout.replicaIdentity === 'f' ? 'full' : keySent ? 'key' : 'none';
  return relation(table, layout, { columns, key: key ?? [], identity, role: 'source' });
}

function targetRelation(table: TableName, layout: Layout): Relation {
  const columns = layout.columns;
  const notNull = new Set(columns.filter((column) => column.notNull).map((column) => column.number));
  const index =
    layout.indexes.find((candidate) => candidate.primary) ??
    layout.indexes.find(
      (candidate) =>
        candidate.immediate && !candidate.partial && candidate.columns.every((number) => notNull.has(number)),
    );
  const key = index === undefined ? null : keyIndexes(columns, index);
  return relation(table, layout, {
    columns,
    key: key ?? [],
    identity: key === null ? 'full' : 'key',
    role: 'target',
  });
}

/** Indexes into `columns`, or null when the index is over an expression or a column that is not among them. */
function keyIndexes(columns: readonly LayoutColumn[], index: LayoutIndex): number[] | null {
  const key = index.columns.map((number) => columns.findIndex((column) => column.number === number));
  return key.includes(-1) ? null : key;
}

interface Shape {
  readonly columns: readonly LayoutColumn[];
  readonly key: readonly number[];
  readonly identity: Relation['identity'];
  readonly role: 'source' | 'target';
}

function relation(table: TableName, layout: Layout, shape: Shape): Relation {
  const columns = shape.columns.map((column): Column => {
    const facts = kindOf(column.typeOid, layout.types, column.deterministic);
    return {
      name: column.name,
      type: column.type,
      kind: facts.kind,
      nullable: !(column.notNull || facts.notNull),
      generated: column.generated,
      hasDefault: column.hasDefault,
      exact: facts.exact,
      mayBeUnchanged: column.toastable,
      ...(facts.labels === null ? {} : { labels: facts.labels }),
    };
  });
  return {
    table,
    columns,
    key: shape.key,
    identity: shape.identity,
    version: layoutVersion(layout, shape, columns),
  };
}

/**
 * Hash of everything that makes a layout. Attribute numbers are in it, because dropping a column and adding one of the same
 * name and type changes values without changing names. Its suffix says whether the first key column is text that the
 * server orders by bytes: a relation that was stored and read back must still know.
 */
function layoutVersion(layout: Layout, shape: Shape, columns: readonly Column[]): string {
  const facts = shape.columns.map((column, index) => {
    // What a default says matters to who writes, not to what the log carries.
    const described = { ...columns[index], ...(shape.role === 'source' ? { hasDefault: null } : {}) };
    return [column.number, column.deterministic, column.byteOrder, described];
  });
  const hash = createHash('sha256')
    .update(JSON.stringify([shape.role, layout.relkind, shape.key, shape.identity, facts]))
    .digest('hex')
    .slice(0, 24);
  const first = shape.key[0];
  if (first === undefined) return hash;
  const column = shape.columns[first] as LayoutColumn;
  const facts0 = kindOf(column.typeOid, layout.types, column.deterministic);
  const byBytes = column.byteOrder && facts0.kind === 'text' && BYTE_ORDERED.has(facts0.base);
  return byBytes ? `${hash}.bytes` : hash;
}

/** Not bpchar, whose padding does not count; not citext, enums, or types of extensions. */
const BYTE_ORDERED = new Set(['text', 'varchar', 'name']);

/**
 * Reads layouts through the connections it is given. Partitions are not listed for themselves: a partitioned table is
 * one table here, named by its root. Unlogged and temporary tables (never in the log) and tables that belong to an extension
 * are not listed either.
 */
export function createCatalog(options: CatalogOptions): Catalog {
  const run = async <T>(work: (client: pg.Client) => Promise<T>): Promise<T> => {
    try {
      return await options.withClient(work);
    } catch (error) {
      throw translate(error, options.where);
    }
  };
  return {
    tables: () => run((client) => listTables(client, options.stateSchema)),
    source: (table) => run((client) => describeSource(client, table)),
    target: (table) => run((client) => describeTarget(client, table)),
    rewrites: (tables) =>
      run(async (client) => {
        const markers: string[] = [];
        for (const table of tables) markers.push(await rewriteMarker(client, table));
        return markers.join(' ');
      }),
    fingerprint: (tables) => run((client) => fingerprint(client, tables)),
    serverVersion: () =>
      run(
        async (client) =>
          (await client.query<{ server_version: string }>('SHOW server_version')).rows[0]?.server_version ??
          '',
      ),
    async previewSchema(sql, tables) {
      const client = await options.openForSchema();
      try {
        return await trySchemaFile(client, sql, async () => {
          // The layout queries name catalogs without a schema; the file may have set another path.
          await client.query('SET LOCAL search_path = pg_catalog');
          const relations: Relation[] = [];
          for (const table of tables) relations.push(await describeTarget(client, table));
          return relations;
        });
      } catch (error) {
        throw translate(error, options.where, { statement: 'schema file' });
      } finally {
        await client.end().catch(() => undefined);
      }
    },
    async applySchema(sql, tables) {
      const missing = await run((client) => missingTables(client, tables));
      if (missing.length === 0) return false;
      if (missing.length < tables.length) {
        throw new VerdigrisError(
          'SCHEMA_TABLE_MISSING',
          `Of the mapped tables these do not exist: ${missing.map(showTable).join(', ')}. The others do, so the schema file was not run.`,
          {
            remedy:
              'Create the missing tables, or drop the others so that the schema file can make all of them.',
            context: { missing: missing.map(showTable) },
          },
        );
      }
      const client = await options.openForSchema();
      try {
        await runSchemaFile(client, sql);
      } catch (error) {
        throw translate(error, options.where, { statement: 'schema file' });
      } finally {
        await client.end().catch(() => undefined);
      }
      const still = await run((client) => missingTables(client, tables));
      if (still.length > 0) {
        throw new VerdigrisError(
          'SCHEMA_TABLE_MISSING',
          `The schema file ran, but these mapped tables still do not exist: ${still.map(showTable).join(', ')}.`,
          { context: { missing: still.map(showTable) } },
        );
      }
      return true;
    },
  };
}

async function listTables(client: pg.Client, stateSchema: string): Promise<TableName[]> {
  const result = await client.query<{ schema: string; name: string }>(
    `SELECT n.nspname::text AS schema, c.relname::text AS name
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
       AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', $1)
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
         WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
     ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`,
    [stateSchema],
  );
  return result.rows.map(({ schema, name }) => ({ schema, name }));
}

async function missingTables(client: pg.Client, tables: readonly TableName[]): Promise<TableName[]> {
  const missing: TableName[] = [];
  for (const table of tables) {
    const result = await client.query<{ there: string | null }>(
      'SELECT pg_catalog.to_regclass($1)::text AS there',
      [`${ident(table.schema)}.${ident(table.name)}`],
    );
    if (result.rows[0]?.there === null || result.rows[0]?.there === undefined) missing.push(table);
  }
  return missing;
}

/** Layouts in both roles; a table that is gone counts as a layout of its own. */
async function fingerprint(client: pg.Client, tables: readonly TableName[]): Promise<string> {
  const hash = createHash('sha256');
  for (const table of tables) {
    hash.update(`${qualified(table)}\n`);
    try {
      const layout = await readLayout(client, table);
      hash.update(`${sourceRelation(table, layout).version} ${targetRelation(table, layout).version}\n`);
    } catch (error) {
      if (!(error instanceof VerdigrisError)) throw error;
      hash.update(`${error.code}\n`);
    }
  }
  return hash.digest('hex').slice(0, 32);
}
