import { spawn } from 'node:child_process';
import { BSON, type ResumeToken, type Timestamp } from 'mongodb';
import { Workplace, type EngineProcess } from '../../test/support/engine-process.ts';
import { MONGO_PASSWORD } from '../../test/support/mongo.ts';
import { waitFor } from '../../test/support/wait.ts';
import { backlog, COLLECTIONS, END, INDEXES, seed } from '../mongodb/orders.ts';
import { DATABASE, DURABILITY, MongoRig } from '../mongodb/rig.ts';
import { DatabaseTools } from '../mongodb/tools.ts';
import { diesOf, endOurs, startOurs } from '../ours.ts';
import type { BenchOptions, Contender, Prepared, Profile, Run } from '../profile.ts';

const MOST_MS = 20 * 60_000;
const ONE_BY_ONE = new URL('../mongodb/one-by-one.ts', import.meta.url).pathname;
const NEVER = new Promise<never>(() => undefined);

type Own = { readonly pid: number; readonly name: string }[];

const profile: Profile = {
  name: 'mongodb-catchup',
  what: 'single writes of a shop, against applying the change stream one by one with the driver, and against a replay of the log',
  async prepare({ scale, say, cpuProfile }: BenchOptions): Promise<Prepared> {
    const rig = await MongoRig.start();
    let place: Workplace | null = null;
    try {
      const blue = rig.db('blue');
      say('filling blue');
      await seed(blue);
      say('first copy');
      place = await Workplace.create({
        'verdigris.yaml': configuration(rig),
        'green.json': JSON.stringify(schema()),
      });
      const engine = await startOurs(place, null);
      await Promise.race([
        engine.until('it replicates', (status) => status.phase === 'replicating', MOST_MS),
        diesOf(engine),
      ]);
      await endOurs(engine);
      await rig.save();
      const start = await beginning(rig);

      say('writing the backlog');
      const before = await logBytes(rig);
      const facts = { ...(await backlog(blue, scale)), bytes: (await logBytes(rig)) - before };
      const work = new CatchUp(rig, place, start, cpuProfile);
      const notes = [
        DURABILITY,
        'of ours and of one-by-one the clock runs from the moment the change stream is open until the last document is visible on green; of the replay from the command',
      ];
      const peers: Contender[] = [{ name: 'one-by-one', run: () => work.oneByOne() }];
      const tools = await DatabaseTools.get().catch((error: unknown) => String(error).split('\n')[0]);
      if (tools instanceof DatabaseTools)
        peers.push({ name: 'mongorestore --oplogReplay', run: () => work.replay(tools) });
      else notes.push(`mongorestore is not there: ${tools}`);
      const held = place;
      return {
        facts,
        verdigris: { name: 'verdigris', run: () => work.ours() },
        peers,
        notes,
        async [Symbol.asyncDispose]() {
          await held[Symbol.asyncDispose]();
          await rig[Symbol.asyncDispose]();
        },
      };
    } catch (error) {
      await place?.[Symbol.asyncDispose]();
      await rig[Symbol.asyncDispose]();
      throw error;
    }
  },
};

/** Where the backlog begins, for those who read it themselves. */
interface Beginning {
  readonly token: ResumeToken;
  readonly time: Timestamp;
}

async function beginning(rig: MongoRig): Promise<Beginning> {
  const { operationTime } = (await rig.client('blue').db('admin').command({ ping: 1 })) as unknown as {
    operationTime: Timestamp;
  };
  await using stream = rig.db('blue').watch([], { startAtOperationTime: operationTime });
  await stream.tryNext();
  return { token: stream.resumeToken, time: operationTime };
}

class CatchUp {
  readonly #rig: MongoRig;
  readonly #place: Workplace;
  readonly #start: Beginning;
  readonly #cpuProfile: string | null;

  constructor(rig: MongoRig, place: Workplace, start: Beginning, cpuProfile: string | null) {
    this.#rig = rig;
    this.#place = place;
    this.#start = start;
    this.#cpuProfile = cpuProfile;
  }

  async ours(): Promise<Run> {
    let engine: EngineProcess | null = null;
    const run = await this.#measure({ from: 'stream', lasts: 'for ever' }, async (own) => {
      engine = await startOurs(this.#place, this.#cpuProfile);
      own.push({ pid: engine.pid, name: 'engine' });
      return diesOf(engine);
    });
    await endOurs(engine as unknown as EngineProcess);
    await this.#rig.compare([...COLLECTIONS, END]);
    return run;
  }

  async oneByOne(): Promise<Run> {
    const { token } = this.#start;
    const run = await this.#measure({ from: 'stream', lasts: 'to its end' }, (own) => {
      const child = spawn(
        process.execPath,
        [
          ONE_BY_ONE,
          this.#rig.uri('blue'),
          this.#rig.uri('green'),
          DATABASE,
          BSON.EJSON.stringify(token, { relaxed: false }),
          END,
        ],
        { stdio: ['ignore', 'ignore', 'pipe'] },
      );
      own.push({ pid: child.pid as number, name: 'applier' });
      let said = '';
      child.stderr.on('data', (piece: Buffer) => (said += piece.toString()));
      return new Promise((resolve, reject) => {
        child.once('error', reject);
        child.once('close', (code) => {
          if (code === 0) resolve(undefined);
          else reject(new Error(`one-by-one ended with ${code}:\n${said.slice(-3000)}`));
        });
      });
    });
    await this.#rig.compare([...COLLECTIONS, END]);
    return run;
  }

  async replay(tools: DatabaseTools): Promise<Run> {
    const uri = await anything(this.#rig);
    const run = await this.#measure({ from: 'command', lasts: 'to its end' }, (own) =>
      tools.replay(this.#rig, this.#start.time, uri, (pid, name) => own.push({ pid, name })),
    );
    await this.#rig.compare([...COLLECTIONS, END]);
    return run;
  }

  /** @param work rejects when it cannot come to its end */
  async #measure(
    { from, lasts }: { readonly from: 'stream' | 'command'; readonly lasts: 'for ever' | 'to its end' },
    work: (own: Own) => Promise<unknown>,
  ): Promise<Run> {
    const rig = this.#rig;
    await rig.restore();
    const before = await rig.streams();
    const own: Own = [];
    const sampler = rig.sampler(() => own);
    await sampler.start();
    const commanded = performance.now();
    const ended = work(own);
    const arrives = async (): Promise<number> => {
      if (from === 'stream') await rig.streamOpens(before, MOST_MS);
      const began = from === 'stream' ? performance.now() : commanded;
      if (from === 'stream') await sampler.begin();
      const end = rig.db('green').collection(END);
      await waitFor(async () => (await end.findOne({})) !== null, {
        what: 'the end of the backlog on green',
        timeoutMs: MOST_MS,
        everyMs: 10,
      });
      return began;
    };
    const began = await Promise.race([arrives(), ended.then(() => NEVER)]);
    const seconds = (performance.now() - began) / 1000;
    const used = await sampler.stop();
    if (lasts === 'to its end') await ended;
    return { seconds, startSeconds: (began - commanded) / 1000, ...used };
  }
}

/** An account on green that may run any command: a replay of the log uses applyOps. */
async function anything(rig: MongoRig): Promise<string> {
  const admin = rig.client('green').db('admin');
  const { users } = (await admin.command({ usersInfo: 'replay' })) as unknown as { users: unknown[] };
  if (users.length === 0) {
    await admin.command({
      createRole: 'anything',
      privileges: [{ resource: { anyResource: true }, actions: ['anyAction'] }],
      roles: [],
    });
    await admin.command({ createUser: 'replay', pwd: MONGO_PASSWORD, roles: ['anything', 'root'] });
  }
  return rig.uri('green').replace(/\/\/[^:]+:/, '//replay:');
}

async function logBytes(rig: MongoRig): Promise<number> {
  const stats = await rig.client('blue').db('local').command({ collStats: 'oplog.rs' });
  return Number(stats['size']);
}

const schema = (): object[] => [
  ...[...COLLECTIONS, END].map((name) => ({ $db: DATABASE, create: name })),
  ...Object.entries(INDEXES).map(([name, key]) => ({
    $db: DATABASE,
    createIndexes: name,
    indexes: [{ key, name: `${Object.keys(key).join('_')}_1` }],
  })),
];

const configuration = (rig: MongoRig): string => `version: 1
migration: bench
blue: { engine: mongodb, url: "${rig.uri('blue')}" }
green: { engine: mongodb, url: "${rig.uri('green')}", schema_file: ./green.json }
verify: { after_copy: "off" }
tables:
${[...COLLECTIONS, END].map((name) => `  - from: ${DATABASE}.${name}`).join('\n')}
`;

export default profile;
