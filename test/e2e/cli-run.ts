import { spawn } from 'node:child_process';
import { parseEnvelope, type Envelope } from '../../src/app/envelope.ts';
import type { Workplace } from '../support/engine-process.ts';

const MAIN = new URL('../../src/cli/main.ts', import.meta.url).pathname;

export interface Run {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
  /** Every line of stdout, checked with the published schemas. Empty without --json. */
  readonly envelopes: readonly Envelope[];
}

/** Runs one command to its end, as a script runs it: without a terminal. */
export async function run(workplace: Workplace, ...argv: string[]): Promise<Run> {
  const child = spawn(process.execPath, [MAIN, ...argv], {
    cwd: workplace.dir,
    env: { ...process.env, XDG_STATE_HOME: workplace.dir },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (part: Buffer) => (out += part.toString()));
  child.stderr.on('data', (part: Buffer) => (err += part.toString()));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  const lines = argv.includes('--json') ? out.split('\n').filter((line) => line !== '') : [];
  return { code, out, err, envelopes: lines.map((line) => parseEnvelope(JSON.parse(line))) };
}
