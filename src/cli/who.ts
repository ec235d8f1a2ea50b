import { userInfo } from 'node:os';
import type { CommandContext } from './context.ts';

/**
 * The person behind the command: as named, else who called sudo, else the account. It is what the caller says: who may call at all is
 * decided by the mode of the control socket.
 */
export function whoAsks(context: CommandContext, named: string | undefined): string {
  if (named !== undefined && named.trim() !== '') return named.trim();
  const { SUDO_USER: sudo } = context.terminal.env;
  if (sudo !== undefined && sudo !== '') return sudo;
  try {
    return userInfo().username;
  } catch {
    // An account without a name, as in some containers.
    return 'unknown';
  }
}
