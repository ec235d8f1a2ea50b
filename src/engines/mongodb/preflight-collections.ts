import type { Document } from 'mongodb';
import { showTable, type TableName } from '../../core/table.ts';
import { TYPE, fields, type Field } from './bson.ts';
import { collectionInfo, unsupported } from './catalog.ts';
import type { Check, CheckContext, Finding } from './preflight-check.ts';
import { documentsOf, rawCursor } from './wire.ts';

const SAMPLED = 200;

/** The collections that are there. */
async function present(context: CheckContext): Promise<readonly TableName[]> {
  const found: TableName[] = [];
  for (const table of context.scope.tables)
    if ((await collectionInfo(context.client, table)) !== null) found.push(table);
  return found;
}

async function perTable(
  context: CheckContext,
  look: (table: TableName) => Promise<readonly Finding[]>,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const table of await present(context)) findings.push(...(await look(table)));
  return findings;
}

const orOk = async (
  findings: Promise<readonly Finding[]>,
  ok: string,
): Promise<readonly Finding[] | string> => {
  const list = await findings;
  return list.length > 0 ? list : ok;
};

const indexesOf = (context: CheckContext, { schema, name }: TableName): Promise<Document[]> =>
  context.client.db(schema).collection(name).listIndexes().toArray();

const kinds: Check = {
  id: 'G11',
  title: 'kinds of collections',
  level: 'block',
  expected: 'ordinary collections',
  run: (context) =>
    orOk(
      perTable(context, async (table) => {
        const info = await collectionInfo(context.client, table);
        const why = info === null ? null : unsupported(info);
        return why === null
          ? []
          : [
              {
                observed: `${showTable(table)}: ${why}`,
                remedy: 'Leave it out, or make it an ordinary collection.',
              },
            ];
      }),
      'all are',
    ),
};

const missing: Check = {
  id: 'G11',
  title: 'mapped collections',
  level: 'block',
  expected: 'all are there',
  role: 'source',
  async run(context) {
    const there = await present(context);
    const gone = context.scope.tables.filter((table) => !there.includes(table));
    return gone.length === 0
      ? `${there.length} collections`
      : gone.map((table) => ({ observed: `${showTable(table)} is missing`, remedy: 'Correct the mapping.' }));
  },
};

const expiry: Check = {
  id: 'G12',
  title: 'indexes by which documents expire',
  level: 'info',
  expected: 'suspended on green until the switch',
  run: (context) =>
    orOk(
      perTable(context, async (table) =>
        (await indexesOf(context, table))
          .filter((index) => index['expireAfterSeconds'] !== undefined)
          .map((index) => ({
            observed: `${showTable(table)}.${String(index['name'])}`,
            remedy: 'Nothing to do: on green it expires nothing before the switch.',
          })),
      ),
      'none',
    ),
};

const uniqueness: Check = {
  id: 'G13',
  title: 'unique indexes',
  level: 'warn',
  expected: 'taken off while green is copied, then built again',
  role: 'sink',
  run: (context) =>
    orOk(
      perTable(context, async (table) => {
        const { schema, name } = table;
        const documents = await context.client.db(schema).collection(name).estimatedDocumentCount();
        const unique = (await indexesOf(context, table)).filter((index) => index['unique'] === true);
        return documents === 0 || !context.scope.fresh
          ? []
          : unique.map((index) => ({
              observed: `${showTable(table)}.${String(index['name'])} on a collection with documents`,
              remedy: 'Empty the collection.',
            }));
      }),
      'none in the way',
    ),
};

const empty: Check = {
  id: 'G13',
  title: 'green is empty',
  level: 'block',
  expected: 'no documents in mapped collections',
  role: 'sink',
  async run(context) {
    if (!context.scope.fresh) return 'the run has begun before';
    return orOk(
      perTable(context, async (table) => {
        const one = await context.client
          .db(table.schema)
          .collection(table.name)
          .findOne({}, { projection: { _id: 1 } });
        return one === null
          ? []
          : [
              {
                observed: `${showTable(table)} has documents`,
                remedy: 'Empty it: nothing is ever overwritten.',
              },
            ];
      }),
      'it is',
    );
  },
};

const collations: Check = {
  id: 'G14',
  title: 'collations',
  level: 'warn',
  expected: 'only simple ones',
  run: (context) =>
    orOk(
      perTable(context, async (table) =>
        (await indexesOf(context, table))
          .filter((index) => index['collation'] !== undefined)
          .map((index) => ({
            observed: `${showTable(table)}.${String(index['name'])} has a collation`,
            remedy: 'Make the same index on green: orders and uniqueness follow it.',
          })),
      ),
      'only simple ones',
    ),
};

/** A few documents of each collection, looked at as bytes. */
async function sampled(
  context: CheckContext,
  table: TableName,
  look: (document: Buffer, into: Set<string>) => void,
): Promise<readonly string[]> {
  const { batch } = await rawCursor(context.client.db(table.schema), {
    find: table.name,
    limit: SAMPLED,
    singleBatch: true,
    readConcern: { level: 'local' },
  });
  const into = new Set<string>();
  for (const document of documentsOf(batch)) look(document, into);
  return [...into];
}

function oddities(keepsTimestamps: boolean): (document: Buffer, into: Set<string>) => void {
  return (document, into) => {
    const names = new Set<string>();
    for (const field of fields(document)) {
      if (names.has(field.name))
        into.add(`the name ${JSON.stringify(field.name.slice(0, 20))} twice in one document`);
      names.add(field.name);
      if (!keepsTimestamps && field.type === TYPE.timestamp && isZero(field))
        into.add('an empty timestamp, which this version of the server fills in');
    }
  };
}

const isZero = ({ bytes }: Field): boolean => bytes.every((byte) => byte === 0);

const odd: Check = {
  id: 'G15',
  title: 'odd documents, in a sample',
  level: 'warn',
  expected: 'none',
  run: (context) =>
    orOk(
      perTable(context, async (table) => {
        const [major, minor] = context.version;
        const keeps = major > 8 || (major === 8 && minor >= 1);
        return (await sampled(context, table, oddities(keeps))).map((what) => ({
          observed: `${showTable(table)}: ${what}`,
          remedy:
            'It is carried over byte by byte where the server lets it; look at the differences that verification finds.',
        }));
      }),
      'none',
    ),
};

const sharding: Check = {
  id: 'G16',
  title: 'shards',
  level: 'block',
  server: 'set',
  expected: 'a replica set that is no part of a cluster',
  async run({ client }) {
    const state = await client.db('admin').command({ shardingState: 1 });
    if (state['enabled'] !== true) return 'none';
    return [
      {
        observed: `the shard ${String(state['shardName'])} of a cluster`,
        remedy:
          'Give the address of the routers: the log and the fence of one shard are not those of the others.',
      },
    ];
  },
};

const profile: Check = {
  id: 'G19',
  title: 'types of _id, in a sample',
  level: 'info',
  expected: 'known',
  run: async (context) => {
    const lines: string[] = [];
    for (const table of await present(context)) {
      const types = await sampled(context, table, (document, into) => {
        for (const field of fields(document)) if (field.name === '_id') into.add(typeName(field.type));
      });
      if (types.length > 1) lines.push(`${showTable(table)}: ${types.join(', ')}`);
    }
    return lines.length === 0 ? 'one type in each collection' : lines.join('; ');
  },
};

const typeName = (type: number): string =>
  Object.entries(TYPE).find(([, value]) => value === type)?.[0] ?? String(type);

export const COLLECTION_CHECKS: readonly Check[] = [missing, kinds, expiry, uniqueness, empty, collations];
export const SAMPLE_CHECKS: readonly Check[] = [odd, sharding, profile];
