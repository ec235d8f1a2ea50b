import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { logOf } from '../../../src/engines/mongodb/log.ts';
import { startMongo, type MongoReplicaSet } from '../../support/mongo.ts';
import { MongoRun } from '../../support/mongo-run.ts';
import { waitFor } from '../../support/wait.ts';

/** The smallest log a server takes; it forgets in steps of a tenth of that. */
const LOG_MB = 1;

let blue: MongoReplicaSet;

beforeAll(async () => {
  // The log is kept back to the last checkpoint of the storage, which is made once a minute else.
  blue = await startMongo({ oplogMb: LOG_MB, parameters: { syncdelay: '1' } });
}, 60_000);
afterAll(() => blue[Symbol.asyncDispose]());

const create = (settings = ''): Promise<MongoRun> =>
  MongoRun.create({
    collections: ['items'],
    blueUri: blue.uri(),
    settings,
    seed: async (db) => {
      await db.collection<{ _id: number }>('items').insertOne({ _id: 1 });
    },
  });

/** Writes on blue, outside of what is replicated, until the log begins after that time. */
async function rollOver(run: MongoRun, time: bigint): Promise<void> {
  const noise = run.blueClient.db(`${run.name}_noise`);
  await waitFor(
    async () => {
      await noise.collection('all').insertOne({ text: 'x'.repeat(200_000) });
      return (await logOf(run.blueClient)).first > time;
    },
    { what: 'the log to forget', timeoutMs: 60_000 },
  );
  await noise.dropDatabase();
}

const now = async (run: MongoRun): Promise<bigint> => (await logOf(run.blueClient)).last;

const LOST = {
  code: 'SOURCE_POSITION_LOST',
  directive: 'fatal',
  remedy: expect.stringContaining('new copy') as unknown,
} as const;

describe('a log that was rolled over', () => {
  test('while we were away: the start says so for good, and nothing is skipped', async () => {
    await using run = await create();
    await run.start();
    await run.settled();
    await run.stop();
    await run.blue.collection<{ _id: number }>('items').insertOne({ _id: 2 });
    await rollOver(run, await now(run));
    await run.begin();
    await expect(run.started()).rejects.toMatchObject(LOST);
    const status = await run.engine.status();
    expect(status).toMatchObject({ condition: 'error', error: { code: LOST.code } });
    expect(await run.green.collection('items').countDocuments()).toBe(1);
  }, 120_000);

  test('while applying was paused: the stream ends for good, and nothing is skipped', async () => {
    await using run = await create();
    await run.start();
    await run.settled();
    const ended = run.engine.ended();
    ended.catch(() => undefined);
    await (await run.engine.migration()).pause('apply', 'test');
    const items = run.blue.collection<{ _id: number; text: string }>('items');
    // More than what is received ahead.
    for (let _id = 10; _id < 40; _id += 1) await items.insertOne({ _id, text: 'y'.repeat(300_000) });
    await rollOver(run, await now(run));
    await (await run.engine.migration()).resume('apply');
    await expect(ended).rejects.toMatchObject(LOST);
  }, 120_000);

  test('the distance to the loss is told before: by preflight in hours, and in operation by the health of the source', async () => {
    await using run = await create();
    await run.start();
    await rollOver(run, await now(run));
    const findings = await run.engine.doctor();
    expect(findings.find(({ id, side }) => id === 'G4' && side === 'blue')).toMatchObject({
      outcome: 'finding',
      observed: expect.stringMatching(/^0\.0 hours/) as unknown,
      sql: expect.stringContaining('replSetResizeOplog') as unknown,
    });
    const status = await waitFor(
      async () => {
        const seen = await run.engine.status();
        return seen.source.state === 'short' ? seen : null;
      },
      { what: 'the health of the source', timeoutMs: 20_000 },
    );
    expect(status.gates.find(({ name }) => name === 'source-health')).toMatchObject({ ok: false });
  }, 120_000);
});
