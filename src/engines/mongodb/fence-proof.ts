import { randomBytes } from 'node:crypto';
import type { Document, Filter, MongoClient } from 'mongodb';
import type { SessionEnv } from '../../core/engine.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { showTable, type TableName } from '../../core/table.ts';
import type { MongoConfig } from './config.ts';
import { connect } from './connect.ts';
import { SERVER_CODE, codeOfError } from './errors.ts';
import { probeIds } from './fence-probes.ts';

/**
 * Writes as an ordinary user, to see whether the fence holds one: a user of ours that may write the mapped databases and nothing else. Every
 * write is in a transaction that is given up, so that a fence that leaks is not found out by damage.
 */
export class FenceProver implements AsyncDisposable {
  readonly #client: MongoClient;
  readonly #config: MongoConfig;
  readonly #env: SessionEnv;
  readonly #tables: readonly TableName[];
  #ordinary: MongoClient | null = null;
  /** What is tried: one document of each table, on each shard that has a part of it. */
  #probes: readonly { readonly table: TableName; readonly document: Document }[] = [];

  constructor(parts: {
    readonly client: MongoClient;
    readonly config: MongoConfig;
    readonly env: SessionEnv;
    readonly tables: readonly TableName[];
  }) {
    this.#client = parts.client;
    this.#config = parts.config;
    this.#env = parts.env;
    this.#tables = parts.tables;
  }

  /** Makes the user with a password that nobody else knows, and connects: neither costs time in the pause. */
  async prepare(): Promise<void> {
    if (this.#ordinary !== null) return;
    const probes: { table: TableName; document: Document }[] = [];
    for (const table of this.#tables) {
      const ids = await probeIds(this.#client, table);
      for (const id of ids ?? [undefined])
        probes.push({ table, document: { ...(id === undefined ? {} : { _id: id }), verdigris: 'proof' } });
    }
    this.#probes = probes;
    const password = randomBytes(24).toString('base64url');
    const roles = [...new Set(this.#tables.map(({ schema }) => schema))].map((db) => ({
      role: 'readWrite',
      db,
    }));
    const admin = this.#client.db('admin');
    try {
      await admin.command({ createUser: this.#user, pwd: password, roles });
    } catch (error) {
      if (codeOfError(error) !== USER_EXISTS) throw error;
      await admin.command({ updateUser: this.#user, pwd: password, roles });
    }
    const url = withUser(this.#config.url, this.#user, password);
    this.#ordinary = await connect(
      { ...this.#config, url },
      { appName: `verdigris:${this.#env.migration}:proof:t0`, connections: 2 },
    );
  }

  /** @throws VerdigrisError CUTOVER_FENCE_LEAKS */
  async prove(): Promise<void> {
    await this.prepare();
    for (const { table, document } of this.#probes) await this.#try(table, document);
  }

  async retire(): Promise<void> {
    await this[Symbol.asyncDispose]();
    await this.#client
      .db('admin')
      .command({ dropUser: this.#user })
      .catch((error: unknown) => {
        if (codeOfError(error) !== USER_MISSING) throw error;
      });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ordinary = this.#ordinary;
    this.#ordinary = null;
    await ordinary?.close();
  }

  get #user(): string {
    return `verdigris_proof_${this.#env.migration}`;
  }

  async #try(table: TableName, document: Document): Promise<void> {
    const ordinary = this.#ordinary as MongoClient;
    const collection = ordinary.db(table.schema).collection(table.name);
    const session = ordinary.startSession();
    try {
      session.startTransaction();
      // A copy: the driver puts a key into what it is given.
      await collection.insertOne({ ...document }, { session });
    } catch (error) {
      const code = codeOfError(error);
      if (code === SERVER_CODE.userWritesBlocked) return;
      // The validation of the collection and its keys are looked at first: then a delete tells.
      const other =
        code === SERVER_CODE.documentValidation
          ? {}
          : code === SERVER_CODE.duplicateKey && '_id' in document
            ? { _id: document['_id'] as never }
            : null;
      if (other === null) throw error;
      if (await this.#deleteIsRefused(table, other)) return;
    } finally {
      if (session.inTransaction()) await session.abortTransaction().catch(() => undefined);
      await session.endSession();
    }
    throw new VerdigrisError(
      'CUTOVER_FENCE_LEAKS',
      `An ordinary user could write ${showTable(table)} although the fence is up.`,
      { context: { table: showTable(table) } },
    );
  }

  async #deleteIsRefused(table: TableName, filter: Filter<Document>): Promise<boolean> {
    const ordinary = this.#ordinary as MongoClient;
    const session = ordinary.startSession();
    try {
      session.startTransaction();
      const { deletedCount } = await ordinary
        .db(table.schema)
        .collection(table.name)
        .deleteOne(filter, { session });
      // An empty collection refuses nothing and loses nothing.
      return deletedCount === 0;
    } catch (error) {
      if (codeOfError(error) === SERVER_CODE.userWritesBlocked) return true;
      throw error;
    } finally {
      if (session.inTransaction()) await session.abortTransaction().catch(() => undefined);
      await session.endSession();
    }
  }
}

/** Location51003, UserNotFound. */
const USER_EXISTS = 51_003;
const USER_MISSING = 11;

/** The address with another user, whose place is the admin database. */
function withUser(url: string, user: string, password: string): string {
  const [, head, rest] = /^(mongodb(?:\+srv)?:\/\/)(?:[^@/]*@)?(.*)$/.exec(url) as unknown as string[];
  const [place = '', query = ''] = (rest as string).split('?');
  const parameters = new URLSearchParams(query);
  for (const name of ['authSource', 'authMechanism', 'authMechanismProperties']) parameters.delete(name);
  parameters.set('authSource', 'admin');
  const slash = place.includes('/') ? place : `${place}/`;
  return `${head}${encodeURIComponent(user)}:${encodeURIComponent(password)}@${slash}?${parameters.toString()}`;
}
