import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { locked } from '../../support/lock-file.ts';
import { allCases, caseId, DIRECTIONS, FAULTS, type Fault, type KillCase } from './cases.ts';
import { FRONTS, type FrontName } from './front.ts';
import type { Observed } from './run-case.ts';

const RESULTS = fileURLToPath(new URL('./results.json', import.meta.url));
export const DOCUMENT = fileURLToPath(new URL('../../../docs/kill-matrix.md', import.meta.url));

/** What was seen the last time a case ran. */
export type Result = { readonly on: string } & (
  | { readonly seen: Observed; readonly failure: null }
  | { readonly seen: null; readonly failure: string }
);
export type Results = Readonly<Record<string, Result>>;

export async function readResults(): Promise<Results> {
  return JSON.parse(await readFile(RESULTS, 'utf8').catch(() => '{}')) as Results;
}

/** Adds what a run saw, forgets cases that are no more, and writes the document anew. Runs of several proxies may go on side by side. */
export function keepResults(news: Results): Promise<void> {
  return locked(`${RESULTS}.lock`, async () => {
    const all = { ...(await readResults()), ...news };
    const kept = allCases(FRONTS)
      .map(caseId)
      .flatMap((id) => (all[id] === undefined ? [] : [[id, all[id]] as const]));
    const results = Object.fromEntries(kept);
    await writeFile(RESULTS, `${JSON.stringify(results, null, 2)}\n`);
    await writeFile(DOCUMENT, render(results));
  });
}

const TITLES: Readonly<Record<FrontName, string>> = {
  pgbouncer: 'PgBouncer',
  haproxy: 'HAProxy',
  template: 'Template (nginx)',
};
const FAULT_TITLES: Readonly<Record<Fault, string>> = {
  kill: 'engine killed',
  freeze: 'engine frozen 60 s',
  'kill-blue': 'blue crashes',
  'kill-green': 'green crashes',
  'kill-proxy': 'proxy killed',
  'cut-blue': 'network to blue cut',
  'cut-green': 'network to green cut',
  'cut-proxy': 'network to the proxy cut',
};

/** The document, from the results alone. */
export function render(results: Results): string {
  const cases = allCases(FRONTS);
  const ran = cases.filter((one) => results[caseId(one)] !== undefined);
  const good = ran.filter((one) => isGood(results[caseId(one)]));
  const lines = [
    '# Kill matrix',
    '',
    '<!-- Generated from test/chaos/kill/results.json by `npm run test:long -- test/chaos/kill-matrix.long.test.ts`. Do not edit. -->',
    '',
    'What becomes of a switch, and of a rollback, when something is lost in the middle of it, as it was seen: PostgreSQL 16 and 18, three clients behind the proxy',
    'and one past it at each side, all of which keep a ledger. The fault happens at the named place; a server or proxy that was killed, and a',
    'network that was cut, come back when the engine has come to something; an engine that was lost is started again.',
    '',
    'A cell names the side that serves in the end and the time from the fault to the next transaction that a client of the proxy got',
    'acknowledged. *next start*: the clients waited for the engine to be started again. *undetermined*: the engine said so, with what to do,',
    'and that was done. *errors*: what clients of the proxy saw; they connect again and go on. In every cell without another word nothing',
    'acknowledged was lost or applied twice, and the times at which blue and green took writes do not overlap.',
    '',
    `${cases.length} cases: ${good.length} held, ${ran.length - good.length} did not, ${cases.length - ran.length} not run.`,
  ];
  for (const front of FRONTS) {
    for (const direction of DIRECTIONS) {
      const own = cases.filter((one) => one.front === front && one.direction === direction);
      lines.push('', `## ${TITLES[front]}, ${direction}`, ...killed(own, results), ...others(own, results));
    }
  }
  return `${lines.join('\n')}\n`;
}

function killed(all: readonly KillCase[], results: Results): string[] {
  const cases = all.filter(({ fault }) => fault === 'kill');
  return [
    '',
    '| engine killed at | ended on |',
    '|---|---|',
    ...cases.map((one) => `| \`${one.point}\` | ${cell(results[caseId(one)])} |`),
  ];
}

function others(all: readonly KillCase[], results: Results): string[] {
  const cases = all.filter(({ fault }) => fault !== 'kill');
  const faults = FAULTS.filter((fault) => cases.some((one) => one.fault === fault));
  const points = [...new Set(cases.map(({ point }) => point))];
  const row = (point: string): string => {
    const cells = faults.map((fault) => {
      const one = cases.find((other): other is KillCase => other.fault === fault && other.point === point);
      return one === undefined ? '' : cell(results[caseId(one)]);
    });
    return `| \`${point}\` | ${cells.join(' | ')} |`;
  };
  return [
    '',
    `| at | ${faults.map((fault) => FAULT_TITLES[fault]).join(' | ')} |`,
    `|${'---|'.repeat(faults.length + 1)}`,
    ...points.map(row),
  ];
}

/** What must hold in every cell. */
export function isGood(result: Result | undefined): boolean {
  const seen = result?.seen;
  if (seen === undefined || seen === null) return false;
  const { lost, duplicated, unknown, overlaps } = seen;
  return [lost, duplicated, unknown, overlaps].every((count) => count === 0);
}

function cell(result: Result | undefined): string {
  if (result === undefined) return 'not run';
  if (result.seen === null) return `**failed**: ${result.failure.replaceAll(/[|\n]/g, ' ').slice(0, 160)}`;
  const { seen } = result;
  const words = [`${seen.ended}, ${(seen.clientsMs / 1_000).toFixed(1)} s`];
  if (seen.by === 'next start') words.push('next start');
  if (seen.outcome === 'undetermined') words.push('undetermined');
  if (seen.clientErrors > 0) words.push('errors');
  if (!isGood(result))
    words.push(
      `**lost ${seen.lost}, duplicated ${seen.duplicated}, unknown ${seen.unknown}, overlaps ${seen.overlaps}**`,
    );
  return words.join(', ');
}
