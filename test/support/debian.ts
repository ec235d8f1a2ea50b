import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { locked } from './lock-file.ts';
import { exists, reachableCopy, renameOrDrop } from './server-user.ts';

const run = promisify(execFile);

/** Ignored by git, kept between runs. */
export const CACHE = fileURLToPath(new URL('../../.cache/debian/', import.meta.url));

export interface DebianProgramOptions {
  /** Packages that hold the program and its modules. What they depend on and this machine lacks comes with them. */
  readonly packages: readonly string[];
  /** Path of the program inside them: `usr/sbin/haproxy`. */
  readonly program: string;
}

export interface DebianProgram {
  /** The unpacked packages, where the server user can read them. */
  readonly root: string;
  readonly file: string;
  /** Folders for LD_LIBRARY_PATH. */
  readonly libraryPath: string;
  /** What to run, with `/usr/bin/env` in front that sets the library path and then becomes the program: same process id. */
  readonly command: readonly [string, ...string[]];
}

/**
 * A program of Debian that is not installed (an install starts daemons): its packages are downloaded once, which apt checks against the
 * signed lists, and unpacked into the cache folder.
 */
export async function debianProgram({ packages, program }: DebianProgramOptions): Promise<DebianProgram> {
  const name = `${await release()}-${basename(program)}`;
  const folder = join(CACHE, name);
  if (!(await exists(join(folder, program)))) {
    await mkdir(CACHE, { recursive: true });
    await locked(join(CACHE, `.${name}.lock`), async () => {
      if (!(await exists(folder))) await unpack(folder, packages);
    });
    if (!(await exists(join(folder, program)))) {
      throw new Error(
        `${packages.join(', ')} hold no ${program}; remove ${folder} and name the right package`,
      );
    }
  }
  const root = await reachableCopy(folder, `debian-${name}`);
  const file = join(root, program);
  const libraryPath = await libraries(root);
  return { root, file, libraryPath, command: ['/usr/bin/env', `LD_LIBRARY_PATH=${libraryPath}`, file] };
}

/**
 * The same, or why it cannot be had here, for the title of a skipped test. With CI=true there is no such reason: it throws.
 */
export async function debianProgramOrReason(
  options: DebianProgramOptions,
): Promise<{ readonly program: DebianProgram } | { readonly reason: string }> {
  try {
    return { program: await debianProgram(options) };
  } catch (error) {
    if (process.env['CI'] === 'true') throw error;
    const reason = `${basename(options.program)} cannot be had: ${firstLine(error)}`;
    console.warn(`skipped, ${reason}`);
    return { reason };
  }
}

async function unpack(folder: string, packages: readonly string[]): Promise<void> {
  const draft = `${folder}.${process.pid}`;
  const debs = join(draft, 'debs');
  await mkdir(debs, { recursive: true });
  try {
    await download(debs, packages).catch(async (error: unknown) => {
      // No lists (a fresh machine), or so old that the mirror has dropped what they name.
      if (process.getuid?.() !== 0) {
        throw new Error(
          `apt-get download failed, and only root may run apt-get update: ${firstLine(error)}`,
          {
            cause: error,
          },
        );
      }
      await locked(join(CACHE, '.apt.lock'), () => run('apt-get', ['update']));
      await download(debs, packages);
    });
    for (const deb of await readdir(debs)) {
      await run('dpkg', ['--info', join(debs, deb)]);
      await run('dpkg', ['-x', join(debs, deb), draft]);
    }
    await rm(debs, { recursive: true });
    await renameOrDrop(draft, folder);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw error;
  }
}

/** The packages, and those they need that are not installed: a second copy of an installed library would not fit the loader. */
async function download(debs: string, packages: readonly string[]): Promise<void> {
  const { stdout } = await run('apt-get', ['--simulate', '--no-install-recommends', 'install', ...packages]);
  const missing = [...stdout.matchAll(/^Inst (\S+)/gm)].map((match) => match[1] as string);
  await run('apt-get', ['download', ...new Set([...packages, ...missing])], { cwd: debs });
}

async function libraries(root: string): Promise<string> {
  const folders: string[] = [];
  for (const base of ['usr/lib', 'lib']) {
    const inside = await readdir(join(root, base), { withFileTypes: true }).catch(() => []);
    for (const entry of inside) {
      if (entry.isDirectory() && entry.name.includes('-linux-gnu'))
        folders.push(join(root, base, entry.name));
    }
  }
  return folders.join(':');
}

/** Name of the release: what was unpacked for one does not run on another. */
async function release(): Promise<string> {
  const text = await readFile('/etc/os-release', 'utf8').catch(() => '');
  return /^VERSION_CODENAME=(\w+)/m.exec(text)?.[1] ?? 'unknown';
}

export const firstLine = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).split('\n').filter(Boolean).slice(0, 2).join(' ');
