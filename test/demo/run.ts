/** The demo: a shop under load moves to other servers with another schema through a real proxy, and back. `--help` says the rest. */
import { parseArgs, styleText } from 'node:util';

import Table from 'cli-table3';

import type { CutoverReport } from '../../src/app/engine.ts';
import { VERSION } from '../../src/app/version.ts';
import '../support/compile-cache.ts';
import type { DemoOptions, DemoReport, DemoResult } from './result.ts';

const USAGE = `The demo: a shop under load moves to other servers with another schema, and back; every transaction is counted.

Usage: npm run demo -- [options]

  --engine ENGINE   postgres: 16 to 18 through PgBouncer (default)
                    mysql: MySQL 9.7 to 9.7 through HAProxy
                    mongodb: a replica set of MongoDB 8.2 to another through HAProxy
  --blue FLAVOUR    mysql only: mysql (default), or mariadb: MariaDB 10.11 to 10.11
  --scale NUMBER    how much there is to move; 1 (default) is a little more than 300,000 rows
  --after SECONDS   how long the clients go on after the switch, and after the rollback (default 6)
  --json            one line with the result in the end, on standard output
  --help            this text

Exit codes: 0 when everything held, 1 when something did not, 2 for a wrong option.

Examples:
  npm run demo
  npm run demo -- --engine mysql
  npm run demo -- --engine mysql --blue mariadb --scale 0.1
  npm run demo -- --engine mongodb --scale 0.05
  npm run demo -- --json | tail -n 1
`;

type RunDemo = (options: DemoOptions) => Promise<DemoResult>;
const ENGINES: Readonly<
  Record<string, { readonly flavours: readonly string[]; load(): Promise<{ runDemo: RunDemo }> }>
> = {
  postgres: { flavours: ['postgres'], load: () => import('./postgres/demo.ts') },
  mysql: { flavours: ['mysql', 'mariadb'], load: () => import('./mysql/demo.ts') },
  mongodb: { flavours: ['mongodb'], load: () => import('./mongodb/demo.ts') },
};

const values = readOptions();
const engine = ENGINES[values.engine] ?? refuse(`--engine is one of ${Object.keys(ENGINES).join(', ')}`);
if (values.blue !== undefined && !engine.flavours.includes(values.blue))
  refuse(`--blue with --engine ${values.engine} is one of ${engine.flavours.join(', ')}`);
const size = { scale: positive('scale'), afterMs: positive('after') * 1_000 };

const startedAt = performance.now();
const live = process.stderr.isTTY === true;
let shownAt = -Infinity;

const say = (text: string): void => {
  const at = `${((performance.now() - startedAt) / 1_000).toFixed(1).padStart(6)} s`;
  process.stderr.write(`${live ? '\r\x1b[K' : ''}${at}  ${text}\n`);
};

const report: DemoReport = {
  phase: (text) => say(styleText('bold', text, { stream: process.stderr })),
  // A line that is written over on a terminal; a line now and then elsewhere.
  progress: (line) => {
    const now = performance.now();
    if (live) process.stderr.write(`\r\x1b[K         ${line.slice(0, (process.stderr.columns ?? 120) - 10)}`);
    else if (now - shownAt >= 2_000) {
      shownAt = now;
      say(line);
    }
  },
  cutover: (done) => {
    for (const [index, step] of done.steps.entries()) say(stepLine(index, step));
    if (done.writePauseMs !== null)
      say(
        `${done.to === 'green' ? 'switched' : 'rolled back'}; the proxy was paused for ${Math.round(done.writePauseMs)} ms`,
      );
  },
};

const stepLine = (index: number, step: CutoverReport['steps'][number]): string =>
  `  ${String(index + 1).padStart(2)} ${step.pastPointOfNoReturn ? '!' : ' '} ${step.name.padEnd(9)} ${step.outcome.padEnd(8)} ${step.ms === null ? '' : `${Math.round(step.ms)} ms`.padStart(8)}  ${step.detail === '' ? step.description : step.detail}`;

// Everything the demo has started is ended when its process ends.
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const) {
  process.once(signal, () => process.exit(code));
}

let result: DemoResult | null = null;
let failure: Error | null = null;
try {
  const { runDemo } = await engine.load();
  result = await runDemo({ ...size, ...(values.blue === undefined ? {} : { flavour: values.blue }), report });
} catch (error) {
  failure = error instanceof Error ? error : new Error(String(error));
}
if (result) process.stdout.write(`${tables(result)}\n`);
if (failure) process.stderr.write(`${live ? '\n' : ''}${failure.stack ?? failure.message}\n`);
if (values.json) process.stdout.write(`${JSON.stringify(envelope())}\n`);
process.exitCode = result?.ok === true ? 0 : 1;

function readOptions() {
  try {
    const { values: given } = parseArgs({
      options: {
        engine: { type: 'string', default: 'postgres' },
        blue: { type: 'string' },
        json: { type: 'boolean', default: false },
        scale: { type: 'string', default: '1' },
        after: { type: 'string', default: '6' },
        help: { type: 'boolean', default: false },
      },
    });
    if (given.help) {
      process.stdout.write(USAGE);
      process.exit(0);
    }
    return given;
  } catch (error) {
    return refuse((error as Error).message);
  }
}

function refuse(why: string): never {
  process.stderr.write(`${why}\n\n${USAGE}`);
  process.exit(2);
}

function positive(name: 'scale' | 'after'): number {
  const value = Number(values[name]);
  return value > 0 ? value : refuse(`--${name} needs a number above 0`);
}

function tables(done: DemoResult): string {
  const { data } = done;
  const facts = new Table({ style: { head: [], border: [], compact: true } });
  const fact = (name: string, value: string | number): void =>
    void facts.push([name, typeof value === 'number' ? value.toLocaleString('en') : value]);
  fact('blue → green', `${data.blue} → ${data.green}`);
  fact('rows on blue at the start', data.rows);
  fact(
    'transactions of the clients',
    `${data.clientTransactions.toLocaleString('en')}, ${done.transactionsOnGreen.toLocaleString('en')} of them on green`,
  );
  fact('failed', data.failedTransactions);
  fact('lost', data.lostTransactions);
  fact('duplicated', data.duplicatedTransactions);
  if (data.reconnects !== undefined) fact('connections opened anew', data.reconnects);
  fact('differences at the switch', data.differences);
  fact('longest wait of a client', `${data.writePauseMs} ms`);
  fact(
    'pause of the proxy',
    done.engineWritePauseMs === null ? 'none' : `${Math.round(done.engineWritePauseMs)} ms`,
  );
  fact('copy', `${data.copyRowsPerSecond.toLocaleString('en')} rows/s`);
  fact('active side', data.activeSide);
  const { rollback } = data;
  fact('rollback: transactions of the clients', done.clientTransactionsOfRollback);
  fact(
    'rollback: failed, lost, duplicated, differences',
    [
      rollback.failedTransactions,
      rollback.lostTransactions,
      rollback.duplicatedTransactions,
      rollback.differences,
    ].join(', '),
  );
  if (rollback.reconnects !== undefined) fact('rollback: connections opened anew', rollback.reconnects);
  fact('rollback: longest wait of a client', `${rollback.writePauseMs} ms`);
  fact('rollback: active side', rollback.activeSide);
  fact('seconds', data.seconds);
  const compared = new Table({
    head: ['table of green', 'rows', 'missing', 'extra'],
    style: { head: [], border: [], compact: true },
    colAligns: ['left', 'right', 'right', 'right'],
  });
  for (const { table, rows, missing, extra } of done.tables)
    compared.push([table, rows.toLocaleString('en'), missing, extra]);
  const notes = [
    ...done.failures.slice(0, 5).map(({ action, message }) => `failed ${action}: ${message}`),
    ...done.colliding.map((name) => `${name} would give a number that is in use`),
  ];
  const noticed =
    data.reconnects === undefined ? 'nobody noticed' : 'its clients had to connect anew, nothing more';
  const verdict = done.ok ? `The shop moved there and back, and ${noticed}.` : 'This run did not hold.';
  return [compared.toString(), facts.toString(), ...notes, verdict].join('\n');
}

function envelope(): object {
  const warnings = result?.colliding.map((name) => `${name} would give a number that is in use`) ?? [];
  const failed =
    failure ??
    (result?.ok === true
      ? null
      : new Error('the clients, the comparison or the sequences show a fault; see data'));
  return {
    apiVersion: 'verdigris/v1',
    kind: 'Demo',
    ok: result?.ok === true,
    data: result?.data ?? null,
    warnings,
    error:
      failed === null
        ? null
        : {
            code: 'INTERNAL',
            message: failed.message,
            hint: 'Run it again without --json and read the lines above the table.',
            docs: 'docs/errors.md#internal',
            retryable: false,
            context: {},
          },
    meta: { version: VERSION, at: new Date().toISOString(), migration: 'shop-demo' },
  };
}
