import { createHash } from 'node:crypto';
import type { Catalog } from '../../core/catalog.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { showTable, type Relation, type TableName } from '../../core/table.ts';
import { readLayout, relationOf, versionOf } from './catalog-layout.ts';
import { runSchemaFile } from './catalog-schema-file.ts';
import type { Link } from './connect.ts';
import { translate, type Where } from './errors.ts';
import { literal } from './sql.ts';

export type WithLink = <T>(work: (link: Link) => Promise<T>) => Promise<T>;

export interface CatalogOptions {
  readonly withLink: WithLink;
  /** A connection of its own for a schema file, in the database that the address names. */
  readonly openForSchema: () => Promise<Link>;
  readonly database: string;
  readonly stateSchema: string;
  readonly where: Where;
}

export function createCatalog(options: CatalogOptions): Catalog {
  const guarded = async <T>(work: (link: Link) => Promise<T>, context = {}): Promise<T> => {
    try {
      return await options.withLink(work);
    } catch (error) {
      throw translate(error, options.where, context);
    }
  };
  const layouts = (tables: readonly TableName[]) =>
    guarded(async (link) => {
      const found = [];
      for (const table of tables) found.push(await readLayout(link, table));
      return found;
    });
  const relation = async (table: TableName, role: 'source' | 'target'): Promise<Relation> =>
    guarded(async (link) => relationOf(await readLayout(link, table), role), { table: showTable(table) });
  return {
    tables: () =>
      guarded(async (link) => {
        const rows = await link.rows(
          `SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES
           WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA = ${literal(options.database)}
             AND TABLE_SCHEMA <> ${literal(options.stateSchema)} ORDER BY TABLE_SCHEMA, TABLE_NAME`,
        );
        return rows.map(([schema, name]) => ({ schema: schema as string, name: name as string }));
      }),
    source: (table) => relation(table, 'source'),
    target: (table) => relation(table, 'target'),
    applySchema: async (sql, tables) => {
      const missing = await guarded((link) => missingOf(link, tables));
      if (missing.length === 0) return false;
      if (missing.length < tables.length)
        throw new VerdigrisError(
          'SCHEMA_TABLE_MISSING',
          `Only some of the tables exist; missing: ${missing.map(showTable).join(', ')}.`,
          {
            remedy:
              'The schema file runs only when none of its tables exists: create the others, or drop these.',
          },
        );
      const link = await options.openForSchema();
      try {
        await runSchemaFile(link, sql);
      } catch (error) {
        throw translate(error, options.where, { act: 'schema file' });
      } finally {
        await link[Symbol.asyncDispose]();
      }
      return true;
    },
    previewSchema: () =>
      Promise.reject(
        new VerdigrisError(
          'SCHEMA_UNSUPPORTED',
          'A schema file cannot be tried here without leaving something behind: every statement commits by itself.',
          { remedy: 'Run it on green yourself, where none of its tables is there yet; then plan again.' },
        ),
      ),
    rewrites: (tables) =>
      guarded(async (link) => {
        const marks: string[] = [];
        for (const table of tables) marks.push(await rewriteMarker(link, table));
        return marks.join();
      }),
    fingerprint: async (tables) => {
      const hash = createHash('sha256');
      for (const layout of await layouts(tables)) hash.update(`${versionOf(layout, layout.columns)}\n`);
      return hash.digest('hex');
    },
    serverVersion: () => guarded(async (link) => (await link.value('SELECT VERSION()')) ?? ''),
  };
}

async function missingOf(link: Link, tables: readonly TableName[]): Promise<readonly TableName[]> {
  const missing: TableName[] = [];
  for (const table of tables) {
    const found = await link.value(
      `SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = ${literal(table.schema)} AND TABLE_NAME = ${literal(table.name)}`,
    );
    if (found === null) missing.push(table);
  }
  return missing;
}

/** The number under which the storage engine knows the table, and when it was made: a table that is written anew gets another. */
async function rewriteMarker(link: Link, table: TableName): Promise<string> {
  const created = await link.value(
    `SELECT coalesce(CREATE_TIME, '') FROM information_schema.TABLES
     WHERE TABLE_SCHEMA = ${literal(table.schema)} AND TABLE_NAME = ${literal(table.name)}`,
  );
  if (created === null)
    throw new VerdigrisError('SCHEMA_TABLE_MISSING', `The table ${showTable(table)} does not exist.`);
  const view = link.flavour === 'mysql' ? 'INNODB_TABLES' : 'INNODB_SYS_TABLES';
  // Needs PROCESS; without it the time of creation, whole seconds, has to do.
  const ids = await link
    .rows(
      `SELECT TABLE_ID FROM information_schema.${view} WHERE NAME LIKE ${literal(storageName(table))} ORDER BY TABLE_ID`,
    )
    .catch(() => []);
  return ids.length > 0 ? ids.map(([id]) => id).join('+') : created;
}

/** `database/table` with the characters that are no plain letters spelled `@00xx`; `#P#…` follows for partitions. */
function storageName(table: TableName): string {
  const part = (name: string): string =>
    Array.from(name)
      .map((char) =>
        /[A-Za-z0-9_]/.test(char) ? char : `@${char.codePointAt(0)?.toString(16).padStart(4, '0')}`,
      )
      .join('')
      .replaceAll('_', '\\_');
  return `${part(table.schema)}/${part(table.name)}`;
}
