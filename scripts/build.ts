/** Builds the package into dist: JavaScript and declarations by tsc, and beside them the files of src that are served as they are. */
import { cpSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { run, ROOT } from './child.ts';

rmSync(join(ROOT, 'dist'), { recursive: true, force: true });
const { code } = await run('tsc', ['-p', 'tsconfig.build.json']);
const assets = readdirSync(join(ROOT, 'src'), { recursive: true, withFileTypes: true }).filter(
  (entry) => entry.isFile() && !/\.(?:ts|md)$/.test(entry.name),
);
for (const asset of assets) {
  const path = join(asset.parentPath, asset.name);
  cpSync(path, join(ROOT, 'dist', path.slice(ROOT.length)));
}
process.exitCode = code;
