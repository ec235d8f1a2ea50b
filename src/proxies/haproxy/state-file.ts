import { randomUUID } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { VerdigrisError } from '../../core/errors.ts';

/**
 * Puts what `show servers state` says where HAProxy looks at its next start. A reader sees the old or the new file, never a
 * part. It holds names and addresses, no secret.
 */
export async function writeStateFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.${randomUUID()}`;
  try {
    const file = await open(temporary, 'wx', 0o644);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw new VerdigrisError('PROXY_UNEXPECTED', `The server state file ${path} cannot be written.`, {
      remedy: 'Its directory must exist and be writable for this program, on the machine of HAProxy.',
      cause: error,
    });
  }
}
