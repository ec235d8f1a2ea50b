import { writeFile } from 'node:fs/promises';
import { VerdigrisError } from '../../core/errors.ts';
import { showTable } from '../../core/table.ts';
import { engineOf, introspect, starterConfig } from '../../app/introspect.ts';
import { collectSecrets, Redactor } from '../../app/redact.ts';
import { engineNames } from '../../app/registry.ts';
import type { CommandContext, Outcome } from '../context.ts';

export interface InitOptions {
  readonly from?: string;
  readonly to?: string;
  readonly engine?: string;
  readonly force?: boolean;
}

export async function init(context: CommandContext, options: InitOptions): Promise<Outcome> {
  const ask = context.interactive ? context.terminal.ask : null;
  const answer = async (given: string | undefined, flag: string, question: string): Promise<string> => {
    const text = given ?? (await ask?.(question));
    if (text === undefined || text.trim() === '') throw new VerdigrisError('USAGE', `init needs ${flag}`);
    return text.trim();
  };
  const from = await answer(options.from, '--from URL', 'Address of blue, the database that serves now: ');
  const to = await answer(options.to, '--to URL', 'Address of green, the database that will serve: ');
  context.redactor = new Redactor(collectSecrets([from, to]));
  const engine =
    options.engine ??
    (await engineOf(from)) ??
    (await answer(undefined, '--engine', `Engine (${engineNames().join(', ')}): `));
  const log = context.logger();
  const relations = await introspect(engine, from, log);
  // Green may still be empty; that it answers is enough.
  await introspect(engine, to, log);
  const file = context.configFile;
  const text = starterConfig(engine, 'my-migration', relations);
  let flag = options.force || context.options.yes ? 'w' : 'wx';
  if (flag === 'wx' && ask) {
    const exists = await writeFile(file, text, { flag, mode: 0o600 }).then(
      () => false,
      () => true,
    );
    if (exists && (await ask(`${file} exists. Overwrite it? (yes/no) `)).trim() !== 'yes') {
      throw new VerdigrisError('USAGE', `${file} exists and was kept`);
    }
    flag = 'w';
  }
  try {
    await writeFile(file, text, { flag, mode: 0o600 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST')
      throw new VerdigrisError('USAGE', `${file} exists`, { remedy: 'Use --force to overwrite it.' });
    throw new VerdigrisError('USAGE', `${file} cannot be written (${code ?? 'error'})`);
  }
  return {
    kind: 'Init',
    data: { file, tables: relations.map(({ table }) => showTable(table)) },
    text: [
      `${file}: ${relations.length} tables of blue, copied as they are.`,
      'Next: set BLUE_URL and GREEN_URL to the two addresses (they are not in the file), give the migration its name,',
      '      then `verdigris doctor` and `verdigris plan`.',
    ].join('\n'),
  };
}
