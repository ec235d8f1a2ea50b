/**
 * Runs the tests and closes with one line, `N passed, N failed, N skipped`, taken from vitest's own report.
 *
 *   node scripts/test.ts [--long] [vitest's arguments: files, -t name, --project unit …]
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { run } from './child.ts';

interface Report {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  testResults: { status: string; assertionResults: unknown[] }[];
}

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

const long = process.argv.includes('--long');
const passedOn = process.argv.slice(2).filter((argument) => argument !== '--long');
const dir = mkdtempSync(join(tmpdir(), 'verdigris-report-'));
const file = join(dir, 'report.json');

const { code } = await run(
  'vitest',
  ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${file}`, ...passedOn],
  { env: long ? { VERDIGRIS_TEST_LONG: '1' } : {} },
);
const counts = readCounts(file);
rmSync(dir, { recursive: true, force: true });
if (code !== 0 && counts.failed === 0) {
  // Something outside the tests failed (a server left behind, a worker that died, no test found): the line must not look green.
  console.log('The run failed outside its tests; see above.');
  counts.failed = 1;
}
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = code === 0 && counts.failed > 0 ? 1 : code;

function readCounts(path: string): Counts {
  let report: Report;
  try {
    report = JSON.parse(readFileSync(path, 'utf8')) as Report;
  } catch {
    return { passed: 0, failed: 0, skipped: 0 };
  }
  // A file that cannot even be loaded has no tests to count, and is a failure.
  const unloaded = report.testResults.filter(
    (one) => one.status === 'failed' && one.assertionResults.length === 0,
  );
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + unloaded.length,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}
