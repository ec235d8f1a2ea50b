import { parseEnvelope, type Envelope } from '../../../src/app/envelope.ts';
import { runCli } from '../../../src/cli/program.ts';

export interface CliRun {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  /** One per line of stdout, checked with the published schemas. Empty without --json. */
  readonly envelopes: readonly Envelope[];
}

/** Runs a command line in this process, as it is run without a terminal. */
export async function cli(
  argv: readonly string[],
  options: { env?: Record<string, string>; answer?: string } = {},
): Promise<CliRun> {
  const out: string[] = [];
  const err: string[] = [];
  const { answer } = options;
  const code = await runCli(argv, {
    out: (text) => out.push(text),
    err: (text) => err.push(text),
    live: false,
    color: false,
    ask: answer === undefined ? null : () => Promise.resolve(answer),
    env: options.env ?? {},
  });
  const text = out.join('');
  const envelopes = argv.includes('--json')
    ? text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => parseEnvelope(JSON.parse(line)))
    : [];
  return { code, out: text, err: err.join(''), envelopes };
}
