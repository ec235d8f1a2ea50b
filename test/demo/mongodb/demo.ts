import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { type Db, MongoClient } from 'mongodb';

import { debianProgram } from '../../support/debian.ts';
import { HAPROXY, startHaproxy } from '../../support/haproxy.ts';
import { MONGO_PASSWORD, type MongoReplicaSet, startMongo } from '../../support/mongo.ts';
import { newDir } from '../../support/run-dir.ts';
import { play, type Stage, type SwitchWatch } from '../acts.ts';
import type { DemoOptions, DemoResult } from '../result.ts';
import { compare, countTransactions } from './comparison.ts';
import { seed } from './seed.ts';
import { SwitchMoment } from './switch-moment.ts';

const MIGRATION = 'shop-demo';
const CLIENTS = 8;
const THINK_MS = 40;
const APPLICATION = 'shop';

/** A shop moves from one replica set of MongoDB to another through HAProxy, and back. */
export async function runDemo(options: DemoOptions): Promise<DemoResult> {
  return await play(options, (stack) => open(stack, options));
}

async function open(stack: AsyncDisposableStack, { scale, report }: DemoOptions): Promise<Stage> {
  report.phase(
    'starting two replica sets of MongoDB 8.2 (blue, green) and HAProxy; the first run fetches them',
  );
  const blueSet = stack.use(await startMongo());
  const greenSet = stack.use(await startMongo());
  const home = await newDir('demo');
  stack.defer(() => rm(home, { recursive: true, force: true }));
  const proxy = stack.use(
    await startHaproxy({
      program: await debianProgram(HAPROXY),
      blue: placeOf(blueSet),
      green: placeOf(greenSet),
    }),
  );
  const blue = await connect(stack, blueSet);
  const green = await connect(stack, greenSet);

  report.phase('filling the shop on blue');
  const shop = await seed(blue, scale, CLIENTS);
  const state = join(home, 'state');
  await mkdir(state);
  return {
    migration: MIGRATION,
    proxy: 'HAProxy',
    rows: shop.rows,
    home,
    engine: {
      config: fileURLToPath(new URL('./verdigris.yaml', import.meta.url)),
      env: {
        BLUE_URL: blueSet.uri(),
        GREEN_URL: greenSet.uri(),
        BLUE_PORT: String(placeOf(blueSet).port),
        GREEN_PORT: String(placeOf(greenSet).port),
        HAPROXY_SOCKET: proxy.socket,
        HAPROXY_STATE: proxy.stateFile,
        STATE_DIR: state,
      },
    },
    clients: {
      module: new URL('./clients.ts', import.meta.url),
      options: {
        ...shop,
        url: `mongodb://${APPLICATION}:${encodeURIComponent(MONGO_PASSWORD)}@127.0.0.1:${proxy.port}/?authSource=admin`,
        count: CLIENTS,
        thinkMs: THINK_MS,
      },
    },
    versions: async () => ({ blue: await versionOf(blue), green: await versionOf(green) }),
    watchSwitch: () => watchSwitch(stack, blue, green),
    count: (side, committed) => countTransactions(side === 'blue' ? blue : green, committed),
    compare: () => compare({ db: blue }, { db: green }),
    checkFenced: () => checkFenced(blue),
    // Ids are made by the clients.
    colliding: () => Promise.resolve([]),
    madeOnGreen: (committed, fromMs) => madeAfter(green, committed, fromMs),
    mark: async (transaction) => {
      await auditOf(blue).insertOne({ _id: transaction, client: -1, action: 'end', at: new Date() });
    },
    marked: async (transaction) => (await auditOf(green).findOne({ _id: transaction })) !== null,
  };
}

interface Audit {
  readonly _id: string;
  readonly client: number;
  readonly action: string;
  readonly at: Date;
}

const auditOf = (db: Db) => db.collection<Audit>('audit');

const placeOf = (set: MongoReplicaSet): { readonly host: string; readonly port: number } => ({
  host: '127.0.0.1',
  port: set.members[0]?.port as number,
});

/** The database of the shop, and in it the account of the clients: an ordinary one, which a block of writes holds. */
async function connect(stack: AsyncDisposableStack, set: MongoReplicaSet): Promise<Db> {
  const client = await new MongoClient(set.uri()).connect();
  stack.defer(() => client.close().catch(() => undefined));
  await client
    .db('admin')
    .command({ createUser: APPLICATION, pwd: MONGO_PASSWORD, roles: [{ role: 'readWrite', db: 'shop' }] });
  return client.db('shop');
}

async function watchSwitch(stack: AsyncDisposableStack, blue: Db, green: Db): Promise<SwitchWatch> {
  const ofBlue = stack.use(await SwitchMoment.watch('blue', blue.client, MIGRATION));
  const ofGreen = stack.use(await SwitchMoment.watch('green', green.client, MIGRATION));
  const taken = async () => ({ blue: await ofBlue.taken(), green: await ofGreen.taken() });
  return {
    taken: async () => void (await taken()),
    compare: async () => {
      const at = await taken();
      return await compare({ db: blue, at: at.blue }, { db: green, at: at.green });
    },
  };
}

/** Else the comparison would be with something that came later. */
async function checkFenced(blue: Db): Promise<void> {
  const fence = await blue.client
    .db('verdigris')
    .collection<{ _id: string; state: string }>('fence')
    .findOne({ _id: MIGRATION });
  if (fence?.state !== 'sealed') throw new Error(`the fence of blue is ${fence?.state}, not sealed`);
  const status = (await blue.client.db('admin').command({ serverStatus: 1 })) as {
    readonly repl: { readonly userWriteBlockMode: number };
  };
  if (status.repl.userWriteBlockMode !== BLOCKED) throw new Error('blue does not block the writes of users');
}

/** As the server tells it; 1 is open. */
const BLOCKED = 2;

/** Transactions of the clients after the switch: all of this run share one clock. */
function madeAfter(green: Db, committed: readonly string[], fromMs: number): Promise<number> {
  return auditOf(green).countDocuments({ _id: { $in: [...committed] }, at: { $gt: new Date(fromMs) } });
}

async function versionOf(db: Db): Promise<string> {
  const { version } = (await db.command({ buildInfo: 1 })) as unknown as { version: string };
  return `MongoDB ${version}`;
}
