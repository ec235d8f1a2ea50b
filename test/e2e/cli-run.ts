import { join } from 'node:path';
import type { Workplace } from '../support/engine-process.ts';
import { cli, type CliRun } from '../unit/cli/run.ts';

/** Names of files in the workplace, for arguments. */
export const inPlace = (workplace: Workplace, name: string): string => join(workplace.dir, name);

/**
 * Runs one command to its end as a script does, without a terminal, but in this process: only what serves an engine needs
 * one of its own. Envelopes are checked with the published schemas.
 */
export function run(workplace: Workplace, ...argv: string[]): Promise<CliRun> {
  const config = argv.includes('-c') ? [] : ['-c', workplace.file];
  return cli([...argv, ...config], {
    env: { PATH: process.env['PATH'] ?? '', XDG_STATE_HOME: workplace.dir },
  });
}
