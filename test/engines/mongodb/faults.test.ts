import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { startMongo, type MongoReplicaSet } from '../../support/mongo.ts';
import { arm, TEST_COMMANDS, type Failure } from '../../support/mongo-faults.ts';
import { MongoRun } from '../../support/mongo-run.ts';
import { waitFor } from '../../support/wait.ts';
import { differences, ShopClients } from './clients.ts';

let blue: MongoReplicaSet;
let green: MongoReplicaSet;

beforeAll(async () => {
  const start = (): Promise<MongoReplicaSet> => startMongo({ parameters: TEST_COMMANDS });
  [blue, green] = await Promise.all([start(), start()]);
}, 60_000);
afterAll(async () => {
  await Promise.all([blue, green].map((set) => set[Symbol.asyncDispose]()));
});

type Fault = Omit<Failure, 'appName'> & { readonly what: string; readonly times: number };

const NOT_PRIMARY = 10_107;
const STATE_CHANGE = 11_602;
const STEPPED_DOWN = 189;
const WRITE_CONFLICT = 112;
const NO_SUCH_TRANSACTION = 251;
const CURSOR_GONE = 43;
const HISTORY_LOST = 286;

/** The driver asks a second time by itself, so that what is to reach us has to happen twice. */
const ON_GREEN: readonly Fault[] = [
  { what: 'the commit never arrives', failCommands: ['commitTransaction'], closeConnection: true, times: 2 },
  {
    what: 'the commit is carried out and its outcome is not known',
    failCommands: ['commitTransaction'],
    writeConcernError: { code: 91, errmsg: 'shutting down' },
    times: 2,
  },
  {
    what: 'the commit meets a change of state',
    failCommands: ['commitTransaction'],
    errorCode: STATE_CHANGE,
    times: 2,
  },
  {
    what: 'the commit meets a secondary',
    failCommands: ['commitTransaction'],
    errorCode: NOT_PRIMARY,
    times: 2,
  },
  {
    what: 'the transaction is gone at its commit',
    failCommands: ['commitTransaction'],
    errorCode: NO_SUCH_TRANSACTION,
    times: 1,
  },
  {
    what: 'a statement meets a change of state',
    failCommands: ['update', 'insert'],
    errorCode: STATE_CHANGE,
    times: 1,
  },
  { what: 'a statement meets a step-down', failCommands: ['insert'], errorCode: STEPPED_DOWN, times: 1 },
  {
    what: 'a statement meets another writer',
    failCommands: ['update'],
    errorCode: WRITE_CONFLICT,
    times: 1,
  },
  {
    what: 'the connection ends under a statement',
    failCommands: ['update', 'insert'],
    closeConnection: true,
    times: 1,
  },
];

const ON_BLUE: readonly Fault[] = [
  { what: 'a change of state', failCommands: ['getMore'], errorCode: STATE_CHANGE, times: 1 },
  {
    what: 'a secondary, and again at the opening',
    failCommands: ['getMore', 'aggregate'],
    errorCode: NOT_PRIMARY,
    times: 3,
  },
  { what: 'a cursor that is gone', failCommands: ['getMore'], errorCode: CURSOR_GONE, times: 1 },
  { what: 'a connection that ends', failCommands: ['getMore'], closeConnection: true, times: 1 },
];

const create = (): Promise<MongoRun> =>
  MongoRun.create({ collections: ['orders', 'tally'], blueUri: blue.uri(), greenUri: green.uri() });

async function struck(uri: string, appName: string, fault: Fault, clients: ShopClients): Promise<void> {
  const { what, times, ...failure } = fault;
  await using armed = await arm(uri, { ...failure, appName }, times);
  await waitFor(async () => (await armed.hits()) >= times, { what: `${what} to happen` });
  await clients.more(10);
}

describe('a server that changes its state under us', () => {
  test('green: whatever becomes of a commit, the checkpoint decides; nothing is lost, nothing is there twice, and it goes on within seconds', async () => {
    await using run = await create();
    await using clients = new ShopClients(blue.uri(), run.name, 3);
    await run.start();
    for (const fault of ON_GREEN) {
      await struck(green.uri(), `verdigris:${run.name}:forward:t1`, fault, clients);
      // Far below the minute that the server keeps a transaction whose client is gone.
      await run.settled(20_000).catch((error: unknown) => {
        throw new Error(`after: ${fault.what}`, { cause: error });
      });
    }
    await clients.stop();
    await run.settled();
    await run.same();
    expect(await differences(run.green, clients.acknowledged)).toEqual([]);
    expect(await run.engine.status()).toMatchObject({ condition: 'running', error: null });
  }, 240_000);

  test('blue: the stream goes on behind what was applied', async () => {
    await using run = await create();
    await using clients = new ShopClients(blue.uri(), run.name, 3);
    await run.start();
    for (const fault of ON_BLUE) {
      await struck(blue.uri(), `verdigris:${run.name}:stream forward:t1`, fault, clients);
      await run.settled(20_000);
    }
    await clients.stop();
    await run.settled();
    await run.same();
    expect(await differences(run.green, clients.acknowledged)).toEqual([]);
  }, 120_000);

  test('blue: a log that no longer goes back to us is the end, with a code and what to do; never "from now on"', async () => {
    await using run = await create();
    await run.start();
    const ended = run.engine.ended();
    ended.catch(() => undefined);
    await using _ = await arm(
      blue.uri(),
      {
        appName: `verdigris:${run.name}:stream forward:t1`,
        failCommands: ['getMore'],
        errorCode: HISTORY_LOST,
      },
      1,
    );
    await expect(ended).rejects.toMatchObject({
      code: 'SOURCE_POSITION_LOST',
      directive: 'fatal',
      remedy: expect.stringContaining('new copy') as unknown,
    });
  }, 60_000);
});
