import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { chmod, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { atProcessEnd } from './process-end.ts';

/** Set by whoever owns the run (vitest's global setup), so that every worker shares one folder. */
export const RUN_DIR_VARIABLE = 'VERDIGRIS_TEST_RUN_DIR';

let own: string | undefined;

/**
 * The folder that holds everything of this run: server data, templates, the ledger of started processes. Outside a vitest run (demo,
 * bench, a script) the process makes its own and removes it at its end. Mode 0711: the server user must be able to pass it.
 */
export function runDir(): string {
  const given = process.env[RUN_DIR_VARIABLE];
  if (given !== undefined && given !== '') return given;
  own ??= createRunDir();
  return own;
}

/** Makes the folder of a run; it goes when this process ends. */
export function createRunDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'verdigris-test-'));
  mkdirSync(join(dir, 'ledger'), { recursive: true });
  chmodSync(dir, 0o711);
  atProcessEnd(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** A new empty folder of the run. */
export async function newDir(name: string): Promise<string> {
  const dir = await mkdtemp(join(runDir(), `${name}-`));
  await chmod(dir, 0o711);
  return dir;
}
