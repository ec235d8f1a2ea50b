import { open, readFile, rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** Another process may be downloading the same: two packages of some megabytes each. */
const LOCK_PATIENCE_MS = 5 * 60_000;
const LOOK_MS = 100;

/** One process at a time; a lock whose process is gone is taken over. */
export async function locked<T>(path: string, work: () => Promise<T>): Promise<T> {
  const until = performance.now() + LOCK_PATIENCE_MS;
  for (;;) {
    try {
      const file = await open(path, 'wx');
      await file.writeFile(String(process.pid));
      await file.close();
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      if (performance.now() > until)
        throw new Error(`${path} is held for too long; remove it`, { cause: error });
      await takeOver(path);
      await sleep(LOOK_MS);
    }
  }
  try {
    return await work();
  } finally {
    await rm(path, { force: true });
  }
}

async function takeOver(path: string): Promise<void> {
  const holder = Number(await readFile(path, 'utf8').catch(() => ''));
  if (!Number.isInteger(holder) || holder <= 0) return;
  try {
    process.kill(holder, 0);
  } catch (error) {
    // Two that see the same dead holder may both go on: the lock saves work, the rename of the finished folder keeps it right.
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') await rm(path, { force: true });
  }
}
