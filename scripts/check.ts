/** Everything that needs no server, in under a minute: format, lint, types, the import rule and the unit tests. Prints what failed. */
import { existsSync } from 'node:fs';

import { run, ROOT } from './child.ts';

const FOLDERS = ['src', 'test', 'bench', 'scripts'].filter((folder) => existsSync(ROOT + folder));
const FILES = ['vitest.config.ts', '.oxlintrc.json'];

const steps: readonly (readonly [string, string, readonly string[]])[] = [
  ['format', 'oxfmt', ['--check', ...FOLDERS, ...FILES]],
  ['lint', 'oxlint', ['--type-aware', ...FOLDERS, 'vitest.config.ts']],
  ['types', 'tsc', ['--noEmit']],
  ['import rule and unit tests', 'vitest', ['run', '--project', 'unit', '--reporter=dot']],
];

const failed: string[] = [];
for (const [what, program, args] of steps) {
  const started = performance.now();
  const { code, output } = await run(program, args, { capture: true });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`${code === 0 ? 'ok    ' : 'FAILED'} ${what} (${seconds} s)`);
  if (code !== 0) {
    failed.push(what);
    console.log(output.trimEnd());
  }
}
if (failed.length > 0) console.log(`failed: ${failed.join(', ')}`);
process.exitCode = failed.length === 0 ? 0 : 1;
