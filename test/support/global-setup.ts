import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import './compile-cache.ts';
import { atProcessEnd } from './process-end.ts';
import { provider } from './provider.ts';
import { createRunDir, RUN_DIR_VARIABLE } from './run-dir.ts';
import { killNow, type LedgerEntry } from './server-process.ts';
import { SHARED_HOST_VARIABLE, SharedHost } from './shared-host.ts';

/**
 * One per run: makes the run's folder, offers the shared servers, and at the end fails the run when a test left a process, a slot or
 * a database behind.
 */
export default async function setup(): Promise<() => Promise<void>> {
  const existing = process.env['VERDIGRIS_TEST_PG_URL'] ?? '';
  const own = await provider();
  console.log(
    `test servers: ${existing === '' ? own : `VERDIGRIS_TEST_PG_URL for its version, else ${own}`}`,
  );
  const dir = createRunDir();
  process.env[RUN_DIR_VARIABLE] = dir;
  // A run that is ended by a signal: vitest's workers are killed with it, without a chance to end their servers.
  atProcessEnd(() => void (existsSync(dir) && endStrangers(dir)));
  const host = new SharedHost();
  process.env[SHARED_HOST_VARIABLE] = await host.open();
  return async () => {
    const left = [...(await host.leftBehind()), ...endStrangers(dir)];
    await host.close();
    rmSync(dir, { recursive: true, force: true });
    if (left.length > 0) throw new Error(`left behind by tests: ${left.join('; ')}`);
  };
}

/** Ends what workers started and did not end, and names it. The servers of this process itself are the shared ones, ended by `close`. */
function endStrangers(dir: string): string[] {
  const ended: string[] = [];
  for (const file of readdirSync(join(dir, 'ledger'))) {
    const entry = ledgerEntry(join(dir, 'ledger', file));
    if (entry === null || entry.startedBy === process.pid) continue;
    ended.push(`${entry.name} (pid ${entry.pid})`);
    killNow(entry.pid, entry.killSignal);
    rmSync(join(dir, 'ledger', file), { force: true });
  }
  return ended;
}

/** Null when the server ended after its entry was listed. */
function ledgerEntry(file: string): LedgerEntry | null {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as LedgerEntry;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
