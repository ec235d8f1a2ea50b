import { execFile } from 'node:child_process';
import { mkdir, readdir, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, isAbsolute, join, relative } from 'node:path';
import { promisify } from 'node:util';

import { CACHE, firstLine } from './debian.ts';
import { locked } from './lock-file.ts';
import { exists, reachableCopy, renameOrDrop } from './server-user.ts';

const run = promisify(execFile);

export interface SuiteProgramOptions {
  /** A suite of Debian that this machine is not of: `sid`. */
  readonly suite: string;
  readonly packages: readonly string[];
  /** Path of the program inside them: `usr/sbin/mysqld`. */
  readonly program: string;
}

export interface SuiteProgram {
  /** The unpacked packages with everything they need, the C library included. */
  readonly root: string;
  /** What to run: the loader of that suite, its libraries, and the program. Other programs of the packages: {@link suiteCommand}. */
  readonly command: readonly [string, ...string[]];
}

/**
 * A program of another suite of Debian. Its packages come with all their libraries and are started through their own loader, so
 * nothing of this machine's is mixed in. apt keeps lists of its own below the cache folder and checks them against Debian's keys;
 * what is unpacked once stays, since the suite moves.
 */
export async function suiteProgram({ suite, packages, program }: SuiteProgramOptions): Promise<SuiteProgram> {
  const name = `${suite}-${basename(program)}`;
  const folder = join(CACHE, name);
  if (!(await exists(join(folder, program)))) {
    await mkdir(CACHE, { recursive: true });
    await locked(join(CACHE, `.${name}.lock`), async () => {
      if (!(await exists(folder))) await unpack(folder, suite, packages);
    });
    if (!(await exists(join(folder, program))))
      throw new Error(`${packages.join(', ')} of ${suite} hold no ${program}; remove ${folder}`);
  }
  const root = await reachableCopy(folder, `debian-${name}`);
  return { root, command: suiteCommand(root, program) };
}

/** How a program of an unpacked suite is started. */
export function suiteCommand(root: string, program: string): readonly [string, ...string[]] {
  const libraries = ['usr/lib/x86_64-linux-gnu', 'usr/lib/mysql/private']
    .map((one) => join(root, one))
    .join(':');
  return [
    join(root, 'usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2'),
    '--library-path',
    libraries,
    join(root, program),
  ];
}

async function unpack(folder: string, suite: string, packages: readonly string[]): Promise<void> {
  const draft = `${folder}.${process.pid}`;
  const apt = join(draft, 'apt');
  try {
    for (const part of ['lists/partial', 'cache/archives/partial', 'parts', 'debs'])
      await mkdir(join(apt, part), { recursive: true });
    await writeFile(join(apt, 'status'), '');
    const key = '/usr/share/keyrings/debian-archive-keyring.gpg';
    const signed = (await exists(key)) ? `[signed-by=${key}] ` : '';
    await writeFile(join(apt, 'sources.list'), `deb ${signed}${await mirror()} ${suite} main\n`);
    const options = [
      `Dir::Etc::sourcelist=${join(apt, 'sources.list')}`,
      `Dir::Etc::sourceparts=${join(apt, 'parts')}`,
      `Dir::Etc::preferencesparts=${join(apt, 'parts')}`,
      `Dir::State::lists=${join(apt, 'lists')}`,
      `Dir::State::status=${join(apt, 'status')}`,
      `Dir::Cache=${join(apt, 'cache')}`,
      ...(process.getuid?.() === 0 ? ['APT::Sandbox::User=root'] : []),
    ].flatMap((option) => ['-o', option]);
    await run('apt-get', [...options, 'update']);
    // Against an empty list of installed packages: everything comes, down to the C library and its loader.
    const simulated = await run(
      'apt-get',
      [...options, '--simulate', '--no-install-recommends', 'install', ...packages],
      { maxBuffer: 16 << 20 },
    );
    const all = [...simulated.stdout.matchAll(/^Inst (\S+)/gm)].map((match) => match[1] as string);
    const wanted = all.filter((name) => !/^(perl|libperl)/.test(name));
    await run('apt-get', [...options, 'download', ...new Set(wanted)], { cwd: join(apt, 'debs') });
    for (const deb of await readdir(join(apt, 'debs'))) {
      await run('dpkg', ['--info', join(apt, 'debs', deb)], { maxBuffer: 16 << 20 });
      await run('dpkg', ['-x', join(apt, 'debs', deb), draft]);
    }
    await rm(apt, { recursive: true, force: true });
    await relink(join(draft, 'usr/lib/x86_64-linux-gnu'), draft);
    await renameOrDrop(draft, folder);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw new Error(`${packages.join(', ')} of ${suite} could not be fetched: ${firstLine(error)}`, {
      cause: error,
    });
  }
}

/** Where this machine's own packages come from; apt knows. */
async function mirror(): Promise<string> {
  const { stdout } = await run('apt-get', [
    'indextargets',
    '--format',
    '$(REPO_URI) $(RELEASE)',
    'Created-By: Packages',
  ]);
  const lines = stdout.split('\n').filter((line) => line !== '' && !/security|updates|backports/.test(line));
  const uri = lines[0]?.split(' ')[0];
  if (uri === undefined) throw new Error('apt knows no source of packages; run apt-get update as root');
  return uri;
}

/** Absolute links point into this machine; they are turned into the unpacked tree. */
async function relink(folder: string, root: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (!entry.isSymbolicLink()) continue;
    const path = join(folder, entry.name);
    const target = await readlink(path);
    if (!isAbsolute(target)) continue;
    await rm(path);
    await symlink(relative(folder, join(root, target)), path);
  }
}
