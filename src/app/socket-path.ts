import { createHash } from 'node:crypto';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Config } from './config.ts';

// sockaddr_un holds 108 bytes with the terminating zero; a longer path is cut in silence by some and refused by others.
const LONGEST = 107;

/** Where the engine of this migration listens. */
export function controlSocketPath(
  config: Pick<Config, 'migration' | 'server'>,
  env: Readonly<Record<string, string | undefined>> = process.env,
): string {
  const xdg = env['XDG_STATE_HOME'];
  const base = xdg === undefined || xdg === '' ? join(homedir(), '.local', 'state') : xdg;
  const path = join(resolve(config.server.state_dir ?? join(base, 'verdigris')), `${config.migration}.sock`);
  if (Buffer.byteLength(path) <= LONGEST) return path;
  const digest = createHash('sha256').update(path).digest('hex').slice(0, 16);
  return join(tmpdir(), `verdigris-${process.getuid?.() ?? 0}-${digest}.sock`);
}
