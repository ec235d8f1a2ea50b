import { execFile, spawn } from 'node:child_process';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Ignored by git, kept between runs. */
const CACHE = new URL('../.cache/', import.meta.url).pathname;

const there = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** The libraries that every Debian has; a second copy of them would not fit the loader. */
const NEVER = /^(libc6|libgcc-s1|gcc-\d+-base|libcrypt1|debconf|.*-data|.*-common)$/;

/** Downloads packages, and what `libraries` depend on, and unpacks them into the cache; nothing is installed. */
async function unpack(
  name: string,
  packages: readonly string[],
  libraries: readonly string[],
): Promise<string> {
  const target = join(CACHE, name);
  if (await there(target)) return target;
  const draft = join(CACHE, `${name}.${process.pid}`);
  const debs = join(draft, 'debs');
  await mkdir(debs, { recursive: true });
  try {
    const find = async (): Promise<string[]> => {
      const { stdout } = await run('apt-cache', [
        ...['depends', '--recurse', '--no-recommends', '--no-suggests', '--no-conflicts', '--no-breaks'],
        ...['--no-replaces', '--no-enhances', ...libraries],
      ]);
      const needed = stdout.split('\n').filter((line) => /^[a-z0-9]/.test(line) && !NEVER.test(line));
      return [...new Set([...packages, ...needed])];
    };
    const download = async (): Promise<void> => {
      await run('apt-get', ['download', ...(await find())], { cwd: debs, maxBuffer: 2 ** 24 });
    };
    // The lists may be missing or old on a fresh machine.
    await download().catch(async () => {
      await run('apt-get', ['update']);
      await download();
    });
    for (const file of await readdir(debs)) await run('dpkg', ['-x', join(debs, file), draft]);
    await rm(debs, { recursive: true });
    await rename(draft, target);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    if (!(await there(target))) throw error;
  }
  return target;
}

/** A program and the environment it needs. */
export interface Program {
  readonly file: string;
  readonly env: NodeJS.ProcessEnv;
}

export async function pgbench(): Promise<Program> {
  const root = await unpack('postgresql-client', ['postgresql-15', 'postgresql-client-15'], ['libpq5']);
  const file = join(root, 'usr/lib/postgresql/15/bin/pgbench');
  if (!(await there(file))) throw new Error(`pgbench is not at ${file}; remove ${root} and try again`);
  const lib = join(root, 'usr/lib/x86_64-linux-gnu');
  return { file, env: { ...process.env, LD_LIBRARY_PATH: lib } };
}

/** Runs a program to its end and returns what it printed. @throws Error with that text */
export function runProgram(program: Program, args: readonly string[], cwd?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program.file, args, { env: program.env, cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()));
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) resolve(text);
      else reject(new Error(`${program.file} ended with ${code ?? signal}:\n${text.slice(-3000)}`));
    });
  });
}

/** Not in every suite; @throws Error where apt does not know it */
export async function pgcopydb(): Promise<Program> {
  const root = await unpack('pgcopydb', ['pgcopydb', 'postgresql-client-15'], ['libpq5', 'pgcopydb']);
  const file = join(root, 'usr/bin/pgcopydb');
  if (!(await there(file))) throw new Error('apt has no pgcopydb');
  const bin = join(root, 'usr/lib/postgresql/15/bin');
  return {
    file,
    env: {
      ...process.env,
      PATH: `${bin}:${process.env['PATH'] ?? ''}`,
      LD_LIBRARY_PATH: join(root, 'usr/lib/x86_64-linux-gnu'),
    },
  };
}
