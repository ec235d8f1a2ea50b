import { randomUUID } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { type Db, MongoClient } from 'mongodb';

import type { CutoverReport } from '../../../src/app/engine.ts';
import { debianProgram } from '../../support/debian.ts';
import { HAPROXY, startHaproxy } from '../../support/haproxy.ts';
import { MONGO_PASSWORD, type MongoReplicaSet, startMongo } from '../../support/mongo.ts';
import { newDir } from '../../support/run-dir.ts';
import { waitFor } from '../../support/wait.ts';
import { differencesOf } from '../comparison.ts';
import type { DemoData, DemoOptions, DemoResult, RollbackData } from '../demo.ts';
import { EngineProcess } from '../engine-process.ts';
import { progressLine, Run } from '../engine-watch.ts';
import { longestWait } from '../ledger.ts';
import { compare, countTransactions } from './comparison.ts';
import { Load, type ReconnectingLedger } from './load.ts';
import { seed } from './seed.ts';

const MIGRATION = 'shop-demo';
const CLIENTS = 8;
const THINK_MS = 40;
/** As in the demo of PostgreSQL: the pause and the second after it, so the number can only be too high. */
const AFTER_MS = 1_000;
const APPLICATION = 'shop';

/** Clients whose connections a switch ends connect anew; that is no failure. */
export interface Reconnects {
  readonly reconnects: number;
}

export interface MongoDemoResult extends DemoResult {
  readonly data: DemoData & Reconnects & { readonly rollback: RollbackData & Reconnects };
}

/** The whole move, from two empty replica sets to the comparison. Ends everything it has started. */
export async function runDemo({ scale, afterMs, report }: DemoOptions): Promise<MongoDemoResult> {
  const startedAt = performance.now();
  await using stack = new AsyncDisposableStack();
  report.phase('starting two replica sets of MongoDB (blue, green) and HAProxy');
  const blueSet = stack.use(await startMongo());
  const greenSet = stack.use(await startMongo());
  const home = await newDir('demo');
  stack.defer(() => rm(home, { recursive: true, force: true }));
  const blue = await connect(stack, blueSet);
  const green = await connect(stack, greenSet);
  const proxy = stack.use(
    await startHaproxy({
      program: await debianProgram(HAPROXY),
      blue: placeOf(blueSet),
      green: placeOf(greenSet),
    }),
  );

  report.phase('filling the shop on blue');
  const shop = await seed(blue, scale, CLIENTS);

  report.phase(
    `${CLIENTS} clients go to work through HAProxy, on ${shop.rows.toLocaleString('en')} documents`,
  );
  const orders = {
    customers: shop.customers,
    products: shop.products,
    url: `mongodb://${APPLICATION}:${encodeURIComponent(MONGO_PASSWORD)}@127.0.0.1:${proxy.port}/?authSource=admin`,
    count: CLIENTS,
    thinkMs: THINK_MS,
  };
  const load = stack.use(await Load.start(orders));
  let working = load;

  const state = join(home, 'state');
  await mkdir(state);
  const run = stack.use(new Run());
  const engine = stack.use(
    new EngineProcess({
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
      onStatus: (status) => {
        run.take(status);
        report.progress(progressLine(status, working.progress));
      },
    }),
  );
  report.phase('verdigris plan');
  const planFile = join(home, 'plan.json');
  await engine.plan(planFile);
  report.phase('verdigris start: copy, then stream, then verify, under load');
  engine.start(planFile);
  await Promise.race([run.gatesOpen(), engine.failed.promise]);
  report.phase('verdigris cutover --dry-run');
  report.cutover(await engine.dryRun());

  const { done: cutover, from: switchFrom, until: switchUntil } = await turn('cutover');
  report.cutover(cutover);
  report.phase('the same clients, now on green');
  await new Promise((resolve) => setTimeout(resolve, Math.max(afterMs, AFTER_MS)));
  report.phase('clients end; looking for every transaction they were told was committed');
  const ledger = await load.hold();
  const onGreen = await countTransactions(green, ledger.committed, ledger.tallied);
  report.phase('comparing blue, mapped by hand, with green, once blue has followed to the end');
  await followed(green, blue);
  const tables = await compare(blue, green);
  const { activeSide } = run.last();
  const transactionsOnGreen = await madeAfter(green, ledger.committed, switchUntil);
  const rollback = await goBack(ledger);
  const data = {
    blue: await versionOf(blue),
    green: await versionOf(green),
    rows: shop.rows,
    clientTransactions: ledger.committed.length,
    failedTransactions: ledger.failures.length,
    lostTransactions: onGreen.lost,
    duplicatedTransactions: onGreen.duplicated,
    differences: differencesOf(tables),
    writePauseMs: longestWait(ledger.waits, switchFrom, switchUntil + AFTER_MS),
    activeSide,
    copyRowsPerSecond: run.copyRowsPerSecond(),
    reconnects: ledger.reconnects,
    rollback: rollback.data,
    seconds: Math.round((performance.now() - startedAt) / 100) / 10,
  };
  return {
    data,
    ok: holds(data) && transactionsOnGreen > 0 && rollback.transactions > 0,
    tables: [...tables, ...rollback.tables],
    failures: [...ledger.failures, ...rollback.failures],
    byAction: ledger.byAction,
    colliding: [],
    engineWritePauseMs: cutover.writePauseMs,
    transactionsOnGreen,
    clientTransactionsOfRollback: rollback.transactions,
  };

  /** The same clients again, on green; and while they work, back to blue. */
  async function goBack(before: ReconnectingLedger) {
    report.phase(`${CLIENTS} clients go to work again, on green`);
    const second = stack.use(await Load.start(orders));
    working = second;
    const { done, from, until } = await turn('rollback');
    report.cutover(done);
    report.phase('the same clients, now on blue again; green follows it');
    await new Promise((resolve) => setTimeout(resolve, Math.max(afterMs, AFTER_MS)));
    const after = await second.hold();
    const side = run.last().activeSide;
    report.phase('comparing blue, mapped by hand, with green once it has followed to the end');
    await followed(blue, green);
    const tallied = Object.fromEntries(
      Array.from({ length: CLIENTS }, (_, n) => [n, (before.tallied[n] ?? 0) + (after.tallied[n] ?? 0)]),
    );
    const counted = await countTransactions(blue, [...before.committed, ...after.committed], tallied);
    const compared = await compare(blue, green);
    return {
      data: {
        activeSide: side,
        failedTransactions: after.failures.length,
        lostTransactions: counted.lost,
        duplicatedTransactions: counted.duplicated,
        differences: differencesOf(compared),
        writePauseMs: longestWait(after.waits, from, until + AFTER_MS),
        reconnects: after.reconnects,
      },
      tables: compared.map((one) => ({ ...one, table: `${one.table}, after the rollback` })),
      failures: after.failures,
      transactions: after.committed.length,
    };
  }

  /** A gate may shut between the look and the command, on a machine that is busy: then nothing was changed. */
  async function turn(
    command: 'cutover' | 'rollback',
  ): Promise<{ done: CutoverReport; from: number; until: number }> {
    for (;;) {
      await Promise.race([
        run.gatesOpen(command === 'cutover' ? 'replicating' : 'reversing'),
        engine.failed.promise,
      ]);
      report.phase(`verdigris ${command}`);
      const from = Date.now();
      const done = await engine.turn(command, planFile, MIGRATION);
      if (done !== null) return { done, from, until: Date.now() };
      report.phase('a gate shut in the last moment; nothing was changed');
    }
  }
}

const clean = (data: Omit<RollbackData, 'activeSide' | 'writePauseMs'>): boolean =>
  data.failedTransactions === 0 &&
  data.lostTransactions === 0 &&
  data.duplicatedTransactions === 0 &&
  data.differences === 0;

/** A switch ends every client's connection: none that had to connect anew means that nobody was behind the proxy. */
const holds = (data: MongoDemoResult['data']): boolean =>
  clean(data) &&
  clean(data.rollback) &&
  data.clientTransactions > 0 &&
  data.activeSide === 'green' &&
  data.rollback.activeSide === 'blue' &&
  data.reconnects >= CLIENTS &&
  data.rollback.reconnects >= CLIENTS;

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

/** The last document that the serving side wrote is on the other, and so are all before it. */
async function followed(serving: Db, other: Db): Promise<void> {
  const last = `end-${randomUUID()}`;
  await serving.collection<{ _id: string; client: number }>('audit').insertOne({ _id: last, client: -1 });
  await waitFor(
    async () => (await other.collection<{ _id: string }>('audit').findOne({ _id: last })) !== null,
    { what: 'the other side to follow', timeoutMs: 60_000, everyMs: 100 },
  );
}

/** Transactions of the clients after the switch: all of this run share one clock. */
function madeAfter(green: Db, committed: readonly string[], fromMs: number): Promise<number> {
  return green
    .collection<{ _id: string; at: Date }>('audit')
    .countDocuments({ _id: { $in: [...committed] }, at: { $gt: new Date(fromMs) } });
}

async function versionOf(db: Db): Promise<string> {
  const { version } = (await db.command({ buildInfo: 1 })) as unknown as { version: string };
  return `MongoDB ${version}`;
}
