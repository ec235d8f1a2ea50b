/** Stops a release whose changelog has not been given its version. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { ROOT } from './child.ts';

if (/^#+\s*Pending\b/im.test(readFileSync(join(ROOT, 'CHANGELOG.md'), 'utf8'))) {
  console.error('CHANGELOG.md still has a Pending heading: give it the version and the date first.');
  process.exitCode = 1;
}
