import { Long, type Collection, type Document } from 'mongodb';
import { describe, expect, it } from 'vitest';

import { Workplace } from '../../support/engine-process.ts';
import { startMongo } from '../../support/mongo.ts';
import { MongoRun } from '../../support/mongo-run.ts';
import { turn } from '../../support/turn.ts';
import { random } from './dice.ts';

type Person = Document & { readonly _id: number };

const NAMES = ['people', 'profiles', 'accounts'] as const;
const PEOPLE = 300;
/** Wide enough for a range in several transactions, of which a killed engine leaves some behind. */
const TEXT = 'x'.repeat(40_000);

const entry = (target: object): string =>
  JSON.stringify({ to: [{ table: '$db.people', ...target }] }).slice(1, -1);
const ENTRIES = {
  people: entry({ owner: true }),
  profiles: entry({ columns: { bio: 'copy', links: 'copy' } }),
  accounts: entry({ columns: { balance: { from: 'saldo' }, 'plan.name': { from: 'tariff' } } }),
};

const person = (n: number, wide = false): Document => ({
  name: `n${n}`,
  address: { city: `c${n}`, zip: n },
  ...(wide ? { text: TEXT } : {}),
});
const profile = (n: number): Document => ({
  seen: n,
  ...(n % 4 === 0 ? {} : { links: [n, { deep: n }] }),
  ...(n % 3 === 0 ? {} : { bio: { text: `b${n}` } }),
});
const account = (n: number): Document => ({ saldo: Long.fromNumber(n), tariff: `t${n % 3}` });

async function change(run: MongoRun, dice: () => number, round: number): Promise<void> {
  const _id = Math.floor(dice() * (PEOPLE + 60));
  const [people, profiles, accounts] = NAMES.map((name) => run.blue.collection<Person>(name)) as [
    Collection<Person>,
    Collection<Person>,
    Collection<Person>,
  ];
  switch (Math.floor(dice() * 12)) {
    case 0:
      return void (await people.deleteOne({ _id }));
    case 1:
      return void (await people.replaceOne({ _id }, person(round), { upsert: true }));
    case 2:
      return void (await people.updateOne({ _id }, { $set: { 'address.city': `d${round}`, late: round } }));
    case 3:
      return void (await people.updateOne({ _id }, { $unset: { name: '' } }));
    case 4:
      return void (await profiles.deleteOne({ _id }));
    case 5:
      return void (await profiles.replaceOne({ _id }, profile(round), { upsert: true }));
    case 6:
      return void (await profiles.updateOne({ _id }, { $set: { 'bio.text': `e${round}` } }));
    case 7:
      return void (await profiles.updateOne({ _id }, { $unset: { links: '' } }));
    case 8:
      return void (await accounts.updateOne({ _id }, { $inc: { saldo: 1 }, $set: { tariff: null } }));
    case 9:
      return void (await accounts.replaceOne({ _id }, account(round), { upsert: true }));
    case 10:
      return void (await accounts.deleteOne({ _id }));
    default: {
      // Owner and parts in one transaction, the owner twice.
      await run.blueClient.withSession((session) =>
        session.withTransaction(async () => {
          await people.deleteOne({ _id }, { session });
          await profiles.replaceOne({ _id }, profile(round), { upsert: true, session });
          await people.replaceOne({ _id }, person(round), { upsert: true, session });
          await accounts.replaceOne({ _id }, account(round), { upsert: true, session });
        }),
      );
    }
  }
}

const all = (items: Collection<Document>): Promise<Document[]> => items.find().sort({ _id: 1 }).toArray();
const byId = async (items: Collection<Document>): Promise<Map<unknown, Document>> =>
  new Map((await all(items)).map((one) => [one['_id'], one]));
const present = (fields: Document): Document =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));

/** What has to be there, by hand. */
async function expectByHand(run: MongoRun): Promise<{ readonly both: number; readonly waiting: number }> {
  const [people, profiles, accounts] = await Promise.all(
    NAMES.map((name) => byId(run.blue.collection(name))),
  );
  const expected = [...(people ?? [])].map(([id, owner]) => {
    const { bio, links } = profiles?.get(id) ?? {};
    const found = accounts?.get(id);
    const plan =
      found === undefined || !('tariff' in found) ? undefined : { name: found['tariff'] as unknown };
    return present({ ...owner, bio, links, balance: found?.['saldo'] as unknown, plan });
  });
  expect(await all(run.green.collection('people'))).toEqual(expected);
  const owners = new Set(people?.keys());
  const orphans = [...(profiles ?? []), ...(accounts ?? [])].filter(([id]) => !owners.has(id));
  return { both: expected.filter((one) => 'balance' in one && 'bio' in one).length, waiting: orphans.length };
}

describe('collections that become one', () => {
  it('follows owner and parts through a killed copy, is compared and repaired', async () => {
    const seed = Number(process.env['VERDIGRIS_TEST_SEED'] ?? Date.now() % 1_000_000);
    console.log(`seed ${seed}: again with VERDIGRIS_TEST_SEED=${seed}`);
    const dice = random(seed);
    const [first, second] = await Promise.all([startMongo(), startMongo()]);
    await using blue = first;
    await using green = second;
    await using run = await MongoRun.create({
      collections: [...NAMES],
      entries: ENTRIES,
      images: [...NAMES],
      settings: 'copy: { workers: 2, chunk: { max_rows: 120 } }\ngates: { stable_for: 1ms }',
      blueUri: blue.uri(),
      greenUri: green.uri(),
      seed: async (db) => {
        const numbers = Array.from({ length: PEOPLE }, (_, _id) => _id);
        const make = (of: (n: number) => Document, shift: number, each: number) =>
          numbers.filter((n) => n % each !== 0).map((n) => ({ ...of(n), _id: n + shift }));
        await db.collection<Person>('people').insertMany(make((n) => person(n, true), 0, 7));
        await db.collection<Person>('profiles').insertMany(make(profile, 20, 5));
        await db.collection<Person>('accounts').insertMany(make(account, 40, 3));
      },
    });
    await using place = new Workplace(run.dir);
    const killed = place.start({ failpoint: 'copy.rows-written:exit@3' });
    expect(await killed.ended, killed.output().slice(-2_000)).toBe('SIGKILL');
    let round = 0;
    for (; round < 100; round++) await change(run, dice, round);
    let writing = true;
    const writer = (async () => {
      for (; writing; round++) await change(run, dice, round);
    })();
    await run.start({ takeover: true }).finally(() => {
      writing = false;
    });
    await writer;
    for (let more = 0; more < 400; more++) await change(run, dice, round++);
    await run.settled();
    const seen = await expectByHand(run);
    expect(seen.both).toBeGreaterThan(20);
    expect(seen.waiting).toBeGreaterThan(5);
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });

    // A killed engine in the stream.
    await run.stop();
    const stream = place.start({ failpoint: 'sink.after-commit:exit@5' });
    for (let more = 0; more < 200; more++) await change(run, dice, round++);
    expect(await stream.ended, stream.output().slice(-2_000)).toBe('SIGKILL');
    await run.start({ takeover: true });
    await run.settled();
    await expectByHand(run);

    // Differences of a part's field, of the owner's, a part too much, and a document that is gone.
    const people = run.green.collection<Person>('people');
    const some = (await all(people as never)).filter((one) => 'balance' in one && 'bio' in one).slice(0, 4);
    const [a, b, c, d] = some.map((one) => one['_id'] as number);
    await people.updateOne({ _id: a as number }, { $set: { 'bio.text': 'wrong' } });
    await people.updateOne({ _id: b as number }, { $set: { name: 'wrong' } });
    await people.updateOne({ _id: c as number }, { $unset: { balance: '' } });
    await people.deleteOne({ _id: d as number });
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: false });
    const migration = await run.engine.migration();
    expect(await migration.repair({})).toMatchObject({ repaired: 4, report: { ok: true } });
    await expectByHand(run);

    // The owner goes and comes back: its parts waited.
    await run.blue.collection<Person>('people').deleteOne({ _id: a as number });
    await run.settled();
    await run.blue.collection<Person>('people').insertOne({ _id: a as number, name: 'again' });
    await run.settled();
    expect(await people.findOne({ _id: a as number })).toMatchObject({ name: 'again', bio: {} });
    await expectByHand(run);
  }, 240_000);

  it('exchanges unique values of parts, and switches', async () => {
    const [first, second] = await Promise.all([startMongo(), startMongo()]);
    await using blue = first;
    await using green = second;
    await using run = await MongoRun.create({
      collections: ['people', 'profiles'],
      entries: { people: ENTRIES.people, profiles: entry({ columns: { code: 'copy' } }) },
      images: ['people', 'profiles'],
      green: [
        {
          createIndexes: 'people',
          indexes: [{ key: { code: 1 }, name: 'code', unique: true, sparse: true }],
        },
      ],
      settings: 'gates: { stable_for: 1ms }',
      blueUri: blue.uri(),
      greenUri: green.uri(),
      seed: async (db) => {
        await db.collection<Person>('people').insertMany([{ _id: 1 }, { _id: 2 }]);
        await db.collection<Person>('profiles').insertMany([
          { _id: 1, code: 'a' },
          { _id: 2, code: 'b' },
          { _id: 3, code: 'c' },
        ]);
      },
    });
    await run.start();
    const [people, profiles] = [
      run.blue.collection<Person>('people'),
      run.blue.collection<Person>('profiles'),
    ];
    await run.blueClient.withSession((session) =>
      session.withTransaction(async () => {
        await profiles.updateOne({ _id: 1 }, { $set: { code: 'b' } }, { session });
        await profiles.updateOne({ _id: 2 }, { $set: { code: 'c' } }, { session });
        await people.insertOne({ _id: 3 }, { session });
        await profiles.updateOne({ _id: 3 }, { $set: { code: 'a' } }, { session });
      }),
    );
    await run.settled();
    const wanted = [
      { _id: 1, code: 'b' },
      { _id: 2, code: 'c' },
      { _id: 3, code: 'a' },
    ];
    expect(await all(run.green.collection('people'))).toEqual(wanted);
    expect(await run.engine.verify({ mode: 'full' })).toMatchObject({ ok: true });
    expect(await turn(run.engine, { act: 'cutover', migration: run.name, gatesMs: 60_000 })).toMatchObject({
      outcome: 'switched',
    });
    expect(await all(run.green.collection('people'))).toEqual(wanted);
    // An owner whose fields are not mapped comes back too.
    const onGreen = run.green.collection<Person>('people');
    await onGreen.updateOne({ _id: 1 }, { $set: { x: 1 }, $unset: { code: '' } });
    await onGreen.updateOne({ _id: 3 }, { $set: { code: 'b' } });
    await onGreen.insertMany([
      { _id: 4, code: 'd' },
      { _id: 5, y: 2 },
    ]);
    expect(await turn(run.engine, { act: 'rollback', migration: run.name, gatesMs: 60_000 })).toMatchObject({
      outcome: 'switched',
    });
    expect(await all(people as never)).toEqual([
      { _id: 1, x: 1 },
      { _id: 2 },
      { _id: 3 },
      { _id: 4 },
      { _id: 5, y: 2 },
    ]);
    expect(await all(profiles as never)).toEqual([
      { _id: 2, code: 'c' },
      { _id: 3, code: 'b' },
      { _id: 4, code: 'd' },
    ]);
  }, 120_000);
});
