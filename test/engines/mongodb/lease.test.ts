import { MongoClient, type ClientSession } from 'mongodb';
import { describe, expect, test } from 'vitest';

import type { SessionEnv } from '../../../src/core/engine.ts';
import { endOlderTerms } from '../../../src/engines/mongodb/lease.ts';
import { holdLease, MongoStateStore } from '../../../src/engines/mongodb/state.ts';
import { createMongoDatabase } from '../../support/mongo-databases.ts';

test('a new term ends the open transactions of older streams of its migration, and neither its own nor those of its record', async () => {
  await using database = await createMongoDatabase('green');
  await database.db.createCollection('t');
  await using stack = new AsyncDisposableStack();
  const open = async (appName: string): Promise<ClientSession> => {
    const client = new MongoClient(database.uri, { appName });
    stack.defer(() => client.close());
    const session = client.startSession();
    session.startTransaction();
    await client.db(database.name).collection('t').insertOne({ appName }, { session });
    return session;
  };
  const { name } = database;
  const kept = [
    `verdigris:${name}:green:t0`,
    `verdigris:${name}:forward:t3`,
    `verdigris:other_${name}:forward:t1`,
    'shop',
  ];
  const ended = [`verdigris:${name}:forward:t2`, `verdigris:${name}:reverse:t1`];
  const sessions = new Map<string, ClientSession>();
  for (const app of [...kept, ...ended]) sessions.set(app, await open(app));
  await endOlderTerms(database.client, name, 3);
  for (const app of kept) await sessions.get(app)?.commitTransaction();
  for (const app of ended) await expect(sessions.get(app)?.commitTransaction()).rejects.toThrow();
  const there = await database.db.collection('t').find().toArray();
  expect(there.map((one) => one['appName'] as string).toSorted()).toEqual(kept.toSorted());
});

describe.each(['green:t0', 'forward:t1'])('a transaction of %s that has written the lease', (stream) => {
  /** A record of that migration under term 1, and a transaction of its engine, which was killed or stands still. */
  async function open(ttlMs: number) {
    const stack = new AsyncDisposableStack();
    const database = stack.use(await createMongoDatabase('green'));
    const { name: migration, client } = database;
    const env = { migration, stateSchema: migration } as SessionEnv;
    const store = new MongoStateStore(client, env);
    await store.prepare();
    expect(await store.acquire(migration, 'first', { ttlMs, takeover: false })).toBe(1);
    const other = new MongoClient(database.uri, { appName: `verdigris:${migration}:${stream}` });
    stack.defer(() => other.close());
    const session = other.startSession();
    session.startTransaction();
    await holdLease(other.db(migration), session, migration, 1);
    return {
      session,
      acquire: (takeover: boolean) => store.acquire(migration, 'second', { ttlMs, takeover }),
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    };
  }

  test('does not keep the next engine waiting, when the lease has run out or is taken over', async () => {
    for (const [ttlMs, takeover] of [
      [1, false],
      [600_000, true],
    ] as const) {
      await using engine = await open(ttlMs);
      expect(await engine.acquire(takeover)).toBe(2);
      await expect(engine.session.commitTransaction()).rejects.toThrow();
    }
    // The server ends it by itself after 60 s.
  }, 20_000);

  test('goes on when the lease is refused', async () => {
    await using engine = await open(600_000);
    await expect(engine.acquire(false)).rejects.toMatchObject({ code: 'STATE_LEASE_HELD' });
    await engine.session.commitTransaction();
  });
});
