import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { inPairs } from '../src/bench/pairs.ts';
import { describe, report, result } from '../src/bench/report.ts';
import '../test/support/compile-cache.ts';
import { machine } from './machine.ts';
import type { Contender, Profile } from './profile.ts';

const PROFILES = new URL('./profiles/', import.meta.url).pathname;
const RESULTS = new URL('./results/', import.meta.url).pathname;
const FORMATTER = new URL('../node_modules/.bin/oxfmt', import.meta.url).pathname;

const HELP = `npm run bench -- --profile NAME [--repeat N] [--scale X] [--json] [--save] [--only verdigris|peer] [--cpu-prof DIR]

  --profile  one of the profiles below
  --repeat   alternating pairs, default 5
  --scale    multiplies the size of the backlog, default 1
  --json     ends with one line: the envelope of kind Bench
  --save     writes the figures to bench/results
  --only     one contender alone; no ratio
  --cpu-prof writes a CPU profile of every run of ours into that folder
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      profile: { type: 'string' },
      repeat: { type: 'string', default: '5' },
      scale: { type: 'string', default: '1' },
      json: { type: 'boolean', default: false },
      save: { type: 'boolean', default: false },
      only: { type: 'string' },
      'cpu-prof': { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  const names = (await readdir(PROFILES))
    .filter((file) => file.endsWith('.ts'))
    .map((file) => file.slice(0, -3));
  if (values.help || values.profile === undefined || !names.includes(values.profile)) {
    process.stderr.write(`${HELP}\nProfiles: ${names.join(', ')}\n`);
    return values.help ? 0 : 2;
  }
  const repeat = Number(values.repeat);
  const scale = Number(values.scale);
  if (!Number.isInteger(repeat) || repeat < 1 || !(scale > 0)) {
    process.stderr.write(HELP);
    return 2;
  }
  const say = (text: string): void => void process.stderr.write(`${text}\n`);
  const { default: profile } = (await import(join(PROFILES, `${values.profile}.ts`))) as { default: Profile };
  say(`${profile.name}: ${profile.what}`);
  await using prepared = await profile.prepare({ scale, say, cpuProfile: values['cpu-prof'] ?? null });
  const { facts } = prepared;
  say(describe(facts));
  const all: Contender[] = [prepared.verdigris, ...prepared.peers].filter(
    (_, index) => values.only === undefined || (values.only === 'verdigris') === (index === 0),
  );
  const series = await inPairs(all, { repeat, say });
  const by = profile.by ?? 'seconds';
  process.stdout.write(`${report(series, facts, by)}\n`);
  if (series.length < 2) return 0;
  for (const note of prepared.notes) say(`note: ${note}`);
  const data = {
    profile: profile.name,
    scale,
    ...facts,
    ...result(series, facts, by),
    notes: prepared.notes,
    machine: machine(),
  };
  const at = new Date().toISOString();
  const last = await previous(profile.name);
  if (last !== null) {
    process.stdout.write(
      `last recorded: ratio ${last.ratio} at ${last.at} (${last.machine.cores} cores, ${last.machine.commit})\n`,
    );
  }
  if (values.save) {
    await mkdir(RESULTS, { recursive: true });
    const file = join(RESULTS, `${profile.name}.json`);
    await writeFile(file, `${JSON.stringify({ at, ...data }, null, 2)}\n`);
    // As the check of the repository wants it.
    await promisify(execFile)(FORMATTER, [file]);
  }
  if (values.json) {
    const { version } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8')) as {
      version: string;
    };
    const meta = { version, at, migration: null };
    const envelope = {
      apiVersion: 'verdigris/v1',
      kind: 'Bench',
      ok: true,
      data,
      warnings: [],
      error: null,
      meta,
    };
    process.stdout.write(`${JSON.stringify(envelope)}\n`);
  }
  return 0;
}

/** What was recorded last for a profile, or null. */
async function previous(
  name: string,
): Promise<{ at: string; ratio: number; machine: { cores: number; commit: string } } | null> {
  try {
    return JSON.parse(await readFile(join(RESULTS, `${name}.json`), 'utf8')) as never;
  } catch {
    return null;
  }
}

process.exitCode = await main();
