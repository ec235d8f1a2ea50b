import type { Document } from 'mongodb';
import { Workplace, type EngineProcess } from '../../test/support/engine-process.ts';
import { fill } from '../mongodb/orders.ts';
import { plainCopy } from '../mongodb/plain-copy.ts';
import { DATABASE, DURABILITY, MongoRig } from '../mongodb/rig.ts';
import { DatabaseTools, type Track } from '../mongodb/tools.ts';
import { diesOf, endOurs, startOurs } from '../ours.ts';
import type { BenchOptions, Contender, Prepared, Profile, Run } from '../profile.ts';

/** Ranges copied at the same time. */
const JOBS = 2;
const MOST_MS = 20 * 60_000;
const COUNTS: Readonly<Record<string, number>> = { account: 200_000, event: 300_000, item: 300_000 };
const COLLECTIONS = Object.keys(COUNTS);
const INDEXES: readonly { readonly on: string; readonly spec: Document & { readonly name: string } }[] = [
  { on: 'account', spec: { key: { email: 1 }, name: 'email_1', unique: true } },
  { on: 'event', spec: { key: { account: 1 }, name: 'account_1' } },
  { on: 'event', spec: { key: { kind: 1, at: 1 }, name: 'kind_1_at_1' } },
  { on: 'item', spec: { key: { n: 1 }, name: 'n_1' } },
];

const at = (id: number): Date => new Date(1_767_225_600_000 + id * 1_000);
const hex = (id: number): string => (Math.imul(id, 2_654_435_761) >>> 0).toString(16).padStart(8, '0');

const MAKE: Readonly<Record<string, (id: number) => Document>> = {
  account: (id) => ({
    _id: id,
    email: `user${id}@example.org`,
    name: `Name of ${id}`,
    balance: id / 7,
    at: at(id),
  }),
  event: (id) => ({
    _id: id,
    account: (Math.imul(id, 40_503) >>> 0) % 262_144,
    kind: id % 50,
    body: hex(id).repeat(24),
    detail: { n: id, text: 'some "quoted" text', tags: ['a', 'b', hex(id)] },
    at: at(id),
  }),
  item: (id) => ({ _id: id, n: Math.imul(id, 2_654_435_761), note: `note ${id}` }),
};

const profile: Profile = {
  name: 'mongodb-copy',
  what: 'the first copy of three collections with their indexes',
  async prepare({ scale, say, cpuProfile }: BenchOptions): Promise<Prepared> {
    const rig = await MongoRig.start();
    try {
      const blue = rig.db('blue');
      say('filling blue');
      let count = 0;
      for (const name of COLLECTIONS) {
        const documents = Math.round((COUNTS[name] as number) * scale);
        await fill(blue, name, documents, MAKE[name] as (id: number) => Document);
        count += documents;
      }
      for (const { on, spec } of INDEXES) await blue.command({ createIndexes: on, indexes: [spec] });
      const { dataSize } = (await blue.command({ dbStats: 1 })) as unknown as { dataSize: number };

      const measure = async (work: (track: Track) => Promise<void>): Promise<Run> => {
        await rig.clear();
        const own: { pid: number; name: string }[] = [];
        const sampler = rig.sampler(() => own);
        await sampler.start();
        const began = performance.now();
        await work((pid, name) => own.push({ pid, name }));
        const seconds = (performance.now() - began) / 1000;
        const used = await sampler.stop();
        await rig.compare(COLLECTIONS);
        for (const { on, spec } of INDEXES) {
          const found = await rig.db('green').collection(on).indexes();
          if (!found.some(({ name }) => name === spec.name)) throw new Error(`green lacks ${spec.name}`);
        }
        return { seconds, startSeconds: 0, ...used, more: { copyDocumentsPerSecond: count / seconds } };
      };

      const ours = async (): Promise<Run> => {
        await using place = await Workplace.create({
          'green.json': JSON.stringify([
            ...COLLECTIONS.map((name) => ({ $db: DATABASE, create: name })),
            ...INDEXES.map(({ on, spec }) => ({ $db: DATABASE, createIndexes: on, indexes: [spec] })),
          ]),
          'verdigris.yaml': `version: 1
migration: bench
blue: { engine: mongodb, url: "${rig.uri('blue')}" }
green: { engine: mongodb, url: "${rig.uri('green')}", schema_file: ./green.json }
verify: { after_copy: "off" }
copy: { workers: ${JOBS} }
tables:
${COLLECTIONS.map((name) => `  - from: ${DATABASE}.${name}`).join('\n')}
`,
        });
        let engine: EngineProcess | null = null;
        const run = await measure(async (track) => {
          engine = await startOurs(place, cpuProfile, '100ms');
          track(engine.pid, 'engine');
          await Promise.race([
            engine.until('it replicates', (status) => status.phase === 'replicating', MOST_MS),
            diesOf(engine),
          ]);
        });
        await endOurs(engine as unknown as EngineProcess);
        await rig.client('blue').db('verdigris').dropDatabase();
        return run;
      };

      const notes = [
        DURABILITY,
        'the clock runs from the command until all documents and indexes are there; ours includes starting the process',
      ];
      const plain: Contender = {
        name: 'cursor → insertMany',
        run: () => measure(() => plainCopy(rig, COLLECTIONS, INDEXES)),
      };
      const tools = await DatabaseTools.get().catch((error: unknown) => String(error).split('\n')[0]);
      if (!(tools instanceof DatabaseTools)) notes.push(`mongodump is not there: ${tools}`);
      const peers: Contender[] =
        tools instanceof DatabaseTools
          ? [
              {
                name: 'mongodump | mongorestore',
                run: () => measure((track) => tools.copy(rig, track)),
              },
            ]
          : [plain];
      return {
        facts: {
          changes: count,
          transactions: 1,
          bytes: dataSize,
          distinctKeys: count,
          rowBytes: Math.round(dataSize / count),
        },
        verdigris: { name: 'verdigris', run: ours },
        peers,
        notes,
        [Symbol.asyncDispose]: () => rig[Symbol.asyncDispose](),
      };
    } catch (error) {
      await rig[Symbol.asyncDispose]();
      throw error;
    }
  },
};

export default profile;
