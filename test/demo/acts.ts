import { randomUUID } from 'node:crypto';
import { join } from 'node:path';

import type { CutoverReport } from '../../src/app/engine.ts';
import { waitFor } from '../support/wait.ts';
import { EngineProcess } from './engine-process.ts';
import { progressLine, Run } from './engine-watch.ts';
import { type ClientOptions, type Ledger, longestWait } from './ledger.ts';
import { Load } from './load.ts';
import {
  type Compared,
  type Counted,
  type DemoData,
  type DemoOptions,
  type DemoResult,
  differencesOf,
  holds,
  type RollbackData,
} from './result.ts';

/**
 * The write pause is looked for from the moment the command is given until this long after it has reported the switch: that holds
 * the pause of the proxy and the second after it, so the number can only be too high.
 */
const AFTER_MS = 1_000;

/** What an engine brings to the demo: two servers, the shop on blue, a proxy, clients, and its own eyes for what came of it. */
export interface Stage {
  readonly migration: string;
  /** The proxy, for people. */
  readonly proxy: string;
  /** Rows on blue at the start. */
  readonly rows: number;
  /** A folder of this run. */
  readonly home: string;
  readonly engine: { readonly config: string; readonly env: Readonly<Record<string, string>> };
  readonly clients: { readonly module: URL; readonly options: ClientOptions };
  /** Product and version of each side. */
  versions(): Promise<{ readonly blue: string; readonly green: string }>;
  /** Watches for the moment of the switch that comes next. */
  watchSwitch(): Promise<SwitchWatch>;
  /** Looks for every transaction in the log of the shop: it must be there, and once. */
  count(side: 'blue' | 'green', committed: readonly string[]): Promise<Counted>;
  /** Blue, mapped by hand, with green, as both are now. Nobody may be writing. */
  compare(): Promise<readonly Compared[]>;
  /** @throws Error when blue could have been written after the switch */
  checkFenced(): Promise<void>;
  /** Counters of green that would give a number that is in use. */
  colliding(): Promise<readonly string[]>;
  /** How many of these transactions green itself has written, by its clock, after this moment. */
  madeOnGreen(committed: readonly string[], fromMs: number): Promise<number>;
  /** A transaction on blue of nobody else. */
  mark(transaction: string): Promise<void>;
  /** Whether that transaction, and so every one before it, is on green. */
  marked(transaction: string): Promise<boolean>;
}

/** Both sides as they were at a switch. */
export interface SwitchWatch {
  /** Ends the watching. @throws Error when the moment was missed */
  taken(): Promise<void>;
  /** Blue, mapped by hand, with green, as they were then; lets go of both. */
  compare(): Promise<readonly Compared[]>;
}

/**
 * The whole move, from two empty servers to the last comparison. Ends everything it has started.
 * @param open starts servers and proxy, fills the shop, and tells the phases of that
 */
export async function play(
  options: DemoOptions,
  open: (stack: AsyncDisposableStack) => Promise<Stage>,
): Promise<DemoResult> {
  const { afterMs, report } = options;
  const startedAt = performance.now();
  await using stack = new AsyncDisposableStack();
  const stage = await open(stack);
  const { module, options: clients } = stage.clients;
  report.phase(
    `${clients.count} clients go to work through ${stage.proxy}, on ${stage.rows.toLocaleString('en')} rows`,
  );
  const load = stack.use(await Load.start(module, clients));
  let working = load;

  const run = stack.use(new Run());
  const engine = stack.use(
    new EngineProcess({
      ...stage.engine,
      onStatus: (status) => {
        run.take(status);
        report.progress(progressLine(status, working.progress));
      },
    }),
  );
  report.phase('verdigris plan');
  const planFile = join(stage.home, 'plan.json');
  await engine.plan(planFile);
  report.phase('verdigris start: copy, then stream, then verify, under load');
  engine.start(planFile);
  await ready('replicating');
  report.phase('verdigris cutover --dry-run');
  report.cutover(await engine.dryRun());

  const watch = await stage.watchSwitch();
  const { done: cutover, from, until } = await turn('cutover');
  report.cutover(cutover);
  await watch.taken();

  report.phase('the same clients, now on green');
  await new Promise((resolve) => setTimeout(resolve, Math.max(afterMs, AFTER_MS)));
  report.phase('clients end; looking for every transaction they were told was committed');
  const ledger = await load.hold();
  const onGreen = await stage.count('green', ledger.committed);
  report.phase('comparing blue, mapped by hand, with green, as they were at the switch');
  const tables = await watch.compare();
  await stage.checkFenced();
  const activeSide = await sideOnce('reversing');
  const colliding = await stage.colliding();
  // By the clock of green: what was made there, as blue has it by now or not.
  const transactionsOnGreen = await stage.madeOnGreen(ledger.committed, until);
  const rollback = await goBack(ledger.committed);
  const data: DemoData = {
    ...(await stage.versions()),
    rows: stage.rows,
    clientTransactions: ledger.committed.length,
    failedTransactions: ledger.failures.length,
    lostTransactions: onGreen.lost,
    duplicatedTransactions: onGreen.duplicated,
    ...reconnectsOf(ledger),
    differences: differencesOf(tables),
    writePauseMs: longestWait(ledger.waits, from, until + AFTER_MS),
    activeSide,
    copyRowsPerSecond: run.copyRowsPerSecond(),
    rollback: rollback.data,
    seconds: Math.round((performance.now() - startedAt) / 100) / 10,
  };
  return {
    data,
    ok: holds(data) && colliding.length === 0 && transactionsOnGreen > 0 && rollback.transactions > 0,
    tables: [...tables, ...rollback.tables],
    failures: [...ledger.failures, ...rollback.failures],
    byAction: ledger.byAction,
    colliding,
    engineWritePauseMs: cutover.writePauseMs,
    transactionsOnGreen,
    clientTransactionsOfRollback: rollback.transactions,
  };

  /** The same clients again, on green; and while they work, back to blue. */
  async function goBack(before: readonly string[]) {
    report.phase(`${clients.count} clients go to work again, on green`);
    const second = stack.use(await Load.start(module, clients));
    working = second;
    const turned = await turn('rollback');
    report.cutover(turned.done);
    report.phase('the same clients, now on blue again; green follows it');
    await new Promise((resolve) => setTimeout(resolve, Math.max(afterMs, AFTER_MS)));
    const after = await second.hold();
    const side = await sideOnce('replicating');
    report.phase('comparing blue, mapped by hand, with green once it has followed to the end');
    const last = randomUUID();
    await stage.mark(last);
    await waitFor(() => stage.marked(last), {
      what: 'green to follow blue after the rollback',
      timeoutMs: 60_000,
    });
    const counted = await stage.count('blue', [...before, ...after.committed]);
    const compared = await stage.compare();
    const result: RollbackData = {
      activeSide: side,
      failedTransactions: after.failures.length,
      lostTransactions: counted.lost,
      duplicatedTransactions: counted.duplicated,
      ...reconnectsOf(after),
      differences: differencesOf(compared),
      writePauseMs: longestWait(after.waits, turned.from, turned.until + AFTER_MS),
    };
    return {
      data: result,
      tables: compared.map((one) => ({ ...one, table: `${one.table}, after the rollback` })),
      failures: after.failures,
      transactions: after.committed.length,
    };
  }

  /** Every gate is open. @throws Error with the differences where the verification found some */
  async function ready(phase: 'replicating' | 'reversing'): Promise<void> {
    try {
      await Promise.race([run.gatesOpen(phase), engine.failed.promise]);
    } catch (error) {
      if (run.differences() === 0) throw error;
      throw new Error(`${(error as Error).message}\n${await engine.differences()}`, { cause: error });
    }
  }

  /** The active side as the engine tells it once its status says that the switch is over: that comes later than the end of the command. */
  async function sideOnce(phase: 'replicating' | 'reversing'): Promise<'blue' | 'green'> {
    await waitFor(() => run.last().phase === phase, {
      what: `the status of the engine to be ${phase}`,
      timeoutMs: 60_000,
    });
    return run.last().activeSide;
  }

  /** A gate may shut between the look and the command, on a machine that is busy: then nothing was changed. */
  async function turn(
    command: 'cutover' | 'rollback',
  ): Promise<{ done: CutoverReport; from: number; until: number }> {
    for (;;) {
      await ready(command === 'cutover' ? 'replicating' : 'reversing');
      report.phase(`verdigris ${command}`);
      const startedMs = Date.now();
      const done = await engine.turn(command, planFile, stage.migration);
      if (done !== null) return { done, from: startedMs, until: Date.now() };
      report.phase('a gate shut in the last moment; nothing was changed');
    }
  }
}

const reconnectsOf = ({ reconnects }: Ledger): { readonly reconnects?: number } =>
  reconnects === undefined ? {} : { reconnects };
