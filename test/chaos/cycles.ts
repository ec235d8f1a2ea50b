import { expect } from 'vitest';
import { createEngine, type CutoverReport, type VerdigrisEngine } from '../../src/app/engine.ts';
import { loadConfig } from '../../src/app/load.ts';
import { NO_FAILPOINTS } from '../../src/core/failpoint.ts';
import { SILENT } from '../../src/core/log.ts';
import { proxy } from '../../src/proxies/pgbouncer/index.ts';
import { waitFor } from '../support/wait.ts';
import { Rig } from './deadman-rig.ts';

const CLIENTS = 16;
/** Holding and letting go by hand, as often. */
const BARE = 20;
// PgBouncer's pool has filled again by then: a PAUSE that meets a login makes clients fail, whoever gives it.
const SETTLED = 12 * CLIENTS;
const OVERRIDES = (['lag-stable', 'verified'] as const).map((gate) => ({ gate, reason: 'test' }));

export interface CyclesReport {
  readonly cycles: number;
  readonly transactions: number;
  /** The longest wait of a client in each switch and rollback, ms. */
  readonly pause: { readonly p50: number; readonly p99: number; readonly max: number };
  /** Median of what each step took while clients waited, ms; `between`: of the pause outside its steps. */
  readonly steps: Readonly<Record<string, number>>;
  /** The same with nothing but PAUSE, RELOAD and RESUME. */
  readonly bare: { readonly p50: number; readonly p99: number; readonly max: number };
}

/** Switches and goes back again and again while 16 clients write, and looks for every transaction that was acknowledged. */
export async function cycle(cycles: number): Promise<CyclesReport> {
  await using rig = await Rig.create({
    clients: CLIENTS,
    ledger: true,
    settings: 'verify: { after_copy: "off" }\napply: { heartbeat: 200ms }',
  });
  await using engine = createEngine(await loadConfig(rig.place.file));
  await engine.start();
  const { hash } = await engine.plan();
  const bare = await bareWaits(rig);
  expect(rig.writers.failures, 'by hand').toEqual([]);
  const pauses: number[] = [];
  const reports: CutoverReport[] = [];
  for (let turn = 0; turn < 2 * cycles; turn += 1) {
    const act = turn % 2 === 0 ? 'cutover' : 'rollback';
    await rig.writers.more(SETTLED);
    await ready(engine, act === 'cutover' ? 'replicating' : 'reversing');
    const from = performance.now();
    const report = await engine[act]({ planHash: hash, confirm: engine.name, overrides: OVERRIDES });
    expect(report, `turn ${turn}`).toMatchObject({ outcome: 'switched', error: null });
    await rig.writers.more(CLIENTS);
    pauses.push(longest(rig, from));
    reports.push(report);
    expect(rig.writers.failures, `turn ${turn}`).toEqual([]);
  }
  await rig.writers[Symbol.asyncDispose]();
  expect(rig.writers.failures).toEqual([]);
  const acknowledged = [...rig.writers.acknowledged.keys()].toSorted((a, b) => a - b);
  const ids = [...(await rig.ids(rig.blue))].toSorted((a, b) => a - b);
  expect(ids, 'every acknowledged transaction is on blue, and nothing else').toEqual(acknowledged);
  const twice = [...(await rig.ledger(rig.blue))].filter(([, n]) => n !== 1);
  expect(twice, 'applied twice').toEqual([]);
  // Green follows to the end and has them all, once.
  await waitFor(async () => (await rig.ids(rig.green)).size === ids.length, { what: 'green to follow' });
  expect([...(await rig.ledger(rig.green))].filter(([, n]) => n !== 1)).toEqual([]);
  return {
    cycles,
    transactions: acknowledged.length,
    pause: spread(pauses),
    steps: stepsOf(reports),
    bare: spread(bare),
  };
}

function stepsOf(reports: readonly CutoverReport[]): Record<string, number> {
  const first = reports[0]?.steps ?? [];
  const held = first.slice(
    first.findIndex(({ name }) => name === 'pause'),
    first.findIndex(({ name }) => name === 'smoke'),
  );
  const median = (of: (report: CutoverReport) => number): number => spread(reports.map(of)).p50;
  const ms = ({ steps }: CutoverReport, step: string): number =>
    steps.find(({ name }) => name === step)?.ms ?? 0;
  const between = (report: CutoverReport): number =>
    held.reduce((rest, { name }) => rest - ms(report, name), report.writePauseMs ?? 0);
  return {
    ...Object.fromEntries(held.map(({ name }) => [name, median((report) => ms(report, name))])),
    between: median(between),
  };
}

async function ready(engine: VerdigrisEngine, phase: 'replicating' | 'reversing'): Promise<void> {
  let shut: readonly string[] = [];
  await waitFor(
    async () => {
      const status = await engine.status();
      shut = status.gates
        .filter(({ name, ok }) => !ok && OVERRIDES.every(({ gate }) => gate !== name))
        .map(({ name, reason }) => `${name}: ${reason}`);
      return status.phase === phase && status.gates.length > 0 && shut.length === 0;
    },
    { what: `the gates of ${phase}`, timeoutMs: 60_000, everyMs: 50 },
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}; shut: ${shut.join('; ')}`, { cause: error });
  });
}

const longest = (rig: Rig, from: number): number =>
  Math.max(0, ...rig.writers.waits.filter(({ endedAt }) => endedAt >= from).map(({ ms }) => ms));

/** What a client waits for at least: PgBouncer holds it, reads its file again, and lets it go, by the same adapter. */
async function bareWaits(rig: Rig): Promise<number[]> {
  const parsed = proxy.parseConfig(rig.proxyConfig);
  if ('issues' in parsed) throw new Error(JSON.stringify(parsed.issues));
  await using adapter = proxy.create(parsed.config, { log: SILENT, failpoints: NO_FAILPOINTS });
  const waits: number[] = [];
  for (let time = 0; time < BARE; time += 1) {
    const { signal } = new AbortController();
    await rig.writers.more(SETTLED);
    const from = performance.now();
    await adapter.pause(signal);
    await adapter.route('blue', 0, signal);
    await adapter.resume(signal);
    await rig.writers.more(CLIENTS);
    waits.push(longest(rig, from));
  }
  return waits;
}

function spread(values: readonly number[]): { p50: number; p99: number; max: number } {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0);
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}
