import { MongoClient, type Db, type Document } from 'mongodb';
import { startMongo, type MongoReplicaSet } from '../../test/support/mongo.ts';
import { waitFor } from '../../test/support/wait.ts';
import { Sampler } from '../sampler.ts';

/** The log has to hold the backlog of every run. */
const OPLOG_MB = 2_048;

export const DATABASE = 'app';
const STATE = 'verdigris';

export const DURABILITY =
  'every write of both sides is acknowledged with w: majority and j: true; replica sets of one member';

type Side = 'blue' | 'green';

/** Blue and green, a replica set of one member each. What green holds can be put aside and brought back. */
export class MongoRig implements AsyncDisposable {
  readonly #sets: Readonly<Record<Side, MongoReplicaSet>>;
  readonly #clients: Readonly<Record<Side, MongoClient>>;

  private constructor(sets: Record<Side, MongoReplicaSet>, clients: Record<Side, MongoClient>) {
    this.#sets = sets;
    this.#clients = clients;
  }

  static async start(): Promise<MongoRig> {
    const blue = await startMongo({ oplogMb: OPLOG_MB });
    try {
      const green = await startMongo({ oplogMb: OPLOG_MB });
      const clients = {
        blue: await new MongoClient(blue.uri()).connect(),
        green: await new MongoClient(green.uri()).connect(),
      };
      return new MongoRig({ blue, green }, clients);
    } catch (error) {
      await blue[Symbol.asyncDispose]();
      throw error;
    }
  }

  client(side: Side): MongoClient {
    return this.#clients[side];
  }

  db(side: Side): Db {
    return this.#clients[side].db(DATABASE);
  }

  uri(side: Side): string {
    return this.#sets[side].uri();
  }

  pid(side: Side): number {
    return this.#sets[side].members[0]?.pid as number;
  }

  /** Copies the application's collections and our state on green to databases beside them. */
  async save(): Promise<void> {
    for (const name of [DATABASE, STATE]) await this.#copy(name, `${name}_base`);
  }

  /** Brings back what was put aside, into the collections and indexes that are there. */
  async restore(): Promise<void> {
    for (const name of [DATABASE, STATE]) await this.#copy(`${name}_base`, name);
    // What is written here must not be flushed to disk during the run.
    await this.#clients.green.db('admin').command({ fsync: 1 });
  }

  async #copy(from: string, to: string): Promise<void> {
    const source = this.#clients.green.db(from);
    for (const { name } of await source.listCollections({}, { nameOnly: true }).toArray())
      await source
        .collection(name)
        .aggregate([{ $out: { db: to, coll: name } }])
        .toArray();
  }

  /** Empties green for a first copy. */
  async clear(): Promise<void> {
    for (const name of [DATABASE, STATE]) {
      await this.#clients.green.db(name).dropDatabase();
    }
    await this.#clients.green.db('admin').command({ fsync: 1 });
  }

  /** @throws Error when a collection differs: number of documents, and the server's hash of their bytes in the order of their keys */
  async compare(collections: readonly string[]): Promise<void> {
    const [blue, green] = await Promise.all([
      this.#hashes('blue', collections),
      this.#hashes('green', collections),
    ]);
    for (const name of collections) {
      if (blue.get(name) !== green.get(name))
        throw new Error(`${name} differs: blue ${blue.get(name)}, green ${green.get(name)}`);
    }
  }

  async #hashes(side: Side, collections: readonly string[]): Promise<Map<string, string>> {
    const db = this.db(side);
    const { collections: hashes } = (await db.command({ dbHash: 1, collections: [...collections] })) as {
      collections: Record<string, string>;
    };
    const found = new Map<string, string>();
    for (const name of collections)
      found.set(name, `${await db.collection(name).countDocuments({})} documents, ${hashes[name]}`);
    return found;
  }

  /** Change streams that are open on blue, by the ids of their cursors. */
  async streams(): Promise<Set<string>> {
    const found = await this.#clients.blue
      .db('admin')
      .aggregate<Document>([
        { $currentOp: { allUsers: true, idleCursors: true } },
        { $match: { 'cursor.originatingCommand.pipeline.0.$changeStream': { $exists: true } } },
        { $project: { id: { $toString: '$cursor.cursorId' } } },
      ])
      .toArray();
    return new Set(found.map(({ id }) => String(id)));
  }

  /** Waits for a change stream that was not there before. */
  async streamOpens(before: ReadonlySet<string>, timeoutMs: number): Promise<void> {
    await waitFor(async () => [...(await this.streams())].some((id) => !before.has(id)), {
      what: 'a change stream to be open',
      timeoutMs,
      everyMs: 5,
    });
  }

  /** Follows both servers and what `own` names by then. */
  sampler(own: () => readonly { readonly pid: number; readonly name: string }[]): Sampler {
    const servers = [
      { pid: this.pid('blue'), name: 'blue' },
      { pid: this.pid('green'), name: 'green' },
    ];
    return new Sampler(() => Promise.resolve([...servers, ...own()]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of Object.values(this.#clients)) await client.close();
    for (const set of Object.values(this.#sets)) await set[Symbol.asyncDispose]();
  }
}
