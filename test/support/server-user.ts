import { spawn } from 'node:child_process';
import { cp, mkdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, parse } from 'node:path';

import { runDir } from './run-dir.ts';

/** `nobody`: PostgreSQL refuses to run as root, and a test run makes no accounts. */
const NOBODY = 65_534;

/** The user a server runs as: this process's own, or `nobody` when this process is root. */
export function serverUser(): { uid?: number; gid?: number } {
  return process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
}

/** Whether `nobody` may pass every folder down to `path`. */
async function isReachable(path: string): Promise<boolean> {
  if (serverUser().uid === undefined) return true;
  const root = parse(path).root;
  for (let at = path; at !== root; at = dirname(at)) {
    const { mode } = await stat(at);
    if ((mode & 0o001) === 0) return false;
  }
  return true;
}

/**
 * A path of `folder` that the server user can execute from: the folder itself, or a copy of it in the run's folder when the checkout
 * lies below a folder that only root may pass (/root is 0700 on Debian).
 */
export async function reachableCopy(folder: string, name: string): Promise<string> {
  if (await isReachable(folder)) return folder;
  const target = join(runDir(), name);
  if (await exists(target)) return target;
  // Several workers may copy at once: each into a folder of its own, and the first to rename wins.
  const draft = `${target}.${process.pid}`;
  await mkdir(dirname(draft), { recursive: true });
  await cp(folder, draft, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
  await renameOrDrop(draft, target);
  return target;
}

/** Moves a finished draft to its place; when another process was first, its result stands and the draft goes. */
export async function renameOrDrop(draft: string, target: string): Promise<void> {
  try {
    await rename(draft, target);
  } catch (error) {
    if (!(await exists(target))) throw error;
    await rm(draft, { recursive: true, force: true });
  }
}

export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** Runs a program to its end as the server user and returns what it printed; throws with that output when it fails. */
export function runAsServerUser(program: string, args: readonly string[], cwd: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...serverUser(), cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) resolve(output);
      else reject(new Error(`${basename(program)} ended with ${code ?? signal}:\n${output}`));
    });
  });
}
