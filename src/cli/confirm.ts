import { readFile } from 'node:fs/promises';
import { VerdigrisError } from '../core/errors.ts';
import type { CommandContext } from './context.ts';

export interface Confirmation {
  readonly planHash: string;
  readonly confirm: string;
}

export interface ConfirmOptions {
  readonly act: string;
  readonly migration: string;
  readonly confirm?: string | undefined;
  readonly plan?: string | undefined;
  /** What is shown before the question; only called where somebody is asked. Gives the hash of the plan that was shown. */
  readonly show: () => Promise<{ readonly text: string; readonly planHash: string }>;
}

/**
 * The typed name: asked for on a terminal, else taken from --confirm together with --plan. Never waits for an answer that
 * cannot come.
 * @throws VerdigrisError CONFIRMATION, USAGE for an unreadable plan file
 */
export async function confirmAct(context: CommandContext, options: ConfirmOptions): Promise<Confirmation> {
  const { act, migration, confirm, plan } = options;
  if (confirm !== undefined || !context.interactive) {
    if (confirm === undefined || plan === undefined) {
      const missing = [
        ...(confirm === undefined ? [`--confirm ${migration}`] : []),
        ...(plan === undefined ? ['--plan FILE'] : []),
      ];
      throw new VerdigrisError(
        'CONFIRMATION',
        `${act} needs ${missing.join(' and ')} where nobody can be asked (--yes is not enough)`,
      );
    }
    if (confirm !== migration) {
      throw new VerdigrisError(
        'CONFIRMATION',
        `--confirm names another migration than this one, ${migration}`,
      );
    }
    return { planHash: await readPlanHash(plan), confirm };
  }
  const shown = await options.show();
  context.terminal.err(`${shown.text}\n`);
  const planHash = plan === undefined ? shown.planHash : await readPlanHash(plan);
  const typed = (await context.terminal.ask?.(`Type the migration name (${migration}) to ${act}: `)) ?? '';
  if (typed.trim() !== migration)
    throw new VerdigrisError('CONFIRMATION', `${act} was not confirmed; nothing was changed`);
  return { planHash, confirm: migration };
}

/** The hash in a file that `plan --out` or `plan --json` wrote. @throws VerdigrisError USAGE */
export async function readPlanHash(file: string): Promise<string> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? 'not JSON';
    throw new VerdigrisError('USAGE', `the plan file ${file} cannot be read (${reason})`);
  }
  const { hash, data } = (parsed ?? {}) as { hash?: unknown; data?: { hash?: unknown } | null };
  const found = hash ?? data?.hash;
  if (typeof found !== 'string') throw new VerdigrisError('USAGE', `${file} is not a plan: it holds no hash`);
  return found;
}
