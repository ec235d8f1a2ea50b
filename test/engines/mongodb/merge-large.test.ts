import type { Document, Timestamp } from 'mongodb';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { readFile, writeFile } from 'node:fs/promises';

import { parsePosition, timeOf } from '../../../src/engines/mongodb/position.ts';
import { Workplace } from '../../support/engine-process.ts';
import { startMongo, type MongoReplicaSet } from '../../support/mongo.ts';
import { MongoRun } from '../../support/mongo-run.ts';
import { HoldPoints } from '../../support/run.ts';
import { waitFor } from '../../support/wait.ts';

type Person = Document & { readonly _id: number };

const entry = (target: object): string =>
  JSON.stringify({ to: [{ table: '$db.people', ...target }] }).slice(1, -1);

const create = (blue: MongoReplicaSet, green: MongoReplicaSet, seed: MongoRunSeed): Promise<MongoRun> =>
  MongoRun.create({
    collections: ['people', 'profiles'],
    entries: { people: entry({ owner: true }), profiles: entry({ columns: { bio: 'copy' } }) },
    images: ['people', 'profiles'],
    blueUri: blue.uri(),
    greenUri: green.uri(),
    seed,
  });

type MongoRunSeed = (db: MongoRun['blue']) => Promise<void>;

/** Documents of an owner of so many bytes, each with a small part. */
const seedOf =
  (count: number, bytes: number): MongoRunSeed =>
  async (db) => {
    const text = 'x'.repeat(bytes);
    for (let at = 0; at < count; at += 20)
      await db
        .collection<Person>('people')
        .insertMany(Array.from({ length: Math.min(20, count - at) }, (_, n) => ({ _id: at + n, text })));
    await db
      .collection<Person>('profiles')
      .insertMany(Array.from({ length: count }, (_, _id) => ({ _id, bio: `b${_id}` })));
  };

/** How many documents of green have which `bio`, and how many have lost their text. */
async function bios(run: MongoRun, bytes: number): Promise<Document[]> {
  return run.green
    .collection('people')
    .aggregate([
      {
        $group: {
          _id: { $eq: [{ $strLenBytes: { $ifNull: ['$text', ''] } }, bytes] },
          bios: { $sum: { $cond: [{ $eq: ['$bio', { $concat: ['b', { $toString: '$_id' }] }] }, 1, 0] } },
          changed: { $sum: { $cond: [{ $eq: ['$bio', 'changed'] }, 1, 0] } },
        },
      },
    ])
    .toArray();
}

describe('a merge with large documents of its owner, where green has little memory', () => {
  let blue: MongoReplicaSet;
  let green: MongoReplicaSet;
  beforeAll(async () => {
    [blue, green] = await Promise.all([startMongo({ cacheGb: 0.25 }), startMongo({ cacheGb: 0.25 })]);
  }, 60_000);
  afterAll(async () => {
    await Promise.all([blue, green].map((set) => set[Symbol.asyncDispose]()));
  });

  it.each([
    [480, 300_000],
    [100, 1_500_000],
  ])(
    'copies %i of them, of %i bytes',
    async (count, bytes) => {
      await using run = await create(blue, green, seedOf(count, bytes));
      await run.start();
      expect(await bios(run, bytes)).toEqual([{ _id: true, bios: count, changed: 0 }]);
    },
    60_000,
  );

  it('follows one transaction that changes a part of each', async () => {
    const [count, bytes] = [240, 600_000];
    await using run = await create(blue, green, seedOf(count, bytes));
    await run.start();
    await run.blueClient.withSession((session) =>
      session.withTransaction(async () => {
        await run.blue.collection('profiles').updateMany({}, { $set: { bio: 'changed' } }, { session });
      }),
    );
    await run.settled(60_000);
    expect(await bios(run, bytes)).toEqual([{ _id: true, bios: 0, changed: count }]);
  }, 90_000);

  it('applies as many that came while their range was copied', async () => {
    const [count, bytes] = [240, 600_000];
    await using run = await create(blue, green, seedOf(count, bytes));
    const points = new HoldPoints();
    const reached = points.hold('copy.rows-written');
    await run.begin({ failpoints: points });
    await reached;
    await run.blue.collection('profiles').updateMany({}, { $set: { bio: 'changed' } });
    points.release('copy.rows-written');
    await run.started();
    await run.settled(60_000);
    expect(await bios(run, bytes)).toEqual([{ _id: true, bios: 0, changed: count }]);
  }, 90_000);

  it('goes on in other groups where it was killed in the middle of one', async () => {
    const [count, bytes] = [240, 600_000];
    await using run = await create(blue, green, seedOf(count, bytes));
    await run.start();
    await run.settled();
    await run.stop();
    const people = run.blue.collection<Person>('people');
    const profiles = run.blue.collection<Person>('profiles');
    // While this one is applied all that follows becomes one group, or it is part of it.
    const large = await run.blueClient.withSession(async (session) => {
      await session.withTransaction(async () => {
        await profiles.updateMany({}, { $set: { bio: 'first' } }, { session });
      });
      return timeOf(session.operationTime as Timestamp);
    });
    for (let _id = 0; _id < count; _id++) {
      await profiles.updateOne({ _id }, { $set: { bio: 'changed' } });
      await people.insertOne({ _id: 1_000 + _id });
      await profiles.insertOne({ _id: 1_000 + _id, bio: 'new' });
      if (_id % 60 === 0) await people.deleteOne({ _id });
      if (_id % 120 === 0) await profiles.deleteOne({ _id });
    }
    const checkpoints = run.greenState.collection<{
      _id: string;
      dirty: boolean;
      until?: string | null;
    }>('checkpoint');
    const checkpoint = { _id: `${run.name}/forward` };
    const place = new Workplace(run.dir);
    const killed = place.start({ args: ['--takeover'] });
    const middle = async (): Promise<boolean> => {
      const { dirty, until } = (await checkpoints.findOne(checkpoint)) ?? {};
      return dirty === true && typeof until === 'string' && parsePosition(until).time > large;
    };
    await waitFor(middle, { what: 'a piece of a group on green', everyMs: 1 });
    expect(await killed.kill('SIGKILL')).toBe('SIGKILL');
    expect(await checkpoints.findOne(checkpoint)).toMatchObject({ dirty: true, until: expect.any(String) });
    // Every transaction is now a group of its own.
    await writeFile(
      run.file,
      (await readFile(run.file, 'utf8')).replace('apply: {', 'apply: { batch: { max_rows: 1 },'),
    );
    await run.start({ takeover: true });
    await run.settled(60_000);
    expect(await checkpoints.findOne(checkpoint)).toMatchObject({ dirty: false, until: null });
    const found = await run.green
      .collection('people')
      .find({}, { projection: { bio: 1 } })
      .sort({ _id: 1 })
      .toArray();
    const left = Array.from({ length: count }, (_, _id) => ({ _id, bio: 'changed' }));
    const added = Array.from({ length: count }, (_, n) => ({ _id: 1_000 + n, bio: 'new' }));
    expect(found).toEqual([...left.filter(({ _id }) => _id % 60 !== 0), ...added]);
    // Parts of owners that are gone still wait.
    for (const _id of [0, 60]) await people.insertOne({ _id });
    await run.settled();
    expect(
      await run.green
        .collection<Person>('people')
        .find({ _id: { $in: [0, 60] } })
        .toArray(),
    ).toEqual([{ _id: 0 }, { _id: 60, bio: 'changed' }]);
  }, 90_000);
});
