import { Long, type Collection, type Document } from 'mongodb';
import { expect } from 'vitest';

import { Workplace } from '../../support/engine-process.ts';
import { spread } from '../../support/mongo-sharded.ts';
import { MongoRun } from '../../support/mongo-run.ts';
import { turn } from '../../support/turn.ts';
import { waitFor } from '../../support/wait.ts';
import { random } from './dice.ts';

type Person = Document & { readonly _id: number };

const NAMES = ['people', 'profiles', 'accounts'] as const;
const PEOPLE = 200;

const entry = (target: object, more: object = {}): string =>
  JSON.stringify({ to: [{ table: '$db.people', ...target }], ...more }).slice(1, -1);
const ENTRIES = {
  people: entry({ owner: true, columns: { '*': 'copy', title: { from: 'name' } } }),
  profiles: entry({ columns: { bio: 'copy', links: 'copy' } }),
  accounts: entry(
    { columns: { balance: { from: 'saldo', cast: 'string' }, 'plan.name': { from: 'tariff' } } },
    { reverse: { columns: { saldo: { from: 'balance', cast: 'long' } } } },
  ),
};

/** Fields of blue that come back from green, and what they are there. */
const FROM_GREEN: Readonly<Record<'profiles' | 'accounts', (green: Document) => Document>> = {
  profiles: ({ bio, links }) => present({ bio: bio as unknown, links: links as unknown }),
  accounts: ({ balance, plan }) =>
    present({
      saldo: balance === undefined ? undefined : Number(balance),
      tariff: (plan as Document | undefined)?.['name'] as unknown,
    }),
};
const PARTS = { profiles: ['bio', 'links'], accounts: ['saldo', 'tariff'] } as const;

const present = (fields: Document): Document =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));

const person = (n: number): Document => ({ name: `n${n}`, address: { city: `c${n}`, zip: n } });
const profile = (n: number): Document => ({
  ...(n % 4 === 0 ? {} : { links: [n, { deep: n }] }),
  seen: { by: n },
  ...(n % 3 === 0 ? {} : { bio: { text: `b${n}` } }),
});
const account = (n: number): Document => ({ saldo: Long.fromNumber(n), tariff: `t${n % 3}` });

const all = (items: Collection<Document>): Promise<Document[]> => items.find().sort({ _id: 1 }).toArray();
const byId = async (items: Collection<Document>): Promise<Map<number, Document>> =>
  new Map((await all(items)).map((one) => [one['_id'] as number, one]));

type Sides = Record<(typeof NAMES)[number], Map<number, Document>>;

async function blueOf(run: MongoRun): Promise<Sides> {
  const found = await Promise.all(NAMES.map((name) => byId(run.blue.collection(name))));
  return Object.fromEntries(NAMES.map((name, index) => [name, found[index]])) as Sides;
}

/** A change of the application on green. @param ever gets the keys of documents that are made */
async function change(
  run: MongoRun,
  { dice, ever }: { readonly dice: () => number; readonly ever: Set<number> },
  round: number,
): Promise<void> {
  const people = run.green.collection<Person>('people');
  const _id = Math.floor(dice() * (PEOPLE + 60));
  const whole = {
    title: `t${round}`,
    ...(dice() < 0.5 ? { bio: { text: `r${round}` } } : {}),
    ...(dice() < 0.5 ? { balance: String(round), plan: { name: `p${round}` } } : {}),
    late: round,
  };
  const act = Math.floor(dice() * 9);
  if (act === 1 || act === 8) ever.add(_id);
  switch (act) {
    case 0:
      return void (await people.deleteOne({ _id }));
    case 1:
      return void (await people.replaceOne({ _id }, whole, { upsert: true }));
    case 2:
      return void (await people.updateOne({ _id }, { $set: { 'address.city': `d${round}`, late: round } }));
    case 3:
      return void (await people.updateOne({ _id }, { $set: { 'bio.text': `e${round}` } }));
    case 4:
      return void (await people.updateOne({ _id }, { $unset: { bio: '', links: '' } }));
    case 5:
      return void (await people.updateOne({ _id }, { $unset: { balance: '', plan: '' } }));
    case 6:
      return void (await people.updateOne({ _id }, { $set: { balance: String(round), 'plan.name': null } }));
    case 7:
      return void (await people.updateOne(
        { _id },
        { $set: { links: [round], title: `u${round}` }, $unset: { plan: '', address: '' } },
      ));
    default: {
      await run.greenClient.withSession((session) =>
        session.withTransaction(async () => {
          await people.deleteOne({ _id }, { session });
          await people.updateMany(
            { _id: { $gte: _id, $lt: _id + 15 } },
            { $set: { title: `m${round}`, 'bio.text': `m${round}` }, $unset: { links: '' } },
            { session },
          );
          await people.replaceOne({ _id }, whole, { upsert: true, session });
        }),
      );
    }
  }
}

/** What blue has to be, by hand: from what it was, and what green is and ever was. */
async function expectBack(run: MongoRun, before: Sides, ever: ReadonlySet<number>): Promise<void> {
  const green = await byId(run.green.collection('people'));
  const now = await blueOf(run);
  const owners = [...green].map(([, document]) => {
    const { title, bio: _, links: __, balance: ___, plan: ____, ...rest } = document;
    return present({ ...rest, name: title as unknown });
  });
  expect([...now.people.values()]).toEqual(owners);
  for (const name of ['profiles', 'accounts'] as const) {
    const wanted: Document[] = [];
    for (const _id of new Set([...before[name].keys(), ...green.keys()])) {
      const was = before[name].get(_id);
      if (!ever.has(_id)) {
        wanted.push(was as Document);
        continue;
      }
      const kept = { ...was };
      for (const field of PARTS[name]) delete kept[field];
      const document = { ...kept, _id, ...FROM_GREEN[name](green.get(_id) ?? {}) };
      if (Object.keys(document).length > 1) wanted.push(document);
    }
    wanted.sort((a, b) => (a['_id'] as number) - (b['_id'] as number));
    expect([...now[name].values()], name).toEqual(wanted);
  }
}

/** What green has to be, by hand. */
async function expectThere(run: MongoRun): Promise<void> {
  const { people, profiles, accounts } = await blueOf(run);
  const wanted = [...people].map(([id, { name, ...owner }]) => {
    const { bio, links } = profiles.get(id) ?? {};
    const found = accounts.get(id);
    const balance = found?.['saldo'] === undefined ? undefined : String(found['saldo']);
    const plan =
      found === undefined || !('tariff' in found) ? undefined : { name: found['tariff'] as unknown };
    return present({ ...owner, title: name as unknown, bio, links, balance, plan });
  });
  expect(await all(run.green.collection('people'))).toEqual(wanted);
}

/** Everything that was committed on green before the call is on blue. */
async function cameBack(run: MongoRun, mark: number): Promise<void> {
  await run.green.collection<Person>('run_mark').insertOne({ _id: mark });
  await waitFor(async () => (await run.blue.collection<Person>('run_mark').findOne({ _id: mark })) !== null, {
    what: 'the mark to come back',
    timeoutMs: 30_000,
  });
}

const SETTINGS = ['gates: { stable_for: 1ms }', 'cutover: { max_write_pause: 60s, fence_timeout: 20s }'].join(
  '\n',
);

/** A replica set or a cluster of the test's own. */
interface Server {
  readonly uri: () => string;
  /** Of a cluster. */
  readonly shards?: unknown;
}

/**
 * Three collections become one, and are several again, with what only blue had of them, through a switch, writes of every kind on green, a killed engine and a
 * rollback. A seed is printed.
 */
export async function severalAgain(blue: Server, green: Server): Promise<void> {
  const seed = Number(process.env['VERDIGRIS_TEST_SEED'] ?? Date.now() % 1_000_000);
  console.log(`seed ${seed}: again with VERDIGRIS_TEST_SEED=${seed}`);
  const dice = random(seed);
  await using run = await MongoRun.create({
    collections: [...NAMES],
    entries: ENTRIES,
    images: [...NAMES],
    settings: SETTINGS,
    blueUri: blue.uri(),
    greenUri: green.uri(),
    green: green.shards === undefined ? [] : [{ shardCollection: 'people', key: { _id: 'hashed' } }],
    seed: async (db) => {
      if (blue.shards !== undefined) {
        await spread(db, 'people', PEOPLE / 2);
        await spread(db, 'profiles');
      }
      const numbers = Array.from({ length: PEOPLE }, (_, _id) => _id);
      const make = (of: (n: number) => Document, shift: number, each: number) =>
        numbers.filter((n) => n % each !== 0).map((n) => ({ ...of(n), _id: n + shift }));
      await db.collection<Person>('people').insertMany(make(person, 0, 7));
      await db.collection<Person>('profiles').insertMany(make(profile, 20, 5));
      await db.collection<Person>('accounts').insertMany(make(account, 40, 3));
    },
  });
  await run.start();
  await run.settled();
  await expectThere(run);
  expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
  const before = await blueOf(run);
  expect(await turn(run.engine, { act: 'cutover', migration: run.name, gatesMs: 60_000 })).toMatchObject({
    outcome: 'switched',
  });

  const ever = new Set((await byId(run.green.collection('people'))).keys());
  const at = { dice, ever };
  let round = 1;
  for (; round < 150; round++) await change(run, at, round);
  await cameBack(run, 1_000);
  await run.stop();
  await using place = new Workplace(run.dir);
  const killed = place.start({ failpoint: 'sink.after-commit:exit@4', args: ['--takeover'] });
  let writing = true;
  const writer = (async () => {
    for (; writing; round++) await change(run, at, round);
  })();
  expect(await killed.ended, killed.output().slice(-2_000)).toBe('SIGKILL');
  writing = false;
  await writer;
  await run.start({ takeover: true });
  for (let more = 0; more < 150; more++) await change(run, at, round++);
  const again = Math.max(...before.accounts.keys());
  const people = run.green.collection<Person>('people');
  await people.replaceOne({ _id: again }, { title: 'made' }, { upsert: true });
  await people.deleteOne({ _id: again });
  ever.add(again);
  await cameBack(run, 1_001);
  await expectBack(run, before, ever);

  expect(await turn(run.engine, { act: 'rollback', migration: run.name, gatesMs: 60_000 })).toMatchObject({
    outcome: 'switched',
  });
  await expectBack(run, before, ever);
  // Forward again, as if it had been copied now.
  await run.settled();
  await expectThere(run);
  expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
  // What waited before the switch is nothing to a document that green made since.
  const made = [...before.accounts.keys()].filter((id) => !before.people.has(id) && ever.has(id));
  expect(made.length).toBeGreaterThan(0);
  await run.blue.collection<Person>('people').updateMany({}, { $set: { touched: true } });
  await run.settled();
  await expectThere(run);
  // Owners of parts that waited all the time.
  const waited = [...before.profiles.keys()].filter((id) => !ever.has(id));
  expect(waited.length).toBeGreaterThan(0);
  await run.blue.collection<Person>('people').insertMany(waited.map((_id) => ({ _id, name: 'late' })));
  await run.settled();
  await expectThere(run);
  await run.blue.collection<Person>('profiles').updateMany({}, { $set: { bio: 'after' } });
  await run.settled();
  await expectThere(run);
  // Where green made a document of a part that waited, and deleted it: what waited is found, and put right.
  const { people: owners } = await blueOf(run);
  const gone = made.filter((_id) => !owners.has(_id));
  expect(gone).toContain(again);
  await run.blue.collection<Person>('people').insertMany(gone.map((_id) => ({ _id, name: 'again' })));
  await run.settled();
  expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: false });
  await (await run.engine.migration()).repair({});
  await expectThere(run);
}
