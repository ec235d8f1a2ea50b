import { isUtf8 } from 'node:buffer';
import { randomUUID } from 'node:crypto';
import { access, constants, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { VerdigrisError } from '../../core/errors.ts';

/** What the file before the last change is kept as. */
const backupOf = (path: string): string => `${path}.verdigris-backup`;

const waiting = new Map<string, Promise<unknown>>();

/**
 * One change of a file at a time in this process: the entries of several PgBouncer processes may share one file, and a
 * second reader between read and rename would take the first one's change back.
 */
export async function exclusively<T>(path: string, act: (real: string) => Promise<T>): Promise<T> {
  const real = await resolved(path);
  const before = waiting.get(real) ?? Promise.resolve();
  const mine = before.then(() => act(real));
  const settled = mine.catch(() => undefined);
  waiting.set(real, settled);
  try {
    return await mine;
  } finally {
    if (waiting.get(real) === settled) waiting.delete(real);
  }
}

/** A link is followed, so that the rename replaces the file and not the link. */
async function resolved(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

const unreadable = (path: string, cause: unknown): VerdigrisError =>
  new VerdigrisError('PROXY_UNEXPECTED', `The ini file ${path} cannot be read.`, {
    remedy: 'Check the path and the permissions; the file must be reachable from this machine.',
    cause,
  });

/** @throws VerdigrisError PROXY_UNEXPECTED when it cannot be read or is not UTF-8 (it could not be put back unchanged). */
export async function readIni(path: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    throw unreadable(path, error);
  }
  if (!isUtf8(bytes)) throw new VerdigrisError('PROXY_UNEXPECTED', `The ini file ${path} is not UTF-8.`);
  return bytes.toString('utf8');
}

/**
 * Puts `text` in the file's place with the same mode and owner; a reader sees the old or the new file, never a part. The
 * old one stays as {@link backupOf}. The file may hold passwords: nothing of it reaches a message.
 */
export async function replaceIni(path: string, text: string): Promise<void> {
  try {
    const old = await readFile(path);
    const like = await stat(path);
    await writeLike(backupOf(path), old, like);
    await writeLike(path, Buffer.from(text), like);
    const directory = await open(dirname(path), 'r');
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  } catch (error) {
    throw new VerdigrisError('PROXY_UNEXPECTED', `The ini file ${path} cannot be replaced.`, {
      remedy:
        'The directory must be writable, and the owner must stay the same: run as that owner or as root.',
      cause: error,
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
  const real = await resolved(path);
  const directory = dirname(real);
  try {
    await access(directory, constants.W_OK | constants.X_OK);
  } catch {
    return `the directory ${directory} is not writable`;
  }
  const own = process.getuid?.() ?? 0;
  const { uid } = await stat(real);
  return own === 0 || uid === own
    ? null
    : `the file belongs to user id ${uid} and a new file would belong to ${own}`;
}
