import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { MongoClient, type Db } from 'mongodb';
import { expect } from 'vitest';

import {
  createEngine,
  type EngineOptions,
  type VerdigrisEngine,
  type WatchedStatus,
} from '../../src/app/engine.ts';
import { loadConfig } from '../../src/app/load.ts';
import { sharedMongo } from './mongo-databases.ts';
import { untilStarted } from './started.ts';
import { waitFor } from './wait.ts';

export interface MongoRunOptions {
  /** Collections of blue and green; one more takes marks. */
  readonly collections: readonly string[];
  /** First documents of blue. */
  readonly seed?: (db: Db) => Promise<void>;
  /** More YAML of a collection's entry under `tables:`, in one line of JSON without the braces. */
  readonly entries?: Readonly<Record<string, string>>;
  /** Collections of blue that keep documents as they were before and after a change. */
  readonly images?: readonly string[];
  /** More commands of green's schema file. */
  readonly green?: readonly object[];
  /** More top-level YAML. */
  readonly settings?: string;
  /** Addresses of replica sets of the test's own. */
  readonly blueUri?: string;
  readonly greenUri?: string;
}

/** A migration of its own database from one replica set to the other, driven through the library. */
export class MongoRun implements AsyncDisposable {
  readonly name: string;
  readonly dir: string;
  readonly blueClient: MongoClient;
  readonly greenClient: MongoClient;
  readonly collections: readonly string[];
  #engine: VerdigrisEngine | null = null;
  #starting: Promise<void> = Promise.resolve();
  #marks = 0;

  private constructor(at: {
    name: string;
    dir: string;
    blueClient: MongoClient;
    greenClient: MongoClient;
    collections: readonly string[];
  }) {
    this.name = at.name;
    this.dir = at.dir;
    this.blueClient = at.blueClient;
    this.greenClient = at.greenClient;
    this.collections = at.collections;
  }

  static async create(options: MongoRunOptions): Promise<MongoRun> {
    const name = `r${randomBytes(6).toString('hex')}`;
    const blueUri = options.blueUri ?? (await sharedMongo('blue'));
    const greenUri = options.greenUri ?? (await sharedMongo('green'));
    const run = new MongoRun({
      name,
      dir: await mkdtemp(join(tmpdir(), 'verdigris-run-')),
      blueClient: await new MongoClient(blueUri).connect(),
      greenClient: await new MongoClient(greenUri).connect(),
      collections: [...options.collections, 'run_mark'],
    });
    const settings = options.settings ?? '';
    const has = (key: string): boolean => new RegExp(`^${key}:`, 'm').test(settings);
    const side = (uri: string): string => `engine: mongodb, url: "${uri}", state_schema: ${name}_state`;
    const yaml = [
      'version: 1',
      `migration: ${name}`,
      `blue: { ${side(blueUri)} }`,
      `green: { ${side(greenUri)}, schema_file: ./green.json }`,
      has('verify') ? '' : 'verify: { after_copy: "off" }',
      has('apply') ? '' : 'apply: { heartbeat: 200ms }',
      settings,
      'tables:',
      ...run.collections.map((collection) => {
        const more = options.entries?.[collection]?.replaceAll('$db', name);
        return more === undefined
          ? `  - from: ${name}.${collection}`
          : `  - { "from": "${name}.${collection}", ${more} }`;
      }),
    ];
    const create = run.collections.map((collection) => ({ $db: name, create: collection }));
    await writeFile(run.file, `${yaml.join('\n')}\n`);
    await writeFile(
      join(run.dir, 'green.json'),
      JSON.stringify([...create, ...(options.green ?? []).map((one) => ({ $db: name, ...one }))]),
    );
    for (const collection of run.collections) {
      const enabled = options.images?.includes(collection) === true;
      await run.blue.createCollection(collection, { changeStreamPreAndPostImages: { enabled } });
    }
    await options.seed?.(run.blue);
    return run;
  }

  get file(): string {
    return join(this.dir, 'verdigris.yaml');
  }

  get blue(): Db {
    return this.blueClient.db(this.name);
  }

  get green(): Db {
    return this.greenClient.db(this.name);
  }

  get greenState(): Db {
    return this.greenClient.db(`${this.name}_state`);
  }

  get engine(): VerdigrisEngine {
    if (this.#engine === null) throw new Error('the run was not started');
    return this.#engine;
  }

  async begin(options: EngineOptions = {}): Promise<void> {
    this.#engine = createEngine(await loadConfig(this.file), options);
    this.#starting = this.#engine.start();
    this.#starting.catch(() => undefined);
  }

  async started(): Promise<void> {
    await untilStarted(this.engine, this.#starting);
  }

  async start(options: EngineOptions = {}): Promise<void> {
    await this.begin(options);
    await this.started();
  }

  /** Starts while somebody writes, who goes on for that many rounds after the copy. */
  async startUnderWrites(rounds: number, write: (round: number) => Promise<unknown>): Promise<void> {
    let writing = true;
    let round = 0;
    const writer = (async () => {
      for (; writing; round++) await write(round);
    })();
    try {
      await this.start();
      const enough = round + rounds;
      await waitFor(() => Promise.resolve(round > enough), { what: 'changes', timeoutMs: 60_000 });
    } finally {
      writing = false;
      await writer;
    }
  }

  async stop(): Promise<void> {
    await this.#engine?.close();
    this.#engine = null;
  }

  /** Everything that was committed on blue before the call is on green; of a group in pieces the mark alone would not say so. */
  async settled(timeoutMs = 30_000): Promise<void> {
    this.#marks += 1;
    const mark = this.#marks;
    await this.blue.collection<{ _id: number }>('run_mark').insertOne({ _id: mark });
    const marks = this.green.collection<{ _id: number }>('run_mark');
    const checkpoints = this.greenState.collection<{ _id: string; dirty: boolean }>('checkpoint');
    await waitFor(
      async () =>
        (await marks.findOne({ _id: mark })) !== null &&
        (await checkpoints.findOne({ _id: `${this.name}/forward` }))?.dirty !== true,
      { what: 'the mark to arrive on green', timeoutMs },
    ).catch(async (error: unknown) => {
      const status = await this.engine.status().catch((failure: unknown) => failure);
      throw new Error(`${String(error)}; status ${JSON.stringify(status)}`, { cause: error });
    });
  }

  async parked(code: string, timeoutMs = 30_000): Promise<WatchedStatus> {
    return waitFor(
      async () => {
        const status = await this.engine.status();
        return status.error?.code === code ? status : null;
      },
      { what: `the run to stop with ${code}`, timeoutMs },
    );
  }

  /** Both sides hold the same documents to the byte. */
  async same(): Promise<number> {
    let count = 0;
    for (const collection of this.collections) {
      const [blue, green] = await Promise.all([
        rawDocuments(this.blue, collection),
        rawDocuments(this.green, collection),
      ]);
      expect(green.length, `documents of ${collection}`).toBe(blue.length);
      for (const [index, document] of blue.entries()) {
        const other = green[index] as Buffer;
        if (!document.equals(other)) expect(other.toString('latin1')).toBe(document.toString('latin1'));
      }
      count += blue.length;
    }
    return count;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    for (const client of [this.blueClient, this.greenClient]) {
      const admin = client.db('admin');
      await admin.command({ dropUser: `verdigris_proof_${this.name}` }).catch(() => undefined);
      for (const database of [this.name, `${this.name}_state`]) await client.db(database).dropDatabase();
      await client.close();
    }
    await rm(this.dir, { recursive: true, force: true });
  }
}

/** The documents as the server sends them, in the order of their keys. */
export async function rawDocuments(db: Db, collection: string): Promise<Buffer[]> {
  const found = await db.collection(collection).find({}, { raw: true }).sort({ _id: 1 }).toArray();
  return found.map((document) => Buffer.from(document as unknown as Uint8Array));
}
