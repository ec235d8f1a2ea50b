import { isUtf8 } from 'node:buffer';
import { randomUUID } from 'node:crypto';
import { access, constants, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { VerdigrisError } from '../../core/errors.ts';

/** @throws VerdigrisError PROXY_UNEXPECTED when it cannot be read or is not UTF-8 */
export async function readText(path: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new VerdigrisError('PROXY_UNEXPECTED', `The file ${path} cannot be read.`, {
      remedy: 'Check the path and the permissions; the file must be reachable from this machine.',
      cause,
    });
  }
  if (!isUtf8(bytes)) throw new VerdigrisError('PROXY_UNEXPECTED', `The file ${path} is not UTF-8.`);
  return bytes.toString('utf8');
}

/**
 * Puts `text` in the file's place with the same mode and owner; a reader sees the old or the new file, never a part. The
 * old one stays as `<file>.verdigris-backup`. The file may hold passwords: nothing of it reaches a message.
 */
export async function replaceFile(path: string, text: string): Promise<void> {
  try {
    // A link is followed, so that the rename replaces the file and not the link.
    const real = await realpath(path);
    const like = await stat(real);
    await writeLike(`${real}.verdigris-backup`, await readFile(real), like);
    await writeLike(real, Buffer.from(text), like);
    const directory = await open(dirname(real), 'r');
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  } catch (cause) {
    throw new VerdigrisError('PROXY_UNEXPECTED', `The file ${path} cannot be replaced.`, {
      remedy:
        'The directory must be writable, and the owner must stay the same: run as that owner or as root.',
      cause,
    });
  }
}

async function writeLike(
  path: string,
  bytes: Buffer,
  like: { mode: number; uid: number; gid: number },
): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomUUID()}`);
  const file = await open(temporary, 'wx', 0o600);
  try {
    try {
      await file.writeFile(bytes);
      const made = await file.stat();
      if (made.uid !== like.uid || made.gid !== like.gid) await file.chown(like.uid, like.gid);
      await file.chmod(like.mode & 0o7777);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Why the file could not be replaced, or null. Changes nothing. */
export async function whyNotReplaceable(path: string): Promise<string | null> {
  const directory = dirname(await realpath(path).catch(() => path));
  try {
    await access(path, constants.R_OK);
    await access(directory, constants.W_OK | constants.X_OK);
    return null;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
      ? 'it does not exist'
      : `it cannot be read or its directory ${directory} cannot be written`;
  }
}
