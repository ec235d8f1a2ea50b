import { BSON, type Document, type MongoClient } from 'mongodb';
import type { Catalog } from '../../core/catalog.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { showTable, tableId, type Relation, type TableName } from '../../core/table.ts';
import { relationOf } from './document.ts';
import { translate, type Where } from './errors.ts';

/** Databases of the server itself. */
const OWN = new Set(['admin', 'config', 'local']);

export interface CollectionInfo {
  readonly name: string;
  /** `collection`, `view` or `timeseries`. */
  readonly type: string;
  readonly options: Document;
  /** Changes when the collection is dropped and made again. */
  readonly uuid: string;
}

/** What is known about a collection, or null when it is not there. */
export async function collectionInfo(client: MongoClient, table: TableName): Promise<CollectionInfo | null> {
  const [info] = await client.db(table.schema).listCollections({ name: table.name }).toArray();
  if (info === undefined) return null;
  const facts = info as Document;
  return {
    name: table.name,
    type: String(facts['type'] ?? 'collection'),
    options: (facts['options'] ?? {}) as Document,
    uuid: uuidText((facts['info'] as Document | undefined)?.['uuid']),
  };
}

const uuidText = (uuid: unknown): string => (uuid instanceof BSON.Binary ? uuid.toString('hex') : 'none');

/** Why the collection cannot be replicated, or null. Each for its own reason: nothing of this may be guessed at. */
export function unsupported({ type, options }: CollectionInfo): string | null {
  if (type === 'view') return 'it is a view';
  if (type === 'timeseries') return 'it is a time-series collection: its log holds buckets, not documents';
  if (options['capped'] === true) return 'it is capped: what falls out of it is not in the log';
  if (options['clusteredIndex'] !== undefined) return 'it is clustered by its key';
  if (options['encryptedFields'] !== undefined) return 'it has encrypted fields';
  const locale = (options['collation'] as Document | undefined)?.['locale'];
  if (locale !== undefined && locale !== 'simple')
    return `it has the collation ${String(locale)}: keys that differ may be equal in it`;
  return null;
}

/** The log brings documents as they were before and after a change. */
export const keepsImages = ({ options }: Pick<CollectionInfo, 'options'>): boolean =>
  (options['changeStreamPreAndPostImages'] as Document | undefined)?.['enabled'] === true;

export function createCatalog(parts: {
  readonly client: MongoClient;
  readonly stateDatabase: string;
  readonly where: Where;
}): Catalog {
  const { client, stateDatabase, where } = parts;
  const guarded = async <T>(table: TableName | null, work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw translate(error, where, table === null ? {} : { table: showTable(table) });
    }
  };
  const layout = (table: TableName): Promise<Relation> =>
    guarded(table, async () => {
      const info = await collectionInfo(client, table);
      if (info === null)
        throw new VerdigrisError('SCHEMA_TABLE_MISSING', `There is no collection ${showTable(table)}.`);
      const why = unsupported(info);
      if (why !== null) {
        throw new VerdigrisError('SCHEMA_UNSUPPORTED', `${showTable(table)} cannot be replicated: ${why}.`, {
          remedy: 'Leave the collection out of the mapping, or make it an ordinary one.',
          context: { table: showTable(table) },
        });
      }
      return relationOf(table, info.uuid, keepsImages(info));
    });

  return {
    tables: () =>
      guarded(null, async () => {
        const { databases } = await client.db('admin').admin().listDatabases({ nameOnly: true });
        const tables: TableName[] = [];
        for (const { name: schema } of databases) {
          if (OWN.has(schema) || schema === stateDatabase) continue;
          for (const { name, type } of await client
            .db(schema)
            .listCollections({}, { nameOnly: true })
            .toArray())
            if (type !== 'view' && !name.startsWith('system.')) tables.push({ schema, name });
        }
        return tables.sort((a, b) => (tableId(a) < tableId(b) ? -1 : 1));
      }),
    source: layout,
    target: layout,
    applySchema: (text, tables) =>
      guarded(null, async () => {
        const present = await Promise.all(tables.map((table) => collectionInfo(client, table)));
        if (present.some((info) => info !== null)) return false;
        for (const { database, command } of parseSchema(text)) {
          const { shardCollection, ...options } = command;
          if (shardCollection === undefined) await client.db(database).command(command);
          else {
            const namespace = `${database}.${String(shardCollection)}`;
            await client.db('admin').command({ shardCollection: namespace, ...options });
          }
        }
        return true;
      }),
    previewSchema: async (text, tables) => {
      const made = new Map(
        parseSchema(text).flatMap(({ database, command }) =>
          command['create'] === undefined
            ? []
            : [[tableId({ schema: database, name: String(command['create']) }), command] as const],
        ),
      );
      return tables.flatMap((table) => {
        const options = made.get(tableId(table));
        return options === undefined ? [] : [relationOf(table, 'not made yet', keepsImages({ options }))];
      });
    },
    rewrites: (tables) => guarded(null, () => identities(client, tables)),
    fingerprint: (tables) => guarded(null, () => identities(client, tables)),
    serverVersion: () => guarded(null, () => serverVersion(client)),
  };
}

async function identities(client: MongoClient, tables: readonly TableName[]): Promise<string> {
  const infos = await Promise.all(tables.map((table) => collectionInfo(client, table)));
  return infos.map((info) => info?.uuid ?? 'missing').join(' ');
}

export async function serverVersion(client: MongoClient): Promise<string> {
  return String((await client.db('admin').command({ buildInfo: 1 }))['version']);
}

interface SchemaCommand {
  readonly database: string;
  readonly command: Document;
}

/**
 * A schema file is an array of commands in extended JSON, each with the database it runs in:
 * `[{ "$db": "shop", "create": "orders" }, { "$db": "shop", "createIndexes": "orders", "indexes": [ … ] }]`.
 * @throws VerdigrisError SCHEMA_UNSUPPORTED
 */
export function parseSchema(text: string): readonly SchemaCommand[] {
  const refuse = (why: string): VerdigrisError =>
    new VerdigrisError('SCHEMA_UNSUPPORTED', `The schema file ${why}.`, {
      remedy: 'Write an array of commands: [{ "$db": "shop", "create": "orders" }].',
    });
  let parsed: unknown;
  try {
    parsed = BSON.EJSON.parse(text, { relaxed: true });
  } catch {
    throw refuse('is not extended JSON');
  }
  if (!Array.isArray(parsed)) throw refuse('is not an array');
  return parsed.map((entry: unknown) => {
    const { $db: database, ...command } = (entry ?? {}) as Document;
    if (typeof database !== 'string') throw refuse('has a command without $db');
    const verb = Object.keys(command)[0] ?? '';
    if (!ALLOWED.has(verb)) throw refuse(`has the command ${verb}; it may ${[...ALLOWED].join(', ')}`);
    return { database, command };
  });
}

const ALLOWED = new Set(['create', 'createIndexes', 'collMod', 'shardCollection']);
