import { randomBytes } from 'node:crypto';

import { BSON, MongoClient, type ClientSession, type Collection } from 'mongodb';
import { afterAll } from 'vitest';

import type { RowRun } from '../../src/core/change.ts';
import { UNCHANGED, type Cell, type TableName, type Tuple } from '../../src/core/table.ts';
import { DOCUMENT, DocumentDelta } from '../../src/engines/mongodb/document.ts';
import { engine } from '../../src/engines/mongodb/index.ts';
import { keyOfText, keyTextOf } from '../../src/engines/mongodb/key.ts';
import { formatPosition } from '../../src/engines/mongodb/position.ts';
import type {
  EngineDatabase,
  EngineHarness,
  EngineServer,
  Item,
  ItemChange,
  ItemEvent,
  RowCodec,
  TableSpec,
  Writer,
} from '../contract/engine/harness.ts';
import { MONGO_PASSWORD, startMongo, waitForPrimary, type MongoReplicaSet } from './mongo.ts';

/** What a contract row is as a document. */
interface ItemDocument {
  readonly _id: BSON.Long;
  readonly n: BSON.Long | null;
  readonly v: string | null;
  readonly big: string | null;
}

const long = (value: number | null): BSON.Long | null =>
  value === null ? null : BSON.Long.fromNumber(value);

const documentOf = ({ id, n, v, big }: Item): ItemDocument => ({
  _id: BSON.Long.fromNumber(id),
  n: long(n),
  v,
  big,
});

const numberOf = (value: unknown): number | null =>
  value === null || value === undefined ? null : Number(value);

function itemOf(document: BSON.Document): Item {
  const { _id, n, v, big } = document as { _id: unknown; n: unknown; v: string | null; big: string | null };
  return { id: Number(_id), n: numberOf(n), v, big };
}

const bytesOf = (item: Item): Buffer => Buffer.from(BSON.serialize(documentOf(item)));

const keyText = (id: number): string => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(BigInt(id));
  return keyTextOf({ type: 0x12, bytes });
};

/** Rows are documents; what an update names are fields that change in place. */
export const documentRows: RowCodec = {
  insert: (relation, ...items) => ({
    relation,
    op: 'insert',
    after: items.map((one) => [keyText(one.id), bytesOf(one)]),
    before: items.map(() => null),
  }),
  update: (relation, ...changes) => ({
    relation,
    op: 'update',
    after: changes.map((change) => [keyText(change.id), new DocumentDelta(null, [diffOf(change)])]),
    before: changes.map(() => null),
  }),
  remove: (relation, ...ids) => ({
    relation,
    op: 'delete',
    after: [],
    before: ids.map((id) => [keyText(id), UNCHANGED]),
  }),
  move: (relation, ...moves) => ({
    relation,
    op: 'update',
    after: moves.map(({ to }) => [keyText(to.id), bytesOf(to)]),
    before: moves.map(({ from }) => [keyText(from), UNCHANGED]),
  }),
  clear: (relation) => ({ relation, op: 'truncate', after: [], before: [] }),
  read,
  item: (_relation, tuple) => itemOf(BSON.deserialize(tuple[DOCUMENT] as Uint8Array)),
  key: keyText,
  id: (cell) => Number(keyOfText(String(cell)).bytes.readBigInt64LE()),
  value: () => DOCUMENT,
};

function diffOf({ id: _id, ...change }: ItemChange): Buffer {
  const set = Object.fromEntries(
    Object.entries(change).map(([name, value]) => [
      name,
      name === 'n' ? long(value as number | null) : value,
    ]),
  );
  return Buffer.from(BSON.serialize({ u: set }));
}

function read(run: RowRun): ItemEvent[] {
  const id = (row: Tuple | null | undefined): number => documentRows.id((row as Tuple)[0] as Cell);
  switch (run.op) {
    case 'insert':
      return run.after.map((row) => ({ op: 'insert', set: documentRows.item(run.relation, row) }));
    case 'delete':
      return run.before.map((row) => ({ op: 'delete', from: id(row) }));
    case 'update':
      return run.after.map((row) => ({ op: 'update', from: id(row), set: changeOf(row, id(row)) }));
    default:
      throw new Error(`this source does not deliver ${run.op}`);
  }
}

function changeOf(row: Tuple, id: number): ItemChange {
  const cell = row[DOCUMENT];
  if (!(cell instanceof DocumentDelta)) return itemOf(BSON.deserialize(cell as Uint8Array));
  const change: Record<string, unknown> = { id };
  for (const diff of cell.diffs) {
    const { u = {}, i = {} } = BSON.deserialize(diff) as { u?: BSON.Document; i?: BSON.Document };
    for (const [name, value] of Object.entries({ ...u, ...i }))
      change[name] = name === 'n' ? numberOf(value) : value;
  }
  return change as unknown as ItemChange;
}

/** An ordinary account, on the databases of the tests. */
const APPLICATION = 'application';

/** MongoDB for the engine contract. Its servers are its own: the fence stops the writes of a whole replica set. */
export function mongoHarness(): EngineHarness {
  const sets = new Map<'blue' | 'green', Promise<MongoReplicaSet>>();
  const shared = (side: 'blue' | 'green'): Promise<MongoReplicaSet> => {
    let set = sets.get(side);
    if (set === undefined) sets.set(side, (set = startWithUsers()));
    return set;
  };
  afterAll(async () => {
    for (const set of sets.values()) await (await set)[Symbol.asyncDispose]();
  });
  return {
    name: 'MongoDB 8.2',
    engine,
    traits: {
      counters: false,
      exactSnapshots: true,
      // One reply of the server: 2,000 events, here of some 1,500 bytes.
      mostQueuedBytes: 4 * 2 ** 20,
      openTransactionHoldsFence: true,
    },
    rows: documentRows,
    // Around a change of the second, where an order of texts would be wrong.
    positions: Array.from({ length: 60 }, (_, index) =>
      formatPosition({
        time: ((9n + BigInt(index >> 3)) << 32n) | BigInt(index & 7),
        set: '00',
        token: null,
      }),
    ),
    unordered: [],
    secret: encodeURIComponent(MONGO_PASSWORD),
    statements: {
      one: '{"$db":"admin","aggregate":1,"pipeline":[{"$documents":[{"one":1}]}],"cursor":{}}',
      slow: '{"$db":"admin","aggregate":1,"pipeline":[{"$documents":[{"a":{"$range":[0,100000]}}]},{"$unwind":"$a"},{"$set":{"b":{"$range":[0,100000]}}},{"$unwind":"$b"},{"$count":"n"}],"cursor":{}}',
      wrong: '{"$db":"admin","aggregate":1,"pipeline":[{"$noSuchStage":{}}],"cursor":{}}',
    },
    database: async (side) => asDatabase(await shared(side)),
    server: startServer,
    schemaFile: (database, ...specs) =>
      JSON.stringify(specs.flatMap((spec) => commandsOf(nameOf(database), spec))),
    tableName: (database, name) => ({ schema: nameOf(database), name }),
  };
}

async function startWithUsers(): Promise<MongoReplicaSet> {
  const set = await startMongo();
  const client = await new MongoClient(set.uri()).connect();
  await client.db('admin').command({
    createUser: APPLICATION,
    pwd: MONGO_PASSWORD,
    roles: ['readWriteAnyDatabase', 'dbAdminAnyDatabase'],
  });
  await client.close();
  return set;
}

async function startServer(): Promise<EngineServer> {
  const set = await startWithUsers();
  const [member] = set.members;
  if (member === undefined) throw new Error('a replica set without members');
  return {
    database: () => asDatabase(set),
    kill: () => member.stop('kill'),
    start: async () => {
      await member.start();
      await waitForPrimary(set);
    },
    [Symbol.asyncDispose]: () => Promise.resolve(set[Symbol.asyncDispose]()),
  };
}

const names = new WeakMap<EngineDatabase, string>();
const nameOf = (database: EngineDatabase): string => names.get(database) as string;

const commandsOf = (name: string, { name: table, unique }: TableSpec): object[] => [
  { $db: name, create: table },
  ...(unique === true
    ? [{ $db: name, createIndexes: table, indexes: [{ key: { n: 1 }, name: 'n_1', unique: true }] }]
    : []),
];

async function asDatabase(set: MongoReplicaSet): Promise<EngineDatabase> {
  const name = `t${randomBytes(6).toString('hex')}`;
  const client = await new MongoClient(set.uri()).connect();
  const db = client.db(name);
  const stateSchema = `${name}_state`;
  const port = set.members[0]?.port as number;
  const database: EngineDatabase = {
    address: { host: '127.0.0.1', port },
    stateSchema,
    config: (through) => ({ url: through === undefined ? set.uri() : throughUri(set.uri(), through) }),
    table: async (spec) => {
      for (const command of commandsOf(name, spec)) {
        const { $db: _db, ...rest } = command as { $db: string };
        await db.command(rest);
      }
      return { schema: name, name: spec.name };
    },
    writer: () => openWriter(set.uri(APPLICATION)),
    vandal: () => openWriter(set.uri()),
    rows: async ({ name: table }) => {
      const found = await db.collection(table).find().sort({ _id: 1 }).toArray();
      return found.map(itemOf);
    },
    [Symbol.asyncDispose]: async () => {
      await dropAll(client, [name, stateSchema]);
      await client.close();
    },
  };
  names.set(database, name);
  return database;
}

/** The server's own address is not what it tells its clients when they come through a proxy: they must not follow it. */
function throughUri(uri: string, { host, port }: { host: string; port: number }): string {
  const url = uri.replace(/@[^/]+\//, `@${host}:${port}/`);
  return url.replace('replicaSet=rs0', 'directConnection=true');
}

async function dropAll(client: MongoClient, databases: readonly string[]): Promise<void> {
  const admin = client.db('admin');
  const { users } = (await admin.command({ usersInfo: 1 })) as unknown as { users: { user: string }[] };
  for (const { user } of users)
    if (user.startsWith('verdigris_proof_')) await admin.command({ dropUser: user });
  for (const database of databases) await client.db(database).dropDatabase();
}

async function openWriter(uri: string): Promise<Writer> {
  const client = await new MongoClient(uri, { maxPoolSize: 1, retryWrites: false }).connect();
  let session: ClientSession | null = null;
  const of = ({ schema, name }: TableName): Collection<ItemDocument> =>
    client.db(schema).collection<ItemDocument>(name);
  const options = () => (session === null ? {} : { session });
  const alone = async (work: () => Promise<void>): Promise<void> => {
    if (session !== null) return work();
    session = client.startSession();
    try {
      await session.withTransaction(work);
    } finally {
      await session.endSession();
      session = null;
    }
  };
  const end = async (how: (open: ClientSession) => Promise<void>): Promise<void> => {
    const open = session as ClientSession;
    session = null;
    try {
      await how(open);
    } finally {
      await open.endSession();
    }
  };
  return {
    begin: async () => {
      session = client.startSession();
      session.startTransaction();
    },
    commit: () => end((open) => open.commitTransaction()),
    rollback: () => end((open) => open.abortTransaction()),
    insert: async (table, ...items) => {
      const documents = items.map(documentOf);
      // One statement is one transaction elsewhere.
      if (documents.length === 1) await of(table).insertOne(documents[0] as ItemDocument, options());
      else await alone(async () => void (await of(table).insertMany(documents, options())));
    },
    insertCounted: () => Promise.reject(new Error('the server gives out no numbers')),
    update: async (table, { id, ...change }) => {
      const { n, ...rest } = change;
      const set = { ...rest, ...(n === undefined ? {} : { n: long(n) }) };
      await of(table).updateOne(
        { _id: BSON.Long.fromNumber(id) },
        { $set: set as Partial<ItemDocument> },
        options(),
      );
    },
    remove: async (table, ...ids) => {
      const work = async (): Promise<void> =>
        void (await of(table).deleteMany(
          { _id: { $in: ids.map((id) => BSON.Long.fromNumber(id)) } },
          options(),
        ));
      await (ids.length === 1 ? work() : alone(work));
    },
    move: (table, from, to) =>
      alone(async () => {
        const row = await of(table).findOneAndDelete({ _id: BSON.Long.fromNumber(from) }, options());
        if (row !== null) await of(table).insertOne({ ...row, _id: BSON.Long.fromNumber(to) }, options());
      }),
    clear: (table) => alone(async () => void (await of(table).deleteMany({}, options()))),
    [Symbol.asyncDispose]: async () => {
      await session?.endSession().catch(() => undefined);
      await client.close().catch(() => undefined);
    },
  };
}
